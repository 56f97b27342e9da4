"""The heatmaps of a class in groups: does the net know the class by one thing, or by several?

After SpRAy (Lapuschkin et al., *Unmasking Clever Hans predictors and assessing what machines really learn*, Nature
Communications 2019): the heatmaps of one class, made small, are clustered, and a cluster that looks elsewhere than the
rest is looked at. A mark that only some pictures bear makes a cluster of its own. SpRAy takes spectral clustering and
the gap of its eigenvalues; here it is k-means on the square roots of the shares, whose Euclidean distance is
Hellinger's, and the number of clusters is that of the largest mean silhouette (Rousseeuw 1987), or one where no
silhouette exceeds 0.3. With digits of which some had a mark, the gap of the eigenvalues split the rest as well.

A cluster is no accusation: a class may have several kinds of pictures. Nor is one cluster an acquittal: a mark in every
picture of a class does not divide it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vizcore.records import check_whole
from vizcore.shares import shares_of, shrunk

SIDE = 16  # cells along an axis, of which the distances are taken
# Mean silhouette. Of 200 classes of digits without a mark 177 had less; of 20 with one in half of their pictures, 15
# had more, and the marked ones were a cluster of their own in each. With a mark in 30 % it was 6 of 20.
STRUCTURE = 0.3
LEAST = 6  # maps to be divided at all
STARTS = 10  # of k-means, the best of which is kept


@dataclass(frozen=True, eq=False)
class HeatCluster:
    """Some pictures of a class: their ``numbers`` (m,), the nearest to the cluster's centre first; their ``share`` of
    all that have evidence, 0 to 1; ``mean`` (h, w) float32, their mean heatmap, summing to 1."""

    numbers: np.ndarray
    share: float
    mean: np.ndarray


@dataclass(frozen=True, eq=False)
class HeatClusters:
    """``clusters``, the largest first. ``silhouettes`` are the mean silhouettes of 2, 3, … clusters, −1 to 1, empty
    where there were too few maps to divide."""

    clusters: tuple[HeatCluster, ...]
    silhouettes: tuple[float, ...]


def cluster_heatmaps(heatmaps: np.ndarray, *, most: int = 6, seed: int = 0) -> HeatClusters:
    """The ``heatmaps`` (n, h, w), raw and signed, of one class in 1 to ``most`` (1 to 20) clusters.

    Each map counts by its shares, summed over cells to at most 16 × 16; maps without positive evidence are in no
    cluster. ``seed`` (0 to 2**32 − 1) decides everything random. Memory and time grow as n²: a second for 1 000 maps.
    Raises BadParameter.
    """
    check_whole("most", most, 1, 20)
    check_whole("seed", seed, 0, 2**32 - 1)
    shares = shares_of(heatmaps)
    roots = np.sqrt(shrunk(shares.values, SIDE)).reshape(len(shares.values), -1)  # (m, cells)
    distinct = len(np.unique(roots, axis=0))
    groups = np.zeros(len(roots), np.int64)
    silhouettes: list[float] = []
    if len(roots) >= LEAST:
        for count in range(2, min(most, distinct - 1, len(roots) - 1) + 1):
            found, silhouette = _divided(roots, count, seed)
            if silhouette > max([STRUCTURE, *silhouettes]):
                groups = found
            silhouettes.append(silhouette)
    clusters = []
    for group in range(groups.max() + 1):
        inside = np.flatnonzero(groups == group)
        distances = np.linalg.norm(roots[inside] - roots[inside].mean(0), axis=1)
        clusters.append(
            HeatCluster(
                numbers=shares.numbers[inside[np.argsort(distances, kind="stable")]],
                share=len(inside) / len(roots),
                mean=shares.values[inside].mean(0).astype(np.float32),
            )
        )
    return HeatClusters(tuple(sorted(clusters, key=lambda one: -one.share)), tuple(silhouettes))


def _divided(points: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, float]:
    """``points`` (m, d) in ``count`` groups (m,), and their mean silhouette."""
    # Late: it costs a second, and the rest of this file works without it.
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    groups = KMeans(count, n_init=STARTS, random_state=seed).fit_predict(points)
    return groups, float(silhouette_score(points, groups))
