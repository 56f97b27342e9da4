"""Copies of one photo as a network in training might have seen it: cut, mirrored, in another light.

A picture set whose truth is known: the copies of one photo show the same thing, so features worth their name keep them
together, while raw pixels do not. The recipe is the usual one of ImageNet training (Szegedy et al. 2015, "Going Deeper
with Convolutions", section 6), moderate in strength.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

from vizcore.images import check_photo
from vizcore.records import check_whole

AREA = (0.35, 1.0)  # share of the photo that a copy keeps
ASPECT = (3 / 4, 4 / 3)  # width / height of the cut, relative to the photo's own
LIGHT = 0.3  # brightness, contrast and saturation: times 0.7 to 1.3
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
HUE = 0.02  # turns of the colour wheel, either way


def variants(photo: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """``count`` (1 to 1 000) random copies of ``photo``, uint8 (H, W, 3), each uint8 (H, W, 3) of the same size.

    Each is a cut of 35 to 100 % of the area, its shape changed by at most 4 : 3 either way, stretched back to the size
    of the photo; mirrored left to right in half of the cases; brightness, contrast and saturation changed by at most
    30 %, the hue by at most 2 % of a turn. The same photo and ``seed`` (0 to 2**32 − 1) give the same copies, and the
    first ones do not depend on ``count``. Raises BadImage for another array.
    """
    picture = Image.fromarray(check_photo(photo))
    check_whole("count", count, 1, 1000)
    check_whole("seed", seed, 0, 2**32 - 1)
    random = np.random.default_rng(seed)
    return [_copy(picture, _drawn(picture.size, random)) for _ in range(count)]


def variant(photo: np.ndarray, place: int, seed: int) -> np.ndarray:
    """The copy at ``place`` (0 to 999) of `variants`, made without the others."""
    picture = Image.fromarray(check_photo(photo))
    check_whole("place", place, 0, 999)
    check_whole("seed", seed, 0, 2**32 - 1)
    random = np.random.default_rng(seed)
    return _copy(picture, [_drawn(picture.size, random) for _ in range(place + 1)][place])


class _Change(NamedTuple):
    """What is done to one copy: the part that is kept, and how often brighter, in contrast and in colour."""

    cut: tuple[float, float, float, float]
    is_mirrored: bool
    light: tuple[float, ...]
    hue: float


def _drawn(size: tuple[int, int], random: np.random.Generator) -> _Change:
    """In this order: the copies that a seed gives depend on it."""
    cut = _cut(size, random)
    is_mirrored = bool(random.random() < 0.5)
    light = tuple(random.uniform(1 - LIGHT, 1 + LIGHT) for _ in ENHANCERS)
    return _Change(cut, is_mirrored, light, random.uniform(-HUE, HUE))


def _copy(picture: Image.Image, change: _Change) -> np.ndarray:
    copy = picture.resize(picture.size, Image.Resampling.BICUBIC, box=change.cut)
    if change.is_mirrored:
        copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhancer, strength in zip(ENHANCERS, change.light, strict=True):
        copy = enhancer(copy).enhance(strength)
    return np.asarray(_turn_hue(copy, change.hue))


def _cut(size: tuple[int, int], random: np.random.Generator) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a random part of a picture of (width, height), in pixels."""
    width, height = size
    area = random.uniform(*AREA)
    aspect = math.exp(random.uniform(*np.log(ASPECT)))
    # Where the wished shape would stick out, the longer side is the photo's and the other keeps the area.
    wide = min(1.0, max(area, math.sqrt(area * aspect)))
    high = area / wide
    left, top = random.uniform(0, 1 - wide) * width, random.uniform(0, 1 - high) * height
    return left, top, left + wide * width, top + high * height


def _turn_hue(picture: Image.Image, turns: float) -> Image.Image:
    hsv = np.array(picture.convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(turns * 256)) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")
