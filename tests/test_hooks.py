"""Borrowing a net: what is seen, what it costs, and that nothing is left behind."""

from __future__ import annotations

import contextlib

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vizcore.hooks import find_layer, list_layers, map_layers, stages, trace
from vizcore.records import LayerNotFound, Model, UnsupportedModel


def hooks_of(model: Model) -> int:
    return sum(
        len(getattr(module, name)) for module in model.net.modules() for name in vars(module) if name.endswith("_hooks")
    )


def test_what_is_seen_is_what_the_layers_returned() -> None:
    model, pixels = nets.gap(), nets.picture(1).float()
    with trace(model, ["relu1", "conv2"]) as seen:
        model.logits(pixels)
        x = model.normalise(pixels)
        net = model.net
        expected = F.relu(F.batch_norm(net.conv1._conv_forward(x, net.conv1.weight, net.conv1.bias), *running(net.bn1)))
        torch.testing.assert_close(seen["relu1"], expected)
        assert list(seen) == ["relu1", "conv2"]
        assert seen["conv2"].shape == (1, 8, 21, 15)


def running(norm: nn.BatchNorm2d) -> tuple[Tensor, ...]:
    return norm.running_mean, norm.running_var, norm.weight, norm.bias


@pytest.mark.parametrize(
    ("build", "layer"), [(nets.in_place, "bn1"), (nets.in_place, "conv3"), (nets.branching, "narrow")]
)
def test_an_in_place_relu_behind_the_layer_leaves_the_captured_maps_as_they_were(build, layer: str) -> None:
    model, pixels = build(torch.float64), nets.picture(2)
    for grad in (False, True):
        with trace(model, [layer], grad=grad) as seen:
            model.logits(pixels)
            assert float(seen[layer].detach().min()) < 0


def test_maps_that_a_layer_hands_through_are_kept_before_their_source_is_changed_in_place() -> None:
    class HandThrough(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.same = nn.Conv2d(3, 4, 3), nn.Identity()
            self.classifier = nn.Linear(4, nets.CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            y = self.same(x)
            x.relu_()
            return self.classifier((x + y).mean((2, 3)))

    model = nets.model_of(HandThrough, nets.ROLES)
    with trace(model, ["same"]) as seen:
        model.logits(nets.picture(3).float())
        assert float(seen["same"].min()) < 0


def test_watching_does_not_change_the_answer() -> None:
    for build in (nets.gap, nets.in_place, nets.branching, nets.residual, nets.grey, nets.odd):
        model, pixels = build(), nets.picture(4).float()
        expected = model.logits(pixels)
        with trace(model, [layer.name for layer in list_layers(model)], grad=True):
            assert torch.equal(model.logits(pixels), expected)


def test_a_later_pass_takes_the_place_of_the_earlier_one() -> None:
    model, first, second = nets.gap(), nets.picture(5).float(), nets.picture(6, (23, 31)).float()
    with trace(model, ["relu3"]) as seen:
        model.logits(first)
        shapes = [seen["relu3"].shape]
        model.logits(second)
        shapes.append(seen["relu3"].shape)
    assert shapes == [(1, 10, 11, 8), (1, 10, 6, 8)]


def test_what_replaces_a_layers_output_goes_on_instead() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(7)
    with trace(model, [], replace={"pool": torch.zeros_like}) as seen:
        logits = model.logits(pixels)
        assert not seen["pool"].any()
    torch.testing.assert_close(logits[0], model.net.classifier.bias.detach())
    assert not torch.allclose(model.logits(pixels), logits)


def test_a_replacement_may_change_the_number_of_rows() -> None:
    model, pixels = nets.gap(), nets.picture(8).float()
    with trace(model, [], replace={"conv3": lambda out: out.expand(4, -1, -1, -1)}):
        assert model.logits(pixels, rows=4).shape == (4, nets.CLASSES)
        with pytest.raises(UnsupportedModel, match=r"\(1, K\)"):
            model.logits(pixels)


# Gradients


def test_the_graph_starts_at_the_layer() -> None:
    model, pixels = nets.gap(), nets.picture(9).float().requires_grad_()
    model.net.requires_grad_()
    with trace(model, ["relu2"], grad=True) as seen:
        score = model.logits(pixels)[0, 0]
        assert seen["relu2"].is_leaf
        assert seen["relu2"].requires_grad
        before = [pixels, model.net.conv1.weight, model.net.conv2.weight]
        assert torch.autograd.grad(score, before, allow_unused=True, retain_graph=True) == (None, None, None)
        (gradient,) = torch.autograd.grad(score, seen["relu2"])
        assert gradient.any()
    assert all(parameter.grad is None for parameter in model.net.parameters())
    assert pixels.grad is None


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (nets.gap, ("conv1", "relu2", "relu3")),
        (nets.in_place, ("conv1", "bn2", "conv3")),
        (nets.branching, ("conv1", "narrow", "wide", "act")),
        (nets.residual, ("block1", "block1.bn2", "block2")),
    ],
)
def test_gradients_of_several_layers_at_once_are_those_of_each_alone(build, layers: tuple[str, ...]) -> None:
    model, pixels = build(torch.float64), nets.picture(10)

    def gradients(names: tuple[str, ...]) -> tuple[Tensor, ...]:
        with trace(model, names, grad=True) as seen:
            score = model.logits(pixels)[0, 1]
            return torch.autograd.grad(score, [seen[name] for name in names])

    together = gradients(layers)
    for layer, gradient in zip(layers, together, strict=True):
        torch.testing.assert_close(gradient, gradients((layer,))[0])
        assert gradient.any()


def test_without_grad_nothing_is_differentiable() -> None:
    model = nets.gap()
    model.net.requires_grad_()
    with trace(model, ["conv2"]) as seen:
        assert not model.logits(nets.picture(11).float()).requires_grad
        assert not seen["conv2"].requires_grad


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_the_callers_gradient_mode_comes_back(enabled: bool, grad: bool) -> None:
    model, pixels = nets.gap(), nets.picture(12).float()
    with torch.set_grad_enabled(enabled):
        with trace(model, ["conv2"], grad=grad):
            model.logits(pixels)
        assert torch.is_grad_enabled() is enabled
        with contextlib.suppress(KeyError), trace(model, ["conv2"], grad=grad):
            model.logits(pixels)
            raise KeyError
        assert torch.is_grad_enabled() is enabled


# Names


@pytest.mark.parametrize("name", ["relu33", "conv_3", "classifer", "", None, 3, "net.conv1"])
def test_an_unknown_layer_is_refused_with_names_that_exist(name: object) -> None:  # P5
    model = nets.gap()
    with pytest.raises(LayerNotFound, match=r"GapNet has no layer .*“\w+”") as refusal:
        find_layer(model, name)
    named = str(refusal.value).split("“")[1].split("”")[0]
    assert find_layer(model, named) is model.net.get_submodule(named)


def test_the_nearest_name_comes_first() -> None:
    with pytest.raises(LayerNotFound, match="The nearest are “relu3”"):
        find_layer(nets.gap(), "relu33")
    with pytest.raises(LayerNotFound, match=r"“block2\.conv1”"):
        find_layer(nets.residual(), "block2.conv")


def test_a_module_that_only_holds_others_is_refused_with_those_that_it_holds() -> None:  # P5
    model = nets.reused()
    with pytest.raises(LayerNotFound, match=r"“convs” .* did not run.*“convs\.0”"), trace(model, ["convs"]):
        model.logits(nets.picture().float())


def test_a_module_that_is_never_run_is_refused() -> None:
    model = nets.reused()
    with pytest.raises(LayerNotFound, match=r"“unused” .* did not run"), trace(model, ["unused"]):
        model.logits(nets.picture().float())


def test_a_module_that_runs_twice_is_refused_by_name() -> None:  # P13
    model = nets.reused()
    with pytest.raises(UnsupportedModel, match="“relu” runs more than once"), trace(model, ["relu"]):
        model.logits(nets.picture().float())


def test_a_module_that_returns_no_tensor_is_refused_by_name() -> None:  # P13
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class PairNet(nets.GapNet):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.pair(x)[1])

    model = nets.model_of(PairNet, nets.ROLES)
    with pytest.raises(UnsupportedModel, match="“pair” of PairNet returns a tuple"), trace(model, ["pair"]):
        model.logits(nets.picture().float())


def test_reading_a_layer_before_any_pass_is_refused() -> None:
    model = nets.gap()
    with pytest.raises(LayerNotFound, match="did not run"), trace(model, ["conv1"]) as seen:
        seen["conv1"]


# Nothing left behind


class Cancelled(BaseException):
    pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Cancelled, GeneratorExit])
def test_hooks_and_lock_are_given_back_whatever_ends_the_body(error: type[BaseException]) -> None:
    model = nets.gap()
    with contextlib.suppress(error), trace(model, ["conv1"], grad=True, replace={"conv2": torch.zeros_like}):
        model.logits(nets.picture().float())
        assert hooks_of(model) == 3
        assert not nets.lock_is_free(model)
        raise error
    assert hooks_of(model) == 0
    assert nets.lock_is_free(model)


def test_hooks_of_others_stay_where_they_are_and_still_run() -> None:
    model, calls = nets.gap(), []
    handle = model.net.conv1.register_forward_hook(lambda *args: calls.append(1))
    with trace(model, ["conv1"]):
        model.logits(nets.picture().float())
    assert hooks_of(model) == 1
    model.logits(nets.picture().float())
    assert len(calls) == 2
    handle.remove()


def test_an_unknown_layer_among_known_ones_leaves_no_hook() -> None:
    model = nets.gap()
    with pytest.raises(LayerNotFound), trace(model, ["conv1", "conv9"]):
        pass
    assert hooks_of(model) == 0


def test_maps_are_let_go_after_the_with() -> None:
    model = nets.gap()
    with trace(model, ["conv1"]) as seen:
        model.logits(nets.picture().float())
    with pytest.raises(LayerNotFound):
        seen["conv1"]


def test_traces_can_be_nested() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(13)
    with trace(model, ["relu2"], grad=True) as seen:
        model.logits(pixels)
        relu2 = seen["relu2"].detach()
    with trace(model, ["relu2", "relu3"]) as outer:
        with trace(model, ["relu2"], grad=True) as inner:
            score = model.logits(pixels)[0, 0]
            (gradient,) = torch.autograd.grad(score, inner["relu2"])
            assert gradient.any()
            assert torch.equal(inner["relu2"], relu2)
        assert torch.equal(outer["relu2"].detach(), relu2)
        assert not torch.is_grad_enabled()
        assert hooks_of(model) == 3
    assert hooks_of(model) == 0


# What a net is made of


def test_layers_are_listed_in_the_order_in_which_they_finish() -> None:
    layers = list_layers(nets.gap())
    assert [layer.name for layer in layers] == [
        *("conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "relu3"),
        *("pool.0", "pool.1", "pool", "classifier"),
    ]
    conv2 = layers[3]
    assert (conv2.kind, conv2.shape, conv2.size) == ("Conv2d", (8, 21, 15), "8 × 21 × 15")


def test_every_listed_layer_can_be_traced() -> None:
    for build in (nets.gap, nets.branching, nets.residual, nets.reused, nets.odd, nets.grey):
        model = build()
        names = [layer.name for layer in list_layers(model)]
        with trace(model, names) as seen:
            model.logits(nets.picture().float())
            assert [tuple(seen[layer.name].shape[1:]) for layer in list_layers(model)] == [
                layer.shape for layer in list_layers(model)
            ]
        assert hooks_of(model) == 0


def test_layers_that_run_twice_or_never_are_not_listed() -> None:
    assert [layer.name for layer in list_layers(nets.reused())] == ["conv1", "convs.0", "classifier"]


def test_layers_with_maps_are_those_with_three_axes() -> None:
    names = [layer.name for layer in map_layers(nets.gap())]
    assert names[-2:] == ["relu3", "pool.0"]
    assert not map_layers(nets.no_conv())


def test_the_strip_shows_outermost_layers_and_opens_a_net_that_is_one_box() -> None:
    assert [stage.name for stage in stages(nets.gap())] == [
        *("conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "relu3")
    ]
    boxed = [stage.name for stage in stages(nets.answering(lambda logits: logits))]
    assert boxed[:2] == ["body.conv1", "body.bn1"]


@pytest.mark.parametrize("at", ["list_layers", "logits"])
def test_a_net_that_raises_leaves_no_hook_behind(at: str) -> None:
    model = nets.tripping(1)
    with pytest.raises(RuntimeError, match="tripped"):
        list_layers(model) if at == "list_layers" else model.logits(nets.picture().float())
    assert hooks_of(model) == 0
    assert np.isfinite(model.logits(nets.picture().float()).numpy()).all()
