"""How far a map of pictures may be trusted: neighbours that it invents and loses, and what to say of it.

A map on a plane cannot keep every neighbour of a space of many dimensions. Venna & Kaski 2001, "Neighborhood
preservation in nonlinear projection methods", count both kinds of error: `trustworthiness` falls with neighbours on the
map that are none in the features (the map folds), `continuity` with neighbours in the features that are far on the map
(the map tears). Both weigh an error by how far it truly is, and both depend on how many neighbours k are asked, hence
the curves over k of `map_quality`. Picture by picture, the share of its k neighbours that the map keeps is the
co-ranking quality of Lee & Verleysen 2009, "Quality assessment of dimensionality reduction: rank-based criteria" (their
Q_NX is its mean), drawn at each point as in Mokbel et al. 2013, "Visualizing the quality of dimensionality reduction".
`map_agreement` asks the same of two maps: what another seed would change cannot be read from one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vizcore.neighbours import check_features, check_same_pictures, comparable, distances_in_chunks, nearest
from vizcore.records import BadParameter, Progress, check_whole

NEIGHBOURS = 5
MOST_ROWS = 2_000  # pictures asked, where there are more than ALL_OF: the standard error is then below 0.01
ALL_OF = 10_000
KS = (5, 10, 20, 50, 100, 200)
TRUSTED, DOUBTFUL = 0.95, 0.85  # of trustworthiness and continuity; half the way from chance (0.5) is 0.75
AGREEING = 0.5  # of the neighbours


@dataclass(frozen=True, eq=False)
class MapQuality:
    """How well a map of n pictures keeps their neighbours, for each of K numbers ``ks`` of neighbours, ascending.

    ``trustworthiness`` and ``continuity`` (K,) are 0 to 1; 1 is no error, and a map by chance has about 0.5. Picture by
    picture, for the m ``rows`` that were asked (all, or a sample): ``kept`` (m,) is the share of its ``k`` nearest in
    the features that are among its k nearest on the map, 0 to 1, where ``chance`` is what a map by chance keeps;
    ``stretched`` (m,) is how far the map tore the others away, 0 (none) to 1 (as far as can be), and ``compressed``
    (m,) how far it brought strangers near: 1 − the continuity and the trustworthiness of that picture alone.
    """

    ks: tuple[int, ...]
    trustworthiness: np.ndarray
    continuity: np.ndarray
    rows: np.ndarray
    kept: np.ndarray
    stretched: np.ndarray
    compressed: np.ndarray
    k: int
    count: int

    @property
    def chance(self) -> float:
        return self.k / (self.count - 1)


@dataclass(frozen=True, eq=False)
class MapAgreement:
    """What M maps of the same n pictures have in common: ``shared`` (M, M), symmetric, 1 on its diagonal.

    The mean share of a picture's ``k`` nearest on one map that are among its k nearest on the other, 0 to 1; ``chance``
    is k / (n − 1), what maps that know nothing of one another share.
    """

    shared: np.ndarray
    k: int
    chance: float

    @property
    def mean(self) -> float:
        """Over all pairs of different maps."""
        return float(self.shared[np.triu_indices(len(self.shared), 1)].mean())


def trustworthiness(
    features: np.ndarray, points: np.ndarray, k: int = NEIGHBOURS, *, metric: str = "euclidean"
) -> float:
    """How many neighbours on the map are neighbours in the features: 0 to 1, where 1 is all (Venna & Kaski 2001).

    1 − 2 / (n k (2n − 3k − 1)) · Σ_i Σ_j max(0, r(i, j) − k) over the ``k`` map neighbours j of each i, where r(i, j)
    is the rank of j among the neighbours of i in the features: one more than the number of strictly nearer ones. A
    false neighbour costs more the farther it truly is. ``k`` is below n / 2. Time O(n²), memory O(n) and some 100 MB;
    above 10 000 pictures a sample of 2 000 is asked, each for its ranks among all n.
    """
    features, points = _checked(features, points)
    check_whole("k", k, 1, (len(features) - 1) // 2)
    rows, metric = comparable(features, metric)
    asked = _rows_asked(len(rows), None, 0)
    near = _nearest_of(points, "euclidean", asked, k)
    return float(1 - _penalties(rows, metric, asked, near, (k,)).mean())


def map_quality(
    features: np.ndarray,
    points: np.ndarray,
    ks: Sequence[int] | None = None,
    *,
    k: int | None = None,
    metric: str = "euclidean",
    most_rows: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> MapQuality:
    """Trustworthiness and continuity of ``points`` (n, 2) for every k of ``ks``, and each picture's own share.

    ``ks`` are below n / 2, by default those of 5, 10, 20, 50, 100 and 200 that are; ``k`` is that of the shares, one of
    1 to (n − 1) / 2, by default the smallest of ``ks``. All distances are computed once, on either side, and sorted:
    O(n² log n), a second for 2 000 pictures, in chunks of 32 MB. Of more than 10 000 pictures 2 000 are asked, or
    ``most_rows`` of them if given, drawn by ``seed``; each has its ranks among all n. Progress counts sides: 2.
    Raises BadParameter for numbers out of range and for points that are not as many as the features.
    """
    features, points = _checked(features, points)
    n = len(features)
    most = (n - 1) // 2
    if ks is None:
        ks = [each for each in KS if each <= most] or [most]
    wanted = tuple(sorted({check_whole("ks", each, 1, most) for each in ks}))
    if not wanted:
        raise BadParameter(f"ks is {ks!r}; it must name at least one number of neighbours, from 1 to {most}.")
    k = wanted[0] if k is None else check_whole("k", k, 1, most)
    if most_rows is not None:
        check_whole("most_rows", most_rows, 1, 10**9)
    check_whole("seed", seed, 0, 2**32 - 1)
    rows, metric = comparable(features, metric)
    asked = _rows_asked(n, most_rows, seed)

    largest = max(*wanted, k)
    on_map = _nearest_of(points, "euclidean", asked, largest)
    truly = _nearest_of(rows, metric, asked, largest)
    every = (*wanted, k)
    false = _penalties(rows, metric, asked, on_map, every)  # (m, K + 1)
    if progress is not None:
        progress(1, 2)
    lost = _penalties(points, "euclidean", asked, truly, every)
    if progress is not None:
        progress(2, 2)
    return MapQuality(
        ks=wanted,
        trustworthiness=1 - false[:, :-1].mean(0),
        continuity=1 - lost[:, :-1].mean(0),
        rows=asked,
        kept=_shared(truly[:, :k], on_map[:, :k]),
        stretched=lost[:, -1],
        compressed=false[:, -1],
        k=k,
        count=n,
    )


def kept_neighbours(
    features: np.ndarray, points: np.ndarray, k: int = NEIGHBOURS, *, metric: str = "euclidean"
) -> np.ndarray:
    """(n,) share of each picture's ``k`` nearest in the features that are among its k nearest on the map, 0 to 1.

    What a page fades points by. Exact for every picture; O(n²), 0.4 s for 2 000
    pictures of 1 280 features.
    """
    features, points = _checked(features, points)
    check_whole("k", k, 1, len(features) - 1)
    rows, metric = comparable(features, metric)
    return _shared(nearest(rows, k, metric), nearest(points, k))


def map_agreement(maps: Sequence[np.ndarray], k: int = NEIGHBOURS) -> MapAgreement:
    """What ``maps``, two or more (n, 2) of the same pictures in the same order, have in common; ``k`` is 1 to n − 1."""
    if len(maps) < 2:
        raise BadParameter(f"There are {len(maps)} maps; agreement needs two or more.")
    checked = [check_features(points, 3) for points in maps]
    n = len(checked[0])
    if different := {len(points) for points in checked} - {n}:
        raise BadParameter(f"The maps hold {n} and {different.pop()} pictures; they must be of the same pictures.")
    check_whole("k", k, 1, n - 1)
    near = [nearest(points, k) for points in checked]
    shared = np.array([[_shared(one, other).mean() for other in near] for one in near])
    return MapAgreement(shared=shared, k=k, chance=k / (n - 1))


def reading(quality: MapQuality, agreement: MapAgreement | None = None, *, method: str = "t-SNE") -> str:
    """What may be read from the map and what may not, in sentences made of the numbers.

    ``method`` is the title of MAP_METHODS; only of a map by PCA do the axes and the distances mean something.
    """
    trust, whole = float(quality.trustworthiness[0]), float(quality.continuity[0])
    k, kept = quality.ks[0], float(quality.kept.mean())
    said = [
        f"Of the {quality.k} nearest of a picture, the map keeps {100 * kept:.0f} % (a map by chance "
        f"{100 * quality.chance:.2g} %)."
    ]
    near = "Which pictures lie beside each other"
    if min(trust, whole) >= TRUSTED:
        said.append(f"{near} may be read: trustworthiness {trust:.2f}, continuity {whole:.2f} at {k} neighbours.")
    elif trust < DOUBTFUL:
        said.append(f"{near} may not be read: many are strangers (trustworthiness {trust:.2f} at {k} neighbours).")
    elif whole < DOUBTFUL:
        said.append(f"Neighbours may be read, gaps may not: the map tears many apart (continuity {whole:.2f} at {k}).")
    else:
        said.append(f"{near} may be read with care: trustworthiness {trust:.2f}, continuity {whole:.2f} at {k}.")
    if agreement is not None:
        share = f"{100 * agreement.mean:.0f} % of their neighbours (by chance {100 * agreement.chance:.2g} %)"
        if agreement.mean >= AGREEING:
            said.append(f"Other maps agree: they share {share}.")
        else:
            said.append(f"Another seed or perplexity gives another map: they share {share}; read what all show.")
    if method == "PCA":
        said.append("Distances are true as far as the two axes go; what the other axes hold is not shown.")
    else:
        said.append("The axes, the sizes of groups and the distances between them may not be read.")
    return " ".join(said)


def _checked(features: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features, points = check_features(features, 3), check_features(points, 3)
    check_same_pictures(features, points)
    return features, points


def _rows_asked(n: int, most_rows: int | None, seed: int) -> np.ndarray:
    """The rows whose neighbours are asked, ascending."""
    most = most_rows or (n if n <= ALL_OF else MOST_ROWS)
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _nearest_of(rows: np.ndarray, metric: str, asked: np.ndarray, k: int) -> np.ndarray:
    """(m, k) indices of the nearest others of the rows ``asked``, nearest first."""
    if len(asked) == len(rows):
        return nearest(rows, k, metric)
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=k + 1, metric=metric).fit(rows).kneighbors(rows[asked], return_distance=False)
    others = near != asked[:, None]  # (m, k + 1)
    others[others.all(1), -1] = False  # of more copies than k, a row may miss itself
    return near[others].reshape(len(asked), k)


def _penalties(rows: np.ndarray, metric: str, asked: np.ndarray, near: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    """(m, K) Σ_j max(0, r(i, j) − k) over the first k of ``near`` (m, ≥ k) by their ranks in ``rows``, 0 to 1.

    Divided by the largest that it can be, where these are the k farthest of all: k (2n − 3k − 1) / 2.
    """
    n, done = len(rows), 0
    found = np.empty((len(asked), len(ks)))
    for some, distances in distances_in_chunks(rows, metric, asked):
        numbers = near[done : done + len(some)]
        theirs = np.take_along_axis(distances, numbers, 1)  # (c, k)
        distances.sort(axis=1)
        ranks = 1 + np.stack([np.searchsorted(row, own) for row, own in zip(distances, theirs, strict=True)])
        for place, k in enumerate(ks):
            largest = k * (2 * n - 3 * k - 1) / 2
            found[done : done + len(some), place] = np.maximum(0, ranks[:, :k] - k).sum(1) / largest
        done += len(some)
    return found


def _shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) share of each row of ``one`` (n, k) that stands in the same row of ``other``."""
    n, k = one.shape
    offset = np.arange(n)[:, None] * (max(one.max(), other.max()) + 1)
    return np.isin(one + offset, other + offset).reshape(n, k).mean(1)
