"""Where the evidence of many heatmaps lies: each map as shares of its own positive sum, and the parts of a picture.

The share of a cell is relu(value) / Σ relu(values): heatmaps of two pictures have two scales, and summed as they are
one loud picture would speak for all. What speaks against the class is left out. A part of the picture holds a cell as
far as it covers the cell's area, so that an even map has in it exactly the part's share of the area, at any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vizcore.records import BadParameter

Part = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture, 0 to 1
BORDER, CORNER = 1 / 8, 1 / 6  # of a side


@dataclass(frozen=True, eq=False)
class Shares:
    """``values`` (m, h, w) float64 of the maps with positive evidence, each summing to 1; ``numbers`` (m,), which of
    the ``count`` maps these are."""

    values: np.ndarray
    numbers: np.ndarray
    count: int

    @property
    def mean(self) -> np.ndarray:
        """(h, w) float64, summing to 1: every picture has one vote."""
        return self.values.mean(0)


@dataclass(frozen=True)
class Area:
    """A part of the picture by ``name``: the rectangle ``part``, or where ``outside`` all but that."""

    name: str
    part: Part
    outside: bool = False

    @property
    def even(self) -> float:
        """Its share of the picture's area, which is what an even map would have there."""
        left, top, right, bottom = self.part
        inside = (right - left) * (bottom - top)
        return 1 - inside if self.outside else inside

    def cover(self, size: tuple[int, int]) -> np.ndarray:
        """(h, w) float64, how much of each cell of a map of that ``size`` lies in it, 0 to 1."""
        left, top, right, bottom = self.part
        inside = np.outer(_covered(size[0], top, bottom), _covered(size[1], left, right))
        return 1 - inside if self.outside else inside


def areas(border: float = BORDER, corner: float = CORNER) -> tuple[Area, ...]:
    """The four corners, ``corner`` of each side long, the four edges, ``border`` of a side wide, and the whole border.

    Both more than 0 and at most a half. Edges and corners overlap. Raises BadParameter.
    """
    for name, size in (("border", border), ("corner", corner)):
        if isinstance(size, bool) or not isinstance(size, (int, float, np.floating)) or not 0 < size <= 0.5:
            raise BadParameter(f"{name} is {size!r}; it must be a share of a side, more than 0 and at most 0.5.")
    b, c = border, corner
    return (
        Area("top left corner", (0, 0, c, c)),
        Area("top right corner", (1 - c, 0, 1, c)),
        Area("bottom left corner", (0, 1 - c, c, 1)),
        Area("bottom right corner", (1 - c, 1 - c, 1, 1)),
        Area("top edge", (0, 0, 1, b)),
        Area("bottom edge", (0, 1 - b, 1, 1)),
        Area("left edge", (0, 0, b, 1)),
        Area("right edge", (1 - b, 0, 1, 1)),
        Area("border", (b, b, 1 - b, 1 - b), outside=True),
    )


def shares_of(heatmaps: np.ndarray) -> Shares:
    """The shares of ``heatmaps`` (n, h, w), raw and signed; maps without positive evidence are left out.

    8 · n · h · w bytes: 0.2 GB for 500 maps with a number for each of 224 × 224 pixels.
    Raises BadParameter for what is not finite maps, or where none of them has any.
    """
    heatmaps = np.asarray(heatmaps)
    if heatmaps.ndim != 3 or 0 in heatmaps.shape or not np.issubdtype(heatmaps.dtype, np.floating):
        raise BadParameter(
            f"heatmaps is {heatmaps.dtype} of the shape {heatmaps.shape}; it must be floating-point maps of one size, "
            "(n, h, w), as raw as their method gives them."
        )
    if not np.isfinite(heatmaps).all():
        raise BadParameter("heatmaps holds NaN or infinity; it must be finite numbers.")
    largest = heatmaps.max((1, 2))
    numbers = np.flatnonzero(largest > 0)
    if not len(numbers):
        raise BadParameter(
            f"None of the {len(heatmaps)} heatmaps has positive evidence; choose another layer or method."
        )
    values = np.maximum(heatmaps[numbers], 0).astype(np.float64)
    values /= largest[numbers, None, None]  # before the sum: the smallest numbers keep their digits
    values /= values.sum((1, 2), keepdims=True)
    return Shares(values, numbers, len(heatmaps))


def shrunk(values: np.ndarray, side: int) -> np.ndarray:
    """``values`` (m, h, w) summed over cells down to at most ``side`` × ``side`` of them, float64; the sums stay."""
    down, across = (_pooling(length, min(side, length)) for length in values.shape[1:])
    return down @ values @ across.T


def _pooling(length: int, cells: int) -> np.ndarray:
    """(cells, length): how much of each of ``length`` numbers goes to each cell."""
    return np.stack([_covered(length, cell / cells, (cell + 1) / cells) for cell in range(cells)])


def _covered(length: int, start: float, end: float) -> np.ndarray:
    """(length,) how much of each cell of an axis lies between ``start`` and ``end``, shares of the axis."""
    cells = np.arange(length)
    return np.clip(np.minimum(cells + 1, end * length) - np.maximum(cells, start * length), 0, 1)
