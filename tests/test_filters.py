"""Filters are the weights as they are, on one scale, in an order that can be chosen."""

from __future__ import annotations

import nets
import numpy as np
import pytest
import torch

from vizcore.filters import ORDERS, as_rgb, convolutions, filters, order
from vizcore.records import BadParameter, Filters, LayerNotFound


@pytest.mark.parametrize(
    ("build", "layer", "shape"),
    [
        (nets.gap, None, (6, 3, 3, 3)),
        (nets.gap, "conv2", (8, 6, 3, 3)),
        (nets.odd, None, (6, 3, 3, 2)),
        (nets.odd, "conv2", (8, 3, 3, 3)),  # two groups: each kernel reads three of six channels
        (nets.odd, "conv3", (8, 1, 1, 4)),
        (nets.grey, None, (4, 1, 5, 5)),
        (nets.branching, "wide.2", (5, 3, 3, 3)),
    ],
)
def test_kernels_are_the_weights_as_they_are(build, layer: str | None, shape: tuple[int, ...]) -> None:
    model = build()
    bank = filters(model, layer)
    assert bank.values.shape == shape
    assert bank.layer == (layer or "conv1")
    assert np.array_equal(bank.values, model.net.get_submodule(bank.layer).weight.numpy())


def test_only_kernels_that_read_the_picture_have_the_names_of_colours() -> None:
    assert filters(nets.gap()).channel_names == ("red", "green", "blue")
    assert filters(nets.odd(), "conv2").channel_names is None  # three channels, but none of them a colour
    assert filters(nets.grey()).channel_names is None


def test_kernels_are_a_copy() -> None:
    model = nets.gap()
    bank = filters(model)
    bank.values[:] = 0
    assert model.net.conv1.weight.all()


def test_float64_kernels_come_as_float32() -> None:
    assert filters(nets.gap(torch.float64)).values.dtype == np.float32
    np.testing.assert_allclose(filters(nets.gap(torch.float64)).values, filters(nets.gap()).values)


def test_zero_is_mid_grey_and_the_largest_weight_reaches_the_end_of_the_scale() -> None:
    values = np.zeros((3, 3, 2, 1), np.float32)
    values[1, 2, 1, 0] = -4.0
    values[2, 0, 0, 0] = 2.0
    colours = as_rgb(Filters(values, "by hand", "conv"))
    assert colours.shape == (3, 2, 1, 3)
    assert colours[1, 1, 0].tolist() == [0.5, 0.5, 0.0]
    assert colours[2, 0, 0].tolist() == [0.75, 0.5, 0.5]
    assert (colours[0] == 0.5).all()


def test_a_bank_of_zeros_is_grey_and_not_divided_by_zero() -> None:
    assert (as_rgb(Filters(np.zeros((2, 3, 4, 5), np.float32), "by hand", "conv")) == 0.5).all()


def test_colours_need_three_channels() -> None:
    with pytest.raises(BadParameter, match="read 6 channels; colours need 3"):
        as_rgb(filters(nets.gap(), "conv2"))


@pytest.mark.parametrize("by", ORDERS)
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3"])
def test_every_order_holds_each_kernel_once(by: str, layer: str) -> None:
    bank = filters(nets.gap(), layer)
    assert sorted(order(bank, by)) == list(range(len(bank.values)))


def test_strongest_kernels_come_first() -> None:
    bank = filters(nets.gap(), "conv3")
    lengths = [np.linalg.norm(bank.values[n]) for n in order(bank, "strength")]
    assert lengths == sorted(lengths, reverse=True)
    np.testing.assert_allclose(bank.norms, [np.linalg.norm(kernel) for kernel in bank.values], rtol=1e-6)


def test_the_order_as_defined_is_the_default() -> None:
    assert order(filters(nets.gap())).tolist() == [0, 1, 2, 3, 4, 5]


def test_similarity_goes_from_the_strongest_to_its_nearest_in_angle() -> None:
    angles = np.radians([0, 90, 10, 200, 80])
    values = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32).reshape(5, 2, 1, 1)
    values[1] *= 3
    assert order(Filters(values, "by hand", "conv"), "similarity").tolist() == [1, 4, 2, 0, 3]


def test_a_dead_kernel_does_not_upset_the_order() -> None:
    values = np.zeros((3, 3, 2, 2), np.float32)
    values[1] = 1
    assert order(Filters(values, "by hand", "conv"), "similarity")[0] == 1


def test_an_unknown_order_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadParameter, match=r"by is 'size'.*index, strength, similarity"):
        order(filters(nets.gap()), "size")


def test_convolutions_are_listed_as_defined() -> None:
    assert convolutions(nets.branching()) == ("conv1", "narrow", "wide.0", "wide.2", "pooled.1", "conv2")
    assert convolutions(nets.no_conv()) == ()


@pytest.mark.parametrize("layer", ["relu1", "pool", "classifier"])
def test_a_layer_that_is_no_convolution_is_refused_with_those_that_are(layer: str) -> None:  # P5
    with pytest.raises(LayerNotFound, match=f"“{layer}” of GapNet is a .*“conv1”, “conv2”, “conv3”"):
        filters(nets.gap(), layer)


def test_a_net_without_convolutions_says_so() -> None:  # P13
    with pytest.raises(LayerNotFound, match="from the first: none"):
        filters(nets.no_conv(), "hidden")
    with pytest.raises(LayerNotFound, match="names no layer for “first_conv”"):
        filters(nets.no_conv())
