"""Checks of heatmaps and attacks once more, slowly, from the papers: plain loops in float64, no code of vizcore.

Ranks are counted, windows are cut out one by one, and gradients are differences of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """1 + how many are smaller + half of how many others are equal, of numbers (n,)."""
    found = []
    for one in values:
        smaller, equal = sum(other < one for other in values), sum(other == one for other in values)
        found.append(1 + smaller + (equal - 1) / 2)
    return np.array(found, np.float64)


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Of two arrays of one shape."""
    a, b = ranks(one.flatten()), ranks(other.flatten())
    a, b = a - sum(a) / len(a), b - sum(b) / len(b)
    return float(sum(a * b) / math.sqrt(sum(a * a) * sum(b * b)))


def ssim(one: np.ndarray, other: np.ndarray, side: int) -> float:
    """Wang et al. 2004, equation 13, over all windows that lie inside; the range is 1, sample covariances."""
    small, tiny = 0.01**2, 0.03**2
    found = []
    for top in range(one.shape[0] - side + 1):
        for left in range(one.shape[1] - side + 1):
            a = one[top : top + side, left : left + side].flatten().astype(np.float64)
            b = other[top : top + side, left : left + side].flatten().astype(np.float64)
            n = side * side
            mean_a, mean_b = sum(a) / n, sum(b) / n
            var_a, var_b = sum((a - mean_a) ** 2) / (n - 1), sum((b - mean_b) ** 2) / (n - 1)
            both = sum((a - mean_a) * (b - mean_b)) / (n - 1)
            above = (2 * mean_a * mean_b + small) * (2 * both + tiny)
            found.append(above / ((mean_a**2 + mean_b**2 + small) * (var_a + var_b + tiny)))
    return sum(found) / len(found)


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear between the middles of cells, the same beyond the outermost ones."""
    height, width = values.shape
    found = np.empty(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y = min(max((row + 0.5) * height / size[0] - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / size[1] - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, across = y - top, x - left
            found[row, column] = (1 - down) * (
                (1 - across) * values[top, left] + across * values[top, right]
            ) + down * ((1 - across) * values[bottom, left] + across * values[bottom, right])
    return found


def cross_entropy(logits: np.ndarray, target: int) -> float:
    """−log of the probability: softmax over (K,), the sigmoid of one."""
    if len(logits) == 1:
        return math.log1p(math.exp(-logits[0]))
    largest = max(logits)
    return math.log(sum(math.exp(s - largest) for s in logits)) + largest - logits[target]


Losses = Callable[[list[np.ndarray]], list[float]]  # of pictures (3, H, W)


def slope(losses: Losses, pixels: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of the loss at a picture (3, H, W), by differences."""
    pictures = []
    for place in np.ndindex(pixels.shape):
        for change in (step, -step):
            picture = pixels.copy()
            picture[place] += change
            pictures.append(picture)
    found = losses(pictures)
    changes = [(more - less) / (2 * step) for more, less in zip(found[::2], found[1::2], strict=True)]
    return np.array(changes).reshape(pixels.shape)


def descended(
    losses: Losses, pixels: np.ndarray, epsilon: float, steps: int, step_size: float, sign: int
) -> np.ndarray:
    """Madry et al. 2018, the projected descent of section 2.1, without a random start; ``sign`` +1 raises the loss."""
    shown = pixels.copy()
    for _ in range(steps):
        gradient = slope(losses, shown)
        for place in np.ndindex(pixels.shape):
            way = sign * step_size * math.copysign(1, gradient[place]) if gradient[place] else 0.0
            near = min(max(shown[place] + way, pixels[place] - epsilon), pixels[place] + epsilon)
            shown[place] = min(max(near, 0.0), 1.0)
    return shown
