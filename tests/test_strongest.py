"""The strongest patches: against a slow twin, on nets whose strongest patch is known, and what is refused."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nets
import numpy as np
import pytest
import torch
from reference_strongest import strongest
from test_contract import Cancelled, unchanged
from torch import Tensor, nn

from vizcore.activations import activation_maps
from vizcore.images import prepare
from vizcore.receptive_field import theoretical
from vizcore.records import BadParameter, LayerNotFound, Model, UnsupportedModel
from vizcore.strongest import StrongestPatches, strongest_patches

MAKERS: dict[str, tuple[Callable[..., Model], str]] = {
    "gap": (nets.gap, "relu2"),
    "in_place": (nets.in_place, "relu3"),
    "branching": (nets.branching, "wide"),
    "residual": (nets.residual, "block1"),
    "odd": (nets.odd, "conv3"),
    "grey": (nets.grey, "act2"),
}
PHOTOS = [
    np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for seed, (height, width) in enumerate([(60, 45), (41, 29), (30, 80), (90, 31), (52, 52)])
]


class Patterns(nn.Module):
    """One kernel of 3 × 5 as a layer, and a ReLU behind it: it answers to what looks as the kernel does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, (3, 5), bias=True)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv1(x)).mean((2, 3))


def patterns(kernel: Tensor) -> Model:
    """Channel 0 finds ``kernel`` (3, 3, 5), channel 1 is shut."""
    model = nets.plain_pixels(nets.model_of(Patterns, {}, torch.float64, classes=2))
    model.net.conv1.weight[:] = torch.stack([kernel, torch.zeros_like(kernel)])
    model.net.conv1.bias[:] = torch.tensor([0.0, -1.0])
    return model


# ---- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_the_strongest_of_each_channel_are_those_of_the_slow_twin(name: str) -> None:
    make, layer = MAKERS[name]
    model, pictures = make(torch.float64), nets.picture(3, n=7)
    found = strongest_patches(model, pictures, layer, k=4, batch_size=3)
    channels = activation_maps(model, pictures[:1], layer).values.shape[0]
    assert found.channels.tolist() == list(range(channels))
    for channel in range(channels):
        wanted = strongest(model, pictures.numpy(), layer, channel, 4)
        assert found.pictures[channel].tolist() == [number for number, _, _ in wanted]
        np.testing.assert_allclose(found.activations[channel], [value for _, value, _ in wanted], rtol=1e-6)
        assert [tuple(place) for place in found.places[channel].tolist()] == [place for _, _, place in wanted]
    assert (found.model_name, found.layer, found.count) == (model.name, layer, 7)


@pytest.mark.parametrize("name", MAKERS)
def test_a_box_is_the_theoretical_receptive_field_of_its_place(name: str) -> None:
    make, layer = MAKERS[name]
    model = make(torch.float64)
    found = strongest_patches(model, nets.picture(1, n=3), layer)
    for box, place in zip(found.boxes.reshape(-1, 4).tolist(), found.places.reshape(-1, 2).tolist(), strict=True):
        assert tuple(box) == theoretical(model, layer, tuple(place))
    assert found.exact


def test_pictures_of_another_size_than_the_nets_own_have_boxes_of_their_own() -> None:
    model, size = nets.gap(torch.float64), (23, 57)
    found = strongest_patches(model, nets.picture(2, size, n=2), "relu3")
    assert found.size == (6, 15)
    resized = replace(model, input_size=size)
    for box, place in zip(found.boxes.reshape(-1, 4).tolist(), found.places.reshape(-1, 2).tolist(), strict=True):
        assert tuple(box) == theoretical(resized, "relu3", tuple(place))
    assert found.boxes[..., 2].max() > nets.SIZE[1], "beyond what a picture of the net's own size has"


def test_photos_are_shown_as_prepare_cuts_them() -> None:
    model = nets.gap(torch.float64)
    cut = torch.cat([prepare(photo, model).pixels for photo in PHOTOS])
    one, other = (strongest_patches(model, pictures, "relu2") for pictures in (PHOTOS, cut))
    for name in ("pictures", "activations", "places", "boxes", "lowest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_patch_in_which_a_kernel_finds_itself_is_the_strongest() -> None:
    kernel = torch.rand(3, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pictures = torch.zeros(4, 3, *nets.SIZE, dtype=torch.float64)
    planted = {3: (1.0, 7, 20), 0: (0.6, 36, 2), 2: (0.3, 0, 24)}  # how bright, and where
    for number, (light, top, left) in planted.items():
        pictures[number, :, top : top + 3, left : left + 5] = light * kernel
    found = strongest_patches(patterns(kernel), pictures, "relu", channels=[0], k=3)
    assert found.pictures.tolist() == [[3, 0, 2]]
    assert found.places.tolist() == [[[7, 20], [36, 2], [0, 24]]]
    assert found.boxes.tolist() == [[[20, 7, 25, 10], [2, 36, 7, 39], [24, 0, 29, 3]]]
    energy = float(kernel.square().sum())
    np.testing.assert_allclose(found.activations, [[energy, 0.6 * energy, 0.3 * energy]], rtol=1e-6)
    for place, (_, top, left) in enumerate(planted.values()):
        x0, y0, x1, y1 = found.boxes[0, place]
        cut = pictures[found.pictures[0, place], :, y0:y1, x0:x1]
        assert torch.equal(cut, pictures[found.pictures[0, place], :, top : top + 3, left : left + 5])


def test_a_picture_counts_once_and_of_equal_ones_the_first_comes_first() -> None:
    pictures = torch.full((5, 3, *nets.SIZE), 0.2, dtype=torch.float64)
    pictures[1, 0, 30, 4] = pictures[1, 0, 12, 9] = pictures[4, 0, 8, 28] = 0.9  # red; picture 1 at two places
    for batch_size in (1, 2, 5):
        found = strongest_patches(nets.colours(), pictures, "conv1", k=5, batch_size=batch_size)
        assert found.pictures[0].tolist() == [1, 4, 0, 2, 3]
        assert found.places[0].tolist() == [[12, 9], [8, 28], [0, 0], [0, 0], [0, 0]]
        assert found.pictures[1].tolist() == [0, 1, 2, 3, 4]


def test_there_are_no_more_than_there_are_pictures() -> None:
    found = strongest_patches(nets.gap(), PHOTOS, "relu1")
    assert found.pictures.shape == (6, 5)
    assert all(sorted(row) == [0, 1, 2, 3, 4] for row in found.pictures.tolist())
    assert (np.diff(found.activations, axis=1) <= 0).all()


def test_chosen_channels_are_those_of_all_in_the_order_asked_for() -> None:
    model, pictures = nets.gap(torch.float64), nets.picture(5, n=4)
    every, some = (strongest_patches(model, pictures, "conv3", channels=asked) for asked in (None, [7, np.int64(2)]))
    assert some.channels.tolist() == [7, 2]
    for name in ("pictures", "activations", "places", "boxes", "lowest"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name)[[7, 2]])
        np.testing.assert_array_equal(getattr(some.of(2), name), getattr(every.of(2), name))


@pytest.mark.parametrize("layer", ["relu1", "conv3"])
def test_batch_size_does_not_change_what_is_found(layer: str) -> None:
    model, pictures = nets.gap(torch.float64), nets.picture(6, n=11)
    one = strongest_patches(model, pictures, layer, batch_size=1)
    for batch_size in (2, 7, 64):
        many = strongest_patches(model, pictures, layer, batch_size=batch_size)
        np.testing.assert_array_equal(many.pictures, one.pictures)
        np.testing.assert_array_equal(many.places, one.places)
        np.testing.assert_allclose(many.activations, one.activations, rtol=1e-6)
        np.testing.assert_allclose(many.lowest, one.lowest, rtol=1e-6)


def test_only_channels_that_answer_the_same_everywhere_are_dead() -> None:
    model, pictures = patterns(torch.ones(3, 3, 5, dtype=torch.float64)), nets.picture(7, n=3)
    assert strongest_patches(model, pictures, "relu").dead.tolist() == [1], "shut"
    assert strongest_patches(model, pictures, "conv1").dead.tolist() == [1], "-1 everywhere"
    model.net.conv1.weight.neg_()
    model.net.conv1.bias[1] = 1.0
    found = strongest_patches(model, pictures, "conv1")
    assert (found.activations[0] < 0).all()
    assert found.dead.tolist() == [1], "negative is not dead before a ReLU, 1 everywhere is"
    assert strongest_patches(model, pictures, "relu").dead.tolist() == [0, 1]


def test_one_number_alone_is_not_called_dead_unless_it_is_zero() -> None:
    model = patterns(torch.ones(3, 3, 5, dtype=torch.float64))
    pictures = torch.full((1, 3, 3, 5), 0.5, dtype=torch.float64)
    found = strongest_patches(model, pictures, "relu")
    assert found.size == (1, 1)
    assert found.dead.tolist() == [1]


# ---- while it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_cancel_in_the_middle_passes_through_and_leaves_the_model_as_it_was(at: int) -> None:
    model = nets.in_place()
    model.net.train()
    calls = []

    def cancel(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) == at:
            raise Cancelled

    with unchanged(model), pytest.raises(Cancelled):
        strongest_patches(model, nets.picture(0, n=10, dtype=torch.float32), "relu2", batch_size=2, progress=cancel)
    assert calls == [(2 * call, 10) for call in range(1, at + 1)]


def test_an_error_in_the_middle_of_a_pass_leaves_the_model_as_it_was() -> None:
    model, passes = nets.gap(), []

    def trip(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if not args[0].is_meta:
            passes.append(module)
        if len(passes) == 2:
            raise OSError("tripped")

    handle = model.net.classifier.register_forward_pre_hook(trip)
    try:
        with unchanged(model), pytest.raises(OSError, match="tripped"):
            strongest_patches(model, nets.picture(0, n=6, dtype=torch.float32), "relu2", batch_size=2)
    finally:
        handle.remove()


def test_the_lock_is_free_between_two_batches() -> None:
    model, free = nets.gap(), []
    strongest_patches(
        model, PHOTOS, "relu2", batch_size=2, progress=lambda done, total: free.append(nets.lock_is_free(model))
    )
    assert free == [True, True, True]


def test_the_maps_of_a_batch_are_gone_before_the_next_pass() -> None:
    model, largest = nets.gap(), 0
    alive: list[weakref.ref[Tensor]] = []

    def watch(module: nn.Module, args: object, output: Tensor) -> None:
        nonlocal largest
        alive[:] = [one for one in alive if one() is not None]
        alive.append(weakref.ref(output))
        largest = max(largest, len(alive))

    handle = model.net.relu2.register_forward_hook(watch)
    try:
        strongest_patches(model, nets.picture(0, n=12, dtype=torch.float32), "relu2", batch_size=2)
    finally:
        handle.remove()
    assert largest == 1


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, r"k is 0; it must be a whole number from 1 to 100"),
        ({"k": 101}, "k is 101"),
        ({"k": 2.5}, "k is 2.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"channels": [8]}, "channels is 8; it must be a whole number from 0 to 7"),
        ({"channels": [-1]}, "channels is -1"),
        ({"channels": [True]}, "channels is True"),
        ({"channels": []}, r"channels is \[\]; it must name at least one, or be None for all 8"),
        ({"pictures": []}, "pictures is empty"),
        ({"pictures": PHOTOS[0]}, r"pictures is one array of the shape \(60, 45, 3\)"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(options: dict[str, Any], words: str) -> None:
    model = nets.gap()
    with unchanged(model), pytest.raises(BadParameter, match=words):
        strongest_patches(model, **({"pictures": PHOTOS, "layer": "relu2"} | options))


@pytest.mark.parametrize(("layer", "words"), [("relu4", "has no layer 'relu4'"), ("pool", "has no units at places")])
def test_a_layer_without_maps_is_refused_before_any_pass(layer: str, words: str) -> None:
    calls: list[int] = []
    with pytest.raises(LayerNotFound, match=words):
        strongest_patches(nets.gap(), PHOTOS, layer, progress=lambda done, total: calls.append(done))
    assert not calls


def test_maps_with_nan_are_refused_by_name() -> None:
    model = nets.gap()
    model.net.conv1.weight[0, 0, 0, 0] = torch.nan
    object.__setattr__(model, "net", Blind(model.net))
    with pytest.raises(UnsupportedModel, match=r"“body\.relu1” of GapNet gave NaN or infinity"):
        strongest_patches(model, PHOTOS, "body.relu1")


class Blind(nn.Module):
    """Runs a net and answers without it, so that nothing but its maps shows what is wrong inside."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.nan_to_num(self.body(x)) * 0


def test_a_channel_that_was_not_asked_for_is_refused() -> None:
    found: StrongestPatches = strongest_patches(nets.gap(), PHOTOS, "relu2", channels=[3])
    assert found.of(3).channels.tolist() == [3]
    with pytest.raises(BadParameter, match="channel is 4; it must be one of “relu2” that was asked for"):
        found.of(4)
