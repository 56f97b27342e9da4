"""Deletion and insertion: whether the pixels that a heatmap calls important are those that the score hangs on.

Petsiuk, Das & Saenko (*RISE: Randomized Input Sampling for Explanation of Black-box Models*, BMVC 2018) take pixels out
of the picture in the order of the map, most important first, and watch the score fall (deletion), or put them into an
empty picture and watch it rise (insertion). With s the score and p the share of the pixels, the answer is the area
∫ s(p) dp over p from 0 to 1: low is good for deletion, high for insertion.

An area by itself says little: it depends on the net, on the picture and on what stands in for missing pixels. So the
same is done with controls that know nothing of the class: random orders, and the edges of the picture, which look
convincing and can do as well (Adebayo et al. 2018). A random order takes single pixels from everywhere, and such
sprinkling can destroy a picture sooner than the loss of its very subject; so the same map in random places can be asked
for as well, which differs in nothing but where it points. What stands in for missing pixels is part of the answer: it
is named, and can be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.special import stdtrit
from torch import Tensor
from torch.nn import functional as F

from vizcore.baselines import BASELINES, filling_of
from vizcore.imputation import noisy_linear
from vizcore.records import (
    GREY_FROM_RGB,
    BadParameter,
    Heatmap,
    Model,
    Progress,
    check_pixels,
    check_target,
    check_whole,
)
from vizcore.scores import check_score, scores_of

KINDS = ("deletion", "insertion")
FILLINGS = (*BASELINES, "road")
CONTROLS = {
    "random": "a random order",
    "moved": "the same map in a random place",
    "edges": "the edges of the picture",
}
USUAL_CONTROLS = ("random", "edges")
# Where the paper takes grey and a blur. Sharp pixels in a plain picture make edges of their own, which a blur does not.
USUAL_FILLINGS = {"deletion": "mean", "insertion": "blur"}
STEPS, RANDOM_ORDERS = 32, 5
CHANCE = 0.05  # so often, a map that is itself random is told from random orders


@dataclass(frozen=True, eq=False)
class Curve:
    """How the score changes as pixels go ("deletion") or come ("insertion").

    ``shares`` (S,) of the pixels that are gone or there, from 0 to 1; ``scores`` (S,) float64. ``order`` says whose
    order it was: "map", or that of a control.
    """

    kind: str
    order: str
    shares: np.ndarray
    scores: np.ndarray

    @property
    def area(self) -> float:
        """Under the curve, by the trapezoid rule: a mean score, in its unit."""
        return float(np.trapezoid(self.scores, self.shares))


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """A map's ``curve`` beside those of its ``controls``: "random" and "moved" have several each, "edges" one.

    ``params`` hold every option needed to compute it again.
    """

    curve: Curve
    controls: Mapping[str, tuple[Curve, ...]]
    model_name: str
    target: int
    params: Mapping[str, Any] = field(default_factory=dict)

    def mean(self, control: str) -> Curve:
        """The mean of the curves of a control; its area is the mean of their areas."""
        scores = np.mean([one.scores for one in self.controls[control]], axis=0)
        return Curve(self.curve.kind, control, self.curve.shares, scores)

    def band(self, control: str) -> np.ndarray:
        """(S,) standard deviation of the scores over the curves of a control; 0 where it has one only."""
        several = [one.scores for one in self.controls[control]]
        return np.std(several, axis=0, ddof=1) if len(several) > 1 else np.zeros_like(several[0])

    def spread(self, control: str) -> float:
        """Standard deviation of the areas of a control. The edges have one only, and take that of the random orders,
        or 0 without these."""
        areas = [one.area for one in self._siblings(control)]
        return float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0

    def _siblings(self, control: str) -> tuple[Curve, ...]:
        """The curves whose spread a control is judged by."""
        return self.controls["random" if control == "edges" and "random" in self.controls else control]

    def lead(self, control: str) -> float:
        """By how much the map's area is better than the mean of a control: positive is better, for either kind."""
        lead = self.curve.area - self.mean(control).area
        return -lead if self.curve.kind == "deletion" else lead

    @property
    def verdicts(self) -> Mapping[str, str]:
        """A sentence for each control: "Beats a random order by 0.21 (5 of them spread over ±0.02)."

        A map is no better where its area could be one more of the control's: within the interval that holds the next of
        them 95 times of 100, if areas are distributed normally (Student's t: 3.0 times the `spread` for 5, 2.4 for 10).
        """
        found = {}
        for control, several in self.controls.items():
            lead, spread = self.lead(control), self.spread(control)
            aside = f" ({len(several)} of them spread over ±{_short(spread)})" if len(several) > 1 else ""
            if abs(lead) <= self._chance(control):
                found[control] = f"No better than {CONTROLS[control]}{aside}."
            else:
                words = "Beats" if lead > 0 else "Worse than"
                found[control] = f"{words} {CONTROLS[control]} by {_short(abs(lead))}{aside}."
        return found

    def _chance(self, control: str) -> float:
        """How far from the mean of a control chance alone may put an area."""
        count = len(self._siblings(control))
        if count < 2:
            return 0.0
        return float(stdtrit(count - 1, 1 - CHANCE / 2)) * self.spread(control) * (1 + 1 / count) ** 0.5

    @property
    def verdict(self) -> str:
        """All `verdicts`, one after another; "" without controls."""
        return " ".join(self.verdicts.values())


def curves(
    model: Model,
    pixels: Tensor,
    target: int,
    values: Heatmap | np.ndarray,
    *,
    kind: str = "deletion",
    steps: int = STEPS,
    filling: str | Tensor | None = None,
    score: str = "probability",
    controls: Sequence[str] = USUAL_CONTROLS,
    random_orders: int = RANDOM_ORDERS,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Faithfulness:
    """The deletion or insertion curve of a map, ``values`` (h, w), for ``target`` on ``pixels`` (1, 3, H, W) in [0, 1].

    A smaller map is enlarged bilinearly, as it is shown. ``steps`` equal steps lead from the whole picture to none of
    it, or back; both ends are exact. ``filling`` stands in for missing pixels: "mean" (usual for deletion), "blur"
    (usual for insertion), "black", "white", a tensor of the shape of ``pixels``, or "road", which extrapolates from the
    pixels that are there (`imputation.noisy_linear`). ``score`` is "probability" or "logit". Of ``controls``,
    "random" takes ``random_orders`` orders of the pixels, "moved" pushes the map itself to as many random places, and
    "edges" is the Sobel magnitude of the luminance. All that is random comes from ``seed``.

    Cost: `passes` forward passes, ``batch_size`` pictures at a time, and with "road" a linear system for each, which
    takes longer than a pass of a small net. ``progress`` counts pictures. Raises BadParameter.
    """
    check_pixels(pixels, one=True)
    pixels = pixels.detach()
    size = (pixels.shape[2], pixels.shape[3])
    count = size[0] * size[1]
    if kind not in KINDS:
        raise BadParameter(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    check_score(score)
    target = check_target(model, target)
    total = passes(steps, controls=controls, random_orders=random_orders)
    if steps > count:
        raise BadParameter(f"steps is {steps}; the picture has {count} pixels, and each step takes one at least.")
    check_whole("seed", seed, 0, 2**63 - 1)
    check_whole("batch_size", batch_size, 1, 4096)
    filling = USUAL_FILLINGS[kind] if filling is None else filling
    without = _remover(pixels, filling, seed)

    shown = _enlarged(values, size)
    orders = [("map", order_of(shown, seed=seed))]
    for control in controls:
        orders += [
            (control, order_of(one, seed=seed)) for one in _CONTROL_MAPS[control](pixels, shown, random_orders, seed)
        ]

    def ask(removed: list[np.ndarray]) -> np.ndarray:
        """(n,) scores of the picture without the pixels of each list."""
        with torch.no_grad():
            logits = model.logits(torch.cat([without(places) for places in removed]))
        return scores_of(model, logits, [target], score)[:, 0].cpu().numpy()

    gone = np.arange(steps + 1) * count // steps  # so many pixels are missing at each point
    scores = np.empty((len(orders), len(gone)))
    everything, nothing = ask([np.arange(0)]), ask([np.arange(count)])
    scores[:, 0], scores[:, -1] = everything, nothing
    points = list(product(range(len(orders)), range(1, steps)))
    for start in range(0, len(points), batch_size):
        part = points[start : start + batch_size]
        # What is inserted last is missing first.
        last_first = [orders[row][1][:: 1 if kind == "deletion" else -1] for row, _ in part]
        found = ask([order[: gone[at]] for order, (_, at) in zip(last_first, part, strict=True)])
        for (row, at), value in zip(part, found, strict=True):
            scores[row, at] = value
        if progress:
            progress(2 + start + len(part), total)

    shares = gone / count
    if kind == "insertion":
        shares, scores = 1 - shares[::-1], scores[:, ::-1]
    made = [Curve(kind, order, shares, row) for (order, _), row in zip(orders, scores, strict=True)]
    return Faithfulness(
        curve=made[0],
        controls=MappingProxyType({name: tuple(one for one in made if one.order == name) for name in controls}),
        model_name=model.name,
        target=target,
        params={
            "kind": kind,
            "steps": steps,
            "filling": filling if isinstance(filling, str) else "given",
            "score": score,
            "controls": tuple(controls),
            "random_orders": random_orders,
            "seed": seed,
        },
    )


def passes(steps: int = STEPS, *, controls: Sequence[str] = USUAL_CONTROLS, random_orders: int = RANDOM_ORDERS) -> int:
    """How many forward passes `curves` takes: both ends are common to all orders. Raises BadParameter."""
    check_whole("steps", steps, 1, 1000)
    check_whole("random_orders", random_orders, 2, 100)
    if isinstance(controls, str) or not set(controls) <= set(CONTROLS) or len(set(controls)) < len(controls):
        raise BadParameter(f"controls is {controls!r}; it must be a tuple of some of {', '.join(CONTROLS)}.")
    orders = 1 + sum(1 if control == "edges" else random_orders for control in controls)
    return 2 + orders * (steps - 1)


def order_of(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The pixels of a map (H, W), most important first, as (H·W,) numbers row by row.

    Equal values come in an order drawn from ``seed``: many maps are 0 over half of the picture, and to go through that
    row by row would delete its top before its bottom. Raises BadParameter.
    """
    flat = _checked(values).ravel()
    shuffled = np.random.default_rng(check_whole("seed", seed, 0, 2**64)).permutation(len(flat))
    return shuffled[np.argsort(-flat[shuffled], kind="stable")]


def edges_of(pixels: Tensor) -> np.ndarray:
    """(H, W) Sobel magnitude of the luminance of one picture: a map that knows no class and no net."""
    check_pixels(pixels, one=True)
    grey = np.tensordot(GREY_FROM_RGB, pixels[0].detach().double().cpu().numpy(), 1)
    return np.hypot(ndimage.sobel(grey, 0, mode="nearest"), ndimage.sobel(grey, 1, mode="nearest"))


def _random_maps(pixels: Tensor, shown: np.ndarray, times: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng((seed, 1)).random((times, *shown.shape)))


def _moved_maps(pixels: Tensor, shown: np.ndarray, times: int, seed: int) -> list[np.ndarray]:
    """The map pushed by a quarter to three quarters of its rows, and of its columns: near its own place it would be no
    control. What leaves on one side comes back on the other."""
    height, width = shown.shape
    low, high = (height // 4, width // 4), (height - height // 4 + 1, width - width // 4 + 1)
    by = np.random.default_rng((seed, 2)).integers(low, high, (times, 2))
    return [np.roll(shown, (int(down), int(across)), (0, 1)) for down, across in by]


_CONTROL_MAPS: Mapping[str, Callable[[Tensor, np.ndarray, int, int], list[np.ndarray]]] = {
    "random": _random_maps,
    "moved": _moved_maps,
    "edges": lambda pixels, shown, times, seed: [edges_of(pixels)],
}


def _remover(pixels: Tensor, filling: str | Tensor, seed: int) -> Callable[[np.ndarray], Tensor]:
    """What gives the picture (1, 3, H, W) without the pixels of a list of numbers."""
    if (isinstance(filling, str) and filling not in FILLINGS) or not isinstance(filling, (str, Tensor)):
        raise BadParameter(f"filling is {filling!r}; it must be one of {', '.join(FILLINGS)}, or a tensor.")
    empty = None if isinstance(filling, str) and filling == "road" else filling_of(pixels, filling)

    def without(places: np.ndarray) -> Tensor:
        removed = np.zeros(pixels.shape[2:], bool)
        removed.flat[places] = True
        if empty is None:
            return noisy_linear(pixels, removed, seed=seed)
        return torch.where(torch.from_numpy(removed).to(pixels.device), empty, pixels)

    return without


def _enlarged(values: Heatmap | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) at the size of the picture, resampled as `images.overlay` does."""
    grid = _checked(values.values if isinstance(values, Heatmap) else values)
    if grid.shape == size:
        return grid
    spread = F.interpolate(torch.from_numpy(grid)[None, None], size=size, mode="bilinear", align_corners=False)
    return spread[0, 0].numpy()


def _checked(values: np.ndarray) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "buif":
        got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise BadParameter(
            f"values is {got}; it must be a heatmap or its numbers, (h, w). Of an attribution take its “signed” or "
            "“absolute” view."
        )
    if not np.isfinite(values).all():
        raise BadParameter("values holds NaN or infinity: such a map puts no order on the pixels.")
    return np.ascontiguousarray(values, np.float64)


def _short(number: float) -> str:
    """Two digits that count: 0.21, 0.0034, 12."""
    return np.format_float_positional(number, precision=2, fractional=False, trim="-")
