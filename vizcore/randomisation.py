"""Sanity check by randomisation: does a map change when what the network has learned is taken out?

Adebayo et al. (*Sanity Checks for Saliency Maps*, NeurIPS 2018, section 3) draw the weights anew from the top, layer by
layer, each step with all above it, and compare the map with the true one by Spearman's rank correlation and by the
structural similarity (Wang et al., *Image Quality Assessment*, 2004). A map that stays shows the picture, as an edge
detector does, more than the network.

As in the paper a layer comes to what it is in an untrained net: weights by He et al. (2015), normal with a variance of
2 by the number of inputs; biases 0, factors of norms 1, their running mean 0 and variance 1. To shuffle the numbers of
a tensor, as others do, would leave the sign and scale of what was learned. A norm goes with the convolution before it,
and many layers are taken together in a few steps.

What fails this check, as guided backpropagation does, still changes once the first convolutions are drawn: the edges
that it shows are those that they find. So it is told by how many steps a map withstands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vizcore.hooks import find_layer, watch_runs
from vizcore.ranks import rank_correlation
from vizcore.records import BadParameter, Model, Progress, UnsupportedModel, check_whole

STANDS = 0.5  # the rank correlation from which on two maps pass for the same
SSIM_WINDOW = 7  # cells a side

_STATISTICS = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}

Explain = Callable[[Model], np.ndarray]


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a cascade: ``layers`` were drawn anew in it, down to ``layer``, beside all those of the steps before.

    ``maps`` (R, h, w) float32 are raw, one for each of R draws. Of each draw, against the true map: ``ranks`` (R,)
    Spearman's correlation, ``absolute_ranks`` (R,) that of the magnitudes, and ``similarities`` (R,) SSIM. NaN where
    a map is the same everywhere, of SSIM where it has fewer than three rows or columns. The properties are means of
    those that are known, NaN where none is.
    """

    layer: str
    layers: tuple[str, ...]
    maps: np.ndarray
    ranks: np.ndarray
    absolute_ranks: np.ndarray
    similarities: np.ndarray

    @property
    def rank(self) -> float:
        """Mean rank correlation, −1 to 1."""
        return _mean(self.ranks)

    @property
    def absolute_rank(self) -> float:
        """Mean rank correlation of the magnitudes, −1 to 1: blind to signs that turn around."""
        return _mean(self.absolute_ranks)

    @property
    def similarity(self) -> float:
        """Mean SSIM of the maps, each scaled to [0, 1]; −1 to 1."""
        return _mean(self.similarities)


@dataclass(frozen=True, eq=False)
class Cascade:
    """``values`` (h, w) float32, the true map, and what became of it in each of ``stages``, from the top down.

    ``params`` holds every option needed to compute it again, but for the method, which the caller knows.
    """

    values: np.ndarray
    stages: tuple[Stage, ...]
    model_name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """After how many steps in a row, from the top, the mean correlation of magnitudes is `STANDS` or more."""
        fallen = [not stage.absolute_rank >= STANDS for stage in self.stages]  # NaN is fallen as well
        return fallen.index(True) if True in fallen else len(fallen)

    @property
    def verdict(self) -> str:
        """One sentence: falls apart, gives way, or stands."""
        count = len(self.stages)
        if np.ptp(np.abs(self.values)) == 0:
            return "No verdict: the true map has the same magnitude everywhere, so there is nothing to compare."
        if self.kept == 0:
            return (
                f"Falls apart: with the layers down to “{self.stages[0].layer}” drawn anew the rank correlation is "
                f"{_number(self.stages[0].absolute_rank)}, with all of them {_number(self.stages[-1].absolute_rank)}. "
                "The map needs what the network has learned."
            )
        last = self.stages[self.kept - 1]
        so_far = (
            f"after {self.kept} of {count} steps, with the layers down to “{last.layer}” drawn anew, the rank "
            f"correlation is still {_number(last.absolute_rank)}"
        )
        if 2 * self.kept < count:
            return f"Gives way: {so_far}; then it falls to {_number(self.stages[self.kept].absolute_rank)}."
        return f"Stands: {so_far}. It shows the picture more than the network."


def cascade(
    model: Model,
    explain: Explain,
    *,
    layers: Sequence[str] | None = None,
    stages: int = 8,
    repeats: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cascade:
    """The map of ``explain`` with the weights of ``model`` drawn anew from the top down, step by step.

    ``explain`` computes a map (h, w), finite, of the model it is given: same picture, same class, same options each
    time. It is given copies that hold what was drawn in memory of their own, with a lock of their own: ``model`` does
    not change. ``layers`` are dotted names, each a step with all that it holds, in this order; None takes all that
    have weights, from the last that runs to the first, in at most ``stages`` steps of about as many layers.
    ``repeats`` draws each are averaged: a small map correlates with any other by chance, of 7 × 7 easily by 0.3.

    Cost: one map, and one for each step and repeat; ``progress`` counts them. What ``explain`` raises passes through.
    Raises BadParameter, LayerNotFound, and UnsupportedModel for a net without weights.
    """
    check_whole("stages", stages, 1, 1000)
    check_whole("repeats", repeats, 1, 1000)
    check_whole("seed", seed, 0, 2**63 - 1)
    steps = _given_steps(model, layers) if layers is not None else _all_steps(model, stages)
    total = 1 + repeats * len(steps)

    def told(done: int) -> None:
        if progress:
            progress(done, total)

    true = _map_of(explain, model, None)
    told(1)
    generator = torch.Generator().manual_seed(seed)
    maps = np.empty((len(steps), repeats, *true.shape), np.float32)
    for repeat in range(repeats):
        copied = model
        for number, step in enumerate(steps):
            copied = untrained(copied, step, generator)
            maps[number, repeat] = _map_of(explain, copied, true.shape)
            told(2 + repeat * len(steps) + number)
    constant = sum(np.ptp(one) == 0 for one in maps.reshape(-1, *true.shape))
    notes = (f"{constant} of {total - 1} maps are the same everywhere; they have no rank correlation.",)
    return Cascade(
        true,
        tuple(_compare(true, step, of_step) for step, of_step in zip(steps, maps, strict=True)),
        model.name,
        {"layers": None if layers is None else tuple(layers), "stages": stages, "repeats": repeats, "seed": seed},
        notes if constant else (),
    )


def untrained(model: Model, layers: Sequence[str], generator: torch.Generator) -> Model:
    """A copy of ``model`` in which what the modules ``layers`` hold themselves ("" is the net), not what is inside of
    them, is as in an untrained net. All else is shared with ``model``. Raises LayerNotFound."""
    copied = model.twin()
    for name in layers:
        module = find_layer(copied, name) if name else copied.net
        for key, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, key, nn.Parameter(_fresh(key, parameter, generator), requires_grad=False))
        for key, fill in _STATISTICS.items():
            if isinstance(statistics := getattr(module, key, None), Tensor):
                setattr(module, key, fill(statistics))
    return copied


def _fresh(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    if tensor.ndim == 2 or (tensor.ndim > 2 and tensor[0].numel() > 1):
        dtype = torch.promote_types(tensor.dtype, torch.float32)  # no wider: a dense layer may fill half of the memory
        drawn = torch.randn(tensor.shape, generator=generator, dtype=dtype)
        return drawn.mul_((2 / tensor[0].numel()) ** 0.5).to(tensor)
    return torch.zeros_like(tensor) if name.endswith(("bias", "beta")) else torch.ones_like(tensor)


def _learned(module: nn.Module) -> list[Tensor]:
    """What the module holds itself, not what is inside of it."""
    own = [*module.parameters(recurse=False), *(getattr(module, key, None) for key in _STATISTICS)]
    return [tensor for tensor in own if isinstance(tensor, Tensor)]


def _all_steps(model: Model, stages: int) -> list[tuple[str, ...]]:
    """The names of all modules that have learned something, in at most ``stages`` steps from the top."""
    learned = {name: own for name, module in model.net.named_modules() if (own := _learned(module))}
    ran: dict[str, None] = {}

    def note(name: str, module: nn.Module, args: object) -> None:
        if name in learned:
            ran.pop(name, None)  # what runs twice stands where it runs last
            ran[name] = None

    with watch_runs(model, note, lambda *_: None), torch.no_grad():
        model.logits(torch.zeros(1, 3, *model.input_size))
    units: list[list[str]] = []  # a convolution or dense layer, with the norms behind it
    for name in ran:
        if units and all(tensor.ndim < 2 for tensor in learned[name]):
            units[-1].append(name)
        else:
            units.append([name])
    if not units:
        raise UnsupportedModel(f"No layer of {model.title} that runs has weights: there is nothing to draw anew.")
    # What is used without running itself has no place in the order; in the end nothing learned may be left.
    units[0] += learned.keys() - ran.keys()
    parts = np.array_split(np.arange(len(units))[::-1], min(stages, len(units)))
    return [tuple(name for number in sorted(part) for name in units[number]) for part in parts]


def _given_steps(model: Model, layers: Sequence[str]) -> list[tuple[str, ...]]:
    if isinstance(layers, str) or not layers:
        raise BadParameter(f"layers is {layers!r}; it must be a list of dotted names, from the top down.")
    return [(name, *_inside(model, name)) for name in layers]


def _inside(model: Model, name: str) -> list[str]:
    """All modules in the one of that name that have learned something; BadParameter where there is nothing."""
    module = find_layer(model, name)
    if not any(_learned(inner) for inner in module.modules()):
        raise BadParameter(f"The layer “{name}” of {model.title} has no weights to draw anew; name one that has.")
    return [f"{name}.{key}" for key, inner in module.named_modules() if key and _learned(inner)]


def _map_of(explain: Explain, model: Model, shape: tuple[int, ...] | None) -> np.ndarray:
    values = np.asarray(explain(model), np.float32)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all() or shape not in (None, values.shape):
        wanted = "(h, w)" if shape is None else f"{shape}, as that of the trained net"
        finite = "finite" if np.isfinite(values).all() else "not finite"
        raise BadParameter(f"explain gave {finite} values of the shape {values.shape}; they must be finite, {wanted}.")
    return values.copy()  # its owner may use the memory again


def _compare(true: np.ndarray, layers: tuple[str, ...], maps: np.ndarray) -> Stage:
    ranks = [rank_correlation(one, true) for one in maps]
    absolute_ranks = [rank_correlation(np.abs(one), np.abs(true)) for one in maps]
    similarities = [similarity(one, true) for one in maps]
    lowest = next((name for name in layers if name), "")  # the net itself has no name
    return Stage(lowest, layers, maps, np.array(ranks), np.array(absolute_ranks), np.array(similarities))


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of two maps (h, w), each scaled so that its smallest value is 0 and its largest 1, −1 to 1.

    Means over windows of 7 × 7 cells, or the largest odd side that fits; unweighted, with sample covariances. A
    map that is the same everywhere is 0. NaN where a side has fewer than 3 cells.
    """
    from skimage.metrics import structural_similarity  # a second, with all that it imports

    side = min(SSIM_WINDOW, *one.shape)
    side -= 1 - side % 2
    if side < 3:
        return float("nan")
    return float(structural_similarity(_scaled(one), _scaled(other), data_range=1.0, win_size=side))


def _scaled(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    reach = np.ptp(values)
    return (values - values.min()) / (reach if reach else 1.0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _number(value: float) -> str:
    return "not defined" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
