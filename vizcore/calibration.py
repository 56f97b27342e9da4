"""Does a network know how sure it may be: of the answers that it gives with 80 %, are 80 % right?

The reliability curve and the expected calibration error of Guo et al. (*On Calibration of Modern Neural Networks*, ICML
2017): the answers are put into M bins of equal width by their confidence, and ECE = Σ_m (n_m / n) |accuracy_m −
confidence_m|. Of few pictures the error is above 0 even for a net that is calibrated, since the accuracy of a bin is a
draw; so the same is computed for answers that are right exactly as often as the net says, by lot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vizcore.records import BadParameter, check_whole

BINS, DRAWS = 10, 1000


@dataclass(frozen=True, eq=False)
class Reliability:
    """Of each of M bins of confidence: ``counts`` (M,), mean ``confidence`` and ``accuracy`` (M,) float64, 0 to 1, NaN
    where a bin is empty; ``edges`` (M + 1,), of which the upper one belongs to a bin.

    ``error`` is the expected calibration error, 0 to 1. A calibrated net would have ``by_chance`` of it on average,
    and more than ``rarely`` in one set of 20 of this size and these confidences.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float
    by_chance: float
    rarely: float


def reliability(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS, seed: int = 0) -> Reliability:
    """The reliability curve of n answers: ``confidence`` (n,) in [0, 1], and whether each is ``right``, (n,) bool.

    Of a `predictions.Evaluation`, ``predictions.confidence`` and ``right`` where ``counted``. ``bins`` (2 to 100) are
    of equal width; ``seed`` (0 to 2**32 − 1) draws the lots. No forward pass. Raises BadParameter.
    """
    check_whole("bins", bins, 2, 100)
    check_whole("seed", seed, 0, 2**32 - 1)
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right)
    if confidence.ndim != 1 or not len(confidence) or not ((confidence >= 0) & (confidence <= 1)).all():
        raise BadParameter(f"confidence has the shape {confidence.shape}; it must be (n,), one answer or more, 0 to 1.")
    if right.shape != confidence.shape or right.dtype != bool:
        raise BadParameter(
            f"right is {right.dtype} of the shape {right.shape}; it must be bool of the shape {confidence.shape}."
        )
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    surely, hits = (np.bincount(places, weights, minlength=bins) for weights in (confidence, right))
    draws = np.random.default_rng(seed)
    lots = [
        np.abs(np.bincount(places, draws.random(len(places)) < confidence, minlength=bins) - surely).sum()
        for _ in range(DRAWS)
    ]
    full = np.where(counts > 0, counts, np.nan)
    return Reliability(
        edges=edges,
        counts=counts,
        confidence=surely / full,
        accuracy=hits / full,
        error=float(np.abs(hits - surely).sum() / len(places)),
        by_chance=float(np.mean(lots) / len(places)),
        rarely=float(np.quantile(lots, 0.95) / len(places)),
    )
