"""Does the answer hang on one part of the picture: the class when that part is replaced, beside other parts as large.

Heatmaps only point. Here the suspected part of every picture of a class is replaced, and so is every other place of the
same size that does not touch it: occlusion (Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks*,
ECCV 2014) with one window, asked of a set. A mark in a corner that the class is known by takes the class along; a
corner with nothing in it does not.

What stands in matters. A blur leaves some of a bright mark, and the mean over pictures of the class itself leaves all
of it: the mean over pictures of *other* classes, handed over as a tensor, has none. Where the class goes with the part,
the net needs it; that the net should not need it, only who knows the subject can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from vizcore.baselines import filling_of
from vizcore.images import Pictures, in_batches, prepare
from vizcore.records import (
    BadParameter,
    Model,
    Progress,
    UnsupportedModel,
    check_pixels,
    check_target,
    check_whole,
    probabilities,
)
from vizcore.shares import Part

RARE = 0.05
MOST = 40  # pictures, of a class that is asked and of the others that stand in, where a whole set is asked


@dataclass(frozen=True, eq=False)
class Replaced:
    """What n pictures of the class ``target`` are answered with each of P places replaced, the asked one first.

    ``boxes`` (P, 4) are left, top, right and bottom in pixels of what the net sees, right and bottom outside.
    ``drops`` (P, n) float32 are by how much the target's probability falls, −1 to 1, positive = evidence for it was
    there. ``answered`` (n,) bool: the net answers the target to the picture as it is; ``lost`` (P, n) bool: of these,
    no longer.
    """

    boxes: np.ndarray
    drops: np.ndarray
    answered: np.ndarray
    lost: np.ndarray
    target: int
    model_name: str

    @property
    def lost_shares(self) -> np.ndarray:
        """(P,) of the pictures that were answered with the target, how many lose it, 0 to 1; NaN where none was."""
        return self.lost.sum(1) / (self.answered.sum() or np.nan)

    @property
    def worst_elsewhere(self) -> int:
        """The place, 1 to P − 1, at which most pictures lose the class, beside the asked one."""
        return 1 + int(self.lost[1:].sum(1).argmax())

    @property
    def p(self) -> float:
        """How likely so many more pictures would lose the class at the asked place than at the worst other one if both
        were alike, by lot: the sign test over the pictures that lose it at one of the two only (McNemar 1947)."""
        here, there = self.lost[0], self.lost[self.worst_elsewhere]
        only_here, only_there = int((here & ~there).sum()), int((there & ~here).sum())
        if not only_here + only_there:
            return 1.0
        return float(binomtest(only_here, only_here + only_there, alternative="greater").pvalue)

    @property
    def stands_out(self) -> bool:
        """More pictures lose the class here than at any other place, and not by chance."""
        return self.p < RARE

    @property
    def sentence(self) -> str:
        if not self.answered.any():
            return "None of the pictures is answered with the class, so that none can lose it."
        here, there = self.lost_shares[0], self.lost_shares[self.worst_elsewhere]
        verdict = "the answer hangs on this part more than on any other" if self.stands_out else "no clear difference"
        return (
            f"With this part replaced, {here:.0%} of the {int(self.answered.sum())} pictures lose the class; at the "
            f"worst of {len(self.boxes) - 1} other places as large, {there:.0%} do: {verdict}."
        )


def replace_part(
    model: Model,
    pictures: Pictures,
    target: int,
    part: Part,
    *,
    baseline: str | Tensor = "blur",
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Replaced:
    """What becomes of ``target`` in ``pictures`` when ``part`` is replaced, and every place as large in turn.

    ``part`` is left, top, right and bottom as shares of what the net sees, 0 to 1, rounded to pixels. The other places
    lie half a part apart and do not touch it. ``baseline`` is what stands in, as `baselines.filling_of` takes it, or
    one picture (1, 3, H, W) for all, such as the mean of pictures of other classes. ``pictures`` are uint8 arrays (H,
    W, 3), or a float tensor (N, 3, H, W) in [0, 1]. One forward pass a place and ``batch_size`` pictures (1 to 4096),
    and one for the pictures as they are; progress counts pictures. Raises BadParameter, UnsupportedModel for a net with
    one score.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    check_target(model, target)
    _check_part(part)
    if isinstance(baseline, Tensor):
        check_pixels(baseline, one=True)
    boxes: np.ndarray | None = None
    drops, answered, lost = [], [], []
    for batch in in_batches(pictures, model, batch_size, progress):
        if boxes is None:
            boxes = _places(part, (batch.shape[2], batch.shape[3]))
        filling = filling_of(batch, _for_each(baseline, batch))
        whole, first = _answers(model, batch, target)
        answered.append(first)
        scores, kept = [], []
        for left, top, right, bottom in boxes:
            changed = batch.clone()
            changed[:, :, top:bottom, left:right] = filling[:, :, top:bottom, left:right]
            score, still = _answers(model, changed, target)
            scores.append(whole - score)
            kept.append(still)
        drops.append(np.stack(scores))
        lost.append(first & ~np.stack(kept))
    assert boxes is not None
    return Replaced(
        boxes=boxes,
        drops=np.concatenate(drops, 1).astype(np.float32),
        answered=np.concatenate(answered),
        lost=np.concatenate(lost, 1),
        target=int(target),
        model_name=model.name,
    )


def evenly(numbers: Sequence[int], most: int = MOST) -> list[int]:
    """At most ``most`` of ``numbers``, at equal distances."""
    return list(numbers[:: -(-len(numbers) // most) or 1])


def mean_of(model: Model, pictures: Sequence[np.ndarray]) -> Tensor:
    """The mean (1, 3, H, W) of ``pictures``, uint8 (H, W, 3), as the net sees them: what stands in for a part, where
    they are of other classes. At least one."""
    return torch.stack([prepare(picture, model).pixels for picture in pictures]).mean(0)


def _answers(model: Model, pixels: Tensor, target: int) -> tuple[np.ndarray, np.ndarray]:
    """The target's probability (b,) float64, and whether it is the answer, (b,) bool."""
    with torch.no_grad():
        logits = model.logits(pixels)
    if logits.shape[1] < 2:
        raise UnsupportedModel(f"{model.title} has one score: there is no other class to turn to.")
    chances = probabilities(logits.double())[:, target]
    return chances.cpu().numpy(), (logits.argmax(1) == target).cpu().numpy()


def _for_each(baseline: str | Tensor, batch: Tensor) -> str | Tensor:
    if not isinstance(baseline, Tensor) or baseline.shape[1:] != batch.shape[1:]:
        return baseline  # of another size it is refused in the words of `filling_of`
    return baseline.to(batch).expand_as(batch)


def _check_part(part: Part) -> None:
    numbers = isinstance(part, (tuple, list)) and len(part) == 4 and all(isinstance(s, (int, float)) for s in part)
    if not numbers or not (0 <= part[0] < part[2] <= 1 and 0 <= part[1] < part[3] <= 1):
        raise BadParameter(
            f"part is {part!r}; it must be left, top, right and bottom as shares of the picture, 0 ≤ left < right ≤ 1 "
            "and 0 ≤ top < bottom ≤ 1."
        )


def _places(part: Part, size: tuple[int, int]) -> np.ndarray:
    """The box of ``part`` in a picture of ``size`` (H, W), and those of the other places, (P, 4)."""
    height, width = size
    left, top = round(part[0] * width), round(part[1] * height)
    right, bottom = max(round(part[2] * width), left + 1), max(round(part[3] * height), top + 1)
    h, w = bottom - top, right - left
    boxes = [
        (x, y, x + w, y + h)
        for y in _starts(top, h, height)
        for x in _starts(left, w, width)
        if x >= right or x + w <= left or y >= bottom or y + h <= top
    ]
    if not boxes:
        raise BadParameter(
            f"part is {part!r}, {h} × {w} of {height} × {width} pixels: there is no other place as large that does not "
            "touch it. Choose a smaller one."
        )
    return np.array([(left, top, right, bottom), *boxes])


def _starts(start: int, length: int, whole: int) -> list[int]:
    """Where places of ``length`` pixels start along an axis: half a length apart, one of them at ``start``."""
    step = max(1, length // 2)
    return list(range(start % step, whole - length + 1, step))
