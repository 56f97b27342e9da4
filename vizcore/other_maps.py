"""The same pictures on a plane by other methods, each with the same record and the same judgement as t-SNE.

PCA (Pearson 1901, "On lines and planes of closest fit to systems of points in space") turns the features until the most
of their variance lies in two axes, and drops the others: distances and axes keep their meaning, as far as the two go.
UMAP (McInnes, Healy & Melville 2018, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction")
lays out a graph of neighbours as t-SNE does, by another cost; its package is an extra that need not be installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from vizcore.map_quality import ALL_OF, MOST_ROWS, NEIGHBOURS, trustworthiness
from vizcore.neighbours import Comparison, check_features, comparable
from vizcore.records import BadParameter, Embedding, check_number, check_whole

MIN_POINTS, MAX_POINTS = 5, 100_000
MOST_COLUMNS, MOST_ROWS_OR_COLUMNS = 2_000, 1_000  # whose components are found exactly, by either way
MAX_DIMENSIONS = 50  # that UMAP finds neighbours in, as t-SNE does


@dataclass(frozen=True)
class MapMethod:
    """One way to a map. ``reading`` is what may be read from it; ``extra`` is the file of its requirements, if any."""

    title: str
    reference: str
    reading: str
    extra: str | None = None


MAP_METHODS: Mapping[str, MapMethod] = MappingProxyType(
    {
        "tsne": MapMethod(
            "t-SNE",
            "van der Maaten & Hinton 2008, Visualizing Data using t-SNE",
            "Who lies beside whom. Not: distances between groups, their sizes, the axes.",
        ),
        "pca": MapMethod(
            "PCA",
            "Pearson 1901, On lines and planes of closest fit to systems of points in space",
            "Distances, axes and outliers, as far as the two axes go. Not: that what overlaps here is alike.",
        ),
        "umap": MapMethod(
            "UMAP",
            "McInnes, Healy & Melville 2018, Uniform Manifold Approximation and Projection for Dimension Reduction",
            "Who lies beside whom. Not: distances between groups, their sizes, the axes.",
            "requirements-umap.txt",
        ),
    }
)


def pca_map(features: np.ndarray) -> Embedding:
    """The plane of the first two principal components: ``points`` (n, 2) of ``features`` (n, d), 5 to 100 000 rows.

    In the unit of the features, mean 0; a component's sign is such that its largest weight is positive. ``params`` hold
    ``variance_explained``, the share of the variance on either axis, 0 to 1, and a note says it. Exact, except that
    of more than 1 000 rows with more than 2 000 columns it is found by random projections, seeded. A second
    for 2 000 pictures of 1 280 features.
    Raises BadParameter for too few or too many rows, NaN or infinity, or rows that are all equal.
    """
    features = check_features(features, MIN_POINTS, MAX_POINTS)
    from sklearn.decomposition import PCA

    comparison = Comparison.of(features)
    rows = comparison.rows(features)
    _refuse_equal(rows)
    size = min(2, rows.shape[1])
    pca = PCA(size, svd_solver=_solver(*rows.shape), random_state=0).fit(rows)
    largest = np.abs(pca.components_).argmax(1)[:, None]  # (2, 1)
    signs = np.sign(np.take_along_axis(pca.components_, largest, 1))
    points = np.zeros((len(rows), 2))
    points[:, :size] = comparison.in_units(rows @ (signs * pca.components_).T)
    shares = [float(share) for share in pca.explained_variance_ratio_] + [0.0] * (2 - size)
    note = f"The axes hold {100 * shares[0]:.0f} % and {100 * shares[1]:.0f} % of the variance of the features."
    return _embedding(
        features,
        points,
        {"method": "PCA", "metric": "euclidean", "variance_explained": shares},
        (note,),
    )


def umap_map(
    features: np.ndarray,
    *,
    neighbours: int = 15,
    min_distance: float = 0.1,
    metric: str = "euclidean",
    seed: int = 0,
) -> Embedding:
    """The map of UMAP: ``points`` (n, 2) of ``features`` (n, d), 5 to 100 000 rows; by umap-learn.

    ``neighbours`` (2 to 200) is how many each picture minds, as t-SNE's perplexity; above n − 1 it is lowered to that,
    with a note. ``min_distance`` (0 to 0.99) is how near points of one group may come. ``metric`` is one of METRICS.
    Distances are those of the first 50 principal components, except by "manhattan". ``seed`` decides everything random,
    at the price of one thread. The first call in a process compiles for some ten seconds. Raises BadParameter as
    `pca_map` does, for numbers out of range, and where umap-learn is not installed.
    """
    features = check_features(features, MIN_POINTS, MAX_POINTS)
    check_whole("neighbours", neighbours, 2, 200)
    check_number("min_distance", min_distance, 0, 0.99)
    check_whole("seed", seed, 0, 2**32 - 1)
    rows, distance = comparable(features, metric)
    _refuse_equal(rows)
    umap = _umap()
    if distance == "euclidean" and rows.shape[1] > MAX_DIMENSIONS:
        from sklearn.decomposition import PCA

        rows = PCA(min(MAX_DIMENSIONS, *rows.shape), random_state=seed).fit_transform(rows)
    used, notes = min(neighbours, len(rows) - 1), tuple[str, ...]()
    if used < neighbours:
        notes = (f"{neighbours} neighbours are too many for {len(rows)} pictures: {used} were used, n − 1.",)
    with warnings.catch_warnings():  # that a seed costs threads, and what a graph in parts is laid out by
        warnings.simplefilter("ignore")
        drawn = umap.UMAP(
            n_neighbors=used,
            min_dist=min_distance,
            metric=distance,
            random_state=seed,
            n_jobs=1,
            # A spectral start needs more rows than axes, by some.
            init="spectral" if len(rows) > 10 else "random",
        ).fit_transform(rows.astype(np.float32))
    params = {
        "method": "UMAP",
        "neighbours": used,
        "min_distance": float(min_distance),
        "metric": metric,
        "seed": int(seed),
    }
    return _embedding(features, drawn, params, notes, metric)


def _umap() -> Any:
    try:
        import umap
    except ImportError as error:
        raise BadParameter(
            "UMAP needs the package umap-learn, which is not installed: `pip install -r requirements-umap.txt`, or "
            "choose t-SNE or PCA."
        ) from error
    return umap


def _refuse_equal(rows: np.ndarray) -> None:
    if not rows.any():
        raise BadParameter(
            f"All {len(rows)} rows of features are equal, so that there is no map to draw. Bring different pictures, "
            "or choose another layer."
        )


def _solver(n: int, d: int) -> str:
    """The way to the components that is quick; the last is approximate."""
    if d <= min(n, MOST_COLUMNS):
        return "covariance_eigh"
    return "full" if min(n, d) <= MOST_ROWS_OR_COLUMNS else "randomized"


def _embedding(
    features: np.ndarray,
    points: np.ndarray,
    params: dict[str, Any],
    notes: tuple[str, ...],
    metric: str = "euclidean",
) -> Embedding:
    points, neighbours = points.astype(np.float32), min(NEIGHBOURS, (len(points) - 1) // 2)
    if len(points) > ALL_OF:
        notes += (f"Trustworthiness is that of {MOST_ROWS:,} of the {len(points):,} pictures, drawn by chance.",)
    return Embedding(
        points=points,
        kl_divergence=None,
        trustworthiness=trustworthiness(features, points, neighbours, metric=metric),
        neighbours=neighbours,
        params={**params, "dimensions": int(features.shape[1]), "pictures": len(points)},
        notes=notes,
    )
