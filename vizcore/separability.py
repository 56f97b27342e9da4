"""How well a layer tells the classes of pictures apart: by the nearest neighbours, and by one linear layer more.

Both ask the features themselves, without a map. `neighbour_accuracy` lets the nearest pictures vote, which sees classes
of any shape; a linear probe (Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes")
asks whether a plane divides them, as the net's own last layer would have to. Stage by stage they show where in the net
the classes come apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vizcore.neighbours import centred, check_features, class_codes, nearest
from vizcore.records import BadParameter, Progress, check_whole

NEIGHBOURS = 5
FOLDS = 5
PROBE_DIMENSIONS = 256  # principal components; keeps a probe of any layer within seconds
PROBE_ITERATIONS = 500


@dataclass(frozen=True)
class Separability:
    """Shares of pictures whose class is named right, 0 to 1, and what always naming the largest class gets.

    ``neighbour`` by the vote of the ``k`` nearest others; ``linear`` by a probe that never saw the picture, over
    ``folds`` folds, whose shares lie between ``lowest`` and ``highest``.
    """

    neighbour: float
    k: int
    linear: float
    lowest: float
    highest: float
    folds: int
    chance: float
    pictures: int
    classes: int


def separability(
    features: np.ndarray,
    labels: Sequence[Hashable],
    *,
    k: int = NEIGHBOURS,
    folds: int = FOLDS,
    seed: int = 0,
) -> Separability:
    """How well ``features`` (n, d) tell ``labels`` (n,) apart, by neighbours and by a linear probe.

    The probe is multinomial logistic regression with the penalty ‖w‖² / 2 (scikit-learn's, C = 1) on features
    standardised, and reduced to 256 principal components where they are more, in each fold by what its training part
    says alone. The ``folds`` (2 to 20) hold the classes in equal shares and are drawn by ``seed``. ``k`` (1 to n − 1)
    is of `neighbour_accuracy`. About 1.5 s for 1 000 pictures of 1 280 features. Raises BadParameter for a
    single class, and for a class of fewer pictures than ``folds``.
    """
    features = check_features(features, 4)
    codes = class_codes(labels, len(features))
    check_whole("folds", folds, 2, 20)
    check_whole("seed", seed, 0, 2**32 - 1)
    counts = np.bincount(codes)
    by_neighbours = neighbour_accuracy(features, labels, k)  # refuses one class
    if counts.min() < folds:
        smallest = list(dict.fromkeys(list(labels)))[int(counts.argmin())]
        raise BadParameter(
            f"The class {str(smallest)!r} has {counts.min()} pictures; a probe in {folds} folds needs {folds} of each. "
            "Bring more, leave the class out, or take fewer folds."
        )
    shares = _probe(centred(features), codes, folds, seed)
    weights = np.array([share[1] for share in shares]) / len(features)
    rights = np.array([share[0] for share in shares])
    return Separability(
        neighbour=by_neighbours,
        k=k,
        linear=float(rights @ weights),
        lowest=float(rights.min()),
        highest=float(rights.max()),
        folds=folds,
        chance=chance(labels),
        pictures=len(features),
        classes=len(counts),
    )


def separability_of_layers(
    features: Mapping[str, np.ndarray],
    labels: Sequence[Hashable],
    *,
    k: int = NEIGHBOURS,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Separability]:
    """`separability` of each layer's features, over the same folds; progress counts layers."""
    found = {}
    for number, (layer, rows) in enumerate(features.items(), 1):
        found[layer] = separability(rows, labels, k=k, folds=folds, seed=seed)
        if progress is not None:
            progress(number, len(features))
    return found


def neighbour_accuracy(features: np.ndarray, labels: Sequence[Hashable], k: int = NEIGHBOURS) -> float:
    """Share of pictures whose class is the vote of their ``k`` nearest others in ``features``: 0 to 1.

    Leave-one-out: a picture never votes for itself (an exact copy of it elsewhere in the set does). Euclidean
    distances; where classes tie, the one with the nearest voter wins. A class of one picture can only be wrong. Compare
    with `chance`. Raises BadParameter for one class only, where no vote can be wrong, and for k outside 1 to n − 1.
    """
    features = check_features(features, 2)
    codes = class_codes(labels, len(features))
    check_whole("k", k, 1, len(features) - 1)
    if codes.max() == 0:
        raise BadParameter(
            "All pictures are of one class, so that every vote is right and says nothing. Bring two classes or more."
        )
    voters = codes[nearest(features, k)]  # (n, k), nearest first
    votes = (voters[:, :, None] == voters[:, None, :]).sum(2)  # (n, k): how many vote as this one does
    winners = voters[np.arange(len(voters)), votes.argmax(1)]
    return float((winners == codes).mean())


def chance(labels: Sequence[Hashable]) -> float:
    """Share of the largest class, 0 to 1: how often always naming that class is right."""
    codes = class_codes(labels, len(labels))
    return float(np.bincount(codes).max() / len(codes))


def _probe(rows: np.ndarray, codes: np.ndarray, folds: int, seed: int) -> list[tuple[float, int]]:
    """Of each fold, the share that the probe of the other folds names right, and how many pictures it holds."""
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, codes):
        size = min(PROBE_DIMENSIONS, rows.shape[1], len(train))
        steps = [StandardScaler(), LogisticRegression(max_iter=PROBE_ITERATIONS)]
        if size < rows.shape[1]:
            steps.insert(1, PCA(size, random_state=seed))
        probe = make_pipeline(*steps)
        with warnings.catch_warnings():  # a plane found to fewer digits names the same pictures
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(rows[train], codes[train])
        found.append((float(probe.score(rows[test], codes[test])), len(test)))
    return found
