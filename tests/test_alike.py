"""Alike kernels and channels: against slow twins, on banks whose twins are known, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nets
import numpy as np
import pytest
import torch
from reference import maps_of
from reference_channels import correlation, cosine
from test_contract import Cancelled, unchanged
from torch import Tensor, nn

from vizcore.alike import alike_channels, alike_kernels
from vizcore.filters import filters
from vizcore.records import BadParameter, Filters, LayerNotFound, Model, UnsupportedModel

PICTURES = nets.picture(5, n=4)


def bank(n: int = 12, shape: tuple[int, ...] = (8, 3, 5), seed: int = 0) -> Filters:
    values = np.random.default_rng(seed).normal(0, 1, (n, *shape)).astype(np.float32)
    return Filters(values, "Drawn", "conv")


# ---- kernels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "layer"), [(nets.gap, "conv2"), (nets.odd, "conv1"), (nets.grey, "conv1")])
def test_cosines_are_those_of_the_slow_twin(make: Callable[..., Model], layer: str) -> None:
    kernels = filters(make(), layer)
    found = alike_kernels(kernels)
    for one, first in enumerate(kernels.values.astype(np.float64)):
        for other, second in enumerate(kernels.values.astype(np.float64)):
            assert found.values[one, other] == pytest.approx(cosine(first, second), abs=1e-6)
    assert (found.layer, found.model_name) == (kernels.layer, kernels.model_name)


def test_planted_twins_are_the_first_pairs_whatever_their_length_and_sign() -> None:
    kernels = bank()
    kernels.values[7] = -3 * kernels.values[2]
    kernels.values[9] = 0.01 * kernels.values[4] + 0.002 * kernels.values[5]
    found = alike_kernels(kernels)
    assert found.pairs().tolist() == [[2, 7], [4, 9]]
    assert found.values[2, 7] == -1
    assert found.by_chance is not None
    assert found.by_chance < found.values[4, 9] == pytest.approx(0.98, abs=0.01)


def test_random_kernels_are_more_alike_than_chance_in_one_bank_of_twenty() -> None:
    above = 0
    for seed in range(100):
        found = alike_kernels(bank(6, (1, 3, 3), seed), seed=seed + 1000)
        above += float(np.abs(found.values[np.triu_indices(6, 1)]).max()) > (found.by_chance or 0)
    assert 1 <= above <= 12


def test_kernels_of_few_weights_are_alike_by_chance_and_those_of_many_are_not() -> None:
    few, many = (alike_kernels(bank(40, shape)).by_chance for shape in ((1, 3, 3), (64, 3, 3)))
    assert few > 0.8 > 0.3 > many


def test_kernels_of_one_sign_are_alike_by_chance_for_all_their_number() -> None:
    kernels = bank(8, (64, 3, 3))
    ones = alike_kernels(replace(kernels, values=np.abs(kernels.values) + 1))
    assert ones.by_chance > 0.9


def test_a_kernel_of_zeros_is_silent_and_in_no_pair() -> None:
    kernels = bank()
    kernels.values[3] = 0
    found = alike_kernels(kernels)
    assert found.silent.tolist() == [3]
    assert 3 not in found.pairs(0)
    assert len(found.pairs(0)) == 11 * 10 // 2
    sizes = [abs(found.values[one, other]) for one, other in found.pairs(0)]
    assert sizes == sorted(sizes, reverse=True)


def test_where_all_kernels_are_zero_chance_is_zero_too() -> None:
    assert alike_kernels(replace(bank(), values=np.zeros((3, 1, 3, 3), np.float32))).by_chance == 0


# ---- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "layer"), [(nets.gap, "relu2"), (nets.residual, "block1"), (nets.grey, "act2")])
def test_correlations_are_those_of_the_slow_twin_whatever_the_batch(make: Callable[..., Model], layer: str) -> None:
    model = make(torch.float64)
    maps = np.stack([maps_of(model, layer, picture) for picture in PICTURES.numpy()], 1)  # (C, n, h, w)
    for batch_size in (1, 3, 4):
        found = alike_channels(model, PICTURES, layer, batch_size=batch_size)
        for one in range(len(maps)):
            for other in range(len(maps)):
                wanted = correlation(maps[one], maps[other]) if np.ptp(maps[one]) and np.ptp(maps[other]) else np.nan
                assert found.values[one, other] == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert found.by_chance is None


def test_channels_of_one_colour_go_together_whatever_their_scale_and_a_constant_one_is_silent() -> None:
    model = nets.plain_pixels(nets.model_of(Four, {}, torch.float64))
    model.net.conv1.weight[:] = torch.tensor([[1, 0, 0], [-7, 0, 0], [0, 1, 0], [0, 0, 0]]).view(4, 3, 1, 1)
    model.net.conv1.bias[:] = torch.tensor([0.0, 1e6, 0.0, 5.0])
    found = alike_channels(model, PICTURES, "conv1", batch_size=1)
    assert found.pairs(0.999).tolist() == [[0, 1]]
    assert found.values[0, 1] == pytest.approx(-1, abs=1e-6)
    assert found.silent.tolist() == [3]


class Four(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nan_to_num(self.conv1(x).mean((2, 3))).expand(len(x), -1)[:, :1].repeat(1, nets.CLASSES)


def test_alike_kernels_read_alike_but_a_moved_kernel_only_works_alike() -> None:
    model = nets.plain_pixels(nets.model_of(Moved, {}, torch.float64))
    model.net.conv1.weight.zero_()
    model.net.conv1.weight[0, :, 1, 1] = 1
    model.net.conv1.weight[1, :, 1, 2] = 1
    smooth = nn.functional.avg_pool2d(nets.picture(0, (60, 50), n=3), 9, stride=1)
    assert abs(alike_kernels(filters(model, "conv1")).values[0, 1]) == 0
    assert alike_channels(model, smooth, "conv1").values[0, 1] > 0.95


class Moved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(x).mean((2, 3))


def test_a_cancel_passes_through_and_leaves_the_model_as_it_was() -> None:
    model = nets.in_place()

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with unchanged(model), pytest.raises(Cancelled):
        alike_channels(model, PICTURES, "relu2", batch_size=2, progress=cancel)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: alike_kernels(bank(1)), "“conv” has one kernel; there is none to compare it with"),
        (lambda: alike_kernels(bank(), seed=-1), "seed is -1"),
        (lambda: alike_kernels(bank()).pairs(1.5), "threshold is 1.5; it must be a number from 0 to 1"),
        (lambda: alike_kernels(bank()).pairs(True), "threshold is True"),
        (lambda: alike_channels(nets.gap(), PICTURES, "relu2", batch_size=0), "batch_size is 0"),
        (lambda: alike_channels(nets.gap(), [], "relu2"), "pictures is empty"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(ask: Callable[[], Any], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        ask()


@pytest.mark.parametrize(("layer", "words"), [("relu4", "has no layer 'relu4'"), ("pool", "numbers, not maps")])
def test_a_layer_without_maps_is_refused(layer: str, words: str) -> None:
    with pytest.raises(LayerNotFound, match=words):
        alike_channels(nets.gap(), PICTURES, layer)


def test_one_channel_and_maps_with_nan_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="“conv1” of Four has one channel"):
        alike_channels(nets.model_of(lambda: Four(1), {}), PICTURES, "conv1")
    model = nets.model_of(Four, {})
    model.net.conv1.bias[2] = torch.inf
    with pytest.raises(UnsupportedModel, match="“conv1” of Four gave NaN or infinity"):
        alike_channels(model, PICTURES, "conv1")
