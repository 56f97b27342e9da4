"""RISE and super-pixel ablation once more, slowly: float64 NumPy and plain loops, sharing no code with vizcore.

Only the forward pass itself is torch's (`reference.scores`).
"""

from __future__ import annotations

import math

import numpy as np
import reference

from vizcore.records import Model


def score_of(model: Model, shown: np.ndarray, target: int, score: str) -> float:
    """Of one picture (3, height, width)."""
    logits = reference.scores(model, shown)
    if score == "logit":
        return float(logits[target])
    powers = np.exp(logits - logits.max())
    return float(powers[target] / powers.sum())


def enlarged(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Petsiuk et al. 2018, section 3.2: h × w cells, bilinearly to (h + 1)·C_H × (w + 1)·C_W, C = ⌈side / cells⌉."""
    high, wide = (math.ceil(side / cells) for side, cells in zip(size, grid.shape, strict=True))
    return reference.upsampled(grid, ((grid.shape[0] + 1) * high, (grid.shape[1] + 1) * wide))


def masks(size: tuple[int, int], cells: tuple[int, int], share: float, seed: int, count: int) -> list[np.ndarray]:
    """Cut out of the enlarged grids at places (top, left) of 0 to C_H − 1 and 0 to C_W − 1."""
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        grid = np.where(draws.random(cells) < share, 1.0, 0.0)
        top = draws.integers(math.ceil(size[0] / cells[0]))
        left = draws.integers(math.ceil(size[1] / cells[1]))
        found.append(enlarged(grid, size)[top : top + size[0], left : left + size[1]])
    return found


def rise(
    model: Model,
    pixels: np.ndarray,
    target: int,
    series: list[np.ndarray],
    share: float,
    baseline: np.ndarray,
    score: str = "probability",
) -> tuple[np.ndarray, np.ndarray]:
    """Equation 6: S = 1 / (E[M] · N) · Σ s(x ⊙ M) · M; and, pixel by pixel, the standard error of that mean."""
    terms = []
    for mask in series:
        shown = np.empty_like(pixels)
        for channel in range(3):
            shown[channel] = mask * pixels[channel] + (1 - mask) * baseline[channel]
        terms.append(score_of(model, shown, target, score) * mask / share)
    heat, errors = np.zeros(pixels.shape[1:]), np.zeros(pixels.shape[1:])
    for place in np.ndindex(heat.shape):
        at = [term[place] for term in terms]
        heat[place] = sum(at) / len(at)
        variance = sum((one - heat[place]) ** 2 for one in at) / (len(at) - 1)
        errors[place] = math.sqrt(variance / len(at))
    return heat, errors


def seen_together(size: tuple[int, int], cells: tuple[int, int], share: float, place: tuple[int, int]) -> np.ndarray:
    """(height, width) of E[M(pixel) · M(place)]: share² and, over all places to cut, the covariance of the weights."""
    high, wide = (math.ceil(side / count) for side, count in zip(size, cells, strict=True))
    shared = np.zeros(size)
    for number in np.ndindex(cells):
        one = np.zeros(cells)
        one[number] = 1
        weights = enlarged(one, size)
        for top in range(high):
            for left in range(wide):
                cut = weights[top : top + size[0], left : left + size[1]]
                shared += cut * cut[place] / (high * wide)
    return share**2 + share * (1 - share) * shared


def ablation(
    model: Model, pixels: np.ndarray, target: int, labels: np.ndarray, baseline: np.ndarray, score: str = "logit"
) -> np.ndarray:
    """The drop of each label: the whole score minus that of the picture with its pixels replaced, one by one."""
    whole = score_of(model, pixels, target, score)
    heat = np.zeros(labels.shape)
    for label in set(labels.ravel().tolist()):
        shown = pixels.copy()
        places = [place for place in np.ndindex(labels.shape) if labels[place] == label]
        for row, column in places:
            shown[:, row, column] = baseline[:, row, column]
        drop = whole - score_of(model, shown, target, score)
        for place in places:
            heat[place] = drop
    return heat


def pieces(labels: np.ndarray) -> int:
    """How many connected patches of one label there are: by sides, flooding from each pixel not yet reached."""
    reached, count = np.zeros(labels.shape, bool), 0
    for start in np.ndindex(labels.shape):
        if reached[start]:
            continue
        count += 1
        reached[start] = True
        ahead = [start]
        while ahead:
            row, column = ahead.pop()
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= r < labels.shape[0] and 0 <= c < labels.shape[1]
                if inside and not reached[r, c] and labels[r, c] == labels[row, column]:
                    reached[r, c] = True
                    ahead.append((r, c))
    return count
