"""Which number of a net's answer a method watches: the logit of a class, or its probability."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vizcore.records import BadParameter, Model, check_target, probabilities

SCORES = ("logit", "probability")


def check_score(score: str) -> str:
    """``score`` as it is, or BadParameter with the known ones."""
    if score not in SCORES:
        raise BadParameter(f"score is {score!r}; it must be one of {', '.join(SCORES)}.")
    return score


def scores_of(model: Model, logits: Tensor, targets: Sequence[int], score: str) -> Tensor:
    """(N, K) logits to (N, T) scores of the targets, float64; BadParameter for a target beyond K."""
    for target in targets:
        check_target(model, target, logits.shape[1])
    return (logits if score == "logit" else probabilities(logits))[:, list(targets)].double()
