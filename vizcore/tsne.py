"""t-SNE, in one call or step by step: a set of pictures on a plane, neighbours beside each other.

van der Maaten & Hinton 2008, "Visualizing Data using t-SNE": points move so that KL(P‖Q) = Σ p_ij log(p_ij / q_ij)
falls, where p_ij are Gaussian affinities of the wished perplexity and q_ij ∝ 1 / (1 + ‖y_i − y_j‖²). The computing is
openTSNE's (Poličar, Stražar & Zupan 2024). `TsneRun` is a map that is being made: it goes on by as many iterations as
asked, can be looked at, stopped and gone on with, and n iterations in pieces give the very points of n at once.
`tsne` is such a run, driven to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from vizcore.map_quality import ALL_OF, MOST_ROWS, NEIGHBOURS, trustworthiness
from vizcore.neighbours import METRICS, Comparison, check_features, check_metric
from vizcore.records import BadParameter, Embedding, Progress, check_number, check_whole

MIN_POINTS, MAX_POINTS = 5, 100_000
MAX_ITERATIONS = 10_000
MAX_DIMENSIONS = 50  # of the first step; the paper (section 4.2) takes 30, today's guides take 50
EXAGGERATION, EXAGGERATED_ITERATIONS = 12.0, 250  # Belkina et al. 2019, as is the learning rate n / exaggeration
MOMENTUM = 0.8
REPORT_EVERY = 10
EXACT_UP_TO = 50_000  # points whose neighbours are found by all distances: Annoy's trees take longer below
INTERPOLATED_FROM = 5_000  # points whose forces are interpolated on a grid: below, Barnes and Hut's tree is as fast
# Cells of the grid are three units wide where openTSNE's are one, which took longer than the tree at 5 000 points. What
# the grid costs there: a map of 5 000 digits takes 14 s, not 24, its divergence is 1.54, not 1.43, and its
# trustworthiness 0.990, not 0.991. Cells of two units gave 1.54 and 0.991, in 20 s.
GRID = {"ints_in_interval": 3}

__all__ = ["METRICS", "STARTS", "TsneRun", "tsne"]

STARTS: Mapping[str, str] = MappingProxyType(
    {
        "pca": "PCA: the first two principal components, which keep the large distances",
        "spectral": "Spectral: the slowest diffusion along neighbours (Laplacian eigenmaps)",
        "random": "Random: anywhere, so that far groups land anywhere too",
    }
)


def tsne(
    features: np.ndarray,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    iterations: int = 750,
    early_exaggeration: float = EXAGGERATION,
    metric: str = "euclidean",
    start: str = "pca",
    progress: Progress | None = None,
) -> Embedding:
    """The map of t-SNE: ``points`` (n, 2) of ``features`` (n, d), 5 to 100 000 rows.

    The recipe: the first 50 principal components; Euclidean distances to 3 · perplexity neighbours; a start from the
    first two components with a seeded jitter of 1 %; affinities 12 times too strong for the first 250 of ``iterations``
    (250 to 10 000); learning rate n / exaggeration. Neighbours are exact up to 50 000 rows and approximate above
    (Annoy); forces are Barnes and Hut's below 5 000 rows and interpolated on a grid from there (Linderman et al. 2019).
    The options are those of `TsneRun`.

    Costs about 6 ms per 1 000 points an iteration on one core, and 18 ms at 5 000; about 200 bytes · n · perplexity of
    memory, and the features a few times. Progress counts iterations, in steps of 10; what it raises passes through and
    nothing goes on running. Raises BadParameter as `TsneRun` does.
    """
    check_whole("iterations", iterations, EXAGGERATED_ITERATIONS, MAX_ITERATIONS)
    run = TsneRun(
        features,
        perplexity=perplexity,
        seed=seed,
        early_exaggeration=early_exaggeration,
        metric=metric,
        start=start,
    )
    run.advance(iterations, progress)
    return run.finish()


class TsneRun:
    """A map that is being made. Making one finds the neighbours; `advance` moves the points; `finish` takes them down.

    ``perplexity`` is about the number of neighbours that each picture minds, 1 to 10 000; above (n − 1) / 3 it is
    lowered to that, with a note. For the first 250 iterations affinities are ``early_exaggeration`` times too strong, 1
    to 100: groups gather before they settle. ``metric`` is one of METRICS; with "manhattan" the distances are those of
    all d numbers, without principal components, which takes d / 50 times as long. ``start`` is one of STARTS; a
    spectral one is replaced by "pca" where no chain of neighbours joins all pictures, with a note. ``seed`` (0 to
    2**32 − 1) decides everything random: the same features and seed give the same points on the same machine. The unit
    of the features does not matter. ``notes`` say what was not done as asked.

    A run belongs to one thread. It holds 200 bytes · n · perplexity, and the array of features that it was given,
    which must stay as it is, for `finish` asks it how far the map can be trusted. Raises BadParameter for numbers out
    of range, too few rows or more than 100 000, NaN or infinity, rows of zeros with "cosine", or rows that are all
    equal.
    """

    def __init__(
        self,
        features: np.ndarray,
        *,
        perplexity: float = 30.0,
        seed: int = 0,
        early_exaggeration: float = EXAGGERATION,
        metric: str = "euclidean",
        start: str = "pca",
    ) -> None:
        given, features = features, check_features(features, MIN_POINTS, MAX_POINTS)
        self._features = given if isinstance(given, np.ndarray) else features  # not the copy with longer numbers
        check_whole("seed", seed, 0, 2**32 - 1)
        check_number("early_exaggeration", early_exaggeration, 1, 100)
        check_metric(metric)
        if start not in STARTS:
            raise BadParameter(f"start is {start!r}; it must be one of {', '.join(STARTS)}.")
        used, notes = fitting_perplexity(perplexity, len(features))
        basis = MapBasis(features, metric, seed)

        # Late: these cost three seconds, and the rest of this file works without them.
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PerplexityBasedNN

        # One thread: where others use the cores, two threads that wait for each other in every iteration take four
        # times as long (2 000 points: 40 s against 9 s).
        self._affinities = PerplexityBasedNN(
            basis.rows,
            perplexity=used,
            method="exact" if len(features) <= EXACT_UP_TO else "annoy",
            metric=basis.metric,
            n_jobs=1,
            random_state=seed,
        )
        first, note = _start(start, basis, self._affinities.P, seed)
        self._map = TSNEEmbedding(
            first,
            self._affinities,
            random_state=seed,
            n_jobs=1,
            negative_gradient_method="bh" if len(features) < INTERPOLATED_FROM else "fft",
            **GRID,
        )
        self._metric, self._exaggeration = metric, float(early_exaggeration)
        self.iteration = 0
        self.notes = notes + note
        self._divergence: float | None = None
        self._params = {
            "method": "t-SNE",
            "perplexity": used,
            "seed": int(seed),
            "iterations": 0,
            "early_exaggeration": float(early_exaggeration),
            "early_iterations": EXAGGERATED_ITERATIONS,
            "learning_rate": "n / exaggeration",
            "momentum": MOMENTUM,
            "start": "pca" if note else start,
            "metric": metric,
            "dimensions": int(features.shape[1]),
            "principal_components": int(basis.rows.shape[1]) if basis.reduced else 0,
            "pictures": len(features),
        }
        # Exaggerated by ourselves, once: openTSNE would multiply and divide in each call, and the last digits of P
        # would tell how often a run was interrupted.
        self._affinities.P *= self._exaggeration

    @property
    def points(self) -> np.ndarray:
        """(n, 2) float32, where the points are now; a copy. May be asked for from ``progress``."""
        return np.array(self._map, dtype=np.float32)

    @property
    def exaggerated(self) -> bool:
        """Whether affinities are too strong still: groups are tighter than they will be."""
        return self.iteration < EXAGGERATED_ITERATIONS

    @property
    def kl_divergence(self) -> float:
        """The divergence of the points as they are now, in nats, by the approximation of the forces.

        Of the true affinities, also while they are exaggerated. May be asked for from ``progress``.
        """
        if self._divergence is None:
            self._optimise(0)
        assert self._divergence is not None
        return self._divergence

    def advance(self, iterations: int, progress: Progress | None = None) -> None:
        """Move the points by ``iterations`` more, 1 to 10 000.

        Progress counts these, in steps of 10 and at the end. What it raises passes through, and the run stands where it
        was: it can be gone on with, and comes to the same points as if it had not been interrupted. A call costs as
        much as one iteration besides.
        """
        check_whole("iterations", iterations, 1, MAX_ITERATIONS)
        done = told = 0

        def tell(steps: int) -> None:
            nonlocal told
            told = done + steps
            if progress is not None:
                progress(told, iterations)

        while done < iterations:
            count = iterations - done
            if self.exaggerated:
                count = min(count, EXAGGERATED_ITERATIONS - self.iteration)
            self._optimise(count, tell)
            done += count
        if told < iterations:
            tell(0)

    def finish(self) -> Embedding:
        """The map as it is now, with its divergence and trustworthiness; the run can still be gone on with.

        The divergence is computed without approximation up to 10 000 points, and interpolated above, where the
        trustworthiness is that of a sample of 2 000 pictures. O(n²) at most: 0.5 s for 2 000 points.
        """
        features, points, notes = self._features, self.points, self.notes
        n = len(points)
        if n <= ALL_OF:
            exact = self._map.optimize(0, theta=0, negative_gradient_method="bh")
            divergence = self._true_divergence(float(exact.kl_divergence))
        else:
            divergence = self.kl_divergence
            notes += (f"Trustworthiness is that of {MOST_ROWS:,} of the {n:,} pictures, drawn by chance.",)
        if self.exaggerated:
            notes += (
                f"Stopped at iteration {self.iteration}, in the {EXAGGERATED_ITERATIONS} of exaggerated affinities: "
                "groups are tighter than their pictures are alike.",
            )
        neighbours = min(NEIGHBOURS, (n - 1) // 2)
        return Embedding(
            points=points,
            kl_divergence=divergence,
            trustworthiness=trustworthiness(features, points, neighbours, metric=self._metric),
            neighbours=neighbours,
            params={**self._params, "iterations": self.iteration},
            notes=notes,
        )

    def _optimise(self, count: int, tell: Callable[[int], None] | None = None) -> None:
        """``count`` iterations of one phase; ``tell`` is given how many of them are done."""
        begun, strength = self.iteration, self._strength

        def report(step: int, error: float, embedding: np.ndarray) -> None:
            # openTSNE calls between the forces and the move of this step: that is not made yet.
            self.iteration, self._divergence = begun + step - 1, self._true_divergence(error)
            if tell is not None:
                tell(step)

        self._map.optimize(
            count,
            learning_rate=len(self._features) / strength,
            momentum=MOMENTUM,
            callbacks=report,
            callbacks_every_iters=REPORT_EVERY,
            inplace=True,
        )
        self._divergence = self._true_divergence(float(self._map.kl_divergence))
        self.iteration = begun + count
        if begun < EXAGGERATED_ITERATIONS <= self.iteration:
            self._affinities.P /= strength

    @property
    def _strength(self) -> float:
        """What the affinities are multiplied with now."""
        return self._exaggeration if self.exaggerated else 1.0

    def _true_divergence(self, error: float) -> float:
        """Σ p log(p / q) from what openTSNE finds for e · p: e · (Σ p log(p / q) + log e)."""
        return error / self._strength - float(np.log(self._strength))


class MapBasis:
    """What the neighbours of a map are found in: ``rows`` (n, at most 50) float64, and how others become such rows.

    Principal components, scaled so that the first has variance 1: t-SNE knows no units. With "manhattan" the features
    themselves, centred, for turning them would change their distances.
    """

    def __init__(self, features: np.ndarray, metric: str, seed: int) -> None:
        from sklearn.decomposition import PCA

        self.comparison = Comparison.of(features, metric)
        whole, self.metric = self.comparison.rows(features), self.comparison.distance
        if not whole.any():
            same = "point in one direction" if metric == "cosine" else "are equal"
            raise BadParameter(
                f"All {len(features)} rows of features {same}, so that there is no map to draw. Bring different "
                "pictures, or choose another layer."
            )
        self.reduced = self.metric == "euclidean"
        self._pca = PCA(min(MAX_DIMENSIONS, *whole.shape), random_state=seed)
        components = self._pca.fit_transform(whole)
        self._unit = components[:, 0].std()
        components /= self._unit
        self.plane = np.zeros((len(whole), 2))  # the first two components
        self.plane[:, : components.shape[1]] = components[:, :2]
        self.rows = components if self.reduced else whole

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return self.rows.nbytes + self.plane.nbytes + self._pca.components_.nbytes + self.comparison.middle.nbytes

    def others(self, features: np.ndarray) -> np.ndarray:
        """Other pictures' features (m, d) as such rows."""
        rows = self.comparison.rows(features)
        return self._pca.transform(rows) / self._unit if self.reduced else rows


def fitting_perplexity(perplexity: float, n: int) -> tuple[float, tuple[str, ...]]:
    """The perplexity that n points allow, and a note where it is not the one asked for."""
    check_number("perplexity", perplexity, 1, 10_000)
    most = (n - 1) / 3
    if perplexity <= most:
        return float(perplexity), ()
    return most, (f"Perplexity {perplexity:g} is too large for {n} pictures: {most:.3g} was used, (n − 1) / 3.",)


def _start(start: str, basis: MapBasis, affinities: Any, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Where the points begin, (n, 2), and a note where that is not what was asked for."""
    from openTSNE import initialization

    if start == "random":
        return initialization.random(len(basis.rows), random_state=seed), ()
    notes: tuple[str, ...] = ()
    if start == "spectral":
        found = _spectral(affinities, seed)
        if not isinstance(found, str):
            return found, ()
        notes = (f"{found}, so that a spectral start is not possible: the first two principal components were used.",)
    return initialization.jitter(initialization.rescale(basis.plane), random_state=seed), notes


def _spectral(affinities: Any, seed: int) -> np.ndarray | str:
    """(n, 2) by the affinities' eigenvectors, or why there are none."""
    from openTSNE import initialization
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import ArpackNoConvergence

    groups, _ = connected_components(affinities > 0, directed=False)
    if groups > 1:
        return f"The pictures fall into {groups} groups that no chain of neighbours joins"
    try:
        found = initialization.spectral(affinities, random_state=seed)
    except ArpackNoConvergence:
        return "The eigenvectors of the neighbours could not be found"
    return np.ascontiguousarray(found)
