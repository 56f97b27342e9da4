"""A set of pictures as the network sorts them: features, t-SNE, and how far the map can be trusted.

The question: which pictures does the network hold to be alike? `extract_features` takes the numbers of one layer
for each picture; `tsne` (van der Maaten & Hinton 2008, "Visualizing Data using t-SNE") lays them on a plane so that
neighbours in the features stay neighbours. It minimises KL(P‖Q) = Σ p_ij log(p_ij / q_ij), where p_ij are Gaussian
affinities of the wished perplexity and q_ij ∝ 1 / (1 + ‖y_i − y_j‖²). The axes, the sizes of groups and the distances
between far groups mean nothing; `trustworthiness` (Venna & Kaski 2001, "Neighborhood preservation in nonlinear
projection methods") says how many neighbours on the map are real ones, and `neighbour_accuracy` asks the features
themselves, without the map. `pixel_features` is the baseline to compare both with.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from vizcore import hooks, images
from vizcore.images import Pictures
from vizcore.records import (
    GREY_FROM_RGB,
    BadParameter,
    Embedding,
    LayerNotFound,
    Model,
    Progress,
    UnsupportedModel,
    check_whole,
)

MIN_POINTS, MAX_POINTS = 5, 10_000
MAX_DIMENSIONS = 50  # of the first step; the paper (section 4.2) takes 30, today's guides take 50
EXAGGERATION, EXAGGERATED_ITERATIONS = 12.0, 250  # Belkina et al. 2019, as is the learning rate n / exaggeration
MOMENTUM = 0.8
REPORT_EVERY = 10
NEIGHBOURS = 5
CHUNK_BYTES = 2**25


def extract_features(
    model: Model,
    pictures: Pictures,
    layer: str | None = None,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> np.ndarray:
    """What ``layer`` says of each picture: (n, d) float32, one row a picture.

    ``pictures`` are uint8 arrays (H, W, 3) of any sizes, each shown to the net as `images.prepare` cuts it, or a float
    tensor (N, 3, H, W) in [0, 1], shown as it is. ``layer`` is ``model.layers["features"]`` unless named. A layer with
    maps (C, h, w) gives the mean of each map, d = C; a layer with a vector gives the vector. One forward pass for every
    ``batch_size`` pictures (1 to 4096), which bounds the memory and does not change the result; the model's lock is
    held for one such batch at a time. Progress counts pictures. Raises BadParameter for an empty set, LayerNotFound for
    a layer with neither maps nor a vector, UnsupportedModel where the features are NaN or infinite.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    layer = hooks.layer_for(model, "features", layer)
    hooks.find_layer(model, layer)

    def features(pixels: Tensor) -> Tensor:
        with hooks.trace(model, [layer]) as seen:
            model.logits(pixels)
            return one_vector_each(model, layer, seen[layer])  # (b, d)

    rows = _in_batches(model, pictures, features, batch_size, progress)
    if not np.isfinite(rows).all():
        raise UnsupportedModel(
            f"The layer “{layer}” of {model.title} gave NaN or infinity in {_bad_rows(rows)}; "
            "its weights may be damaged."
        )
    return rows


def pixel_features(model: Model, pictures: Pictures, *, side: int = 32, progress: Progress | None = None) -> np.ndarray:
    """The baseline, no network: the pixels that ``model`` would see of each picture, (n, d) float32 in [0, 1].

    Cut as for `extract_features`, made grey where the net is grey, and averaged by area down to at most ``side`` ×
    ``side`` pixels (1 to 256; never enlarged): d = 3 · 32 · 32 for a photo net, 28 · 28 for a digit net of that size.
    """
    check_whole("side", side, 1, 256)

    def shrunk(pixels: Tensor) -> Tensor:
        if len(model.mean) == 1:
            pixels = (pixels * pixels.new_tensor(GREY_FROM_RGB).view(1, 3, 1, 1)).sum(1, keepdim=True)  # (b, 1, h, w)
        height, width = pixels.shape[2:]
        return F.adaptive_avg_pool2d(pixels, (min(side, height), min(side, width))).flatten(1)  # (b, d)

    return _in_batches(model, pictures, shrunk, 64, progress)


def tsne(
    features: np.ndarray,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    iterations: int = 750,
    progress: Progress | None = None,
) -> Embedding:
    """The map of t-SNE: ``points`` (n, 2) of ``features`` (n, d), 5 to 10 000 rows.

    The recipe: the first 50 principal components; Euclidean distances to 3 · perplexity exact neighbours; a start
    from the first two components with a seeded jitter of 1 %; affinities 12 times too strong for the first 250 of
    ``iterations`` (250 to 10 000); learning rate n / exaggeration; Barnes-Hut forces (interpolated from 10 000 points).
    ``perplexity`` is about the number of neighbours that each picture minds, 1 to 10 000; above (n − 1) / 3 it is
    lowered to that, with a note. ``seed`` (0 to 2**32 − 1) decides everything random: the same features and seed give
    the same points on the same machine. The unit of the features does not matter.

    Costs about 6 ms per 1 000 points an iteration, on one core, and about 200 bytes · n · perplexity of memory.
    Progress counts iterations, in steps of 10; what it raises passes through and nothing goes on running. Raises
    BadParameter for too few rows, NaN or infinity, or rows that are all equal.
    """
    features = _check_features(features, MIN_POINTS, MAX_POINTS)
    centred = _centred(features)
    check_whole("seed", seed, 0, 2**32 - 1)
    check_whole("iterations", iterations, EXAGGERATED_ITERATIONS, 10_000)
    used, notes = _fitting_perplexity(perplexity, len(features))
    if not centred.any():
        raise BadParameter(
            f"All {len(features)} rows of features are equal, so that there is no map to draw. Bring different "
            "pictures, or choose another layer."
        )

    # Late: these cost three seconds, and the rest of this file works without them.
    from openTSNE import TSNEEmbedding, affinity, initialization

    reduced = _principal_components(centred, seed)  # (n, at most 50)
    start = np.zeros((len(reduced), 2))
    start[:, : reduced.shape[1]] = reduced[:, :2]
    start = initialization.jitter(initialization.rescale(start), random_state=seed)
    # One thread: where others use the cores, two threads that wait for each other in every iteration take four times as
    # long (2 000 points: 40 s against 9 s).
    affinities = affinity.PerplexityBasedNN(reduced, perplexity=used, method="exact", n_jobs=1, random_state=seed)
    points = TSNEEmbedding(start, affinities, random_state=seed, n_jobs=1)
    phases = ((EXAGGERATED_ITERATIONS, EXAGGERATION), (iterations - EXAGGERATED_ITERATIONS, 1.0))
    done = 0
    for count, exaggeration in phases:

        def report(iteration: int, error: float, embedding: np.ndarray, done: int = done) -> None:
            if progress is not None:
                progress(done + iteration, iterations)

        points.optimize(
            count,
            exaggeration=exaggeration,
            momentum=MOMENTUM,
            callbacks=report,
            callbacks_every_iters=REPORT_EVERY,
            inplace=True,
        )
        done += count
    points.optimize(0, theta=0, negative_gradient_method="bh", inplace=True)  # the divergence without approximation
    if progress is not None and iterations % REPORT_EVERY:
        progress(iterations, iterations)
    laid_out = np.array(points, dtype=np.float32)
    neighbours = min(NEIGHBOURS, (len(features) - 1) // 2)
    return Embedding(
        points=laid_out,
        kl_divergence=float(points.kl_divergence),
        trustworthiness=trustworthiness(features, laid_out, neighbours),
        neighbours=neighbours,
        params={
            "method": "t-SNE",
            "perplexity": used,
            "seed": int(seed),
            "iterations": int(iterations),
            "early_exaggeration": EXAGGERATION,
            "early_iterations": EXAGGERATED_ITERATIONS,
            "learning_rate": "n / exaggeration",
            "momentum": MOMENTUM,
            "start": "first two principal components",
            "metric": "euclidean",
            "dimensions": int(features.shape[1]),
            "principal_components": int(reduced.shape[1]),
            "pictures": len(features),
        },
        notes=notes,
    )


def trustworthiness(features: np.ndarray, points: np.ndarray, k: int = NEIGHBOURS) -> float:
    """How many neighbours on the map are neighbours in the features: 0 to 1, where 1 is all (Venna & Kaski 2001).

    1 − 2 / (n k (2n − 3k − 1)) · Σ_i Σ_j max(0, r(i, j) − k) over the ``k`` map neighbours j of each i, where r(i, j)
    is the rank of j among the neighbours of i in the features: one more than the number of strictly nearer ones. A
    false neighbour costs more the farther it truly is. ``k`` is below n / 2. Time O(n²), memory O(n) and some 100 MB.
    """
    features, points = _check_features(features, 3, None), _check_features(points, 3, None)
    if len(features) != len(points):
        raise BadParameter(f"There are {len(features)} rows of features but {len(points)} points; make them as many.")
    n = len(features)
    check_whole("k", k, 1, (n - 1) // 2)
    from sklearn.metrics import pairwise_distances_chunked

    nearest = _nearest(points, k)  # (n, k)
    misplaced = first = 0
    for distances in pairwise_distances_chunked(_centred(features), working_memory=CHUNK_BYTES / 2**20):
        rows = np.arange(first, first + len(distances))
        distances[np.arange(len(rows)), rows] = np.inf
        for column in nearest[rows].T:
            rank = 1 + (distances < distances[np.arange(len(rows)), column][:, None]).sum(1)  # (rows,)
            misplaced += int(np.maximum(0, rank - k).sum())
        first += len(distances)
    return 1.0 - 2.0 * misplaced / (n * k * (2 * n - 3 * k - 1))


def neighbour_accuracy(features: np.ndarray, labels: Sequence[Hashable], k: int = NEIGHBOURS) -> float:
    """Share of pictures whose class is the vote of their ``k`` nearest others in ``features``: 0 to 1.

    Leave-one-out: a picture never votes for itself (an exact copy of it elsewhere in the set does). Euclidean
    distances; where classes tie, the one with the nearest voter wins. A class of one picture can only be wrong. Compare
    with `chance`. Raises BadParameter for one class only, where no vote can be wrong, and for k outside 1 to n − 1.
    """
    features = _check_features(features, 2, None)
    codes = _class_codes(labels, len(features))
    check_whole("k", k, 1, len(features) - 1)
    if codes.max() == 0:
        raise BadParameter(
            "All pictures are of one class, so that every vote is right and says nothing. Bring two classes or more."
        )
    voters = codes[_nearest(features, k)]  # (n, k), nearest first
    votes = (voters[:, :, None] == voters[:, None, :]).sum(2)  # (n, k): how many vote as this one does
    winners = voters[np.arange(len(voters)), votes.argmax(1)]
    return float((winners == codes).mean())


def chance(labels: Sequence[Hashable]) -> float:
    """Share of the largest class, 0 to 1: how often always naming that class is right."""
    codes = _class_codes(labels, len(labels))
    return float(np.bincount(codes).max() / len(codes))


def _in_batches(
    model: Model,
    pictures: Pictures,
    numbers: Callable[[Tensor], Tensor],
    batch_size: int,
    progress: Progress | None,
) -> np.ndarray:
    """``numbers`` of the pixels of every picture, in batches: (n, d) float32."""
    batches = images.in_batches(pictures, model, batch_size, progress)
    return np.concatenate([numbers(batch).float().cpu().numpy() for batch in batches])


def one_vector_each(model: Model, layer: str, output: Tensor) -> Tensor:
    """(b, C, h, w) to (b, C) by the mean of each map; (b, d) as it is."""
    if output.ndim == 4:
        return output.mean((2, 3))
    if output.ndim == 2:
        return output
    raise LayerNotFound(
        f"The layer “{layer}” of {model.title} gives {' × '.join(map(str, output.shape[1:]))} numbers a picture; "
        f"features come from a layer with maps (C × h × w) or a vector, such as “{model.layers['features']}”."
    )


def _centred(features: np.ndarray) -> np.ndarray:
    """Mean 0 by column and largest number 1, or all zeros where the rows differ by no more than rounding.

    Squares then neither overflow nor vanish, and distances by dot products keep their digits.
    """
    largest = np.abs(features).max()
    if largest == 0:
        return np.zeros_like(features)
    centred = features / largest
    centred -= centred.mean(0)
    spread = np.abs(centred).max()
    return centred / spread if spread > 1e-12 else np.zeros_like(features)


def _principal_components(centred: np.ndarray, seed: int) -> np.ndarray:
    """(n, at most 50) float64, scaled so that the first component has variance 1: t-SNE knows no units."""
    from sklearn.decomposition import PCA

    size = min(MAX_DIMENSIONS, *centred.shape)
    reduced = PCA(size, random_state=seed).fit_transform(centred)
    return reduced / reduced[:, 0].std()


def _nearest(rows: np.ndarray, k: int) -> np.ndarray:
    """(n, k) indices of the nearest other rows, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k).fit(rows).kneighbors(return_distance=False)


def _fitting_perplexity(perplexity: float, n: int) -> tuple[float, tuple[str, ...]]:
    """The perplexity that n points allow, and a note where it is not the one asked for."""
    known = isinstance(perplexity, (int, float, np.integer, np.floating)) and not isinstance(perplexity, bool)
    if not known or not 1 <= perplexity <= MAX_POINTS:
        raise BadParameter(f"perplexity is {perplexity!r}; it must be a number from 1 to {MAX_POINTS}, say 30.")
    most = (n - 1) / 3
    if perplexity <= most:
        return float(perplexity), ()
    return most, (f"Perplexity {perplexity:g} is too large for {n} pictures: {most:.3g} was used, (n − 1) / 3.",)


def _check_features(features: np.ndarray, least: int, most: int | None) -> np.ndarray:
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
    if not np.isfinite(rows).all():
        raise BadParameter(f"features holds NaN or infinity in {_bad_rows(rows)}; leave those pictures out.")
    return rows


def _bad_rows(rows: np.ndarray) -> str:
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    shown = ", ".join(str(row) for row in bad[:5])
    return f"row {shown}" if len(bad) == 1 else f"{len(bad)} rows ({shown}{', …' if len(bad) > 5 else ''})"


def _class_codes(labels: Sequence[Hashable], n: int) -> np.ndarray:
    """(n,) whole numbers, one a class, in the order in which the classes appear."""
    labels = list(labels.tolist() if isinstance(labels, np.ndarray) else labels)
    if len(labels) != n or not labels:
        raise BadParameter(f"There are {len(labels)} labels for {n} pictures; each picture needs one.")
    numbers = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels])
