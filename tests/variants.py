"""Variants of a picture the slow way: each drawn whole, and each through the whole net by itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from vizcore.incremental import Variants
from vizcore.records import Model
from vizcore.regions import Region, Span

Box = tuple[int, int, int, int]  # first row, behind the last, first column, behind the last


def region_of(size: tuple[int, int], boxes: Iterable[Box]) -> Region:
    top, bottom, left, right = np.array(list(boxes)).T
    return Region(Span(top, bottom, size[0]), Span(left, right, size[1]))


def boxes_everywhere(size: tuple[int, int], seed: int = 0) -> list[Box]:
    """Windows at every border and corner and at random places: one pixel, odd ones, stripes, nearly all, and all."""
    (height, width), draws = size, np.random.default_rng(seed)
    high, wide = (int(draws.integers(2, max(3, n // 2))) for n in size)
    boxes = [
        (top, top + high, left, left + wide)
        for top in (0, (height - high) // 2, height - high)
        for left in (0, (width - wide) // 2, width - wide)
    ]
    boxes += [(0, 1, 0, 1), (height - 1, height, width - 1, width), (0, height, 0, width)]
    boxes += [(0, height - 1, 1, width), (0, height, wide, wide + 1), (high, high + 2, 0, width)]
    for _ in range(4):
        top, left = int(draws.integers(height)), int(draws.integers(width))
        boxes.append((top, int(draws.integers(top, height)) + 1, left, int(draws.integers(left, width)) + 1))
    return boxes


def full_passes(
    model: Model, pixels: Tensor, boxes: Iterable[Box], filling: Tensor, masks: Tensor | None = None
) -> Tensor:
    """(n, K) logits, one pass of the net for each variant."""
    answers = []
    for number, (top, bottom, left, right) in enumerate(boxes):
        share = torch.zeros_like(pixels[:, :1])
        share[:, :, top:bottom, left:right] = 1 if masks is None else masks[number, top:bottom, left:right]
        answers.append(model.logits(torch.where(share == 1, filling, pixels + share * (filling - pixels))))
    return torch.cat(answers)


def answers_of(
    variants: Variants,
    boxes: Iterable[Box],
    size: tuple[int, int],
    filling: Tensor,
    masks: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """(n, K) logits in the order of ``boxes``, each given once."""
    region = region_of(size, boxes)
    found: dict[int, Tensor] = {}
    for numbers, logits in variants.answers(region, filling, masks, batch_size):
        assert len(numbers) == len(logits)
        for number, row in zip(numbers.tolist(), logits, strict=True):
            assert number not in found, "a variant was answered twice"
            found[number] = row
    assert sorted(found) == list(range(len(region)))
    return torch.stack([found[number] for number in range(len(region))])


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest logit."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def effect(expected: Tensor, whole: Tensor) -> float:
    """How far hiding moves a logit at most, likewise: where this vanishes, agreement proves nothing."""
    return float((expected - whole).detach().abs().max() / expected.detach().abs().max())
