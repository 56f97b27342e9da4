"""Activation maximisation: the picture and its waves, objectives by their definition, and nets whose best picture is
known."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nets
import numpy as np
import pytest
import reference
import reference_maximisation as slow
import torch
from test_contract import Cancelled, unchanged
from torch import Tensor, nn

from models import load_model
from models.samples import PHOTOS
from vizcore.activations import activation_maps
from vizcore.augment import variants
from vizcore.hooks import trace
from vizcore.images import open_photo, prepare
from vizcore.maximisation import (
    COLOUR_COVARIANCE,
    FAINTEST,
    MIDDLE,
    MOVE,
    RESIZE,
    TURN,
    Canvas,
    Objective,
    colour_mixture,
    dream,
    frequencies,
    likeness,
    maximise,
    moved,
    values_of,
)
from vizcore.records import BadParameter, LayerNotFound, Model, UnsupportedModel

CHANNEL = Objective("relu2", channel=6)  # of nets.gap
SIZES = [(4, 7), (7, 4), (5, 3), (6, 8), (1, 5), (5, 1)]
FEW: dict[str, Any] = {"steps": 6, "rate": 0.05}


# -- the picture and its waves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mixture", [colour_mixture(), torch.eye(3).double(), torch.ones(3, 1).double()])
def test_a_picture_is_the_sum_of_its_waves_divided_by_their_frequency(size: tuple[int, int], mixture: Tensor) -> None:
    canvas = Canvas(size, mixture)
    waves = canvas.noise(2, torch.Generator().manual_seed(3))
    for found, own in zip(canvas.pictures(waves), waves, strict=True):
        np.testing.assert_allclose(found, slow.picture_of(own.numpy(), *size, mixture.numpy()), rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_the_waves_of_a_picture_are_the_picture_again(size: tuple[int, int]) -> None:
    pictures = nets.picture(1, size, n=2)
    for mixture in (colour_mixture(), torch.eye(3).double()):
        canvas = Canvas(size, mixture)
        torch.testing.assert_close(canvas.pictures(canvas.waves(pictures)), pictures, rtol=1e-9, atol=FAINTEST)
    grey = Canvas(size, torch.ones(3, 1).double())
    luma = (pictures * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(grey.pictures(grey.waves(pictures)), luma, rtol=1e-6, atol=FAINTEST)


def test_a_wave_of_twice_the_frequency_has_half_the_height() -> None:
    canvas = Canvas((16, 32), torch.eye(3).double())
    heights = []
    for column in (1, 2, 4):
        waves = torch.zeros(1, 3, 16, 17, 2, dtype=torch.float64)
        waves[0, 0, 0, column, 0] = 1
        heights.append(float(canvas.joined(waves).max()))
    assert heights == pytest.approx([heights[0], heights[0] / 2, heights[0] / 4])
    assert float(frequencies(16, 32)[0, 0]) == 1 / 32


def test_the_mixture_gives_independent_numbers_the_colours_of_the_sample_photos() -> None:
    mixture = colour_mixture()
    np.testing.assert_allclose(mixture @ mixture.T, COLOUR_COVARIANCE, atol=1e-12)
    photos = [open_photo(sample.read()).pixels for sample in PHOTOS if sample.key != "photographer"]  # is grey
    np.testing.assert_allclose(slow.make_covariance(photos), COLOUR_COVARIANCE, atol=6e-5)


def test_pictures_are_read_turned_resized_and_moved() -> None:
    pictures = nets.picture(2, (23, 41), n=3)
    found = moved(pictures, torch.Generator().manual_seed(5))
    drawn = 2 * torch.rand(3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64).numpy() - 1
    for before, after, (turn, size, right, below) in zip(pictures, found, drawn, strict=True):
        wanted = slow.read_at(before.numpy(), TURN * turn, 1 + RESIZE * size, right * MOVE * 41, below * MOVE * 23)
        np.testing.assert_allclose(after[:, 6:-6, 8:-8], wanted[:, 6:-6, 8:-8], atol=1e-9)
    assert not torch.equal(found[0] - pictures[0], found[1] - pictures[1])


def test_the_likeness_is_the_mean_cosine_of_gram_matrices() -> None:
    maps = nets.picture(0, (5, 4), n=4) - 0.4
    assert float(likeness(maps)) == pytest.approx(slow.likeness(maps.numpy()))
    assert float(likeness(maps[:1].expand(3, -1, -1, -1))) == pytest.approx(1)
    assert float(likeness(torch.eye(4))) == pytest.approx(0)  # dense layers, each picture with a unit of its own


# -- objectives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [None, (0, 2), (8, 1)])
@pytest.mark.parametrize("kind", ["channel", "direction", "layer"])
def test_an_objective_is_what_its_definition_says(kind: str, place: tuple[int, int] | None) -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture(4, n=3)
    direction = np.array([3.0, -1, 0, 2, 0.5, 1, -2])
    if kind == "layer" and place:
        return
    objective = {
        "channel": Objective("act2", channel=2, unit=place),
        "direction": Objective("act2", direction=tuple(direction), unit=place),
        "layer": Objective("act2"),
    }[kind]
    found = values_of(model, objective, pixels, batch_size=2)
    for value, one in zip(found, pixels, strict=True):
        maps = reference.maps_of(model, "act2", one.numpy())
        by_hand = slow.objective(
            maps, 2 if kind == "channel" else None, direction if kind == "direction" else None, place
        )
        assert value == pytest.approx(by_hand, rel=1e-5)


def test_the_value_of_a_channel_is_the_mean_of_its_activation_map() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    means = activation_maps(model, pixels, "relu2").means
    found = [values_of(model, Objective("relu2", channel=c), pixels)[0] for c in range(8)]
    np.testing.assert_allclose(found, means, rtol=1e-5)
    with torch.no_grad():
        assert values_of(model, Objective(target=2), pixels)[0] == pytest.approx(float(model.logits(pixels)[0, 2]))


def test_the_direction_of_one_channel_is_that_channel_whatever_its_length() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    along = Objective("relu2", direction=(0, 0, 0, 0, 0, 0, 7, 0))
    assert np.array_equal(values_of(model, along, pixels), values_of(model, CHANNEL, pixels))
    assert Objective("relu2", direction=(0, 3, 4)).direction == (0, 0.6, 0.8)


def test_the_middle_is_the_place_in_the_middle_and_a_unit_of_a_dense_layer_has_but_one() -> None:
    model, pixels = nets.deep_head(), nets.picture(dtype=torch.float32)
    maps = activation_maps(model, pixels, "act2").values
    height, width = maps.shape[1:]
    middle = values_of(model, Objective("act2", channel=1, unit=MIDDLE), pixels)[0]
    assert middle == pytest.approx(maps[1, height // 2, width // 2])
    with trace(model, ["hidden"]) as seen:
        model.logits(pixels)
        hidden = seen["hidden"][0].numpy().copy()
    assert values_of(model, Objective("hidden", channel=4), pixels)[0] == pytest.approx(hidden[4])
    assert values_of(model, Objective("hidden", channel=4, unit=(0, 0)), pixels)[0] == pytest.approx(hidden[4])


# -- the climb -------------------------------------------------------------------------------------------------------


class Weighed(nn.Module):
    """One linear layer from pixels to classes: the best picture is white where a weight is positive, else black."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3 * 9 * 6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x.flatten(1))


def weighed() -> Model:
    model = nets.model_of(Weighed, {"classifier": "classifier"}, torch.float64, classes=2)
    return replace(model, input_size=(9, 6))


@pytest.mark.parametrize(("decorrelated", "right", "share"), [(False, 1.0, 0.95), (True, 0.85, 0.8)])
def test_the_picture_for_a_linear_net_has_the_signs_of_its_weights(
    decorrelated: bool, right: float, share: float
) -> None:
    """To the last one where colours are independent; what a photo would not show comes late where they are not."""
    model, objective = weighed(), Objective(target=1)
    found = maximise(model, objective, steps=300, rate=0.02, transforms=False, decorrelated=decorrelated)
    weights = model.net.classifier.weight[1].view(3, 9, 6).numpy()
    clear = np.abs(weights) > 0.1 * np.abs(weights).max()
    assert clear.mean() > 0.7
    assert ((found.pictures[0] > 0.5) == (weights > 0))[clear].mean() >= right
    best = values_of(model, objective, torch.from_numpy((weights > 0)[None]).double())[0]
    assert share * best < found.values[0] <= best


@pytest.mark.parametrize("make", [nets.gap, nets.deep_head, nets.branching, nets.residual, nets.grey, nets.odd])
@pytest.mark.parametrize("transforms", [True, False])
def test_the_objective_rises_for_every_kind_of_net(make: Callable[[], Model], transforms: bool) -> None:
    model = make()
    place = None if transforms else MIDDLE  # what one place of a small net reads is smaller than the moves
    for objective in (Objective(target=2), Objective("conv1"), Objective("conv1", channel=1, unit=place)):
        still = maximise(model, objective, steps=0, transforms=transforms)
        with unchanged(model):
            found = maximise(model, objective, steps=40, rate=0.03, transforms=transforms)
        assert found.values[0] > still.values[0]
        assert found.pictures.shape == (1, 3, *nets.SIZE)
        assert found.pictures.dtype == found.values.dtype == found.history.dtype == np.float32
        assert 0 <= found.pictures.min() < found.pictures.max() <= 1
        assert found.values == values_of(model, objective, torch.from_numpy(found.pictures))


def test_the_picture_for_a_red_class_is_red() -> None:
    model = replace(nets.colours(), input_size=(12, 8))
    options = {"steps": 100, "rate": 0.02, "decorrelated": False, "transforms": False}
    red, green, blue = maximise(model, Objective(target=0), **options).pictures[0]  # type: ignore[arg-type]
    assert np.median(red) > 0.9  # a place where all waves meet may overshoot at the first step, and stay black
    for other in (green, blue):
        np.testing.assert_allclose(other, 0.5, atol=0.1)


def test_without_a_step_and_without_transforms_the_picture_is_the_start() -> None:
    start = nets.picture(5, (20, 33), torch.float32, n=2)
    found = maximise(nets.gap(), CHANNEL, start=start, count=2, steps=0)
    np.testing.assert_allclose(found.pictures, start, atol=1.01 * FAINTEST)
    assert found.history.shape == (0,)
    assert found.params["size"] == (20, 33)


def test_the_history_begins_with_the_value_of_the_start_and_ends_before_that_of_the_picture() -> None:
    model, start = nets.gap(), nets.picture(5, dtype=torch.float32, n=2)
    options = {"start": start, "count": 2, "diversity": 0.0, "transforms": False, "rate": 0.01}
    found = [maximise(model, CHANNEL, steps=steps, **options) for steps in range(4)]  # type: ignore[arg-type]
    np.testing.assert_allclose(found[3].history, [one.values.mean() for one in found[:3]], rtol=1e-5)


def test_the_first_step_moves_each_wave_by_the_rate_along_its_slope() -> None:
    model, start = nets.deep_head(torch.float64), 0.2 + 0.6 * nets.picture(6)  # far from black and white
    canvas = Canvas(nets.SIZE, colour_mixture())
    before = canvas.waves(start)
    options = {"start": start, "transforms": False, "rate": 0.002}
    found = maximise(model, Objective(target=1), steps=1, **options)  # type: ignore[arg-type]
    rng, step = np.random.default_rng(0), 1e-4
    signs = torch.zeros_like(before)
    for place in zip(*(rng.integers(0, size, 30) for size in before.shape[1:]), strict=True):
        up, down = before.clone(), before.clone()
        up[0, *place] += step
        down[0, *place] -= step
        with torch.no_grad():
            signs[0, *place] = torch.sign(model.logits(canvas.pictures(up)) - model.logits(canvas.pictures(down)))[0, 1]
    moves = canvas.waves(torch.from_numpy(found.pictures).double()) - before
    asked = signs != 0
    assert asked.sum() > 25
    torch.testing.assert_close(moves[asked], 0.002 * signs[asked], rtol=0.02, atol=0)


def test_the_same_seed_gives_the_same_pictures_whatever_the_global_random_state() -> None:
    model = nets.gap()
    torch.manual_seed(1)
    first = maximise(model, CHANNEL, count=2, seed=4, **FEW)
    torch.manual_seed(2)
    again, other = (maximise(model, CHANNEL, count=2, seed=seed, **FEW) for seed in (4, 5))
    assert np.array_equal(first.pictures, again.pictures)
    assert not np.array_equal(first.pictures, other.pictures)
    assert not np.array_equal(first.pictures[0], first.pictures[1])


def test_what_params_hold_makes_the_pictures_again() -> None:
    model = nets.gap()
    found = maximise(model, CHANNEL, size=(25, 31), count=3, diversity=0.5, decorrelated=False, seed=9, **FEW)
    assert found.pictures.shape == (3, 3, 25, 31)
    assert np.array_equal(maximise(model, found.objective, **found.params).pictures, found.pictures)
    photo = nets.picture(dtype=torch.float32)
    dreamt = dream(model, photo, CHANNEL, octaves=2, steps=3, rate=0.03, transforms=False, seed=1)
    assert np.array_equal(dream(model, photo, CHANNEL, **dreamt.params).pictures, dreamt.pictures)


@pytest.mark.parametrize("objective", [Objective("conv2", channel=1), Objective(target=1)])
def test_diversity_makes_pictures_less_alike(objective: Objective) -> None:
    model, alike = nets.gap(), []
    for diversity in (0.0, 4.0):
        found = maximise(model, objective, count=4, diversity=diversity, steps=60, rate=0.03, transforms=False)
        with trace(model, [objective.layer or "relu3"]) as seen:
            model.logits(torch.from_numpy(found.pictures))
            alike.append(float(likeness(seen[objective.layer or "relu3"])))
    assert alike[1] < alike[0]


def test_one_picture_has_nobody_to_differ_from() -> None:
    model = nets.gap()
    same, also = (maximise(model, CHANNEL, diversity=diversity, **FEW).pictures for diversity in (0.0, 50.0))
    assert np.array_equal(same, also)


def test_a_grey_net_is_given_grey_pictures() -> None:
    found = maximise(nets.grey(), Objective("conv1", channel=1), steps=20, rate=0.05).pictures
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 0], found[:, 2], atol=1e-6)
    assert np.ptp(found) > 0.1


def test_what_lies_behind_the_layer_need_not_take_pictures_of_that_size_nor_run() -> None:
    model = load_model("lenet5")
    found = maximise(model, Objective("conv2", channel=3), size=(40, 34), **FEW)
    assert found.pictures.shape == (1, 3, 40, 34)
    tripping = nets.tripping(at=2)  # the first pass, over the whole net, finds out about the layer
    assert maximise(tripping, CHANNEL, **FEW).values[0] > 0


def test_the_net_is_free_between_steps_and_the_picture_is_seen_as_it_forms() -> None:
    model, seen, free, counted = nets.gap(), list[np.ndarray](), list[bool](), list[tuple[int, int]]()

    def progress(done: int, total: int) -> None:
        counted.append((done, total))
        free.append(nets.lock_is_free(model))

    found = maximise(model, CHANNEL, count=2, progress=progress, partial=seen.append, **FEW)
    assert counted == [(done, 6) for done in range(1, 7)]
    assert all(free)
    assert np.array_equal(seen[-1], found.pictures)
    assert len({picture.tobytes() for picture in seen}) == 6
    assert not any(np.shares_memory(one, found.pictures) for one in seen)


@pytest.mark.parametrize("at", [1, 4])
def test_a_cancel_passes_through_and_leaves_the_net_as_it_was(at: int) -> None:
    model = nets.gap()
    model.net.requires_grad_().train()

    def cancel(done: int, total: int) -> None:
        if done == at:
            raise Cancelled

    with unchanged(model), pytest.raises(Cancelled):
        maximise(model, CHANNEL, progress=cancel, **FEW)
    with unchanged(model), pytest.raises(Cancelled):
        dream(model, nets.picture(dtype=torch.float32), CHANNEL, steps=3, progress=cancel)


def test_a_callers_inference_mode_does_not_matter() -> None:
    model, start = nets.gap(), nets.picture(dtype=torch.float32)
    wanted = maximise(model, CHANNEL, start=start, **FEW).pictures
    with torch.inference_mode():
        inside = maximise(model, CHANNEL, start=start.clone(), **FEW).pictures
        dream(model, start.clone(), CHANNEL, steps=1)
    assert np.array_equal(inside, wanted)


def shut(bias: float) -> Model:
    """A net whose first ReLU is shut for every picture near to grey, by so much."""
    model = nets.gap()
    model.net.bn1 = nn.Identity()
    model.net.conv1.weight.mul_(1).sub_(model.net.conv1.weight.mean((1, 2, 3), keepdim=True))
    model.net.conv1.bias.fill_(-bias)
    return model


def test_a_channel_whose_relu_never_opens_is_refused_in_words() -> None:
    with pytest.raises(UnsupportedModel, match=r"is 0 and no small change .* a ReLU may be shut"):
        maximise(shut(100), Objective("relu1", channel=0), **FEW)
    with pytest.raises(UnsupportedModel, match="a ReLU may be"):
        dream(shut(100), nets.picture(dtype=torch.float32), Objective("relu1"), steps=2)


def test_where_faint_noise_leaves_a_relu_shut_stronger_noise_may_open_it() -> None:
    found = maximise(shut(0.3), Objective("relu1", channel=0), steps=30, rate=0.05)
    assert found.history[-1] > found.history[0] > 0


# -- DeepDream -------------------------------------------------------------------------------------------------------


def test_a_dream_without_steps_is_the_photo() -> None:
    photo = nets.picture(3, (37, 52), torch.float32)
    for octaves in (1, 3):
        found = dream(nets.gap(), photo, Objective("relu2"), octaves=octaves, steps=0)
        np.testing.assert_allclose(found.pictures, photo, atol=1.01 * FAINTEST)


def test_a_dream_raises_its_layer_and_keeps_the_photo_in_sight() -> None:
    model, photo = nets.gap(), nets.picture(3, (37, 52), torch.float32)
    shapes: list[tuple[int, ...]] = []
    for objective in (Objective("relu2"), CHANNEL, Objective(target=1)):
        with unchanged(model):
            found = dream(model, photo, objective, steps=10, partial=lambda now: shapes.append(now.shape))
        assert found.values[0] > values_of(model, objective, photo)[0]
        assert found.history.shape == (30,)
        assert np.corrcoef(found.pictures.ravel(), photo.numpy().ravel())[0, 1] > 0.3
    assert list(dict.fromkeys(shapes)) == [(1, 3, 19, 27), (1, 3, 27, 38), (1, 3, 37, 52)]


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "takes one of the two: a layer"),
        ({"layer": "relu2", "target": 1}, "takes one of the two: a layer"),
        ({"target": 1, "channel": 0}, "belong to a layer"),
        ({"target": 1, "unit": MIDDLE}, "belong to a layer"),
        ({"layer": "relu2", "channel": 1, "direction": (1, 2)}, "channel and direction are both given"),
        ({"layer": "relu2", "unit": MIDDLE}, "of no channel"),
        ({"layer": "relu2", "direction": (0, 0)}, "not all of them 0"),
        ({"layer": "relu2", "direction": (1, float("nan"))}, "one finite"),
        ({"layer": "relu2", "direction": ((1, 2), (3, 4))}, "one finite"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(words)):
        Objective(**options)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Objective("relu2", channel=8), "channel is 8; it must be a whole number from 0 to 7"),
        (Objective("relu2", channel=True), "channel is True"),
        (Objective("relu2", channel=1, unit=(21, 0)), "row is 21; it must be a whole number from 0 to 20"),
        (Objective("relu2", channel=1, unit=(0, -1)), "column is -1; it must be a whole number from 0 to 14"),
        (Objective("relu2", channel=1, unit="corner"), "must be (row, column) or 'middle'"),
        (Objective("relu2", channel=1, unit=(1, 2, 3)), "must be (row, column) or 'middle'"),  # type: ignore[arg-type]
        (Objective("relu2", direction=(1, 2)), "direction has 2 numbers; the layer “relu2” has 8 channels"),
        (Objective(target=5), "target is 5; it must be a "),
        ("relu2", "objective is a str; it must be an Objective"),
    ],
)
def test_an_objective_that_the_net_does_not_have_is_refused_with_the_range(objective: Any, words: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(words)):
        maximise(nets.gap(), objective, **FEW)
    if isinstance(objective, Objective):
        with pytest.raises(BadParameter, match=re.escape(words)):
            values_of(nets.gap(), objective, nets.picture(dtype=torch.float32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count is 0; it must be a whole number from 1 to 8"),
        ({"steps": -1}, "steps is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"rate": 0}, "rate is 0; it must be a number from 1e-06 to 10"),
        ({"rate": True}, "rate is True"),
        ({"diversity": -1}, "diversity is -1; it must be a number from 0 to 100"),
        ({"size": (0, 20)}, "height is 0"),
        ({"size": (20, 5000)}, "width is 5000"),
        ({"size": 20}, "size is 20; it must be (height, width)"),
        ({"start": nets.picture(n=2)}, "start has the shape (2, 3, 41, 29); it must be (1, 3, H, W)"),
        ({"start": nets.picture(), "size": (41, 30)}, "start has the shape (1, 3, 41, 29)"),
        ({"start": torch.full((1, 3, 41, 29), float("nan"))}, "NaN or infinity"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(words)):
        maximise(nets.gap(), CHANNEL, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"octaves": 0}, "octaves is 0; it must be a whole number from 1 to 8"),
        ({"octaves": 2.5}, "octaves is 2.5"),
        ({"steps": -1}, "steps is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"rate": 11}, "rate is 11"),
        ({"pixels": nets.picture(n=2)}, "this takes one"),
        ({"objective": "relu2"}, "must be an Objective"),
    ],
)
def test_a_dream_is_refused_as_well(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(words)):
        dream(**{"model": nets.gap(), "pixels": nets.picture(), "objective": CHANNEL, "steps": 1, **options})


def test_values_are_refused_for_what_is_no_pictures() -> None:
    with pytest.raises(BadParameter, match=r"must be \(N, 3, H, W\)"):
        values_of(nets.gap(), CHANNEL, torch.zeros(3, 5, 5))
    with pytest.raises(BadParameter, match="batch_size is 0"):
        values_of(nets.gap(), CHANNEL, nets.picture(), batch_size=0)


def test_layers_that_cannot_be_looked_at_are_refused() -> None:
    with pytest.raises(LayerNotFound, match="nearest"):
        maximise(nets.gap(), Objective("relu9", channel=0))
    with pytest.raises(UnsupportedModel, match="more than once"):
        maximise(nets.reused(), Objective("relu", channel=0))
    with pytest.raises(LayerNotFound, match="did not run"):
        maximise(nets.reused(), Objective("unused", channel=0))


class Sequence(nn.Module):
    """Its first layer answers with places before channels, as transformers do, and without a slope if ``rounded``."""

    def __init__(self, rounded: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.tokens = nn.Flatten(2)
        self.classifier = nn.Linear(4, nets.CLASSES)
        self.rounded = rounded

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(self.conv1(x)).mean(2)
        return self.classifier(x.detach() if self.rounded else x)


def test_a_layer_that_gives_neither_maps_nor_numbers_is_refused() -> None:
    with pytest.raises(LayerNotFound, match="not maps"):
        maximise(nets.model_of(Sequence, {}), Objective("tokens", channel=0))


def test_an_answer_that_does_not_depend_on_the_picture_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="does not depend on the picture"):
        maximise(nets.model_of(lambda: Sequence(rounded=True), {}), Objective(target=0))


class Rooted(nn.Module):
    """Answers with the square root of 0, whose slope is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.classifier((x - x.detach()).sqrt().mean((2, 3)))


def test_an_answer_without_a_slope_that_is_a_number_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"The gradient of .* holds NaN or infinity"):
        maximise(nets.model_of(Rooted, {}), Objective(target=0), **FEW)
    cut = nets.model_of(lambda: Sequence(rounded=True), {})
    cut.net.requires_grad_(True)  # the answer has a slope, for the weights alone
    with pytest.raises(UnsupportedModel, match="or there is none"):
        maximise(cut, Objective(target=0), **FEW)


def test_a_layer_that_answers_with_nan_is_refused() -> None:
    model = nets.gap()
    model.net.conv2.weight[3] = float("nan")
    with pytest.raises(UnsupportedModel, match="NaN or infinity"):
        maximise(model, Objective("conv2", channel=3))


def test_a_size_that_the_net_does_not_take_is_refused_and_an_error_of_its_own_is_not_called_that() -> None:
    with pytest.raises(BadParameter, match=r"size is 40 × 34; .* Its own is 28 × 28"):
        maximise(load_model("lenet5"), Objective(target=3), size=(40, 34))
    with pytest.raises(RuntimeError, match="tripped"):
        maximise(nets.tripping(at=1), Objective(target=3))


# -- trained nets ----------------------------------------------------------------------------------------------------


def crops(model: Model, each: int) -> Tensor:
    """Random cuts of the sample photos, as the net sees them."""
    photos = [open_photo(sample.read()).pixels for sample in PHOTOS]
    cuts = [cut for number, photo in enumerate(photos) for cut in variants(photo, each, number)]
    return torch.cat([prepare(cut, model).pixels for cut in cuts])


@pytest.mark.slow
@pytest.mark.parametrize("objective", [Objective("block3b", channel=7), *(Objective(target=t) for t in (0, 4, 7))])
def test_a_picture_for_photonet_beats_the_best_of_two_hundred_photos_threefold(objective: Objective) -> None:
    model = load_model("photonet")
    best = values_of(model, objective, crops(model, 34)).max()
    assert maximise(model, objective).values[0] > 3 * best > 0


@pytest.mark.parametrize("target", [0, 3, 8])
def test_lenet_reads_the_digit_that_was_asked_for(target: int) -> None:
    model = load_model("lenet5")
    found = maximise(model, Objective(target=target), steps=64)
    with torch.no_grad():
        assert float(model.logits(torch.from_numpy(found.pictures)).softmax(1)[0, target]) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", [Objective("blocks.2", channel=5), Objective("conv_head", channel=100), Objective(target=1)]
)
def test_a_picture_for_efficientnet_beats_the_best_of_two_hundred_photos_threefold(objective: Objective) -> None:
    model = load_model("efficientnet_lite0")
    best = values_of(model, objective, crops(model, 34)).max()
    assert maximise(model, objective, steps=64).values[0] > 3 * best > 0
