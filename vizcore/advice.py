"""Advice: at which layer does the map of a class point at what the score hangs on?

The maps of a class at several layers differ in size, in what a place sees, and in where they point. Each is judged as
`vizcore.faithfulness` judges a heatmap (Petsiuk, Das & Saenko, *RISE*, BMVC 2018): its merit is the area under the
insertion curve less the area under the deletion curve, a difference of mean probabilities, from −1 to 1 and larger the
better. Both use one filling, so that the two curves have their ends in common.

How large a difference has to be is asked of the same maps pushed to random places, all by the same rows and columns:
what two maps differ by there comes of their form, of which the size is part, and not of where they point. A layer is
told from another only where the two differ by more than in any of n random places, and its map from itself only where
it does better than in any: by chance that happens once in n + 1 times, however merits are distributed (Dwass, *Modified
Randomization Tests for Nonparametric Hypotheses*, 1957). The best layer is advised where its map is told from itself
elsewhere; what cannot be told from the best is named with it, and where nothing points there is no advice.

Weaknesses: the test is strict, as maps that all point well may differ for a reason and by less, and a random place may
lie near the map's own; it takes the best of several, which chance favours; it is of one picture, one class and one
filling, and where that filling does not hide the class all merits are about 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from vizcore.faithfulness import KINDS, curves, order_of, passes
from vizcore.records import BadParameter, Heatmap, Model, Progress, check_whole

STEPS, MOVES = 6, 8  # of a curve; random places of each map
LEAST = 0.01  # of a probability: merits that are closer are called equal, however sure it is that they are not


@dataclass(frozen=True, eq=False)
class LayerMerit:
    """One layer's map of ``size`` (h, w): the areas of its ``deletion`` and ``insertion`` curves, mean probabilities,
    and ``moved``, the merits of the same map in random places. A map that is the same everywhere puts no order on the
    pixels: both areas are NaN, and ``moved`` is empty."""

    layer: str
    size: tuple[int, int]
    deletion: float
    insertion: float
    moved: tuple[float, ...]

    @property
    def merit(self) -> float:
        """Insertion less deletion, −1 to 1: larger is better."""
        return self.insertion - self.deletion

    @property
    def lead(self) -> float:
        """By how much it is better than the same map in random places, on average; NaN where there are none."""
        return self.merit - float(np.mean(self.moved)) if self.moved else float("nan")

    @property
    def points(self) -> bool:
        """Whether it is better than the same map in any of the random places, by LEAST at least."""
        return bool(self.moved) and self.merit > max(self.moved) + LEAST


@dataclass(frozen=True, eq=False)
class Advice:
    """The ``layers`` in the order in which they were asked; ``params`` hold every option needed to do it again."""

    layers: tuple[LayerMerit, ...]
    model_name: str
    target: int
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ranking(self) -> tuple[LayerMerit, ...]:
        """The layers whose maps point somewhere, the best first."""
        return tuple(sorted((one for one in self.layers if one.moved), key=lambda one: -one.merit))

    @property
    def close(self) -> tuple[LayerMerit, ...]:
        """Of `ranking`, those that the best is not told from."""
        return tuple(one for one in self.ranking[1:] if self.ranking[0].merit - one.merit <= self.chance(one))

    def chance(self, other: LayerMerit) -> float:
        """By how much the best layer has to be ahead of another: the most that the two maps differ by in one of the
        random places, and LEAST at least."""
        return max(LEAST, float(np.abs(np.subtract(self.ranking[0].moved, other.moved)).max()))

    @property
    def advised(self) -> LayerMerit | None:
        """The best layer, where its map is told from itself in random places; `close` ones do as well."""
        return self.ranking[0] if self.ranking and self.ranking[0].points else None

    @property
    def sentence(self) -> str:
        """The advice with its measured reason, or why there is none."""
        if not self.ranking:
            return "No layer is advised: each map is the same everywhere, and points nowhere."
        best, *others = self.ranking
        merit = f"insertion less deletion is {_number(best.merit)}"
        if not best.points:
            return (
                f"No layer is advised: even at {best.layer}, the best, where {merit}, the map does as well in one of "
                f"{len(best.moved)} random places: {_number(max(best.moved))}."
            )
        elsewhere = f"in {len(best.moved)} random places {_number(max(best.moved))} at most"
        if self.close:
            close = _listed([one.layer for one in self.close])
            return f"We advise {best.layer}: there {merit}, and {elsewhere}. {close} cannot be told from it."
        if not others:
            return f"We advise {best.layer}, the only one: there {merit}, and {elsewhere}."
        second = others[0]
        return (
            f"We advise {best.layer}: there {merit}. At {second.layer}, the next, it is {_number(second.merit)}; in "
            f"{len(best.moved)} random places the two never differ by more than {_number(self.chance(second))}."
        )


def advise(
    model: Model,
    pixels: Tensor,
    target: int,
    maps: Mapping[str, Heatmap | np.ndarray],
    *,
    steps: int = STEPS,
    moves: int = MOVES,
    filling: str = "blur",
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Advice:
    """Which layer's map of ``target`` to believe on one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``maps`` are (h, w) by the name of their layer, larger = more, as `cam.cam_of_layers` gives them. ``steps`` are
    those of each curve, ``moves`` the random places of each map, drawn from ``seed``, and ``filling`` stands in for
    missing pixels, as in `faithfulness.curves`. A map that is the same everywhere is not asked.

    Cost: `passes_of` forward passes, which ``progress`` counts. Raises BadParameter.
    """
    if not maps:
        raise BadParameter("maps is empty; it must hold the map of one layer or more, by name.")
    values = {layer: np.asarray(one.values if isinstance(one, Heatmap) else one) for layer, one in maps.items()}
    varied = [layer for layer, one in values.items() if len(order_of(one)) and np.ptp(one)]  # order_of: it is a map
    each = passes(steps, controls=("moved",), random_orders=moves)
    options: dict[str, Any] = {"steps": steps, "filling": filling, "seed": seed}
    areas: dict[tuple[str, str], tuple[float, ...]] = {}
    for number, (layer, kind) in enumerate(product(varied, KINDS)):
        found = curves(
            model,
            pixels,
            target,
            values[layer],
            kind=kind,
            controls=("moved",),
            random_orders=moves,
            batch_size=batch_size,
            progress=_behind(progress, number * each, len(KINDS) * len(varied) * each),
            **options,
        )
        areas[layer, kind] = (found.curve.area, *(moved.area for moved in found.controls["moved"]))
    nothing = (float("nan"),)
    merits = []
    for layer, one in values.items():
        down, up = (areas.get((layer, kind), nothing) for kind in KINDS)
        moved = tuple(rise - fall for fall, rise in zip(down[1:], up[1:], strict=True))
        merits.append(LayerMerit(layer, (one.shape[0], one.shape[1]), down[0], up[0], moved))
    return Advice(tuple(merits), model.name, int(target), MappingProxyType({**options, "moves": moves}))


def passes_of(layers: int, *, steps: int = STEPS, moves: int = MOVES) -> int:
    """How many forward passes `advise` takes for the maps of so many layers. Raises BadParameter."""
    check_whole("layers", layers, 0, 100_000)
    return layers * len(KINDS) * passes(steps, controls=("moved",), random_orders=moves)


def _behind(progress: Progress | None, before: int, total: int) -> Progress | None:
    """``progress`` of a part of the work, as one of the whole."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _listed(names: list[str]) -> str:
    """ "a, b and c"; of many, the first four."""
    shown = names if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
