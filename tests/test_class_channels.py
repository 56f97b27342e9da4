"""Channels that carry a class: against slow twins, identities of nets with a linear head, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nets
import numpy as np
import pytest
import torch
from reference import scores
from reference_channels import contribution, mean_of, scores_without
from test_contract import Cancelled, unchanged
from torch import Tensor, nn

from vizcore.cam import cam
from vizcore.class_channels import ablate_channels, class_channels
from vizcore.records import BadParameter, LayerNotFound, Model, UnsupportedModel

MAKERS: dict[str, tuple[Callable[..., Model], str]] = {
    "gap": (nets.gap, "relu2"),
    "in_place": (nets.in_place, "relu3"),
    "deep_head": (nets.deep_head, "act2"),
    "branching": (nets.branching, "wide"),
    "residual": (nets.residual, "block1"),
    "grey": (nets.grey, "act2"),
}
PICTURES = nets.picture(4, n=5)


# ---- what they carry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_contributions_are_those_of_the_slow_twin(name: str) -> None:
    make, layer = MAKERS[name]
    model = make(torch.float64)
    found = class_channels(model, PICTURES[:2], 3, layer, batch_size=2)
    for row, picture in zip(found.contributions, PICTURES.numpy(), strict=False):
        wanted = [contribution(model, layer, picture, 3, channel) for channel in range(len(row))]
        np.testing.assert_allclose(row, wanted, rtol=1e-5, atol=1e-8)
    assert found.contributions.shape[0] == 2
    assert (found.target, found.layer, found.model_name) == (3, layer, model.name)


def test_before_pooling_and_a_linear_layer_a_channel_carries_its_weight_times_its_mean_activation() -> None:
    model = nets.gap(torch.float64)
    found = class_channels(model, PICTURES, 1)
    means = nets_maps(model, PICTURES).mean((2, 3)).numpy()  # (n, C)
    np.testing.assert_allclose(found.contributions, means * model.net.classifier.weight[1].numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.remainder, float(model.net.classifier.bias[1]), atol=1e-6)


def nets_maps(model: Model, pictures: Tensor) -> Tensor:
    net = model.net
    x = net.relu1(net.bn1(net.conv1(model.normalise(pictures))))
    return net.relu3(net.conv3(net.relu2(net.bn2(net.conv2(x)))))


def test_all_channels_together_are_the_sum_of_the_hires_cam() -> None:
    model = nets.deep_head(torch.float64)
    found = class_channels(model, PICTURES, 2)
    for row, picture in zip(found.contributions, PICTURES, strict=True):
        heat = cam(model, picture[None], 2, "hires_cam").values
        assert row.sum() == pytest.approx(heat.sum(), rel=1e-5)


def test_the_order_is_that_of_the_means_and_the_errors_are_those_of_a_mean() -> None:
    found = class_channels(nets.gap(torch.float64), PICTURES, 1)
    assert (np.diff(found.means[found.order]) <= 0).all()
    np.testing.assert_allclose(found.means, np.mean(found.contributions, 0), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found.errors, np.std(found.contributions, 0, ddof=1) / np.sqrt(5), rtol=1e-4, atol=1e-9)
    assert np.isnan(class_channels(nets.gap(), PICTURES[:1], 1).errors).all()


def test_batch_size_changes_neither_contributions_nor_ablations() -> None:
    model = nets.residual(torch.float64)
    one, all_at_once = (class_channels(model, PICTURES, 0, batch_size=size) for size in (1, 5))
    np.testing.assert_allclose(one.contributions, all_at_once.contributions, rtol=1e-6, atol=1e-9)
    for value in ("zero", "mean"):
        one, many = (ablate_channels(model, PICTURES, 0, [1, 4], value=value, batch_size=size) for size in (1, 3))
        np.testing.assert_allclose(one.logit_drops, many.logit_drops, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(one.after, many.after)


# ---- without them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["zero", "mean"])
@pytest.mark.parametrize("name", MAKERS)
def test_an_ablation_is_what_setting_the_maps_by_hand_gives(name: str, value: str) -> None:
    make, layer = MAKERS[name]
    model, pictures = make(torch.float64), PICTURES.numpy()
    channels = [2, 0]
    found = ablate_channels(model, PICTURES, 1, channels, layer, value=value, batch_size=2)
    both = ablate_channels(model, PICTURES, 1, channels, layer, value=value, together=True)
    assert found.channels == ((2,), (0,))
    assert both.channels == ((2, 0),)
    at = {c: 0.0 if value == "zero" else mean_of(model, layer, pictures, c) for c in channels}
    for n, picture in enumerate(pictures):
        whole = scores(model, picture)
        assert found.before[n] == whole.argmax()
        for drops, removed in ((found, {2: at[2]}), (both, at)):
            without = scores_without(model, layer, picture, removed)
            assert drops.logit_drops[0, n] == pytest.approx(whole[1] - without[1], rel=1e-5, abs=1e-7)
            fall = softmax(whole)[1] - softmax(without)[1]
            assert drops.probability_drops[0, n] == pytest.approx(fall, rel=1e-5, abs=1e-7)
            assert drops.after[0, n] == without.argmax()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_before_pooling_and_a_linear_layer_the_drop_is_what_the_channel_carries() -> None:
    model = nets.gap(torch.float64)
    carried = class_channels(model, PICTURES, 2)
    found = ablate_channels(model, PICTURES, 2, range(10))
    np.testing.assert_allclose(found.logit_drops, carried.contributions.T, rtol=1e-5, atol=1e-7)
    together = ablate_channels(model, PICTURES, 2, range(10), together=True)
    np.testing.assert_allclose(together.logit_drops[0], carried.contributions.sum(1), rtol=1e-5, atol=1e-7)


def test_without_its_colour_every_picture_of_that_colour_loses_its_class() -> None:
    model = nets.colours()
    pictures = torch.full((4, 3, *nets.SIZE), 0.2, dtype=torch.float64)
    pictures[:3, 0] = 0.9
    pictures[3, 2] = 0.9
    found = ablate_channels(model, pictures, 0, [0, 1, 2])
    assert found.before.tolist() == [0, 0, 0, 2]
    assert found.after.tolist() == [[1, 1, 1, 2], [0, 0, 0, 2], [0, 0, 0, 0]]
    assert found.changed.tolist() == [3, 0, 1]
    assert found.lost.tolist() == [3, 0, 0], "the blue picture was not of the class"
    np.testing.assert_allclose(found.logit_drops[0], [0.9, 0.9, 0.9, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found.logit_drops[1:], 0)


def test_a_channel_that_is_the_same_everywhere_tells_nothing_at_its_mean() -> None:
    pictures = torch.rand(3, 3, *nets.SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pictures[:, 0] = 0.7
    model = nets.colours()
    np.testing.assert_allclose(ablate_channels(model, pictures, 0, [0], value="mean").logit_drops, 0, atol=1e-7)
    np.testing.assert_allclose(ablate_channels(model, pictures, 0, [0]).logit_drops, 0.7, rtol=1e-6)


# ---- while it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 3])
def test_a_cancel_passes_through_and_leaves_the_model_as_it_was(at: int) -> None:
    model = nets.in_place()
    model.net.train()
    calls: list[tuple[int, int]] = []

    def cancel(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) == at:
            raise Cancelled

    with unchanged(model), pytest.raises(Cancelled):
        ablate_channels(model, PICTURES, 0, [1], value="mean", batch_size=3, progress=cancel)
    assert calls == [(3, 10), (5, 10), (8, 10)][:at]
    calls.clear()
    with unchanged(model), pytest.raises(Cancelled):
        class_channels(model, PICTURES, 0, batch_size=1, progress=cancel)
    assert calls == [(done, 5) for done in range(1, at + 1)]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": [10]}, "channels is 10; it must be a whole number from 0 to 9"),
        ({"channels": [-1]}, "channels is -1"),
        ({"channels": [True]}, "channels is True"),
        ({"channels": []}, r"channels is \[\]; it must name at least one"),
        ({"value": "median"}, "value is 'median'; it must be one of zero, mean"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"target": 5}, "target is 5; it must be a class index of GapNet, 0 to 4"),
        ({"pictures": []}, "pictures is empty"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(options: dict[str, Any], words: str) -> None:
    model = nets.gap()
    given = {"pictures": PICTURES, "target": 0, "channels": [1]} | options
    with unchanged(model), pytest.raises(BadParameter, match=words):
        ablate_channels(model, **given)
    if "channels" not in options and "value" not in options:
        del given["channels"]
        with unchanged(model), pytest.raises(BadParameter, match=words):
            class_channels(model, **given)


@pytest.mark.parametrize(("layer", "words"), [("relu4", "has no layer 'relu4'"), ("pool", "numbers, not maps")])
def test_a_layer_without_maps_is_refused(layer: str, words: str) -> None:
    for value in ("zero", "mean"):
        with pytest.raises(LayerNotFound, match=words):
            ablate_channels(nets.gap(), PICTURES, 0, [0], layer, value=value)
    with pytest.raises(LayerNotFound, match=words):
        class_channels(nets.gap(), PICTURES, 0, layer)


def test_a_net_with_one_score_is_refused_for_an_ablation() -> None:
    with pytest.raises(UnsupportedModel, match="has one score: there is no other class"):
        ablate_channels(nets.one_logit(), PICTURES, 0, [0])


class Detached(nn.Module):
    """Its classes are read off maps that nothing can be differentiated through, or off others."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv1, self.conv2, self.how = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3), how

    def forward(self, x: Tensor) -> Tensor:
        aside, maps = self.conv1(x), self.conv2(x)
        return (aside.detach() if self.how == "detached" else maps + 0 * aside.sum().detach()).mean((2, 3))


@pytest.mark.parametrize("how", ["detached", "beside"])
def test_a_layer_on_which_the_score_does_not_depend_is_refused(how: str) -> None:
    model = nets.model_of(lambda: Detached(how), {"cam": "conv1"})
    with pytest.raises(UnsupportedModel, match="does not depend on “conv1” in a differentiable way"):
        class_channels(model, PICTURES, 0)


class Rooted(nn.Module):
    """At 0 the root's gradient is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(x) * 0).abs().mean((2, 3)).sqrt()


def test_gradients_that_are_not_finite_are_refused() -> None:
    model = nets.model_of(Rooted, {"cam": "conv1"})
    with pytest.raises(UnsupportedModel, match="or the gradients there, hold NaN or infinity"):
        class_channels(model, PICTURES, 0)
