"""Which pixels the cells of a map read: receptive fields, by the recurrences and cell by cell; no tensors.

Cells that read r pixels and lie j pixels apart give, behind a window of kernel k, stride s, dilation d and padding p,
cells that read r + (k − 1)·d·j pixels and lie j·s apart, and the first of them begins p·j pixels earlier (Araujo,
Norris & Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019). Where ways meet, what is
read is what any of them reads.

The recurrences know no border: a cell near it reads padding, which holds no pixels, and what a window leaves over at
the end nobody reads. So the pixels that each cell does read are kept beside them. Rows and columns are apart. Where all
cells read the same, as behind a norm of whole maps, no window adds to it: they lie 0 pixels apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# Which axes of a tensor are rows and columns: of maps (N, C, h, w), of maps with channels last, and of these with all
# cells in one axis, row by row, (N·h·w, C)
MAPS, LAST, FLAT = (-2, -1), (-3, -2), (-2, -2)


@dataclass(frozen=True, eq=False)
class Reading:
    """One axis of an operation: ``cells`` (n, k), those that each of n results reads; outside of the map is padding.

    ``extent``, ``stride`` and ``before`` (padding) are the same for the recurrences, in cells of what is read.
    """

    cells: np.ndarray
    extent: int
    stride: float
    before: int = 0


@dataclass(frozen=True)
class Window:
    """One axis of a convolution or a pooling, in cells of what it reads; ``before`` and ``behind`` are padding.

    ``ceil`` says that a window may hang over the end (torch's ``ceil_mode``).
    """

    kernel: int = 1
    stride: int = 1
    before: int = 0
    behind: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def extent(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def size_of(self, size_in: int) -> int:
        """How many cells come out of ``size_in``: ⌊(in + 2p − d(k − 1) − 1) / s⌋ + 1.

        With ``ceil`` ⌈…⌉, but no window begins behind the last cell.
        """
        room = size_in + self.before + self.behind - self.extent
        if not self.ceil:
            return room // self.stride + 1
        size = -(-room // self.stride) + 1
        return size - ((size - 1) * self.stride >= size_in + self.before)

    def formula(self, size_in: int) -> str:
        """The same with its numbers filled in, as a line of text."""
        padding = f"2·{self.before}" if self.before == self.behind else f"{self.before} + {self.behind}"
        start, end = "⌈⌉" if self.ceil else "⌊⌋"
        inner = f"({size_in} + {padding} − {self.dilation}·({self.kernel} − 1) − 1) / {self.stride}"
        room = size_in + self.before + self.behind - self.extent
        drops = self.size_of(size_in) == -(-room // self.stride) and self.ceil
        return f"{start}{inner}{end} + 1{' − 1 (it would begin behind the end)' * drops} = {self.size_of(size_in)}"

    def reading(self, size_out: int) -> Reading:
        cells = np.arange(size_out)[:, None] * self.stride - self.before + np.arange(self.kernel) * self.dilation
        return Reading(cells, self.extent, self.stride, self.before)


def adaptive(size_in: int, size_out: int) -> Reading:
    """Of a pooling to a given size: window i goes from ⌊i·in / out⌋ up to ⌈(i + 1)·in / out⌉."""
    index = np.arange(size_out)
    first, end = index * size_in // size_out, -(-(index + 1) * size_in // size_out)
    cells = first[:, None] + np.arange(int((end - first).max()))
    return Reading(np.where(cells < end[:, None], cells, -1), cells.shape[1], size_in / size_out)


@dataclass(frozen=True, eq=False)
class Axis:
    """What the cells of one axis of a map read of the ``size`` pixels of the picture; pixel 0 has its middle at 0.

    By the recurrences, as if the picture went on for ever: ``extent`` pixels each, ``jump`` from one cell to the next
    (0: all read the same), the first of the first cell at ``start``. As it is: ``first`` and ``last`` (n,) or, the
    same for all cells, (1,); where ``last`` is before ``first`` a cell reads nothing but padding.
    """

    extent: int
    jump: float
    start: float
    first: np.ndarray
    last: np.ndarray
    size: int

    @classmethod
    def of_pixels(cls, size: int) -> Axis:
        return cls(1, 1, 0, np.arange(size), np.arange(size), size)

    @property
    def centre(self) -> float:
        """The middle of what the first cell reads."""
        return self.start + (self.extent - 1) / 2

    @property
    def is_whole(self) -> bool:
        """Whether every cell reads from the first pixel to the last."""
        return not self.first.any() and bool((self.last == self.size - 1).all())

    def through(self, reading: Reading) -> Axis:
        """Behind an operation. Where one cell comes out that reads the whole picture, that is its extent."""
        inside = (reading.cells >= 0) & (reading.cells < len(self.first))
        cells = np.clip(reading.cells, 0, len(self.first) - 1)
        found = Axis(
            self.extent + round((reading.extent - 1) * self.jump),
            self.jump * reading.stride,
            self.start - reading.before * self.jump,
            np.where(inside, self.first[cells], self.size).min(1),
            np.where(inside, self.last[cells], -1).max(1),
            self.size,
        )
        return found.gathered() if len(cells) == 1 and found.is_whole else found

    def gathered(self) -> Axis:
        """One cell that reads what any of them reads."""
        first, last = int(self.first.min()), int(self.last.max())
        return Axis(max(last - first + 1, 0), 0, first, np.array([first]), np.array([last]), self.size)

    def over(self, count: int) -> Axis:
        """The same for a map of ``count`` cells on this axis; gathered where these are other cells."""
        if len(self.first) == count:
            return self
        one = self if len(self.first) == 1 else self.gathered()
        return replace(one, jump=0, first=np.repeat(one.first, count), last=np.repeat(one.last, count))


def union(axes: Sequence[Axis]) -> Axis:
    """What cells read that are made of the same cells of several maps; all of one length."""
    start = min(axis.start for axis in axes)
    found = Axis(
        round(max(axis.start + axis.extent for axis in axes) - start),
        min(axis.jump for axis in axes),
        start,
        np.minimum.reduce([axis.first for axis in axes]),
        np.maximum.reduce([axis.last for axis in axes]),
        axes[0].size,
    )
    return replace(found.gathered(), first=found.first, last=found.last) if found.jump == 0 else found


@dataclass(frozen=True, eq=False)
class Field:
    """What the cells of a map read of the picture. Not ``known``: at most this, for there is an operation on the way of
    which nobody told where it reads, and which is taken to read everything. ``axes`` of the tensor are its rows and
    columns, counted from the end."""

    rows: Axis
    columns: Axis
    known: bool = True
    axes: tuple[int, int] = MAPS

    @classmethod
    def of_pixels(cls, size: tuple[int, int]) -> Field:
        return cls(Axis.of_pixels(size[0]), Axis.of_pixels(size[1]))

    @property
    def is_whole(self) -> bool:
        return self.rows.is_whole and self.columns.is_whole

    @property
    def size(self) -> tuple[int, int]:
        """How many cells there are."""
        return len(self.rows.first), len(self.columns.first)

    def through(self, rows: Reading, columns: Reading) -> Field:
        return Field(self.rows.through(rows), self.columns.through(columns), self.known)

    def gathered(self) -> Field:
        return Field(self.rows.gathered(), self.columns.gathered(), self.known)

    def over(self, height: int, width: int) -> Field:
        return Field(self.rows.over(height), self.columns.over(width), self.known, self.axes)

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the pixels that a cell reads; right and bottom are outside."""
        (top, bottom), (left, right) = (
            (int(axis.first[i]), int(axis.last[i]) + 1) for axis, i in ((self.rows, row), (self.columns, column))
        )
        return left, top, max(left, right), max(top, bottom)


def union_of_fields(fields: Sequence[Field]) -> Field:
    rows, columns = union([field.rows for field in fields]), union([field.columns for field in fields])
    return Field(rows, columns, all(field.known for field in fields))
