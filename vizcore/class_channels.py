"""The channels of a layer that carry a class, and what becomes of the class without them.

How much a channel carries is its gradient × activation, c_k = Σ_hw ∂s/∂A_k · A_k with the target's logit s, averaged
over pictures: the first-order estimate of what s loses with the channel at zero (Molchanov et al., *Pruning
Convolutional Neural Networks for Resource Efficient Inference*, ICLR 2017; gradient × input of Ancona et al., *Towards
Better Understanding of Gradient-Based Attribution Methods*, ICLR 2018, taken at a layer; HiResCAM summed over places
and not over channels). Where only global average pooling and a linear layer follow, it is the class's weight times the
mean activation, and all channels together are the logit less its bias. Behind a saturating layer it says little.

So what it estimates can be done as well: `ablate_channels` puts a channel at zero, or at its mean over the set, which
takes away what it tells and keeps what it always adds, and runs the rest of the net (as Morcos et al., *On the
Importance of Single Directions for Generalization*, ICLR 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vizcore.hooks import find_layer, layer_for, require_maps, trace
from vizcore.images import Pictures, in_batches
from vizcore.records import (
    BadParameter,
    Model,
    Progress,
    UnsupportedModel,
    check_target,
    check_whole,
    probabilities,
)

VALUES = ("zero", "mean")


@dataclass(frozen=True, eq=False)
class ClassChannels:
    """What each of C channels of ``layer`` carries of the logit of ``target``: ``contributions`` (n, C) float32, one
    row a picture, in logits, positive = for the class; ``logits`` (n,) float32, of the target."""

    contributions: np.ndarray
    logits: np.ndarray
    target: int
    layer: str
    model_name: str

    @property
    def means(self) -> np.ndarray:
        """(C,) float64, over the pictures."""
        return self.contributions.mean(0, dtype=np.float64)

    @property
    def errors(self) -> np.ndarray:
        """(C,) the standard errors of `means`; NaN of one picture."""
        n = len(self.contributions)
        if n < 2:
            return np.full(self.contributions.shape[1], np.nan)
        return self.contributions.std(0, ddof=1, dtype=np.float64) / np.sqrt(n)

    @property
    def order(self) -> np.ndarray:
        """(C,) channels, the one that carries most first; of equal ones the first."""
        return np.argsort(-self.means, kind="stable")

    @property
    def remainder(self) -> np.ndarray:
        """(n,) what of each logit no channel carries: the bias, where the net is linear behind the layer."""
        return self.logits - self.contributions.sum(1, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ChannelAblation:
    """What n pictures are answered with each of P sets of channels of ``layer`` at ``value``, "zero" or "mean".

    ``channels`` has a tuple of numbers for each set. ``logit_drops`` and ``probability_drops`` (P, n) float32 are by
    how much the target falls, positive = the channels were for it. ``before`` (n,) and ``after`` (P, n) are the classes
    answered.
    """

    channels: tuple[tuple[int, ...], ...]
    logit_drops: np.ndarray
    probability_drops: np.ndarray
    before: np.ndarray
    after: np.ndarray
    target: int
    layer: str
    value: str
    model_name: str

    @property
    def changed(self) -> np.ndarray:
        """(P,) how many pictures are answered with another class than before."""
        return (self.after != self.before).sum(1)

    @property
    def lost(self) -> np.ndarray:
        """(P,) how many were answered with the target and are no longer."""
        return ((self.before == self.target) & (self.after != self.target)).sum(1)


def class_channels(
    model: Model,
    pictures: Pictures,
    target: int,
    layer: str | None = None,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> ClassChannels:
    """What each channel of ``layer`` carries of the logit of ``target`` in each of ``pictures``, those of the class.

    ``layer`` None takes ``model.layers["cam"]``. ``pictures`` are uint8 arrays (H, W, 3), each shown to the net as
    `images.prepare` cuts it, or a float tensor (N, 3, H, W) in [0, 1]. One pass forth, and one back to the layer, for
    every ``batch_size`` pictures (1 to 4096); the lock is held for one such batch at a time, progress counts pictures.
    Raises BadParameter, LayerNotFound for a layer without maps, UnsupportedModel where the logit cannot be
    differentiated at the layer, or gives NaN or infinity.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    check_target(model, target)
    layer = layer_for(model, "cam", layer)
    find_layer(model, layer)
    contributions, logits = [], []
    for batch in in_batches(pictures, model, batch_size, progress):
        with trace(model, [layer], grad=True) as seen:
            scores = model.logits(batch)[:, check_target(model, target)]
            maps = require_maps(model, layer, seen[layer])
            carried = _gradient(model, layer, scores, maps).double() * maps.detach().double()
        if not torch.isfinite(carried).all():
            raise UnsupportedModel(
                f"The maps of “{layer}” of {model.title}, or the gradients there, hold NaN or infinity. Choose another "
                "layer."
            )
        contributions.append(carried.sum((2, 3)).float().cpu().numpy())
        logits.append(scores.detach().float().cpu().numpy())
    return ClassChannels(np.concatenate(contributions), np.concatenate(logits), int(target), layer, model.name)


def ablate_channels(
    model: Model,
    pictures: Pictures,
    target: int,
    channels: Sequence[int],
    layer: str | None = None,
    *,
    value: str = "zero",
    together: bool = False,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> ChannelAblation:
    """What becomes of ``target`` in ``pictures`` with ``channels`` of ``layer`` put at ``value``, each by itself, or
    where ``together`` all at once.

    ``value`` is "zero", or "mean": the channel's mean over all places of all the pictures. Pictures and ``layer`` as of
    `class_channels`. A forward pass a channel and ``batch_size`` pictures (1 to 4096), one for the pictures as they
    are, and one more for the means; progress counts pictures, of every pass. Raises BadParameter, LayerNotFound,
    UnsupportedModel for a net with one score.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    check_target(model, target)
    if value not in VALUES:
        raise BadParameter(f"value is {value!r}; it must be one of {', '.join(VALUES)}.")
    layer = layer_for(model, "cam", layer)
    find_layer(model, layer)
    if not len(channels):
        raise BadParameter(f"channels is {channels!r}; it must name at least one.")
    passes, done = (2 if value == "mean" else 1), 0

    def report(batch: int, total: int) -> None:
        if progress is not None:
            progress(done + batch, passes * total)

    means: Tensor | None = None
    if value == "mean":
        means = _channel_means(model, pictures, layer, batch_size, report)
        done = len(pictures)
    sets: tuple[tuple[int, ...], ...] = (tuple(channels),) if together else tuple((one,) for one in channels)
    found = [
        _without(model, batch, target, layer, sets, means) for batch in in_batches(pictures, model, batch_size, report)
    ]
    logits, chances, answers = (np.concatenate(each, 1) for each in zip(*found, strict=True))  # (1 + P, n) each
    return ChannelAblation(
        channels=tuple(tuple(map(int, one)) for one in sets),
        logit_drops=(logits[0] - logits[1:]).astype(np.float32),
        probability_drops=(chances[0] - chances[1:]).astype(np.float32),
        before=answers[0],
        after=answers[1:],
        target=int(target),
        layer=layer,
        value=value,
        model_name=model.name,
    )


def _gradient(model: Model, layer: str, scores: Tensor, maps: Tensor) -> Tensor:
    """∂ scores_i / ∂ maps_i of every picture i, (b, C, h, w): in eval mode no picture's score depends on another's."""
    gradient = torch.autograd.grad(scores.sum(), maps, allow_unused=True)[0] if scores.requires_grad else None
    if gradient is None:
        raise UnsupportedModel(f"The score of {model.title} does not depend on “{layer}” in a differentiable way.")
    return gradient


def _channel_means(model: Model, pictures: Pictures, layer: str, batch_size: int, progress: Progress) -> Tensor:
    """(C,) float64: the mean of each channel over the places of all pictures."""
    sums: Tensor | None = None
    count = 0
    for batch in in_batches(pictures, model, batch_size, progress):
        with trace(model, [layer]) as seen:
            model.logits(batch)
            maps = require_maps(model, layer, seen[layer]).double()
        sums = maps.sum((0, 2, 3)) if sums is None else sums + maps.sum((0, 2, 3))
        count += maps[:, 0].numel()
    assert sums is not None
    return sums / count


def _without(
    model: Model,
    batch: Tensor,
    target: int,
    layer: str,
    sets: tuple[tuple[int, ...], ...],
    means: Tensor | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The target's logit and probability and the answer, each (1 + P, b): as they are, then with each set put away."""
    removed: tuple[int, ...] = ()

    def put_away(maps: Tensor) -> Tensor:
        changed = maps.clone()
        for channel in removed:
            check_whole("channels", channel, 0, maps.shape[1] - 1)
            changed[:, channel] = 0 if means is None else means[channel]
        return changed

    logits, chances, answers = [], [], []
    with trace(model, [], replace={layer: put_away}) as seen:
        for some in ((), *sets):
            removed = some
            scores = model.logits(batch)
            require_maps(model, layer, seen[layer])  # of the first pass, which puts nothing away
            if scores.shape[1] < 2:
                raise UnsupportedModel(f"{model.title} has one score: there is no other class to turn to.")
            logits.append(scores[:, target].double().cpu().numpy())
            chances.append(probabilities(scores.double())[:, target].cpu().numpy())
            answers.append(scores.argmax(1).cpu().numpy())
    return np.stack(logits), np.stack(chances), np.stack(answers)
