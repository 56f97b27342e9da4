"""Distorted MNIST: digits turned, resized and moved in a larger frame, as Jaderberg et al. 2015 drew them.

Their "RTS": up to 45° either way, 0.7 to 1.2 times as large, anywhere in 42 × 42 pixels where the resized picture of
the digit, 28 × 28 before, has room.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

FRAME, DIGIT = 42, 28  # pixels a side
DEGREES = 45.0
SCALES = (0.7, 1.2)


def placements(count: int, draws: np.random.Generator, degrees: float = DEGREES) -> np.ndarray:
    """Matrices (count, 2, 3) from (x, y, 1) in the frame to (x, y) in the digit, both in pixels from the middle."""
    angles = np.radians(draws.uniform(-degrees, degrees, count))  # positive is clockwise
    scale = draws.uniform(*SCALES, count)
    room = np.maximum(0, FRAME - DIGIT * scale) / 2
    moves = (draws.uniform(-1, 1, (2, count)) * room).T[:, :, None]  # (count, 2, 1): right, down
    cos, sin = np.cos(angles) / scale, np.sin(angles) / scale
    turns = np.stack([cos, sin, -sin, cos], 1).reshape(count, 2, 2)
    return np.concatenate([turns, -turns @ moves], 2)


def distorted(digit: np.ndarray, placement: np.ndarray) -> np.ndarray:
    """One digit, uint8 (28, 28), placed in its frame, uint8 (42, 42); read bilinearly, black beyond its edges."""
    turn, move = placement[:, :2], placement[:, 2]
    corner = move + DIGIT / 2 - turn.sum(1) * FRAME / 2  # Pillow counts from the corners
    (a, b), (d, e) = turn
    image = Image.fromarray(digit)
    return np.array(
        image.transform(
            (FRAME, FRAME),
            Image.Transform.AFFINE,
            (a, b, corner[0], d, e, corner[1]),
            Image.Resampling.BILINEAR,
        )
    )
