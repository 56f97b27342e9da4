"""Which part of a map changes when a part of the picture does: arithmetic of intervals, and no tensors.

Behind a convolution or a pooling of extent e, stride s and padding p, output i reads the inputs from i·s − p up to
i·s − p + e. So the outputs that may change with the inputs [a, b) are those from ⌈(a + p − e + 1) / s⌉ up to and with
⌊(b − 1 + p) / s⌋: the receptive field, read backwards (Nakandala et al., "Incremental and Approximate Inference for
Faster Occlusion-Based Deep CNN Explanations", SIGMOD 2019, section 4.1). Rows and columns are apart, each a `Span`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np


@dataclass(frozen=True)
class Reach:
    """One axis of a convolution or a pooling, in cells of what it reads.

    ``extent`` from the first cell that one output reads to behind its last, (kernel - 1) · dilation + 1; ``before``
    the padding in front of the first cell.
    """

    extent: int = 1
    stride: int = 1
    before: int = 0

    def behind(self, size_in: int, size_out: int) -> int:
        """Cells of padding that the last output reads behind the last cell; 0 where it ends earlier."""
        return max((size_out - 1) * self.stride + self.extent - self.before - size_in, 0)

    def read(self, start: np.ndarray, length: int) -> tuple[np.ndarray, int]:
        """The first cells (n,), and how many of them, that ``length`` outputs from ``start`` (n,) on read.

        Negative where that is padding.
        """
        return start * self.stride - self.before, (length - 1) * self.stride + self.extent


@dataclass(frozen=True, eq=False)
class Span:
    """Cells of one axis of a map that change, for n variants of a picture: [``first``, ``last``), each (n,).

    All n are computed at one ``length``, the largest, and shifted inside the map: then they are one tensor.
    """

    first: np.ndarray
    last: np.ndarray
    size: int

    @classmethod
    def whole(cls, count: int, size: int) -> Span:
        return cls(np.zeros(count, int), np.full(count, size), size)

    @cached_property
    def length(self) -> int:
        return max(int((self.last - self.first).max()), 1)

    @cached_property
    def start(self) -> np.ndarray:
        """(n,) where the computed cells begin."""
        return np.minimum(self.first, self.size - self.length)

    @property
    def cells(self) -> np.ndarray:
        """(n, length) the computed cells."""
        return self.start[:, None] + np.arange(self.length)

    @property
    def is_whole(self) -> bool:
        return self.length == self.size

    def holds(self, cells: np.ndarray) -> np.ndarray:
        """Which of ``cells`` (n, …) change."""
        return (cells >= self.first[:, None]) & (cells < self.last[:, None])

    def __getitem__(self, some) -> Span:
        return Span(self.first[some], self.last[some], self.size)

    def through(self, reach: Reach, size: int) -> Span:
        """The cells that change behind an operation of ``reach`` whose output has ``size`` cells."""
        first = -((reach.extent - 1 - reach.before - self.first) // reach.stride)
        last = (self.last - 1 + reach.before) // reach.stride + 1
        first = np.clip(first, 0, size)
        return Span(np.minimum(first, size - 1), np.clip(last, first, size), size)


@dataclass(frozen=True, eq=False)
class Region:
    """Rows and columns of a map that change, for n variants of a picture."""

    rows: Span
    columns: Span

    @classmethod
    def whole(cls, count: int, size: tuple[int, int]) -> Region:
        return cls(Span.whole(count, size[0]), Span.whole(count, size[1]))

    @property
    def is_whole(self) -> bool:
        return self.rows.is_whole and self.columns.is_whole

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns that are computed."""
        return self.rows.length, self.columns.length

    @property
    def cells(self) -> np.ndarray:
        """(n,) how many cells change."""
        return (self.rows.last - self.rows.first) * (self.columns.last - self.columns.first)

    @property
    def share(self) -> float:
        """How much of the map is computed, 0 to 1."""
        return self.rows.length * self.columns.length / (self.rows.size * self.columns.size)

    def __len__(self) -> int:
        return len(self.rows.first)

    def __getitem__(self, some) -> Region:
        return Region(self.rows[some], self.columns[some])

    def read(self, reach: tuple[Reach, Reach]):
        (top, height), (left, width) = (
            r.read(span.start, span.length) for r, span in zip(reach, (self.rows, self.columns), strict=True)
        )
        return (top, left), (height, width)

    def is_at(self, starts: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> bool:
        """Whether these cells are computed: ``size`` rows and columns from ``starts`` on, (n,) each."""
        return self.size == size and all(
            np.array_equal(span.start, start) for span, start in zip((self.rows, self.columns), starts, strict=True)
        )

    def order(self) -> np.ndarray:
        """The variants in an order in which neighbours are alike: those far from the border first, by rows, by columns.

        In the middle most cells change: memory that was taken for these holds all that come later.
        """
        edge = [np.minimum(span.first, span.size - span.last) for span in (self.rows, self.columns)]
        rows = np.unique(np.stack([edge[0], self.rows.first]), axis=1, return_inverse=True)[1].ravel()
        # Every other row is gone through backwards: no leap from the middle to the border within a batch.
        columns = np.where(rows % 2, -1, 1) * edge[1]
        return np.lexsort((self.columns.first, columns, rows))[::-1].copy()

    def through(self, reach: tuple[Reach, Reach], size: tuple[int, int]) -> Region:
        return Region(self.rows.through(reach[0], size[0]), self.columns.through(reach[1], size[1]))


def union(regions: list[Region]) -> Region:
    """The smallest region that holds all of ``regions``, which are of maps of one size."""

    def joined(one: Span, other: Span) -> Span:
        return Span(np.minimum(one.first, other.first), np.maximum(one.last, other.last), one.size)

    return reduce(lambda a, b: Region(joined(a.rows, b.rows), joined(a.columns, b.columns)), regions)
