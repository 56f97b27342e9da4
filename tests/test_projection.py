"""Projections of a unit: against Captum on the net cut at the layer, kernels and differences, and what is outside."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import captum.attr
import nets
import numpy as np
import pytest
import torch
from test_attribution import WAYS, relus
from torch import Tensor, nn
from torch.nn import functional as F

from models import load_model
from vizcore.hooks import map_layers
from vizcore.images import prepare
from vizcore.projection import PROJECTIONS, projection
from vizcore.receptive_field import effective, theoretical
from vizcore.records import BadParameter, LayerNotFound, Model, UnsupportedModel

RULED = ("deconvnet", "guided_backpropagation")


class CutAt(nn.Module):
    """A net of modules in a row from pixels up to ``layer``, which answers with one unit of it."""

    def __init__(self, model: Model, layer: str, unit: tuple[int, int, int]) -> None:
        super().__init__()
        names = [name for name, _ in model.net.named_children()]
        kept = names[: names.index(layer) + 1]
        self.body = nn.Sequential(*(module for name, module in model.net.named_children() if name in kept))
        self._normalise, self._unit = model.normalise, unit

    def forward(self, pixels: Tensor) -> Tensor:
        channel, row, column = self._unit
        return self.body(self._normalise(pixels))[:, channel, row, column]


PEERS: dict[str, Callable[[nn.Module], Any]] = {
    "deconvnet": captum.attr.Deconvolution,
    "guided_backpropagation": captum.attr.GuidedBackprop,
    "gradient": lambda net: captum.attr.Saliency(net),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("method", PROJECTIONS)
@pytest.mark.parametrize(
    ("make", "layer"),
    [(nets.gap, layer) for layer in ("relu1", "conv2", "relu2", "conv3", "relu3")]
    + [(nets.deep_head, layer) for layer in ("act2", "act3", "pool")],
)
def test_values_are_captums_of_the_net_cut_at_the_layer(make: Callable[..., Model], layer: str, method: str) -> None:
    model, pixels = make(torch.float64), nets.picture()
    shape = next(known.shape for known in map_layers(model) if known.name == layer)
    for unit in ((1, 0, shape[2] - 1), (2, shape[1] // 2, shape[2] // 2)):
        peer = PEERS[method](CutAt(model, layer, unit))
        options = {"abs": False} if method == "gradient" else {}
        wanted = peer.attribute(pixels.clone().requires_grad_(), **options)[0].detach().numpy()
        found = projection(model, pixels, layer, *unit, method)
        np.testing.assert_allclose(found.values, wanted, rtol=1e-5, atol=1e-7 * max(np.abs(wanted).max(), 1e-12))
        with torch.no_grad():
            assert found.activation == pytest.approx(float(CutAt(model, layer, unit)(pixels)))
        assert (found.unit, found.layer, found.method, found.model_name) == (unit, layer, method, model.name)


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize("way", WAYS)
def test_a_relu_before_the_layer_is_one_however_it_is_written(way: str, method: str) -> None:
    pixels = nets.picture()
    wanted, plain = (projection(relus(nn.ReLU()), pixels, "conv2", 3, 5, 6, one).values for one in (method, "gradient"))
    np.testing.assert_allclose(projection(relus(WAYS[way]), pixels, "conv2", 3, 5, 6, method).values, wanted, rtol=1e-6)
    assert not np.allclose(wanted, plain)


OUTSIDE = [(nets.gap, "relu3"), (nets.in_place, "relu2"), (nets.branching, "act"), (nets.residual, "block1")]


@pytest.mark.parametrize(
    ("make", "layer", "method"),
    [*((*pair, method) for pair in OUTSIDE for method in PROJECTIONS), (nets.odd, "conv2", "gradient")],
)
def test_outside_of_the_receptive_field_it_is_zero_to_the_last_bit(
    make: Callable[..., Model], layer: str, method: str
) -> None:
    model, pixels = make(), nets.picture(1, dtype=torch.float32)
    shape = next(known.shape for known in map_layers(model) if known.name == layer)
    seen = 0
    for row, column in itertools.product((0, shape[1] // 2, shape[1] - 1), (0, shape[2] // 3, shape[2] - 1)):
        for channel in range(shape[0]):
            values = projection(model, pixels, layer, channel, row, column, method).values
            left, top, right, bottom = theoretical(model, layer, (row, column))
            seen += bool(values[:, top:bottom, left:right].any())
            values[:, top:bottom, left:right] = 0
            assert not values.any()
    assert seen > shape[0], "most units send something back"


@pytest.mark.parametrize("layer", ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"])
def test_in_a_trained_net_it_is_zero_outside_too(cat: np.ndarray, layer: str) -> None:
    model = load_model("efficientnet_lite0")
    pixels = prepare(cat, model).pixels
    values = projection(model, pixels, layer, 3, 4, 9).values
    left, top, right, bottom = theoretical(model, layer, (4, 9))
    assert (right - left) * (bottom - top) < 224 * 224
    assert values[:, top:bottom, left:right].any()
    values[:, top:bottom, left:right] = 0
    assert not values.any()


@pytest.mark.parametrize("method", PROJECTIONS)
def test_the_projection_of_a_unit_of_the_first_layer_is_its_kernel(method: str) -> None:
    model, row, column = nets.gap(torch.float64), 11, 20  # padding 1: its window begins a pixel before
    found = projection(model, nets.picture(), "conv1", 4, row, column, method)
    kernel = model.net.conv1.weight[4].numpy() / np.array(model.std)[:, None, None]
    np.testing.assert_allclose(found.values[:, row - 1 : row + 2, column - 1 : column + 2], kernel, rtol=1e-6)
    assert np.count_nonzero(found.values) == kernel.size
    said = ("No ReLU comes before “conv1”: this is the plain gradient.",)
    assert found.notes == (() if method == "gradient" else said)


def test_the_gradient_is_what_a_small_change_of_a_pixel_does_and_its_size_the_effective_field() -> None:
    model, pixels, unit, step = nets.deep_head(torch.float64), nets.picture(), (5, 7, 3), 1e-6
    found = projection(model, pixels, "act2", *unit, "gradient")
    np.testing.assert_allclose(
        np.abs(found.values).sum(0), effective(model, pixels, "act2", unit).values, rtol=1e-5, atol=1e-9
    )
    for place in zip(
        *np.unravel_index(np.argsort(-np.abs(found.values), axis=None)[:20], found.values.shape), strict=True
    ):
        more, less = pixels.clone(), pixels.clone()
        more[0, *place] += step
        less[0, *place] -= step
        change = [projection(model, one, "act2", *unit, "gradient").activation for one in (more, less)]
        assert found.values[place] == pytest.approx((change[0] - change[1]) / (2 * step), rel=1e-3)


@pytest.mark.parametrize("method", RULED)
def test_what_lies_behind_the_layer_does_not_matter(method: str) -> None:
    model, pixels = nets.gap(torch.float64), nets.picture()
    before = projection(model, pixels, "bn2", 1, 3, 4, method).values
    for name in ("conv3", "classifier"):
        model.net.get_submodule(name).weight.mul_(-3).add_(0.1)
    np.testing.assert_array_equal(projection(model, pixels, "bn2", 1, 3, 4, method).values, before)
    assert before.any()


def test_a_deconvnet_ignores_that_a_relu_is_shut_and_the_others_send_nothing_back() -> None:
    model = relus(nn.ReLU())
    model.net.conv1.bias.fill_(-1e3)
    pixels = nets.picture()
    assert projection(model, pixels, "conv2", 3, 5, 6, "deconvnet").values.any()
    for method in ("guided_backpropagation", "gradient"):
        found = projection(model, pixels, "conv2", 3, 5, 6, method)
        assert not found.values.any()
        assert found.notes == ("The projection is 0 everywhere: nothing comes back from this unit.",)


def test_a_net_without_a_relu_is_refused_but_for_the_gradient() -> None:
    model = relus(torch.tanh)
    for method in RULED:
        with pytest.raises(UnsupportedModel, match="calls none: its map would be the plain gradient"):
            projection(model, nets.picture(), "conv2", 0, 1, 1, method)
    assert projection(model, nets.picture(), "conv2", 0, 1, 1, "gradient").values.any()


def test_where_the_only_relu_comes_later_that_is_said() -> None:
    model = relus(torch.tanh, F.relu)
    found, plain = (projection(model, nets.picture(), "conv2", 0, 1, 1, one) for one in ("deconvnet", "gradient"))
    np.testing.assert_array_equal(found.values, plain.values)
    assert found.notes == ("No ReLU comes before “conv2”: this is the plain gradient.",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "smooth_grad"}, "method is 'smooth_grad'; it must be one of deconvnet, guided_backpropagation, "),
        ({"channel": 8}, "channel is 8; it must be a whole number from 0 to 7"),
        ({"row": 21}, "row is 21; it must be a whole number from 0 to 20"),
        ({"column": 15}, "column is 15; it must be a whole number from 0 to 14"),
        ({"column": -1}, "column is -1"),
        ({"row": True}, "row is True"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(options: dict[str, Any], words: str) -> None:
    asked = {"layer": "relu2", "channel": 0, "row": 0, "column": 0} | options
    with pytest.raises(BadParameter, match=re.escape(words)):
        projection(nets.gap(torch.float64), nets.picture(), **asked)


@pytest.mark.parametrize(("layer", "words"), [("relu4", "no layer 'relu4'"), ("pool", "gives 10 numbers, not maps")])
def test_a_layer_without_maps_is_refused_by_name(layer: str, words: str) -> None:
    with pytest.raises(LayerNotFound, match=words):
        projection(nets.gap(torch.float64), nets.picture(), layer, 0, 0, 0)


def test_a_unit_that_cannot_be_differentiated_is_refused() -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv1(x.detach().round())).mean((2, 3))

    model = nets.model_of(Rounded, {}, torch.float64)
    with pytest.raises(UnsupportedModel, match="“conv1” of Rounded does not depend on the picture"):
        projection(model, nets.picture(), "conv1", 0, 2, 3, "gradient")
