"""Agreement: do several maps of one picture say the same, and where do they part?

Methods answer in units of their own, so that only the order of places is compared: each map is brought to the
picture's size, as an overlay is, and its numbers are replaced by their ranks, from 0 for the smallest to 1 for the
largest, equal ones sharing their mean. The mean of the ranks is the consensus, their standard deviation the
disagreement; pairs are compared by Spearman's rank correlation. That maps agree does not make them right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional as F

from vizcore.images import Box
from vizcore.ranks import rank_correlation, ranks
from vizcore.records import Attribution, BadParameter, Heatmap, check_whole

MAX_SIDE = 100_000

Map = np.ndarray | Heatmap | Attribution


@dataclass(frozen=True, eq=False)
class Agreement:
    """n maps of one picture: ``correlations`` (n, n) by Spearman in the order of ``names``, −1 to 1, NaN in the rows
    and columns of maps that are the same everywhere; these have no part in ``consensus`` (H, W), the mean rank, 0 to 1,
    and ``disagreement`` (H, W), its standard deviation, 0 to 0.5. All float32."""

    names: tuple[str, ...]
    correlations: np.ndarray
    consensus: np.ndarray
    disagreement: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> tuple[str, ...]:
        """In sentences: which two agree most, which stands most alone, and what could not be compared."""
        grid = self.correlations.astype(np.float64)
        known = [n for n in range(len(self.names)) if not np.isnan(grid[n, n])]
        if len(known) < 2:
            return ("There are no two maps to compare.", *self.notes)
        one, other = max(combinations(known, 2), key=lambda pair: grid[pair])
        best = _number(grid[one, other])
        if len(known) == 2:
            return (f"{self.names[one]} and {self.names[other]} have a rank correlation of {best}.", *self.notes)
        means = {n: np.mean([grid[n, m] for m in known if m != n]) for n in known}
        alone = min(known, key=means.__getitem__)
        return (
            f"{self.names[one]} and {self.names[other]} agree most: their rank correlation is {best}.",
            f"{self.names[alone]} stands most alone: with the others it has {_number(means[alone])} on average.",
            *self.notes,
        )


@dataclass(frozen=True, eq=False)
class Spread:
    """n maps of one method: ``mean`` and standard ``deviation`` (h, w) float32 in their unit, and ``agreement``, the
    mean of Spearman's rank correlation over all pairs, −1 to 1; NaN where a map is the same everywhere.

    ``chance`` is the share of the variance from place to place of one map that another seed would not give again, 0 to
    1: one less the mean covariance of two maps over the mean variance of one, as in the intraclass correlation (Shrout
    & Fleiss, *Intraclass Correlations*, 1979). NaN where all maps are the same everywhere.
    """

    mean: np.ndarray
    deviation: np.ndarray
    agreement: float
    chance: float
    count: int


def agreement(maps: Mapping[str, Map], size: tuple[int, int]) -> Agreement:
    """How far ``maps`` of one picture of ``size`` (H, W) agree, by the names that they are given.

    Each is (h, w), larger = more, resampled bilinearly to ``size``; of an `Attribution` it is ``absolute`` that counts.
    Pure numbers, no model; a sort of H · W numbers for each. Fine maps and coarse ones correlate little, whatever
    they say. Raises BadParameter.
    """
    if not maps:
        raise BadParameter("maps is empty; it must hold one map or more, by name.")
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise BadParameter(f"size is {size!r}; it must be (height, width) in pixels.")
    size = (check_whole("size", size[0], 1, MAX_SIDE), check_whole("size", size[1], 1, MAX_SIDE))
    names = tuple(maps)
    resized = [_resized(_values(name, values), size) for name, values in maps.items()]
    varied = [n for n, values in enumerate(resized) if np.ptp(values)]
    grid = np.full((len(names), len(names)), np.nan, np.float32)
    places = np.full((1, *size), 0.5)
    if varied:
        places = np.stack([scaled_ranks(resized[n]) for n in varied])  # (varied, H, W)
        grid[np.ix_(varied, varied)] = np.corrcoef(places.reshape(len(varied), -1))
    notes = tuple(
        f"{name} is the same everywhere: it has no order, and was left out."
        for n, name in enumerate(names)
        if n not in varied
    )
    return Agreement(names, grid, places.mean(0).astype(np.float32), places.std(0).astype(np.float32), notes)


def shared_part(maps: Mapping[str, Map], boxes: Mapping[str, Box]) -> dict[str, np.ndarray]:
    """What several maps of one photo say of the part that all of them cover: (H, W) float32 each, one value a pixel.

    Each is (h, w) and lies over its own of ``boxes``, (left, top, right, bottom) in pixels of the photo, to which it is
    resampled bilinearly, as an overlay is: networks cut different parts out of one photo. Pure numbers. Raises
    BadParameter, also where there is no such part.
    """
    if not maps or set(maps) != set(boxes):
        raise BadParameter(
            f"boxes are of {', '.join(boxes) or 'nothing'}; they must be of the maps, {', '.join(maps)}."
        )
    for name, (left, top, right, bottom) in boxes.items():
        if not (0 <= left < right <= MAX_SIDE and 0 <= top < bottom <= MAX_SIDE):
            raise BadParameter(f"The box of {name} is {boxes[name]}; it must be (left, top, right, bottom) in pixels.")
    left, top = (max(box[edge] for box in boxes.values()) for edge in (0, 1))
    right, bottom = (min(box[edge] for box in boxes.values()) for edge in (2, 3))
    if left >= right or top >= bottom:
        raise BadParameter(f"boxes are {', '.join(map(str, boxes.values()))}; they must have a part in common.")
    parts = {}
    for name, values in maps.items():
        west, north, east, south = boxes[name]
        laid = _resized(_values(name, values), (south - north, east - west))
        parts[name] = laid[top - north : bottom - north, left - west : right - west]
    return parts


def spread(maps: Sequence[Map]) -> Spread:
    """How far ``maps`` of one method part that differ only in their seed: two or more, of one shape (h, w).

    Raises BadParameter.
    """
    values = [_values(f"map {n}", one) for n, one in enumerate(maps)]
    if len(values) < 2 or len({one.shape for one in values}) > 1:
        shapes = ", ".join(str(one.shape) for one in values) or "none"
        raise BadParameter(f"maps have the shapes {shapes}; there must be two or more, of one shape (h, w).")
    pairs = [rank_correlation(one, other) for one, other in combinations(values, 2)]
    stacked = np.stack(values).astype(np.float64)
    mean, deviation = stacked.mean(0), stacked.std(0, ddof=1)
    shared = np.cov(stacked.reshape(len(values), -1), bias=True)  # (n, n)
    variance = float(np.diag(shared).mean())
    covariance = float(shared[np.triu_indices(len(values), 1)].mean())
    chance = min(max(1 - covariance / variance, 0.0), 1.0) if variance else float("nan")
    return Spread(mean.astype(np.float32), deviation.astype(np.float32), float(np.mean(pairs)), chance, len(values))


def scaled_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 for the smallest to 1 for the largest number, equal ones at their mean. Two or more."""
    return (ranks(values) - 1) / (values.size - 1)


def _values(name: str, given: Map) -> np.ndarray:
    values = given.absolute if isinstance(given, Attribution) else given
    values = np.asarray(values.values if isinstance(values, Heatmap) else values)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise BadParameter(
            f"{name} is {values.dtype} of the shape {values.shape}; a map must be finite numbers, (h, w)."
        )
    return values.astype(np.float32)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grid = torch.from_numpy(values)[None, None]  # (1, 1, h, w)
    # In float64 and rounded, so that places between equal cells are equal as well, and not ranked by rounding.
    return F.interpolate(grid.double(), size=size, mode="bilinear", align_corners=False)[0, 0].float().numpy()


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
