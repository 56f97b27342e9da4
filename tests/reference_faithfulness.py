"""Deletion, insertion and ROAD's imputation once more, slowly, from the papers: float64, loops, dense matrices.

Shares no code with vizcore. Pictures are (3, height, width) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Score = Callable[[np.ndarray], float]


def imputed(picture: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Each removed pixel the weighted mean of its neighbours (Rong et al. 2022, section 5.1), without noise."""
    height, width = removed.shape
    unknown = [(y, x) for y in range(height) for x in range(width) if removed[y, x]]
    number = {place: k for k, place in enumerate(unknown)}
    matrix, known = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), 3))
    for k, (y, x) in enumerate(unknown):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy, dx) == (0, 0) or not (0 <= y + dy < height and 0 <= x + dx < width):
                    continue
                weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                matrix[k, k] += weight
                if removed[y + dy, x + dx]:
                    matrix[k, number[y + dy, x + dx]] -= weight
                else:
                    known[k] += weight * picture[:, y + dy, x + dx]
    result = picture.copy()
    for place, colours in zip(unknown, np.linalg.solve(matrix, known), strict=True):
        result[:, place[0], place[1]] = colours
    return result


def deletion(score: Score, picture: np.ndarray, empty: np.ndarray, values: np.ndarray, steps: int) -> list[float]:
    """Scores with 0, 1/steps, … of the pixels replaced, most important first; the values are all different."""
    return [score(_replaced(picture, empty, values, k, steps)) for k in range(steps + 1)]


def insertion(score: Score, picture: np.ndarray, empty: np.ndarray, values: np.ndarray, steps: int) -> list[float]:
    """Scores with 0, 1/steps, … of the pixels there, most important first, in an empty picture."""
    return [score(_replaced(picture, empty, -values, steps - k, steps)) for k in range(steps + 1)]


def _replaced(picture: np.ndarray, empty: np.ndarray, values: np.ndarray, k: int, steps: int) -> np.ndarray:
    height, width = values.shape
    ranked = sorted(((values[y, x], y, x) for y in range(height) for x in range(width)), reverse=True)
    result = picture.copy()
    for _, y, x in ranked[: math.floor(k * height * width / steps)]:
        result[:, y, x] = empty[:, y, x]
    return result


def area(shares: list[float], scores: list[float]) -> float:
    total = 0.0
    for k in range(1, len(shares)):
        total += (shares[k] - shares[k - 1]) * (scores[k] + scores[k - 1]) / 2
    return total


def edges(picture: np.ndarray) -> np.ndarray:
    """(height, width) Sobel magnitude of the luma; at the border the outermost pixels go on."""
    grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
    height, width = grey.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            at = {
                (dy, dx): grey[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            }
            down = sum((2 - abs(d)) * (at[1, d] - at[-1, d]) for d in (-1, 0, 1))
            across = sum((2 - abs(d)) * (at[d, 1] - at[d, -1]) for d in (-1, 0, 1))
            result[y, x] = math.hypot(down, across)
    return result
