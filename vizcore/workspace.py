"""Memory that is used over and over, for what no step of a computation leaves to the next.

The allocator would give large blocks back and fetch them anew, zeroed, at every step, and keep several of the smaller
ones of different sizes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Workspace:
    """Named places for tensors, each as large as the largest that was asked of it. For one thread at a time."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, place: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of ``shape``, with the type and device of ``like`` and any numbers in it, in place of the last one
        there."""
        count = math.prod(shape)
        held = self._held.get(place)
        if held is None or len(held) < count or held.dtype != like.dtype or held.device != like.device:
            self._held.pop(place, None)
            held = None  # before more is asked for
            held = self._held[place] = torch.empty(count, dtype=like.dtype, device=like.device)
        return held[:count].view(shape)

    @property
    def nbytes(self) -> int:
        return sum(held.numel() * held.element_size() for held in self._held.values())
