"""Patches as pictures: cut to what a unit sees, enlarged alike, on one sheet with a number under each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app_pages import common, views
from vizcore.heatmaps import SHARE_OF_PIXELS
from vizcore.images import Box, Montage, Scale, frame, tiles, to_png
from vizcore.records import GREY_FROM_RGB
from vizcore.strongest import StrongestPatches

COLUMNS = 3  # of a sheet
TILE = 200  # pixels, about, of the longer side of a patch on a sheet
PALE, DARK = (200, 206, 216), (20, 20, 20)  # bluish: neither white nor the grey of 0


@dataclass(frozen=True, eq=False)
class Seen:
    """The k strongest pictures of one channel as the net sees them: ``pixels`` (k, H, W, 3) uint8."""

    found: StrongestPatches
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def activations(self) -> np.ndarray:
        return self.found.activations[0]

    def box(self, number: int) -> Box:
        left, top, right, bottom = (int(side) for side in self.found.boxes[0, number])
        return left, top, right, bottom

    def is_empty(self, number: int) -> bool:
        """Whether the unit sees nothing but padding there."""
        left, top, right, bottom = self.box(number)
        return left == right or top == bottom

    @property
    def is_whole(self) -> bool:
        height, width = self.size
        return all(self.box(number) == (0, 0, width, height) for number in range(len(self.pixels)))


def as_shown(here: common.Chosen, pixels: np.ndarray) -> np.ndarray:
    """(k, H, W, 3), grey for a grey net."""
    if len(here.model.mean) != 1:
        return pixels
    grey = np.rint(pixels @ np.array(GREY_FROM_RGB)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


def scale_of(values: np.ndarray) -> Scale:
    """One for all, signed; it holds all but a few, which would dwarf the others."""
    sent = values[values != 0]
    return Scale.of(sent if sent.size else values, signed=True, share=SHARE_OF_PIXELS)


def coloured(values: np.ndarray, scale: Scale) -> np.ndarray:
    """(k, 3, H, W) to (k, H, W, 3) uint8: each colour on the scale, 0 as mid-grey."""
    return np.rint(255 * scale.positions(values.transpose(0, 2, 3, 1), signed=True)).astype(np.uint8)


def largest(seen: Seen) -> tuple[int, int]:
    """Height and width of the largest patch."""
    left, top, right, bottom = seen.found.boxes[0].T
    return max(int((bottom - top).max()), 1), max(int((right - left).max()), 1)


def cut(seen: Seen, pictures: np.ndarray) -> np.ndarray:
    """(k, h, w, 3): each picture (k, H, W, 3) cut to its patch. What a patch lacks beyond the border is pale."""
    height, width = largest(seen)
    patches = np.full((len(pictures), height, width, 3), PALE, np.uint8)
    for number, (patch, picture) in enumerate(zip(patches, pictures, strict=True)):
        left, top, right, bottom = seen.box(number)
        down = height - (bottom - top) if top == 0 else 0  # it lacks rows above, or else below
        across = width - (right - left) if left == 0 else 0
        patch[down : down + bottom - top, across : across + right - left] = picture[top:bottom, left:right]
    return patches


def words(seen: Seen) -> tuple[str, ...]:
    """What stands under each patch."""
    return tuple(views.number(float(value)) for value in seen.activations)


def sheet_of(patches: np.ndarray, words: tuple[str, ...], chosen: int) -> Montage:
    """Patches (k, h, w, 3), enlarged alike, each pixel a square, with a word under each."""
    factor = max(1, round(TILE / max(patches.shape[1:3])))
    enlarged = patches.repeat(factor, 1).repeat(factor, 2)
    height, width = enlarged.shape[1:3]
    strip = max(16, min(height, width) // 6)
    captioned = [
        np.concatenate([patch, lettered(word, strip, width)]) for patch, word in zip(enlarged, words, strict=True)
    ]
    columns = min(COLUMNS, len(patches))
    return tiles(np.stack(captioned), columns=columns, gap=5, gap_colour=PALE, highlight=(chosen,))


def lettered(word: str, height: int, width: int) -> np.ndarray:
    """A word in the middle of a pale strip, (height, width, 3) uint8."""
    image = Image.new("RGB", (width, height), PALE)
    font = ImageFont.load_default(0.75 * height)
    ImageDraw.Draw(image).text((width / 2, height / 2), word, DARK, font, anchor="mm")
    return np.array(image)


def framed(here: common.Chosen, seen: Seen, number: int) -> bytes:
    """The picture as the net sees it with a frame around the patch, enlarged where it is small."""
    picture = as_shown(here, seen.pixels)[number]
    factor = -(-views.PHOTO_LEAST // max(seen.size))
    enlarged = picture.repeat(factor, 0).repeat(factor, 1)
    left, top, right, bottom = (factor * side for side in seen.box(number))
    if seen.is_empty(number) or (top, left, bottom, right) == (0, 0, *enlarged.shape[:2]):
        return to_png(enlarged)
    return to_png(frame(enlarged, (left, top, right, bottom)))
