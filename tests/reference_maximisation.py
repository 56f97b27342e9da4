"""Activation maximisation once more, slowly, from the papers: float64 NumPy, sharing no code with vizcore."""

from __future__ import annotations

import math

import numpy as np


def make_covariance(photos: list[np.ndarray]) -> np.ndarray:
    """(3, 3) of red, green and blue, uint8 photos (H, W, 3): the mean of each one's covariance, of mean variance 1."""
    covariances = [np.cov(photo.reshape(-1, 3).T / 255, bias=True) for photo in photos]
    mean = np.mean(covariances, axis=0)
    return mean * 3 / np.trace(mean)


def picture_of(waves: np.ndarray, height: int, width: int, mixture: np.ndarray) -> np.ndarray:
    """(3, height, width): each wave drawn as a cosine and a sine, divided by its frequency, and added up.

    ``waves`` (C, height, width // 2 + 1, 2). What a real picture's transform leaves out is the mirror of what it has:
    waves that are not their own mirror count twice.
    """
    planes = np.zeros((len(waves), height, width))
    for plane, numbers in zip(planes, waves, strict=True):
        for row in range(height):
            for column in range(width // 2 + 1):
                down = row / height if row <= (height - 1) // 2 else row / height - 1
                frequency = max(math.hypot(down, column / width), 1 / max(height, width))
                twice = 1 if column == 0 or 2 * column == width else 2
                real, imaginary = numbers[row, column] / frequency
                for y in range(height):
                    for x in range(width):
                        phase = 2 * math.pi * (row * y / height + column * x / width)
                        plane[y, x] += twice * (real * math.cos(phase) - imaginary * math.sin(phase))
    planes /= math.sqrt(height * width)
    picture = np.zeros((3, height, width))
    for colour in range(3):
        for plane, share in zip(planes, mixture[colour], strict=True):
            picture[colour] += share * plane
    return 1 / (1 + np.exp(-picture))


def objective(
    maps: np.ndarray, channel: int | None, direction: np.ndarray | None, place: tuple[int, int] | None
) -> float:
    """The value for maps (C, h, w) of one picture, sum by sum."""
    count, height, width = maps.shape
    places = [place] if place else [(y, x) for y in range(height) for x in range(width)]
    total = 0.0
    for y, x in places:
        if channel is not None:
            total += maps[channel, y, x]
        elif direction is not None:
            length = math.sqrt(sum(number**2 for number in direction))
            total += sum(direction[c] / length * maps[c, y, x] for c in range(count))
        else:
            total += sum(maps[c, y, x] ** 2 for c in range(count)) / count
    return total / len(places)


def likeness(maps: np.ndarray) -> float:
    """The mean cosine of the Gram matrices of pairs of pictures, maps (N, C, h, w)."""
    grams = []
    for one in maps:
        count = len(one)
        gram = np.zeros((count, count))
        for a in range(count):
            for b in range(count):
                gram[a, b] = np.sum(one[a] * one[b])
        grams.append(gram)
    cosines = [
        np.sum(first * second) / math.sqrt(np.sum(first**2) * np.sum(second**2))
        for number, first in enumerate(grams)
        for second in grams[:number]
    ]
    return float(np.mean(cosines))


def read_at(picture: np.ndarray, degrees: float, scale: float, right: float, below: float) -> np.ndarray:
    """``picture`` (3, H, W) as it is read by squares of pixels turned, enlarged and moved (in pixels) about the middle.

    Bilinear, clipped at the border: right only where nothing beyond it is read.
    """
    _, height, width = picture.shape
    angle = math.radians(degrees)
    read = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            y, x = row + 0.5 - height / 2, column + 0.5 - width / 2
            at_x = scale * (math.cos(angle) * x - math.sin(angle) * y) + right + width / 2 - 0.5
            at_y = scale * (math.sin(angle) * x + math.cos(angle) * y) + below + height / 2 - 0.5
            left, top = math.floor(at_x), math.floor(at_y)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (1 - abs(at_y - top - dy)) * (1 - abs(at_x - left - dx))
                read[:, row, column] += (
                    share * picture[:, np.clip(top + dy, 0, height - 1), np.clip(left + dx, 0, width - 1)]
                )
    return read
