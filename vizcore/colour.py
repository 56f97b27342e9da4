"""Numbers to colours: one scale, one look-up, and many small pictures on one sheet.

Methods return raw values; this is the only place where they become colours. A `Scale` always contains zero, so a
faint map looks faint; where values of both signs occur it is symmetric about zero, and zero gets the neutral middle
of a diverging colour map. Nothing is stretched to fill a range, and a map of zeros is drawn in the colour of zero.

The default colour maps keep their order in greyscale and for all common kinds of colour blindness: inferno
(Smith & van der Walt 2015) and ColorBrewer's red-white-blue (Brewer 2003), with red for positive.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from vizcore.records import ActivationMaps, BadParameter, Filters, Heatmap, check_whole

SEQUENTIAL = "inferno"
DIVERGING = "RdBu_r"
GAP_COLOUR = (128, 128, 128)
HIGHLIGHT_COLOUR = (0, 229, 255)  # in neither default colour map


@dataclass(frozen=True)
class Scale:
    """What the ends of a colour map mean: 0 to ``high``, or -``high`` to ``high`` where ``low`` is below zero."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.high) and self.high >= 0 and self.low in (0, -self.high)):
            raise BadParameter(
                f"A scale from {self.low} to {self.high} is not possible: it goes from 0 to a number that is not "
                "negative, or from minus a number to that number, so that zero keeps its colour."
            )

    @property
    def signed(self) -> bool:
        """Whether values of both signs have colours: the colour map then diverges from zero."""
        return self.low < 0

    @classmethod
    def of(cls, *values: Any, signed: bool | None = None, share: float = 1.0) -> Scale:
        """The smallest scale that holds every value of all the float arrays or heatmaps given; or, with a ``share``
        from 0 to 1, that share of each of them, the smallest values first: a gradient has a few that dwarf the rest.

        Signed where any value is negative; ``signed`` True or False decides instead (False: values below zero get
        the colour of zero). Raises BadParameter on integers, NaN, infinity, and where there are no values.
        """
        if not 0 < share <= 1:
            raise BadParameter(f"share is {share!r}; it must be more than 0 and at most 1.")
        arrays = [as_floats(array) for array in values]
        if not sum(array.size for array in arrays):
            raise BadParameter("A scale needs at least one value; the arrays given are empty.")
        low = min(float(array.min()) for array in arrays if array.size)
        high = max(float(array.max()) for array in arrays if array.size)
        if signed is None:
            signed = low < 0
        top = max(-low, high, 0.0) if signed else max(high, 0.0)
        if share < 1:
            sizes = (np.abs(array) if signed else np.maximum(array, 0) for array in arrays if array.size)
            top = max(float(np.quantile(size, share)) for size in sizes) or top  # nearly all may be 0
        return cls(-top if signed else 0.0, top)

    def positions(self, values: np.ndarray, *, signed: bool | None = None) -> np.ndarray:
        """``values`` as places on the colour map, float32 in [0, 1], same shape; beyond the ends is clipped.

        Zero is at 0, or at 0.5 where ``signed`` (by default: where the scale is).
        """
        signed = self.signed if signed is None else signed
        share = np.zeros(values.shape, np.float32)
        top = np.float32(self.high)
        if top > 0:
            np.divide(values, top, out=share, casting="same_kind")
        if signed:
            share += 1
            share /= 2
        return np.clip(share, 0, 1, out=share)


@dataclass(frozen=True, eq=False)
class Montage:
    """Many tiles as one ``picture``, uint8 (H, W, 3), in rows from the top left, with ``gap`` pixels all round.

    ``tile`` is (height, width) of one tile in pixels of the picture, ``count`` the number of tiles.
    """

    picture: np.ndarray
    tile: tuple[int, int]
    gap: int
    columns: int
    count: int

    def index_at(self, x: int, y: int) -> int | None:
        """The tile under the pixel (x, y) of ``picture``, or None in a gap, in an empty cell, or outside."""
        row, down = divmod(math.floor(y) - self.gap, self.tile[0] + self.gap)
        column, right = divmod(math.floor(x) - self.gap, self.tile[1] + self.gap)
        inside = row >= 0 and 0 <= column < self.columns and down < self.tile[0] and right < self.tile[1]
        index = row * self.columns + column
        return index if inside and index < self.count else None


def to_colours(values: Any, scale: Scale, colormap: str | None = None) -> np.ndarray:
    """Float ``values`` of any shape as uint8 colours (..., 3), by a table of 256 (signed: 255) colours.

    ``colormap`` is a name that matplotlib knows. Raises BadParameter on integers (pixels, or numbers that should be
    divided first?), NaN, infinity, and an unknown name with the nearest ones.
    """
    positions = scale.positions(as_floats(values))
    return _paint(positions, colour_table(scale.signed, colormap))


def colour_bar(scale: Scale, *, colormap: str | None = None, width: int = 256, height: int = 12) -> np.ndarray:
    """The colours from ``scale.low`` on the left to ``scale.high`` on the right, uint8 (height, width, 3)."""
    check_whole("width", width, 2, 8192)
    check_whole("height", height, 1, 8192)
    line = np.linspace(scale.low, scale.high, width, dtype=np.float32)
    return np.tile(to_colours(line, scale, colormap), (height, 1, 1))


def montage(
    values: Any,
    scale: Scale | Sequence[Scale],
    *,
    columns: int | None = None,
    tile: int | None = None,
    gap: int = 1,
    colormap: str | None = None,
    highlight: Iterable[int] = (),
) -> Montage:
    """Maps (C, h, w), floats, as coloured tiles on one sheet: on one scale, or on C scales, one each.

    One colour map serves all: where any scale is signed, every tile has zero in the middle. See `tiles` for the rest.
    """
    values = as_floats(values)
    if values.ndim != 3:
        raise BadParameter(f"values has the shape {values.shape}; a montage takes maps of the shape (C, h, w).")
    if isinstance(scale, Scale):
        positions, signed = scale.positions(values), scale.signed
    else:
        if len(scale) != len(values):
            raise BadParameter(f"There are {len(scale)} scales for {len(values)} maps; give one scale, or one a map.")
        signed = any(one.signed for one in scale)
        positions = np.empty(values.shape, np.float32)
        for one, image, place in zip(scale, values, positions, strict=True):
            place[:] = one.positions(image, signed=signed)
    painted = _paint(positions, colour_table(signed, colormap))  # (C, h, w, 3)
    return tiles(painted, columns=columns, tile=tile, gap=gap, highlight=highlight)


def tiles(
    pictures: np.ndarray,
    *,
    columns: int | None = None,
    tile: int | None = None,
    gap: int = 1,
    gap_colour: tuple[int, int, int] = GAP_COLOUR,
    highlight: Iterable[int] = (),
) -> Montage:
    """Pictures (N, h, w, 3), uint8, on one sheet; memory and time grow with the pixels of the sheet only.

    ``tile`` is the least pixels a side: smaller tiles are enlarged by a whole factor, each pixel a square. By default
    the sheet is about 4:3. ``highlight`` lists tiles whose surrounding gap is coloured (with ``gap`` 0: their rim).
    """
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8 or 0 in pictures.shape:
        raise BadParameter(
            f"pictures is {pictures.dtype} of the shape {pictures.shape}; tiles are uint8 of the shape (N, h, w, 3), "
            "with N of 1 or more."
        )
    count, height, width = pictures.shape[:3]
    gap = check_whole("gap", gap, 0, 64)
    least = 1 if tile is None else check_whole("tile", tile, 1, 4096)
    factor = math.ceil(least / min(height, width))
    th, tw = height * factor, width * factor
    if columns is None:
        columns = min(count, math.ceil(math.sqrt(count * (th + gap) * 4 / ((tw + gap) * 3))))
    columns = check_whole("columns", columns, 1, 65536)
    rows = math.ceil(count / columns)

    filled = np.zeros((rows * columns, height, width, 3), np.uint8)
    filled[:count] = pictures
    filled[count:] = gap_colour
    enlarged = filled.repeat(factor, axis=1).repeat(factor, axis=2)  # (rows * columns, th, tw, 3)
    cells = np.empty((rows, th + gap, columns, tw + gap, 3), np.uint8)
    cells[:] = gap_colour
    cells[:, gap:, :, gap:] = enlarged.reshape(rows, columns, th, tw, 3).transpose(0, 2, 1, 3, 4)
    picture = np.empty((rows * (th + gap) + gap, columns * (tw + gap) + gap, 3), np.uint8)
    picture[:] = gap_colour  # cells have their gap above and to the left: below and to the right it is still missing
    picture[: rows * (th + gap), : columns * (tw + gap)] = cells.reshape(rows * (th + gap), columns * (tw + gap), 3)

    sheet = Montage(picture, (th, tw), gap, columns, count)
    for index in highlight:
        _surround(sheet, check_whole("highlight", index, 0, count - 1))
    return sheet


@lru_cache(maxsize=32)
def colour_table(signed: bool, colormap: str | None = None) -> np.ndarray:
    """The colours of a map, uint8 (256, 3); signed (255, 3), so that zero has the middle to itself. Read-only."""
    import matplotlib as mpl  # a quarter of a second that the import of this file should not cost

    name = colormap or (DIVERGING if signed else SEQUENTIAL)
    if name not in mpl.colormaps:
        near = difflib.get_close_matches(str(name), list(mpl.colormaps), n=3, cutoff=0.4)
        listed = ", ".join(f"“{known}”" for known in near or (SEQUENTIAL, "viridis", DIVERGING))
        raise BadParameter(f"There is no colour map {name!r}. {'The nearest are' if near else 'Try'} {listed}.")
    size = 255 if signed else 256
    colours = mpl.colormaps[name].resampled(size)(np.arange(size))[:, :3]
    table = np.rint(colours * 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def as_floats(values: Any) -> np.ndarray:
    """An array, tensor or heatmap as a finite float array, or BadParameter saying what it is instead."""
    if isinstance(values, (Heatmap, ActivationMaps, Filters)):
        values = values.values
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        raise BadParameter(
            f"The values are {array.dtype}; colours are made from floating-point numbers. Hand over the raw values of "
            "a method, or convert on purpose with .astype(np.float32)."
        )
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise BadParameter(f"{bad} of {array.size} values are NaN or infinite; there is no colour for these.")
    return array


def _paint(positions: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Positions in [0, 1] to the nearest colours of the table, uint8 (..., 3)."""
    return table[np.rint(positions * np.float32(len(table) - 1)).astype(np.uint8)]


def _surround(sheet: Montage, index: int) -> None:
    """Colour the gap around one tile of a sheet that is still being made."""
    row, column = divmod(index, sheet.columns)
    (th, tw), gap = sheet.tile, sheet.gap
    top, left = row * (th + gap), column * (tw + gap)
    bottom, right = top + th + 2 * gap, left + tw + 2 * gap
    rim = max(gap, 1)
    for part in (np.s_[top : top + rim, left:right], np.s_[bottom - rim : bottom, left:right]):
        sheet.picture[part] = HIGHLIGHT_COLOUR
    for part in (np.s_[top:bottom, left : left + rim], np.s_[top:bottom, right - rim : right]):
        sheet.picture[part] = HIGHLIGHT_COLOUR
