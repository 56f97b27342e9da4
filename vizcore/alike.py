"""Channels that do the same work twice: kernels that are nearly one another's, and maps that rise and fall together.

Of trained nets many filters are nearly the same, or the same with the sign turned (Shang et al., *Understanding and
Improving Convolutional Neural Networks via Concatenated Rectified Linear Units*, ICML 2016; RoyChowdhury et al.,
*Reducing Duplicate Filters in Deep Neural Networks*, 2018). `alike_kernels` compares the weights: the cosine of each
two, which does not see the length, and what the same weights would give in any order. `alike_channels` compares what
comes out: the correlation of each two channels over all places of a set of pictures (Li et al., *Convergent Learning*,
ICLR 2016, within one net).

The one does not follow from the other. A kernel moved by a pixel does the same work at a cosine of nothing; alike
kernels of which one is shut by its bias differ in what comes out; and channels that go together over one set may part
over another. Neighbouring places are alike, so that a correlation comes with no error: bring many pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vizcore.hooks import find_layer, require_maps, trace
from vizcore.images import Pictures, in_batches
from vizcore.records import BadParameter, Filters, Model, Progress, UnsupportedModel, check_whole

THRESHOLD = 0.9
SHUFFLES = 19  # the largest of these is exceeded by chance once in twenty


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike each two of N channels of ``layer`` are: ``values`` (N, N) float32, −1 to 1, a cosine or a correlation;
    NaN in the rows and columns of channels that are ``silent``, all zero or the same everywhere.

    ``by_chance``, where it is known, is the largest magnitude that the same numbers reach in any order, in 19 of 20
    cases.
    """

    values: np.ndarray
    layer: str
    model_name: str
    by_chance: float | None = None

    @property
    def silent(self) -> np.ndarray:
        """Numbers of the channels that there is nothing to compare of."""
        return np.flatnonzero(np.isnan(np.diagonal(self.values)))

    def pairs(self, threshold: float = THRESHOLD) -> np.ndarray:
        """(P, 2) the channels of which the likeness is ``threshold`` (0 to 1) or more, of either sign, the lower number
        first; the most alike pair first."""
        if (
            isinstance(threshold, bool)
            or not isinstance(threshold, (int, float, np.floating))
            or not 0 <= threshold <= 1
        ):
            raise BadParameter(f"threshold is {threshold!r}; it must be a number from 0 to 1.")
        one, other = np.triu_indices(len(self.values), 1)
        sizes = np.abs(self.values[one, other])
        found = np.flatnonzero(sizes >= threshold)  # NaN is not
        found = found[np.argsort(-sizes[found], kind="stable")]
        return np.stack([one[found], other[found]], 1)


def alike_kernels(bank: Filters, *, seed: int = 0) -> Likeness:
    """The cosine of each two kernels of ``bank``, as `filters.filters` gives it; −1: the same with the sign turned.

    Chance is what the largest cosine is where the weights of each kernel are shuffled, drawn by ``seed`` (0 to 2**32 −
    1): kernels of nine weights are often alike without meaning, those of thousands never. With groups, kernels that
    read different channels are compared all the same. No forward pass; 20 · N² · C · kh · kw multiplications.
    """
    check_whole("seed", seed, 0, 2**32 - 1)
    kernels = bank.values.reshape(len(bank.values), -1).astype(np.float64)  # (N, C · kh · kw)
    if len(kernels) < 2:
        raise BadParameter(f"“{bank.layer}” has one kernel; there is none to compare it with.")
    draws = np.random.default_rng(seed)
    chances = [_largest(_cosines(draws.permuted(kernels, axis=1))) for _ in range(SHUFFLES)]
    return Likeness(_cosines(kernels).astype(np.float32), bank.layer, bank.model_name, max(chances))


def alike_channels(
    model: Model, pictures: Pictures, layer: str, *, batch_size: int = 8, progress: Progress | None = None
) -> Likeness:
    """Pearson's correlation of each two channels of ``layer`` over all places of all ``pictures``.

    ``pictures`` are uint8 arrays (H, W, 3), each shown to the net as `images.prepare` cuts it, or a float tensor (N, 3,
    H, W) in [0, 1]. One forward pass for every ``batch_size`` pictures (1 to 4096), 8 · C² bytes; the lock is held for
    one such batch at a time, progress counts pictures. Raises BadParameter, LayerNotFound for a layer without maps,
    UnsupportedModel for one channel, or NaN or infinity.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    find_layer(model, layer)
    sums: _Sums | None = None
    for batch in in_batches(pictures, model, batch_size, progress):
        with trace(model, [layer]) as seen:
            model.logits(batch)
            maps = require_maps(model, layer, seen[layer])
            if not torch.isfinite(maps).all():
                raise UnsupportedModel(f"The layer “{layer}” of {model.title} gave NaN or infinity for some picture.")
            if maps.shape[1] < 2:
                raise UnsupportedModel(f"The layer “{layer}” of {model.title} has one channel; there is no other.")
            sums = sums or _Sums(maps)
            sums.add(maps)
    assert sums is not None
    return Likeness(sums.correlations().astype(np.float32), layer, model.name)


class _Sums:
    """What a correlation of C channels needs, of maps that come in batches; float64, about the mean of the first."""

    def __init__(self, maps: Tensor) -> None:
        self._middle = maps.double().mean((0, 2, 3))  # (C,): so that no large numbers cancel
        self._count = 0
        self._sum = torch.zeros_like(self._middle)
        self._products = self._middle.new_zeros(len(self._middle), len(self._middle))
        self._lowest, self._highest = (maps.amin((0, 2, 3)), maps.amax((0, 2, 3)))

    def add(self, maps: Tensor) -> None:
        flat = maps.double().transpose(0, 1).flatten(1) - self._middle[:, None]  # (C, b · h · w)
        self._count += flat.shape[1]
        self._sum += flat.sum(1)
        self._products += flat @ flat.T
        self._lowest = torch.minimum(self._lowest, maps.amin((0, 2, 3)))
        self._highest = torch.maximum(self._highest, maps.amax((0, 2, 3)))

    def correlations(self) -> np.ndarray:
        """(C, C); NaN of channels that are the same everywhere."""
        covariances = self._products - self._sum[:, None] * self._sum / self._count
        lengths = covariances.diagonal().clamp(min=0).sqrt()
        lengths[self._lowest == self._highest] = torch.nan
        return (covariances / lengths[:, None] / lengths).clamp(-1, 1).cpu().numpy()


def _cosines(kernels: np.ndarray) -> np.ndarray:
    """(N, D) to (N, N), NaN of kernels that are zero."""
    lengths = np.linalg.norm(kernels, axis=1, keepdims=True)
    unit = kernels / np.where(lengths > 0, lengths, np.nan)
    return np.clip(unit @ unit.T, -1, 1)


def _largest(values: np.ndarray) -> float:
    """The largest magnitude beside the diagonal; 0 where there is none."""
    beside = np.abs(values[np.triu_indices(len(values), 1)])
    return float(np.nanmax(beside, initial=0.0))
