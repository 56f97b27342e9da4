"""A kernel laid on a grid by definition; and a kernel of a net changed in a copy, of which the net knows nothing."""

from __future__ import annotations

import nets
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models import load_model
from vizcore.kernel_bench import (
    BOOK_GRID,
    CHANGES,
    KERNELS,
    grey_of,
    kernel_named,
    output_size,
    size_in_words,
    slide,
)
from vizcore.kernel_edit import edit_kernel, with_kernel
from vizcore.records import BadParameter, LayerNotFound

# The bench


def test_the_books_kernel_on_nought_to_eight_gives_19_25_37_43() -> None:
    assert slide(BOOK_GRID, kernel_named("book")).values.tolist() == [[19, 25], [37, 43]]


@pytest.mark.parametrize("seed", range(20))
def test_any_kernel_stride_padding_and_dilation_gives_what_torch_gives(seed: int) -> None:
    draw = np.random.default_rng(seed)
    grid = draw.normal(size=draw.integers(5, 12, 2))
    kernel = draw.normal(size=draw.integers(1, 4, 2))
    options = {
        "stride": int(draw.integers(1, 4)),
        "padding": int(draw.integers(0, 4)),
        "dilation": int(draw.integers(1, 3)),
    }
    found = slide(grid, kernel, **options)
    wanted = F.conv2d(torch.from_numpy(grid)[None, None], torch.from_numpy(kernel)[None, None], **options)
    np.testing.assert_allclose(found.values, wanted[0, 0].numpy(), atol=1e-12)


def test_every_output_is_the_sum_over_its_window() -> None:
    run = slide(np.arange(42.0).reshape(6, 7), kernel_named("sobel_x"), stride=2, padding=2, dilation=2)
    for row, column in np.ndindex(*run.values.shape):
        rows, columns, patch, inside = run.window(row, column)
        assert (patch * run.kernel).sum() == pytest.approx(run.values[row, column])
        for a, b in np.ndindex(3, 3):
            there = 0 <= rows[a] < 6 and 0 <= columns[b] < 7
            assert inside[a, b] == there
            assert patch[a, b] == (run.grid[rows[a], columns[b]] if there else 0)


def test_the_output_size_in_words_is_arithmetic() -> None:
    words = size_in_words(224, 7, stride=2, padding=3)
    assert words == "⌊(224 + 2·3 − 1·(7 − 1) − 1) / 2⌋ + 1 = 112"
    left, right = words.replace("·", "*").replace("−", "-").replace("⌊", "(").replace("⌋", ")").split(" = ")
    assert int(eval(left.replace(" / ", " // "))) == int(right)


def test_identity_changes_nothing_and_a_blur_keeps_a_flat_grid() -> None:
    grid = np.random.default_rng(0).normal(size=(5, 8))
    np.testing.assert_array_equal(slide(grid, kernel_named("identity"), padding=1).values, grid)
    for name in ("blur", "gaussian", "sharpen"):
        np.testing.assert_allclose(slide(np.full((7, 9), 0.3), kernel_named(name)).values, 0.3)
    for name in ("sobel_x", "sobel_y", "laplace"):
        np.testing.assert_allclose(slide(np.full((7, 9), 0.3), kernel_named(name)).values, 0, atol=1e-15)


def test_sobel_answers_an_edge_of_its_direction_only() -> None:
    upright = np.repeat([[0.0, 0, 0, 1, 1, 1]], 5, axis=0)
    assert slide(upright, kernel_named("sobel_x")).values.max() == 4
    assert not slide(upright, kernel_named("sobel_y")).values.any()


def test_grey_is_from_black_to_white() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1] = 255
    np.testing.assert_allclose(grey_of(pixels), [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("grid", "kernel", "options", "words"),
    [
        (np.zeros((3, 2)), np.ones((3, 3)), {}, "fits nowhere"),
        (np.zeros((5, 5)), np.ones((2, 2)), {"dilation": 5}, "fits nowhere"),
        (np.zeros((5, 5)), np.full((2, 2), np.nan), {}, "empty cell"),
        (np.zeros(5), np.ones((2, 2)), {}, "grid has the shape"),
        (np.zeros((5, 5)), np.ones((12, 2)), {}, "kernel has the shape"),
        (np.zeros((5, 5)), np.ones((2, 2)), {"stride": 0}, "stride is 0"),
        (np.zeros((5, 5)), np.ones((2, 2)), {"padding": -1}, "padding is -1"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(grid, kernel, options: dict[str, int], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        slide(grid, kernel, **options)


def test_an_unknown_kernel_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadParameter, match="sobel_x"):
        kernel_named("sobel")
    assert output_size(3, 2) == 2


def test_a_kernel_taken_from_the_list_is_a_copy() -> None:
    kernel_named("blur")[:] = 9
    assert KERNELS["blur"][1].max() < 1


def test_the_changes_do_what_they_say() -> None:
    slices = np.random.default_rng(0).normal(size=(3, 5, 4))
    assert not CHANGES["zero"][1](slices).any()
    np.testing.assert_array_equal(CHANGES["negate"][1](slices), -slices)
    np.testing.assert_array_equal(CHANGES["flip"][1](slices)[1, 2], slices[1, 2, ::-1])
    blurred = CHANGES["blur"][1](slices)
    assert blurred[1, 2, 2] == pytest.approx(slices[1, 1:4, 1:4].mean())
    assert blurred[1, 0, 0] == pytest.approx(slices[1, :2, :2].mean())


# A kernel of the net


def test_the_same_kernel_changes_nothing() -> None:
    model, pixels = nets.branching(), nets.picture(dtype=torch.float32)
    kernel = model.net.conv2.weight[2].numpy()
    edit = edit_kernel(model, pixels, "conv2", 2, kernel)
    np.testing.assert_array_equal(edit.scores[0], edit.scores[1])
    np.testing.assert_array_equal(edit.maps[0], edit.maps[1])
    np.testing.assert_array_equal(edit.scores[0], model.logits(pixels)[0].numpy())


@pytest.mark.parametrize("build", [nets.gap, nets.in_place, nets.residual, lambda: load_model("lenet5")])
def test_the_loaded_net_stays_as_it_is(build) -> None:
    model = build()
    pixels = nets.picture(1, model.input_size, dtype=torch.float32)
    state = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    memory = {name: tensor.data_ptr() for name, tensor in model.net.state_dict().items()}
    before = model.logits(pixels)
    shape = model.net.conv1.weight.shape[1:]
    edit = edit_kernel(model, pixels, "conv1", 1, np.full(shape, 3.0))
    assert not np.allclose(edit.scores[0], edit.scores[1])
    assert torch.equal(model.logits(pixels), before)
    now = model.net.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in now.items())
    assert memory == {name: tensor.data_ptr() for name, tensor in now.items()}
    assert nets.lock_is_free(model)


def test_a_change_is_that_of_a_net_with_these_weights() -> None:
    model, pixels = nets.odd(), nets.picture(dtype=torch.float32)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3))
    edit = edit_kernel(model, pixels, "conv2", 5, kernel)
    with torch.no_grad():
        model.net.conv2.weight[5] = torch.from_numpy(kernel)
    np.testing.assert_allclose(edit.scores[1], model.logits(pixels)[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(edit.kernels[1], kernel, rtol=1e-6)


def test_the_copy_shares_all_other_numbers_and_has_a_lock_of_its_own() -> None:
    model = nets.gap()
    copy = with_kernel(model, "conv2", 0, np.zeros((6, 3, 3)))
    for name, tensor in copy.net.named_parameters():
        shared = tensor.data_ptr() == model.net.get_parameter(name).data_ptr()
        assert shared == (name != "conv2.weight"), name
    assert copy.lock is not model.lock
    assert torch.equal(copy.net.conv2.weight[1:], model.net.conv2.weight[1:])


def test_a_kernel_of_zeros_leaves_a_map_of_its_bias() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    edit = edit_kernel(model, pixels, "conv3", 4, np.zeros((8, 3, 3)))
    np.testing.assert_allclose(edit.maps[1], float(model.net.conv3.bias[4]))


def test_what_is_no_kernel_is_refused() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    with pytest.raises(LayerNotFound, match="convolutions"):
        edit_kernel(model, pixels, "classifier", 0, np.zeros(10))
    with pytest.raises(BadParameter, match=r"\(3, 3, 3\)"):
        edit_kernel(model, pixels, "conv1", 0, np.zeros((3, 3)))
    with pytest.raises(BadParameter, match="finite"):
        edit_kernel(model, pixels, "conv1", 0, np.full((3, 3, 3), np.nan))
    with pytest.raises(BadParameter, match="channel"):
        edit_kernel(model, pixels, "conv1", 6, np.zeros((3, 3, 3)))


def test_sums_beyond_all_numbers_are_refused() -> None:
    with pytest.raises(BadParameter, match="too large"):
        slide(np.full((3, 3), 1e200), np.full((2, 2), 1e200))
