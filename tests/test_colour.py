"""What must hold when numbers become colours and many small pictures one sheet."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from pictures import scene

from vizcore.colour import GAP_COLOUR, HIGHLIGHT_COLOUR, Scale, colour_bar, colour_table, montage, tiles, to_colours
from vizcore.records import BadParameter, Heatmap


def luma(colours):
    return colours.astype(float) @ (0.299, 0.587, 0.114)


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Scales


def test_the_scale_of_several_maps_holds_them_all_and_zero():
    assert Scale.of(np.array([2.0, 5.0]), np.array([1.0])) == Scale(0.0, 5.0)
    assert Scale.of(np.array([2.0, 5.0]), np.array([-7.0])) == Scale(-7.0, 7.0)
    assert Scale.of(np.array([-1.0, 3.0])) == Scale(-3.0, 3.0)
    assert Scale.of(np.array([1.0, 3.0]), signed=True) == Scale(-3.0, 3.0)
    assert Scale.of(np.array([-1.0, 3.0]), signed=False) == Scale(0.0, 3.0)
    assert Scale.of(np.array([-1.0, -3.0]), signed=False) == Scale(0.0, 0.0)


def test_a_scale_may_leave_out_the_few_values_that_dwarf_the_rest():
    values = np.r_[np.linspace(0, 1, 100), 50.0].astype(np.float32)
    assert Scale.of(values, share=0.99) == Scale(0.0, 1.0)
    assert Scale.of(-values, share=0.99) == Scale(-1.0, 1.0)
    assert Scale.of(-values, share=0.99, signed=False) == Scale(0.0, 0.0)
    assert Scale.of(values, 3 * values, share=0.99) == Scale(0.0, 3.0)
    assert Scale.of(values, share=1.0) == Scale(0.0, 50.0)
    assert Scale.of(np.r_[np.zeros(1000), 2.0], share=0.99) == Scale(0.0, 2.0), "all the others are zero"
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(BadParameter, match=r"share is .*more than 0 and at most 1"):
            Scale.of(values, share=share)


def test_a_scale_is_taken_from_arrays_tensors_and_heatmaps():
    values = floats(3, 5)
    heat = Heatmap(values, "cam", "net", None, 0, 0.0)
    tensor = torch.from_numpy(values).requires_grad_()
    assert Scale.of(values) == Scale.of(tensor) == Scale.of(heat) == Scale.of(tensor.double())


@pytest.mark.parametrize(("low", "high"), [(1, 2), (-1, 2), (0, -1), (0, float("inf")), (0, float("nan"))])
def test_a_scale_whose_zero_would_move_is_refused(low, high):
    with pytest.raises(BadParameter, match="scale"):
        Scale(low, high)


def test_a_scale_of_nothing_is_refused():
    for arrays in ((), (np.empty((0, 3), np.float32),)):
        with pytest.raises(BadParameter, match="empty"):
            Scale.of(*arrays)


# Colours


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_ends_and_the_middle_have_the_ends_and_the_middle_of_the_table(dtype):
    values = np.array([-2, 0, 2, -99, 99], dtype)
    signed, plain = colour_table(True), colour_table(False)
    assert len(signed) % 2 == 1
    np.testing.assert_array_equal(to_colours(values, Scale(-2, 2)), signed[[0, 127, 254, 0, 254]])
    np.testing.assert_array_equal(to_colours(values, Scale(0, 2)), plain[[0, 0, 255, 0, 255]])


def test_zero_is_neutral_on_a_signed_scale_and_signs_are_mirrored():
    scale, values = Scale(-3.0, 3.0), np.linspace(0, 3, 50, dtype=np.float32)
    assert np.ptp(to_colours(np.float32(0), scale)) <= 1
    table = colour_table(True)
    mirrored = {tuple(a): tuple(b) for a, b in zip(table, table[::-1], strict=True)}
    for up, down in zip(to_colours(values, scale), to_colours(-values, scale), strict=True):
        assert mirrored[tuple(up)] == tuple(down)


def test_the_default_colours_keep_their_order_in_greyscale():
    assert (np.diff(luma(colour_table(False))) > -0.5).all()
    signed = luma(colour_table(True))
    assert (np.diff(signed[:128]) > -0.5).all()
    assert (np.diff(signed[127:]) < 0.5).all()


def test_the_signs_differ_for_those_who_cannot_tell_red_from_green():
    # Red-green blindness leaves blue against yellow: the ends differ strongly in blue less the mean of red and green.
    ends = colour_table(True)[[20, -21]].astype(float)
    blueness = ends[:, 2] - ends[:, :2].mean(axis=1)
    assert blueness[0] > 30
    assert blueness[1] < 0


@pytest.mark.parametrize("value", [0.0, 1e-30, 4.0])
def test_a_constant_map_is_drawn_in_one_colour(value):
    values = np.full((4, 7), value, np.float32)
    colours = to_colours(values, Scale.of(values))
    assert colours.shape == (4, 7, 3)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 1


def test_a_map_of_zeros_has_the_colour_of_zero_and_no_other():
    zeros = np.zeros((4, 7), np.float32)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(to_colours(zeros, Scale.of(zeros)), to_colours(zeros, Scale(0.0, 1.0)))


@pytest.mark.parametrize("values", [np.arange(6), np.zeros((2, 3), np.uint8), np.ones(3, bool), np.array([None])])
def test_only_floating_point_numbers_become_colours(values):
    with pytest.raises(BadParameter, match="floating-point"):
        to_colours(values, Scale(0.0, 1.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_colour(bad):
    with pytest.raises(BadParameter, match="1 of 3 values"):
        to_colours(np.array([0.0, bad, 1.0]), Scale(0.0, 1.0))


def test_p10_an_unknown_colour_map_is_refused_with_the_nearest():
    with pytest.raises(BadParameter, match="“viridis”"):
        to_colours(floats(3), Scale(-1.0, 1.0), "virids")
    with pytest.raises(BadParameter, match="inferno"):
        to_colours(floats(3), Scale(-1.0, 1.0), "?")


def test_a_colour_map_by_name_is_matplotlibs():
    import matplotlib as mpl

    values = np.arange(256, dtype=np.float32)
    theirs = np.rint(mpl.colormaps["viridis"](np.arange(256))[:, :3] * 255)
    np.testing.assert_array_equal(to_colours(values, Scale(0.0, 255.0), "viridis"), theirs)


def test_colouring_leaves_the_values_as_they_are():
    values = floats(3, 4)
    values.flags.writeable = False
    before = values.copy()
    to_colours(values, Scale(-1.0, 1.0))
    montage(values[None], Scale(-1.0, 1.0))
    np.testing.assert_array_equal(values, before)


def test_the_colour_bar_runs_from_the_low_end_to_the_high():
    for scale in (Scale(-2.0, 2.0), Scale(0.0, 5.0)):
        bar = colour_bar(scale, width=101, height=7)
        assert bar.shape == (7, 101, 3)
        ends = to_colours(np.array([scale.low, scale.high]), scale)
        np.testing.assert_array_equal(bar[3, [0, -1]], ends)
        assert (bar == bar[:1]).all()
    np.testing.assert_array_equal(bar[0], to_colours(np.linspace(0, 5, 101), scale))


# Sheets


@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("columns", [None, 1, 3, 7, 9])
def test_every_tile_of_a_sheet_is_its_map_and_is_found_at_its_place(columns, gap):
    values, scale = floats(7, 3, 5), Scale(-2.0, 2.0)
    sheet = montage(values, scale, columns=columns, tile=6, gap=gap)
    assert sheet.tile == (6, 10)
    seen = np.full(sheet.picture.shape[:2], -1)
    for y in range(seen.shape[0]):
        for x in range(seen.shape[1]):
            index = sheet.index_at(x, y)
            if index is not None:
                seen[y, x] = index
    for index, image in enumerate(values):
        rows, left = np.nonzero(seen == index)
        top, bottom, left, right = rows.min(), rows.max() + 1, left.min(), left.max() + 1
        assert (bottom - top, right - left) == sheet.tile
        expected = to_colours(image, scale).repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(sheet.picture[top:bottom, left:right], expected)
    assert (sheet.picture[seen == -1] == GAP_COLOUR).all()


@pytest.mark.parametrize(("x", "y"), [(-1, 5), (5, -1), (10_000, 5), (5, 10_000), (0, 5), (5, 0), (-30, -30)])
def test_outside_of_a_sheet_and_in_its_gaps_there_is_no_tile(x, y):
    assert montage(floats(7, 3, 5), Scale(-2.0, 2.0), columns=3, tile=6, gap=2).index_at(x, y) is None


def test_tiles_run_along_the_rows():
    sheet = montage(floats(5, 4, 4), Scale(-2.0, 2.0), columns=3, gap=1)
    assert [sheet.index_at(1 + 5 * c, 1 + 5 * r) for r in range(2) for c in range(3)] == [0, 1, 2, 3, 4, None]


def test_a_scale_for_each_map_colours_it_as_it_would_alone():
    values = floats(4, 3, 5) * np.array([1, 10, 100, 0.1], np.float32)[:, None, None]
    scales = [Scale.of(image) for image in values]
    together = montage(values, scales, columns=1, gap=0).picture
    alone = [to_colours(image, scale) for image, scale in zip(values, scales, strict=True)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_on_one_sheet_zero_has_one_colour_whatever_the_scales():
    values = np.stack([np.zeros((3, 5)), np.zeros((3, 5)), np.full((3, 5), -2.0)]).astype(np.float32)
    sheet = montage(values, [Scale(0.0, 0.0), Scale(0.0, 4.0), Scale(-2.0, 2.0)], columns=1, gap=0)
    assert (sheet.picture[:6] == to_colours(np.float32(0), Scale(-1.0, 1.0))).all()


def test_rgb_tiles_are_not_recoloured():
    pictures = np.stack([scene(6, 9, seed) for seed in range(4)])
    sheet = tiles(pictures, columns=2, gap=0)
    expected = np.concatenate([np.concatenate(pictures[:2], axis=1), np.concatenate(pictures[2:], axis=1)])
    np.testing.assert_array_equal(sheet.picture, expected)


@pytest.mark.parametrize("gap", [0, 2])
def test_only_the_highlighted_tiles_are_framed(gap):
    values = np.zeros((6, 8, 12), np.float32)
    sheet = montage(values, Scale(0.0, 1.0), columns=3, gap=gap, highlight=[4])
    rows, columns = np.nonzero((sheet.picture == HIGHLIGHT_COLOUR).all(axis=2))
    top, left = 8 + gap, 12 + gap  # of the frame of tile 4, in the second row and column
    assert (rows.min(), rows.max()) == (top, top + 8 + 2 * gap - 1)
    assert (columns.min(), columns.max()) == (left, left + 12 + 2 * gap - 1)
    assert sheet.index_at((columns.min() + columns.max()) // 2, (rows.min() + rows.max()) // 2) == 4


@pytest.mark.parametrize(
    "options", [{"gap": -1}, {"columns": 0}, {"tile": 0}, {"tile": 2.5}, {"highlight": [7]}, {"highlight": [-1]}]
)
def test_senseless_sheets_are_refused_by_the_name_of_the_argument(options):
    with pytest.raises(BadParameter, match=next(iter(options))):
        montage(floats(7, 3, 5), Scale(-2.0, 2.0), **options)


def test_maps_and_tiles_of_another_shape_are_refused_with_the_expected_one():
    with pytest.raises(BadParameter, match=r"\(C, h, w\)"):
        montage(floats(3, 5), Scale(-2.0, 2.0))
    with pytest.raises(BadParameter, match="2 scales for 3 maps"):
        montage(floats(3, 2, 2), [Scale(0.0, 1.0)] * 2)
    for wrong in (np.zeros((2, 3, 5), np.uint8), np.zeros((2, 3, 5, 3)), np.zeros((0, 3, 5, 3), np.uint8)):
        with pytest.raises(BadParameter, match=r"\(N, h, w, 3\)"):
            tiles(wrong)


@pytest.mark.slow
def test_a_montage_of_512_maps_is_ten_times_faster_than_512_axes():
    import io

    from matplotlib.figure import Figure

    from vizcore.images import to_png

    values = np.abs(floats(512, 28, 28))
    start = time.perf_counter()
    to_png(montage(values, Scale.of(values), tile=56).picture)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    figure = Figure(figsize=(32, 16))
    for axes, image in zip(figure.subplots(16, 32).flat, values, strict=True):
        axes.imshow(image, cmap="inferno")
        axes.axis("off")
    figure.savefig(io.BytesIO(), format="png")
    theirs = time.perf_counter() - start
    print(f"montage {ours:.3f} s, matplotlib {theirs:.1f} s, ratio {theirs / ours:.0f}")
    assert theirs > 10 * ours
