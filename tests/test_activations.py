"""Activation maps are what comes out of a layer, and their statistics are plain ones."""

from __future__ import annotations

import nets
import numpy as np
import pytest
import reference
import torch

from vizcore.activations import activation_maps, activation_maps_of
from vizcore.hooks import list_layers, map_layers
from vizcore.records import ActivationMaps, BadParameter, LayerNotFound


@pytest.mark.parametrize("build", [nets.gap, nets.in_place, nets.branching, nets.residual, nets.grey, nets.odd])
def test_maps_are_what_the_layer_returned_at_every_layer(build) -> None:
    model, pixels = build(torch.float64), nets.picture(1)
    layers = [layer.name for layer in map_layers(model)]
    assert len(layers) > 3
    for layer in layers:
        maps = activation_maps(model, pixels, layer)
        expected = reference.maps_of(model, layer, pixels[0].numpy())
        assert maps.values.dtype == np.float32
        np.testing.assert_allclose(maps.values, expected, rtol=1e-6, atol=1e-7, err_msg=layer)


def test_an_identity_convolution_shows_the_colours_of_the_picture() -> None:
    pixels = nets.picture(2).float()
    assert np.array_equal(activation_maps(nets.colours(torch.float32), pixels, "conv1").values, pixels[0].numpy())


def test_maps_before_an_in_place_relu_are_signed_and_behind_it_are_not() -> None:
    model, pixels = nets.in_place(), nets.picture(3).float()
    before, behind = (activation_maps(model, pixels, layer).values for layer in ("bn2", "relu2"))
    assert before.min() < 0
    np.testing.assert_array_equal(behind, np.maximum(before, 0))


def test_several_layers_from_one_pass_are_those_of_one_each() -> None:
    passes = []
    model, pixels = nets.answering(lambda logits: passes.append(1) or logits), nets.picture(4).float()
    layers = ("body.relu3", "body.conv1", "body.bn2")
    together = activation_maps_of(model, pixels, layers)
    assert len(passes) == 1
    for layer, maps in zip(layers, together, strict=True):
        assert maps.layer == layer
        np.testing.assert_array_equal(maps.values, activation_maps(model, pixels, layer).values)


def test_shifting_the_picture_shifts_the_maps() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(5)
    maps = activation_maps(model, pixels, "conv1").values
    moved = activation_maps(model, pixels.roll((3, 5), (2, 3)), "conv1").values
    np.testing.assert_allclose(moved[:, 4:-1, 6:-1], np.roll(maps, (3, 5), (1, 2))[:, 4:-1, 6:-1], rtol=1e-5, atol=1e-6)


def test_maps_are_a_copy_that_the_next_call_does_not_change() -> None:
    model = nets.gap()
    maps = activation_maps(model, nets.picture(6).float(), "conv1")
    kept = maps.values.copy()
    activation_maps(model, nets.picture(7).float(), "conv1")
    assert np.array_equal(maps.values, kept)


def test_statistics_are_those_of_each_channel() -> None:
    values = np.array(
        [
            [[0, 0, 0], [0, 0, 0]],
            [[-1, 0, 3], [0, 0, 4]],
            [[2, 2, 2], [2, 2, 2]],
            [[-5, -5, -5], [-5, -5, -5]],
        ],
        dtype=np.float32,
    )
    maps = ActivationMaps(values, "by hand", "layer")
    np.testing.assert_allclose(maps.means, [0, 1, 2, -5])
    np.testing.assert_allclose(maps.maxima, [0, 4, 2, -5])
    np.testing.assert_allclose(maps.zero_shares, [1, 0.5, 0, 0])
    np.testing.assert_allclose(maps.strengths, [0, (26 / 6) ** 0.5, 2, 5])
    assert maps.dead.tolist() == [0]


def test_a_channel_that_never_fires_is_named_dead() -> None:
    model = nets.gap()
    model.net.conv3.weight[[2, 7]] = 0
    model.net.conv3.bias[[2, 7]] = torch.tensor([-0.5, 0.0])
    maps = activation_maps(model, nets.picture(8).float(), "relu3")
    assert {2, 7} <= set(maps.dead.tolist()) < set(range(10))
    assert set(activation_maps(model, nets.picture(8).float(), "conv3").dead.tolist()) == {7}


@pytest.mark.parametrize("layer", ["classifier", "pool"])
def test_a_layer_without_maps_is_refused_with_layers_that_have_them(layer: str) -> None:  # P5
    with pytest.raises(LayerNotFound, match=f"“{layer}” of GapNet gives .* numbers, not maps.*“relu3”"):
        activation_maps(nets.gap(), nets.picture().float(), layer)


def test_a_net_without_maps_says_so() -> None:  # P13
    model = nets.no_conv()
    assert [layer.name for layer in list_layers(model)] == ["hidden", "classifier"]
    with pytest.raises(LayerNotFound, match="none"):
        activation_maps(model, nets.picture().float(), "hidden")


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(3, 41, 29),
        torch.zeros(2, 3, 41, 29),
        torch.zeros(0, 3, 41, 29),
        torch.zeros(1, 1, 41, 29),
        torch.zeros(1, 4, 41, 29),
        torch.zeros(1, 41, 29, 3),
        torch.zeros(1, 3, 0, 29),
        torch.zeros(1, 3, 41, 29, dtype=torch.uint8),
        torch.full((1, 3, 41, 29), torch.nan),
        np.zeros((1, 3, 41, 29), np.float32),
        None,
    ],
    ids=lambda pixels: f"{getattr(pixels, 'dtype', '')}{tuple(getattr(pixels, 'shape', ()))}",
)
def test_what_is_not_one_picture_is_refused_with_what_was_received(pixels: object) -> None:
    with pytest.raises(BadParameter, match=r"pixels (is|has|holds)"):
        activation_maps(nets.gap(), pixels, "conv1")
