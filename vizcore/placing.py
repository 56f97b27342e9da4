"""A picture placed on a map that is there already, and which of its neighbours the map shows truly.

t-SNE gives points, not a function: a new picture gets its place by moving one more point until its affinities to its
true neighbours fit their places, while all the others stay (openTSNE's `transform`; Poličar, Stražar & Zupan 2023,
"Embedding to reference t-SNE space addresses batch effects in single-cell classification"). Whether that place is right
is seen by its neighbours: those in the features that are near on the map are *kept*, those far on it are *lost*, and
those near on the map alone are *false*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vizcore.neighbours import CHUNK_BYTES, check_features, check_same_pictures
from vizcore.records import BadParameter, Embedding, check_whole
from vizcore.tsne import GRID, MIN_POINTS, MapBasis

NEIGHBOURS = 10
PERPLEXITY = 5.0  # of new points: the few nearest decide (openTSNE's default, as is all that is not said here)
INTERPOLATED_FROM = 2_000  # points on the map; a tree would be built anew in every iteration


@dataclass(frozen=True, eq=False)
class PlaceableMap:
    """A map of n pictures and what is needed to place others on it: made by `placeable`, to be kept.

    ``points`` (n, 2) are those of the map, ``features`` (n, d) the array that was given, not a copy. ``nbytes`` is what
    it takes besides that array: 8 · n · 50 bytes and 8 · 50 · d, 20 MB for 50 000 pictures; with "manhattan" 8 · n · d.
    """

    points: np.ndarray
    features: np.ndarray
    basis: MapBasis

    @property
    def nbytes(self) -> int:
        return self.points.nbytes + self.basis.nbytes


@dataclass(frozen=True, eq=False)
class Placed:
    """Where m pictures belong on a map of n: ``points`` (m, 2) float32, and ``k`` neighbours of each, nearest first.

    ``true`` (m, k) are rows of the features, ``distances`` (m, k) how far they are there, in the unit of the features
    (with "cosine" 1 − cos). ``on_map`` (m, k) are the nearest on the map.
    """

    points: np.ndarray
    true: np.ndarray
    distances: np.ndarray
    on_map: np.ndarray

    @property
    def k(self) -> int:
        return self.true.shape[1]

    def kept(self, picture: int = 0) -> np.ndarray:
        """The true neighbours of a ``picture`` that are near on the map as well, the truly nearest first."""
        return self.true[picture][np.isin(self.true[picture], self.on_map[picture])]

    def lost(self, picture: int = 0) -> np.ndarray:
        """The true neighbours that are not near on the map, the truly nearest first."""
        return self.true[picture][~np.isin(self.true[picture], self.on_map[picture])]

    def false(self, picture: int = 0) -> np.ndarray:
        """The neighbours on the map that are not true ones, the nearest on the map first."""
        return self.on_map[picture][~np.isin(self.on_map[picture], self.true[picture])]


def placeable(embedding: Embedding, features: np.ndarray) -> PlaceableMap:
    """What `place` needs of ``embedding``, a map by t-SNE of ``features`` (n, d), the very rows that it was made of.

    Costs the principal components once more: 0.2 s for 2 000 pictures of 1 280 features. Raises BadParameter for a map
    of another method or of other features.
    """
    params = embedding.params
    if params.get("method") != "t-SNE":
        raise BadParameter(f"The map is by {params.get('method', 'no known method')}; pictures are placed on t-SNE's.")
    rows = check_features(features, MIN_POINTS)
    check_same_pictures(rows, embedding.points)
    if rows.shape[1] != params["dimensions"]:
        raise BadParameter(
            f"features has {rows.shape[1]} columns; the map was made of {params['dimensions']}. Bring its features."
        )
    points = np.array(embedding.points, dtype=np.float64)
    points.setflags(write=False)
    return PlaceableMap(points, np.asarray(features), MapBasis(rows, params["metric"], params["seed"]))


def place(onto: PlaceableMap, new_features: np.ndarray, *, k: int = NEIGHBOURS, seed: int = 0) -> Placed:
    """Where the pictures of ``new_features`` (m, d) belong on a map, and their ``k`` (1 to n) nearest, true and on it.

    Each point begins at the median of its nearest and moves for 250 iterations; the others do not move at all, and
    the new ones do not mind one another. A picture of the map itself, placed again, finds itself as the nearest. Costs
    n · d for each picture, 0.05 s on a map of 2 000 pictures of 1 280 features. Raises BadParameter for rows of another
    length, NaN, infinity, and k.
    """
    new = check_features(new_features, 1)
    n, d = onto.features.shape
    if new.shape[1] != d:
        raise BadParameter(f"new_features has {new.shape[1]} columns; the map was made of {d}. Take the same layer.")
    check_whole("k", k, 1, n)
    check_whole("seed", seed, 0, 2**32 - 1)
    from openTSNE import TSNEEmbedding

    # A copy, for openTSNE shifts the whole map to centre it: the others would not stay.
    ground = TSNEEmbedding(
        onto.points,
        _affinities(onto.basis),
        n_jobs=1,
        random_state=seed,
        negative_gradient_method="bh" if n < INTERPOLATED_FROM else "fft",
        **GRID,
    )
    moved = ground.transform(onto.basis.others(new), perplexity=PERPLEXITY)
    points = np.asarray(moved) - (np.asarray(ground) - onto.points)[0]  # (m, 2), back by the shift
    true, distances = _nearest_in_features(onto, new, k)
    return Placed(
        points=points.astype(np.float32),
        true=true,
        distances=distances,
        on_map=_nearest(_distances(points, onto.points, "euclidean"), k),
    )


def _affinities(basis: MapBasis) -> Any:
    """openTSNE's affinities of new rows to those of the map, without those among the latter."""
    from openTSNE.affinity import Affinities, joint_probabilities_nn
    from scipy.sparse import csr_matrix

    n = len(basis.rows)

    class ToNew(Affinities):
        def to_new(self, data: np.ndarray, perplexity: float = PERPLEXITY, return_distances: bool = False) -> Any:
            count = min(n, int(3 * perplexity))
            distances = _distances(data, basis.rows, basis.comparison.distance)  # (m, n)
            near = _nearest(distances, count)
            distances = np.take_along_axis(distances, near, 1)
            perplexity = min(perplexity, count / 3)
            found = joint_probabilities_nn(
                near,
                distances,
                [perplexity],
                symmetrize=False,
                normalization="point-wise",
                n_reference_samples=n,
            )
            return (found, near, distances) if return_distances else found

    affinities = ToNew()
    affinities.P = csr_matrix((n, n))
    return affinities


def _nearest_in_features(onto: PlaceableMap, new: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, k) rows of the features and how far they are, over all d numbers, in chunks of rows."""
    comparison, features = onto.basis.comparison, onto.features
    ready = comparison.rows(new)
    step = max(1, CHUNK_BYTES // (8 * features.shape[1]))
    parts = [
        _distances(ready, comparison.rows(features[first : first + step].astype(np.float64)), comparison.distance)
        for first in range(0, len(features), step)
    ]
    distances = np.concatenate(parts, 1)  # (m, n)
    near = _nearest(distances, k)
    return near, comparison.in_units(np.take_along_axis(distances, near, 1))


def _distances(rows: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    """(m, n) difference by difference, not by dot products: a copy is at 0."""
    from scipy.spatial.distance import cdist

    return cdist(rows, others, metric="cityblock" if metric == "manhattan" else metric)


def _nearest(distances: np.ndarray, k: int) -> np.ndarray:
    """(m, k) columns of the smallest, smallest first; of equal ones the first."""
    return np.argsort(distances, axis=1, kind="stable")[:, :k]
