"""Gradient attributions: against finite differences, against Captum, and where rules at ReLUs are easily missed."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import captum.attr
import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import load_model
from models.samples import list_samples
from vizcore.attribution import BASELINES, attribution, guided_grad_cam
from vizcore.cam import cam
from vizcore.images import open_photo, prepare
from vizcore.records import BadParameter, Model, UnsupportedModel

TARGET = 2
GUIDED = ("guided_backpropagation", "deconvnet")


class Relus(nn.Module):
    """Two convolutions and a head, with ReLUs written in one of the ways in which they are written."""

    def __init__(self, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2)
        self.first, self.second = first, second
        self.classifier = nn.Linear(8, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.conv2(self.first(self.conv1(x))))
        return self.classifier(x.mean((2, 3)))


def relus(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor] | None = None) -> Model:
    roles = {"first_conv": "conv1", "cam": "conv2", "classifier": "classifier"}
    return nets.model_of(lambda: Relus(first, second or first), roles, torch.float64, seed=7)


def in_place(x: Tensor) -> Tensor:
    x.relu_()
    return x  # not what relu_ returned


@pytest.mark.parametrize("make", [nets.gap, nets.deep_head, nets.branching, nets.grey])
def test_the_gradient_is_what_a_small_change_of_a_pixel_does(make: Callable[..., Model]) -> None:
    model, pixels = make(torch.float64), nets.picture()
    found = attribution(model, pixels, TARGET)
    step = 1e-6
    rng = np.random.default_rng(0)
    for place in zip(*(rng.integers(0, size, 40) for size in pixels.shape[1:]), strict=True):
        more, less = pixels.clone(), pixels.clone()
        more[0, *place] += step
        less[0, *place] -= step
        with torch.no_grad():
            change = (model.logits(more) - model.logits(less))[0, TARGET] / (2 * step)
        assert found.values[place] == pytest.approx(float(change), rel=1e-3, abs=1e-6)
    with torch.no_grad():
        assert found.score == pytest.approx(float(model.logits(pixels)[0, TARGET]))


PEERS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "gradient": lambda net, x: captum.attr.Saliency(net).attribute(x, TARGET, abs=False),
    "gradient_x_input": lambda net, x: captum.attr.InputXGradient(net).attribute(x, TARGET),
    "integrated_gradients": lambda net, x: captum.attr.IntegratedGradients(net).attribute(
        x, torch.full_like(x, 0.5), TARGET, n_steps=20, method="gausslegendre"
    ),
    "guided_backpropagation": lambda net, x: captum.attr.GuidedBackprop(net).attribute(x, TARGET),
    "deconvnet": lambda net, x: captum.attr.Deconvolution(net).attribute(x, TARGET),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize("make", [nets.gap, nets.deep_head], ids=["gap", "deep_head"])
def test_values_are_captums(method: str, make: Callable[..., Model]) -> None:
    model, pixels = make(torch.float64), nets.picture()
    wanted = PEERS[method](nets.PixelNet(model), pixels.clone().requires_grad_())[0].detach().numpy()
    found = attribution(model, pixels, TARGET, method, baseline="grey", steps=20).values
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())


def test_the_map_of_an_efficientnet_is_captums() -> None:
    model = load_model("efficientnet_lite0")
    pixels = nets.picture(3, (96, 64), torch.float32)
    wanted = PEERS["gradient"](nets.PixelNet(model), pixels.clone().requires_grad_())[0].detach().numpy()
    found = attribution(model, pixels, TARGET).values
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


# ---- integrated gradients and SmoothGrad -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "baseline"),
    [*product(("lenet5", "photonet"), BASELINES), pytest.param("efficientnet_lite0", "black", marks=pytest.mark.slow)],
)
def test_integrated_gradients_add_up_to_the_change_of_the_score(name: str, baseline: str) -> None:
    model = load_model(name)
    sample = next(sample for sample in list_samples() if sample.grey == (name == "lenet5"))
    pixels = prepare(open_photo(sample.read()).pixels, model).pixels
    with torch.no_grad():
        target = int(model.logits(pixels)[0].argmax())
    found = attribution(model, pixels, target, "integrated_gradients", baseline=baseline)
    mean = torch.tensor(model.mean).expand(3).view(1, 3, 1, 1).expand_as(pixels)
    start = {"black": torch.zeros_like(pixels), "grey": torch.full_like(pixels, 0.5), "mean": mean}[baseline]
    with torch.no_grad():
        change = float((model.logits(pixels) - model.logits(start))[0, target])
    assert float(found.values.sum(dtype=np.float64)) == pytest.approx(change, rel=0.01)
    assert float(re.search(r"but for (\S+) %", found.notes[0])[1]) < 1  # type: ignore[index]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_neither_depends_on_the_size_of_a_batch(batch_size: int) -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture()
    for method in ("integrated_gradients", "smooth_grad"):
        few, all_at_once = (attribution(model, pixels, 0, method, batch_size=size).values for size in (batch_size, 64))
        np.testing.assert_allclose(few, all_at_once, rtol=1e-5, atol=1e-9)


def test_where_the_score_bends_more_steps_are_taken() -> None:
    model = load_model("photonet")
    photo = next(sample for sample in list_samples() if sample.title == "Cat").read()
    pixels = prepare(open_photo(photo).pixels, model).pixels
    with torch.no_grad():
        logits, black = (model.logits(one)[0] for one in (pixels, torch.zeros_like(pixels)))
    target = int(logits.argmax())
    change = float(logits[target] - black[target])
    seen: list[int] = []
    options: dict[str, Any] = {"progress": lambda done, total: seen.append(done)}
    found = attribution(model, pixels, target, "integrated_gradients", **options)
    even = attribution(model, pixels, target, "integrated_gradients", steps=32)
    missing = [abs(float(one.values.sum(dtype=np.float64)) / change - 1) for one in (found, even)]
    assert missing[0] < 0.01 < missing[1]
    assert 32 < seen[-1] < 1024


def test_without_noise_smooth_grad_is_the_gradient() -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture()
    smooth = attribution(model, pixels, TARGET, "smooth_grad", noise=0.0, samples=5)
    np.testing.assert_allclose(smooth.values, attribution(model, pixels, TARGET).values, rtol=1e-6)


def test_smooth_grad_is_the_mean_over_noise_of_its_own_seed() -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture()
    smooth = attribution(model, pixels, TARGET, "smooth_grad", noise=0.2, samples=6, seed=5, batch_size=4)
    deviation = 0.2 * float(pixels.max() - pixels.min())
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(pixels.shape, generator=generator).to(pixels) for _ in range(6)]
    each = [attribution(model, (pixels + deviation * one), TARGET).values for one in drawn]
    np.testing.assert_allclose(smooth.values, np.mean(each, 0), rtol=1e-4, atol=1e-8)
    other = attribution(model, pixels, TARGET, "smooth_grad", noise=0.2, samples=6, seed=6)
    assert not np.allclose(other.values, smooth.values)


# ---- rules at ReLUs ----------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_": in_place,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "threshold-free hardtanh": lambda x: F.hardtanh(x, 0.0, 1e9),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("method", ["guided_backpropagation", "deconvnet"])
@pytest.mark.parametrize("way", WAYS)
def test_a_relu_is_one_however_it_is_written(way: str, method: str) -> None:
    pixels = nets.picture()
    wanted = (
        PEERS[method](nets.PixelNet(relus(nn.ReLU(), nn.ReLU())), pixels.clone().requires_grad_())[0].detach().numpy()
    )
    model = relus(WAYS[way])
    found = attribution(model, pixels, TARGET, method).values
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())
    assert not np.allclose(found, attribution(model, pixels, TARGET).values)


def test_relu6_lets_nothing_back_from_above_six() -> None:
    def by_hand(x: Tensor) -> Tensor:  # as a ReLU that ends at 6
        return 6 - F.relu(6 - F.relu(x))

    pixels = 20 * nets.picture()  # so that much lies above 6
    for way in (nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, nn.Hardtanh(0.0, 6.0)):
        plain = attribution(relus(way), pixels, TARGET)
        np.testing.assert_allclose(plain.values, attribution(relus(by_hand), pixels, TARGET).values, rtol=1e-9)
        guided = attribution(relus(way, nn.ReLU()), pixels, TARGET, "guided_backpropagation").values
        assert np.abs(guided).max() > 0

    class Sent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu6(x[:, :, :1]).mean((2, 3)) + x.mean() * 0

    model = nets.model_of(Sent, {}, torch.float64)
    row = torch.tensor([-1.0, 0.5, 5.9, 6.1], dtype=torch.float64).expand(1, 3, 1, 4).clone()
    model = nets.plain_pixels(model)
    for method, back in (("guided_backpropagation", [0, 1, 1, 0]), ("deconvnet", [1, 1, 1, 1])):
        found = attribution(model, row, 0, method).values[0, 0]
        assert ((found > 0) == np.array(back, bool)).all()


def test_where_there_is_no_relu_the_rules_are_refused_by_name() -> None:
    model = relus(torch.tanh)
    for method in GUIDED:
        with pytest.raises(UnsupportedModel, match="calls none: its map would be the plain gradient"):
            attribution(model, nets.picture(), TARGET, method)
    attribution(model, nets.picture(), TARGET, "integrated_gradients", steps=4)


def test_after_a_rule_relus_of_this_and_other_calls_are_plain_again() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture()
    before = attribution(model, pixels, TARGET).values
    attribution(model, pixels, TARGET, "guided_backpropagation")
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    F.relu(x).mul(-1).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, -1.0]  # a rule would have sent nothing back
    np.testing.assert_array_equal(attribution(model, pixels, TARGET).values, before)


# ---- what is given and said --------------------------------------------------------------------------------------


def test_signed_and_absolute_views() -> None:
    found = attribution(nets.gap(torch.float64), nets.picture(), TARGET)
    assert found.values.shape == (3, *nets.SIZE)
    np.testing.assert_allclose(found.signed, found.values[0] + found.values[1] + found.values[2], rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(found.absolute, np.abs(found.values).max(0))
    assert (found.signed < 0).any()
    assert (found.absolute >= 0).all()


@pytest.mark.parametrize("view", ["signed", "absolute"])
def test_a_heatmap_of_it_is_one_number_a_pixel_with_all_that_is_known(view: str) -> None:
    found = attribution(nets.gap(torch.float64), nets.picture(), TARGET, "smooth_grad", samples=2, seed=7)
    heat = found.heatmap(view)
    np.testing.assert_array_equal(heat.values, getattr(found, view))
    assert (heat.method, heat.target, heat.score, heat.layer) == ("smooth_grad", TARGET, found.score, None)
    assert heat.params == {"samples": 2, "noise": 0.15, "seed": 7, "view": view}
    with pytest.raises(BadParameter, match="view is 'colours'; it must be one of signed, absolute"):
        found.heatmap("colours")


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_guided_grad_cam_is_captums() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture()
    net = nets.PixelNet(model)
    peer = captum.attr.GuidedGradCam(net, net.net.relu3)
    wanted = peer.attribute(pixels.clone().requires_grad_(), TARGET, interpolate_mode="bilinear")[0].detach().numpy()
    guided = attribution(model, pixels, TARGET, "guided_backpropagation")
    found = guided_grad_cam(guided, cam(model, pixels, TARGET))
    np.testing.assert_allclose(found.values, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())
    assert (found.method, found.params["layer"], found.score) == ("guided_grad_cam", "relu3", guided.score)


def test_guided_grad_cam_of_two_classes_or_methods_is_refused() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    guided = attribution(model, pixels, 0, "guided_backpropagation")
    for heat in (cam(model, pixels, 1), cam(model, pixels, 0, "hires_cam")):
        with pytest.raises(BadParameter, match="they must be guided_backpropagation and grad_cam of one class"):
            guided_grad_cam(guided, heat)
    with pytest.raises(BadParameter, match="guided is gradient for class 0"):
        guided_grad_cam(attribution(model, pixels, 0), cam(model, pixels, 0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "saliency"}, "method is 'saliency'; it must be one of gradient, "),
        ({"method": "integrated_gradients", "baseline": "white"}, "baseline is 'white'; it must be one of black, grey"),
        ({"method": "integrated_gradients", "steps": 0}, "steps is 0; it must be a whole number from 1"),
        ({"method": "smooth_grad", "samples": 2.5}, "samples is 2.5"),
        ({"method": "smooth_grad", "noise": -0.1}, "noise is -0.1; it must be 0 to 10"),
        ({"method": "smooth_grad", "noise": float("nan")}, "noise is nan"),
        ({"method": "smooth_grad", "seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"target": 5}, "target is 5; it must be a class index"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(words)):
        attribution(nets.gap(torch.float64), nets.picture(), **({"target": TARGET} | options))


def test_a_gradient_that_is_no_number_is_refused() -> None:
    """The scores are finite, the slope of the root at 0 is not."""
    model = nets.answering(lambda logits: (logits - logits.detach()).abs().sqrt() + logits.detach())
    with pytest.raises(UnsupportedModel, match="gives NaN or infinity for class 1"):
        attribution(model, nets.picture(dtype=torch.float32), 1, "gradient")


def test_a_score_that_cannot_be_differentiated_is_refused() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean((2, 3)).round()

    with pytest.raises(UnsupportedModel, match="does not depend on the picture in a differentiable way"):
        attribution(nets.model_of(Rounded, {}, torch.float64), nets.picture(), 0)


@pytest.mark.parametrize("method", ["integrated_gradients", "smooth_grad"])
def test_progress_counts_the_passes(method: str) -> None:
    seen: list[tuple[int, int]] = []
    attribution(
        nets.gap(torch.float64), nets.picture(), TARGET, method, steps=10, samples=10, batch_size=4,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(4, 10), (8, 10), (10, 10)]
