"""Channels that carry a class, and likeness of channels, once more: float64, plain loops, no code of vizcore."""

from __future__ import annotations

import numpy as np
import torch
from reference import gradient_of, maps_of, scores_behind

from vizcore.records import Model


def contribution(model: Model, layer: str, picture: np.ndarray, target: int, channel: int) -> float:
    """Σ over places of gradient × activation of one channel."""
    maps, gradient = maps_of(model, layer, picture), gradient_of(model, layer, picture, target)
    total = 0.0
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            total += gradient[channel, row, column] * maps[channel, row, column]
    return total


def scores_without(model: Model, layer: str, picture: np.ndarray, channels: dict[int, float]) -> np.ndarray:
    """(K,) logits with each of ``channels`` at its number everywhere."""
    maps = maps_of(model, layer, picture)
    for channel, value in channels.items():
        maps[channel] = value
    with torch.no_grad():
        return scores_behind(model, layer, picture, torch.from_numpy(maps)).double().numpy()


def mean_of(model: Model, layer: str, pictures: np.ndarray, channel: int) -> float:
    """The mean of a channel over all places of all pictures."""
    values = [float(v) for picture in pictures for v in maps_of(model, layer, picture)[channel].ravel()]
    return sum(values) / len(values)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r from its definition."""
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum()))
