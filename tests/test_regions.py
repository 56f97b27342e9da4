"""The arithmetic of intervals against enumeration: which outputs read which inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vizcore.regions import Reach, Region, Span, union


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution or pooling of ``size_in`` cells; ``ceil``: the last window may lie half outside."""

    size_in: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    ceil: bool

    @property
    def reach(self) -> Reach:
        return Reach((self.kernel - 1) * self.dilation + 1, self.stride, self.before)

    @property
    def size_out(self) -> int:
        rest = self.size_in + self.before + self.after - self.reach.extent
        if rest < 0:
            return 0
        if not self.ceil:
            return rest // self.stride + 1
        size = -(-rest // self.stride) + 1
        # As torch: a window that begins behind the last cell, in the padding, is none.
        return size - 1 if (size - 1) * self.stride >= self.size_in + self.before else size

    @property
    def cells_read(self) -> np.ndarray:
        """(size_out, kernel): which cells each output reads; negative or from size_in on are padding."""
        first = np.arange(self.size_out)[:, None] * self.stride - self.before
        return first + np.arange(self.kernel) * self.dilation

    @property
    def reads(self) -> np.ndarray:
        """(size_out, size_in) whether the output reads the input."""
        return (self.cells_read[:, :, None] == np.arange(self.size_in)).any(1)


def axes(dilations: tuple[int, ...] = (1, 2, 3)) -> Iterator[Axis]:
    for size_in, kernel, stride, dilation, ceil in product((1, 2, 5, 8), (1, 2, 3, 5), (1, 2, 3, 4), dilations, (0, 1)):
        for before, after in product(range(0, kernel + 1, 2), (0, 1, kernel - 1)):
            axis = Axis(size_in, kernel, stride, dilation, before, after, bool(ceil))
            if axis.size_out:
                yield axis


def every_span(size: int) -> Span:
    """Each interval of at least one cell."""
    pairs = [(first, last) for first in range(size) for last in range(first + 1, size + 1)]
    first, last = np.array(pairs).T
    return Span(first, last, size)


def changed(span: Span) -> np.ndarray:
    """(n, size) the cells that change."""
    return span.holds(np.broadcast_to(np.arange(span.size), (len(span.first), span.size)))


# Which outputs change


def test_every_output_that_reads_a_changed_input_is_among_those_that_change() -> None:
    for axis in axes():
        span = every_span(axis.size_in)
        touched = changed(span).astype(int) @ axis.reads.T.astype(int) > 0  # (n, size_out)
        found = changed(span.through(axis.reach, axis.size_out))
        assert not (touched & ~found).any(), axis


def test_no_other_output_is_where_kernels_have_no_holes() -> None:
    for axis in axes(dilations=(1,)):
        span = every_span(axis.size_in)
        touched = changed(span).astype(int) @ axis.reads.T.astype(int) > 0
        some = touched.any(1)  # where none does, one output may be computed for nothing
        found = changed(span.through(axis.reach, axis.size_out))
        assert np.array_equal(touched[some], found[some]), axis
        assert found[~some].sum(1).max(initial=0) <= 1, axis


def test_what_changes_stays_inside_the_map_even_where_nothing_does() -> None:
    for axis in axes():
        after = every_span(axis.size_in).through(axis.reach, axis.size_out)
        assert after.size == axis.size_out
        assert (after.first >= 0).all()
        assert (after.first < after.size).all()
        assert (after.last >= after.first).all()
        assert (after.last <= after.size).all()


def test_pixels_between_the_windows_of_a_long_stride_change_nothing() -> None:
    span = Span(np.array([1]), np.array([3]), 9).through(Reach(extent=1, stride=3), 3)
    assert span.first == span.last


def test_a_larger_change_changes_no_less() -> None:
    for axis in axes():
        span = every_span(axis.size_in)
        grown = Span(np.maximum(span.first - 1, 0), np.minimum(span.last + 1, span.size), span.size)
        small, large = (changed(one.through(axis.reach, axis.size_out)) for one in (span, grown))
        assert not (small & ~large).any(), axis


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_torch_pools_where_this_says(ceil_mode: bool) -> None:
    """Torch's own pooling, not the enumeration above: a changed cell shows exactly where it should."""
    for size, kernel, stride, padding in product((4, 7), (2, 3), (1, 2, 3), (0, 1)):
        axis = Axis(size, kernel, stride, 1, padding, padding, ceil_mode)
        for cell in range(size):
            maps = torch.zeros(1, 1, size)
            maps[..., cell] = 1
            pooled = F.max_pool1d(maps, kernel, stride, padding, ceil_mode=ceil_mode)[0, 0]
            assert len(pooled) == axis.size_out
            after = Span(np.array([cell]), np.array([cell + 1]), size).through(axis.reach, axis.size_out)
            if pooled.any():
                assert pooled.tolist() == changed(after)[0].tolist(), axis


# Which inputs they read


def test_outputs_read_what_the_enumeration_says() -> None:
    for axis in axes():
        span = every_span(axis.size_out)
        start, length = axis.reach.read(span.start, span.length)
        rows = axis.cells_read
        for variant, first in enumerate(span.start):
            computed = rows[first : first + span.length]
            assert start[variant] == computed.min(), axis
            assert start[variant] + length == computed.max() + 1, axis


def test_the_padding_is_as_wide_as_the_outputs_read_beyond_the_border() -> None:
    for axis in axes():
        assert axis.reach.behind(axis.size_in, axis.size_out) == max(axis.cells_read.max() + 1 - axis.size_in, 0), axis


def test_what_is_read_for_a_changed_part_stays_inside_the_padded_map() -> None:
    for axis in axes():
        span = every_span(axis.size_in).through(axis.reach, axis.size_out)
        start, length = axis.reach.read(span.start, span.length)
        assert (start >= -axis.before).all(), axis
        assert (start + length <= axis.size_in + axis.reach.behind(axis.size_in, axis.size_out)).all(), axis


# Spans


def test_all_variants_are_computed_at_one_length_inside_the_map_and_hold_what_changes() -> None:
    span = every_span(7)
    assert span.length == 7
    for longest in range(1, 8):
        some = span[span.last - span.first <= longest]
        assert some.length == longest
        assert (some.start >= 0).all()
        assert (some.start + some.length <= some.size).all()
        assert (some.start <= some.first).all()
        assert (some.start + some.length >= some.last).all()


def test_a_span_of_nothing_is_computed_at_one_cell_inside_the_map() -> None:
    nothing = Span(np.array([0, 4]), np.array([0, 4]), 5)
    assert nothing.length == 1
    assert nothing.start.tolist() == [0, 4]
    assert not changed(nothing).any()


def test_the_whole_axis_is_whole_and_a_part_is_not() -> None:
    assert Span.whole(3, 5).is_whole
    assert changed(Span.whole(3, 5)).all()
    assert not Span(np.array([0, 1]), np.array([4, 5]), 5).is_whole
    assert Span(np.array([2, 0]), np.array([3, 5]), 5).is_whole  # one variant that needs all makes all of them whole


def test_some_of_the_variants_keep_their_places() -> None:
    span = every_span(5)
    some = span[np.array([3, 1, 1])]
    assert some.first.tolist() == [span.first[3], span.first[1], span.first[1]]
    assert some.last.tolist() == [span.last[3], span.last[1], span.last[1]]
    assert some.size == 5


def test_the_whole_stays_whole_where_every_cell_is_read() -> None:
    for axis in axes():
        if axis.stride <= axis.kernel and axis.dilation == 1:
            touched = axis.reads.any(1)  # an output may read nothing but padding
            after = Span.whole(2, axis.size_in).through(axis.reach, axis.size_out)
            assert np.array_equal(changed(after)[0], touched) or not touched.any(), axis


# Regions


def region(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (9, 6)) -> Region:
    top, bottom, left, right = np.array(boxes).T
    return Region(Span(top, bottom, size[0]), Span(left, right, size[1]))


def cells(one: Region) -> np.ndarray:
    """(n, H, W) the cells that change."""
    return changed(one.rows)[:, :, None] & changed(one.columns)[:, None, :]


def test_rows_are_rows_and_columns_are_columns() -> None:
    one = region((0, 4, 1, 3))
    assert len(one) == 1
    assert one.size == (4, 2)
    assert cells(one)[0].sum(0).tolist() == [0, 4, 4, 0, 0, 0]
    through = one.through((Reach(3, 2, 1), Reach()), (5, 6))
    assert through.rows.first == [0]
    assert through.rows.last == [3]
    assert (through.columns.first, through.columns.last) == ([1], [3])
    (top, left), size = one.read((Reach(3, 2, 1), Reach(extent=4, before=2)))
    assert (top, left, size) == ([-1], [-1], (9, 5))


def test_the_share_is_of_what_is_computed() -> None:
    assert region((0, 3, 0, 2)).share == pytest.approx(6 / 54)
    assert region((0, 3, 0, 2), (0, 1, 0, 6)).share == pytest.approx(18 / 54)  # at one size, for both
    assert Region.whole(2, (9, 6)).share == 1
    assert Region.whole(2, (9, 6)).is_whole
    assert not region((0, 9, 0, 5)).is_whole


def test_a_union_holds_all_and_is_the_smallest_rectangle_that_does() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        parts = []
        for _ in range(3):
            top, left = draws.integers(0, 9, 4), draws.integers(0, 6, 4)
            bottom, right = draws.integers(top, 9) + 1, draws.integers(left, 6) + 1
            parts.append(Region(Span(top, bottom, 9), Span(left, right, 6)))
        joined = union(parts)
        assert len(joined) == 4
        everything = np.any([cells(part) for part in parts], axis=0)
        assert not (everything & ~cells(joined)).any()
        for variant, held in enumerate(everything):
            rows, columns = np.flatnonzero(held.any(1)), np.flatnonzero(held.any(0))
            assert (joined.rows.first[variant], joined.rows.last[variant]) == (rows[0], rows[-1] + 1)
            assert (joined.columns.first[variant], joined.columns.last[variant]) == (columns[0], columns[-1] + 1)
        assert np.array_equal(cells(union([parts[2], parts[0], parts[1]])), cells(joined))


def test_a_region_joined_with_itself_or_alone_is_itself() -> None:
    one = region((1, 4, 2, 3), (0, 2, 0, 6))
    assert np.array_equal(cells(union([one])), cells(one))
    assert np.array_equal(cells(union([one, one])), cells(one))


def test_the_order_of_the_variants_leaves_none_out() -> None:
    draws = np.random.default_rng(1)
    for count in (1, 2, 37):
        top, left = draws.integers(0, 9, count), draws.integers(0, 6, count)
        one = Region(Span(top, top + 1, 9), Span(left, left + 1, 6))
        assert sorted(one.order().tolist()) == list(range(count))


def test_two_operations_one_behind_the_other_are_the_changes_of_changes() -> None:
    """A region through two convolutions holds every cell that truly differs behind both."""
    draws = np.random.default_rng(2)
    for _ in range(30):
        kernel, other = draws.integers(1, 4, 2), draws.integers(1, 4, 2)
        stride, step = (int(draws.integers(1, 3)) for _ in range(2))
        maps = torch.from_numpy(draws.random((1, 1, 15, 11)))
        top, left = int(draws.integers(15)), int(draws.integers(11))
        hidden = maps.clone()
        hidden[..., top : top + 3, left : left + 2] = 0
        weights = torch.ones(1, 1, *kernel.tolist()).double(), torch.ones(1, 1, *other.tolist()).double()

        def behind(x: torch.Tensor, weights=weights, stride=stride, step=step) -> torch.Tensor:
            return F.conv2d(F.conv2d(x, weights[0], stride=stride, padding=1), weights[1], stride=step)

        between = F.conv2d(maps, weights[0], stride=stride, padding=1).shape[2:]
        start = region((top, min(top + 3, 15), left, min(left + 2, 11)), size=(15, 11))
        first = start.through(tuple(Reach(int(n), stride, 1) for n in kernel), tuple(between))
        last = first.through(tuple(Reach(int(n), step, 0) for n in other), tuple(behind(maps).shape[2:]))
        differs = ((behind(maps) - behind(hidden)).abs() > 1e-12)[0, 0].numpy()
        assert not (differs & ~cells(last)[0]).any()
