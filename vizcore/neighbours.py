"""Rows of numbers and their neighbours: what every map of a set of pictures, and every judgement of one, begins with.

A row is a picture's features (d numbers) or its point on a map (2). Distances are Euclidean, or by `METRICS`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from vizcore.records import BadParameter

CHUNK_BYTES = 2**25  # of distances at a time

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "euclidean": "Euclidean: the straight line between two rows",
        "cosine": "Cosine: the angle between two rows, whatever their lengths",
        "manhattan": "Manhattan: the sum of the differences, number by number",
    }
)


def check_features(features: Any, least: int, most: int | None = None) -> np.ndarray:
    """``features`` as float64 (n, d) with finite numbers and n in range, or BadParameter."""
    try:
        rows = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadParameter(f"features is {type(features).__name__}; it must be an array of numbers, (n, d).") from None
    if rows.ndim != 2 or not rows.shape[1]:
        raise BadParameter(f"features has the shape {rows.shape}; it must be (n, d), one row a picture.")
    if len(rows) < least:
        raise BadParameter(f"There are {len(rows)} pictures; a map of neighbours needs {least} or more.")
    if most is not None and len(rows) > most:
        raise BadParameter(f"There are {len(rows)} pictures; a map takes {most} at most. Take a sample of them.")
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        raise BadParameter(f"features holds NaN or infinity in {name_rows(~finite)}; leave those pictures out.")
    return rows


def check_same_pictures(features: np.ndarray, points: np.ndarray) -> None:
    if len(features) != len(points):
        raise BadParameter(f"There are {len(features)} rows of features but {len(points)} points; make them as many.")


def check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise BadParameter(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}.")


def name_rows(bad: np.ndarray | np.bool) -> str:
    """The rows at which ``bad`` (n,) is true, in words: "row 17", or "12 rows (0, 1, 2, 3, 4, …)"."""
    numbers = np.flatnonzero(bad)
    shown = ", ".join(str(row) for row in numbers[:5])
    return f"row {shown}" if len(numbers) == 1 else f"{len(numbers)} rows ({shown}{', …' if len(numbers) > 5 else ''})"


def class_codes(labels: Sequence[Hashable], n: int) -> np.ndarray:
    """(n,) whole numbers, one a class, in the order in which the classes appear."""
    labels = list(labels.tolist() if isinstance(labels, np.ndarray) else labels)
    if len(labels) != n or not labels:
        raise BadParameter(f"There are {len(labels)} labels for {n} pictures; each picture needs one.")
    numbers = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels])


@dataclass(frozen=True, eq=False)
class Comparison:
    """How features (n, d) are made ready for distances: scaled, and centred by their own ``middle`` (d,).

    Squares then neither overflow nor vanish, and distances by dot products keep their digits. Rows that differ by no
    more than rounding become zeros. For the cosine each row is scaled to length 1 first: its Euclidean distance is then
    √(2 − 2 cos). Other rows, made ready by the same numbers, can be compared with the first. ``distance`` is the metric
    for rows made ready, "euclidean" or "manhattan".
    """

    metric: str
    unit: float
    middle: np.ndarray
    spread: float

    @classmethod
    def of(cls, features: np.ndarray, metric: str = "euclidean") -> Comparison:
        """From features (n, d) float64. Raises BadParameter for a row of zeros, which has no angle."""
        check_metric(metric)
        rows = directions(features) if metric == "cosine" else features
        unit = float(np.abs(rows).max()) or 1.0
        rows = rows / unit
        middle = rows.mean(0)
        spread = float(np.abs(rows - middle).max())
        return cls(metric, unit, middle, spread if spread > 1e-12 else np.inf)

    @property
    def distance(self) -> str:
        return "manhattan" if self.metric == "manhattan" else "euclidean"

    def rows(self, features: np.ndarray) -> np.ndarray:
        """(n, d) float64: mean 0 by column and largest number 1 of those features that it was made from."""
        rows = (directions(features) if self.metric == "cosine" else features) / self.unit
        rows -= self.middle
        return rows / self.spread

    def in_units(self, distances: np.ndarray) -> np.ndarray:
        """Distances of rows made ready as those of the features: in their unit, or 1 − cos."""
        true = distances * self.spread * self.unit
        return true**2 / 2 if self.metric == "cosine" else true


def comparable(features: np.ndarray, metric: str = "euclidean") -> tuple[np.ndarray, str]:
    """The features made ready, (n, d) float64, and the metric for them; as `Comparison`, in one step."""
    comparison = Comparison.of(features, metric)
    return comparison.rows(features), comparison.distance


def centred(features: np.ndarray) -> np.ndarray:
    """(n, d) with mean 0 by column and largest number 1, or all zeros where rows differ by no more than rounding."""
    return comparable(features)[0]


def directions(rows: np.ndarray) -> np.ndarray:
    """Each row scaled to length 1, or BadParameter."""
    largest = np.abs(rows).max(1, keepdims=True)
    if not largest.all():
        raise BadParameter(
            f"features holds nothing but zeros in {name_rows(largest[:, 0] == 0)}, which have no angle to others: "
            "leave them out, or take another metric than “cosine”."
        )
    rows = rows / largest
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(rows: np.ndarray, k: int, metric: str = "euclidean") -> np.ndarray:
    """(n, k) indices of the nearest other rows, nearest first; ``metric`` is one that `comparable` gives."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, metric=metric).fit(rows).kneighbors(return_distance=False)


def distances_in_chunks(
    rows: np.ndarray, metric: str = "euclidean", chosen: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers (c,) and their distances to all (c, n), infinity to themselves, a chunk at a time.

    ``chosen`` (m,) are the rows asked for, all of them if None.
    """
    from sklearn.metrics import pairwise_distances

    chosen = np.arange(len(rows)) if chosen is None else chosen
    step = max(1, CHUNK_BYTES // (8 * len(rows)))
    for first in range(0, len(chosen), step):
        some = chosen[first : first + step]
        distances = pairwise_distances(rows[some], rows, metric=metric)
        distances[np.arange(len(some)), some] = np.inf
        yield some, distances
