"""Winograd's convolution is the plain one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vizcore.winograd import Winograd
from vizcore.workspace import Workspace


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# One tile, less than a tile, whole tiles, and one cell more than tiles, by rows and by columns.
@pytest.mark.parametrize("size", [(6, 6), (3, 5), (4, 11), (14, 10), (7, 15), (11, 6)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_it_gives_the_sums_of_a_convolution(size: tuple[int, int], has_bias: bool) -> None:
    maps, weight, bias = draw(3, 5, *size), draw(7, 5, 3, 3, seed=1), draw(7, seed=2)
    expected = F.conv2d(maps, weight, bias if has_bias else None)
    for layout in (torch.channels_last, torch.contiguous_format):
        found = Winograd(weight, bias if has_bias else None, Workspace())(maps.contiguous(memory_format=layout))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_in_float32_it_rounds_to_a_few_millionths() -> None:
    maps, weight, bias = draw(2, 256, 18, 14), draw(128, 256, 3, 3, seed=1) / 48, draw(128, seed=2)
    expected = F.conv2d(maps, weight, bias)
    found = Winograd(weight.float(), bias.float(), Workspace())(maps.float())
    assert (found.double() - expected).abs().max() < 2e-5 * expected.abs().max()


def test_the_maps_and_the_weights_are_left_alone() -> None:
    maps, weight = draw(1, 4, 8, 9).contiguous(memory_format=torch.channels_last), draw(5, 4, 3, 3, seed=1)
    before = maps.clone(), weight.clone()
    Winograd(weight, None, Workspace())(maps)
    assert torch.equal(maps, before[0])
    assert torch.equal(weight, before[1])


def test_it_pays_for_kernels_of_three_by_three_and_many_channels() -> None:
    assert Winograd.pays(torch.empty(128, 128, 3, 3))
    assert not Winograd.pays(torch.empty(128, 128, 5, 5))
    assert not Winograd.pays(torch.empty(128, 128, 1, 3))
    assert not Winograd.pays(torch.empty(16, 128, 3, 3))
    assert not Winograd.pays(torch.empty(128, 16, 3, 3))
