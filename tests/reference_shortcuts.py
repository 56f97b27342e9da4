"""Shares of evidence and the rule for shortcuts once more, slowly: float64 and plain loops, no code of vizcore."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats


def share_inside(heatmap: np.ndarray, inside: tuple[float, float, float, float], fine: int) -> float:
    """The share of the positive evidence between left, top, right and bottom, counted on a grid of ``fine`` × ``fine``
    points a side, all of which lie in the middle of their part."""
    left, top, right, bottom = inside
    h, w = heatmap.shape
    total = found = 0.0
    for row in range(fine):
        for column in range(fine):
            y, x = (row + 0.5) / fine, (column + 0.5) / fine
            value = max(0.0, float(heatmap[int(y * h), int(x * w)]))
            total += value
            if left <= x < right and top <= y < bottom:
                found += value
    return found / total


def chance_of(means: list[float], k: int, area: float, questions: int) -> float:
    """How likely class ``k`` would be so far above the others, by Student's t, times the questions."""
    y = [math.log(1 + mean / area) for mean in means]
    others = [value for number, value in enumerate(y) if number != k]
    middle = sum(others) / len(others)
    spread = math.sqrt(sum((value - middle) ** 2 for value in others) / (len(others) - 1))
    t = (y[k] - middle) / (max(spread * math.sqrt(1 + 1 / len(others)), 0.1))
    return min(1.0, questions * float(stats.t.sf(t, len(others) - 1)))
