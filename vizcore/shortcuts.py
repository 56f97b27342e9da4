"""Is a class told by something beside its subject: a mark in a corner, a frame, a background of its own?

Lapuschkin et al. (*Unmasking Clever Hans predictors and assessing what machines really learn*, Nature Communications
2019) found a net that knew horses by the photographer's tag in a corner, from the heatmaps of the whole class. Here
the heatmaps of each class are summed up, every picture with one vote (`class_evidence`), and a class is suspected whose
evidence at the border or in a corner lies far from that of the other classes (`suspected`).

The rule. Of a class and an area, the mean of the pictures' shares of evidence, and y = log(1 + share / area), since the
shares of classes without a mark are skewed. With the other K − 1 classes' mean m and standard deviation s of y,
t = (y − m) / (s √(1 + 1 / (K − 1))) would be Student's with K − 2 degrees of freedom if all classes were alike. It is
far out where p · (number of questions asked) < 0.05 (Bonferroni), and counts only where it is more than a trifle: the
odds share / (1 − share) at least twice those of an even map. Classes are not alike, and so it was measured on small
nets trained on digits, 20 with a mark in the corner of all pictures of a class, in half and in 30 % of them, and with
none (`tests/planted.py`, seeds 30 to 49, which had no part in the choice of the rule): the mark was found in 20, 18 and
8 of 20, and of all 80 sets none had a false alarm.

What it cannot tell. Only what a method sees is found: these were maps of HiResCAM; those of Grad-CAM, whose weights are
means over all places, had no evidence at all for some class of each of the 10 nets tried. A class may be at the border
because its subject is. Two classes with the same mark hide one another. With six of the classes the mark was found in
19 of 20 nets, with five in 15, with four in 10. Whether the answer hangs on the area, `vizcore.replaced` tells: it
needs no other classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from vizcore.records import BadParameter
from vizcore.shares import BORDER, CORNER, Area, areas, shares_of

ALARM = 0.05  # how often a set without a shortcut may be suspected of one
LEAST_ODDS = 2  # of the evidence in an area, to those of an even map
LEAST_SPREAD = 0.1  # of y: where the others all have 0, they say nothing of how far classes lie apart
LEAST_PICTURES, LEAST_CLASSES = 10, 4


@dataclass(frozen=True, eq=False)
class ClassEvidence:
    """Where the evidence for the class ``label`` lies in its pictures.

    ``mean`` (h, w) float32 is the mean heatmap, summing to 1. ``shares`` (A, m) float64 are the shares of the positive
    evidence in each of ``areas`` and picture, ``numbers`` (m,) which of the ``count`` pictures these are: those with
    positive evidence.
    """

    label: str
    mean: np.ndarray
    areas: tuple[Area, ...]
    shares: np.ndarray
    numbers: np.ndarray
    count: int

    @property
    def even(self) -> np.ndarray:
        """(A,) what an even map would have in each area."""
        return np.array([area.even for area in self.areas])

    @property
    def means(self) -> np.ndarray:
        """(A,) the mean share in each area: that of the mean heatmap."""
        return self.shares.mean(1)


@dataclass(frozen=True)
class Suspicion:
    """The class ``label`` has ``share`` of its evidence in ``area``, the other classes ``others`` in the median, an
    even map ``even``. ``p`` is corrected for all questions."""

    label: str
    area: Area
    share: float
    others: float
    even: float
    p: float

    @property
    def sentence(self) -> str:
        """What was found, and what it does not say."""
        return (
            f"“{self.label}” has {self.share:.0%} of its evidence in the {self.area.name}, where other classes "
            f"have {self.others:.0%} and an even map {self.even:.0%}. Its subject may lie there; replace that part to "
            "see whether the answer hangs on it."
        )


@dataclass(frozen=True, eq=False)
class Suspected:
    """The suspicions of a set, the surest first; ``labels`` of what was compared, those ``left_out`` with too few
    pictures, how many ``questions`` were asked, and of how many ``classes`` the labels are."""

    suspicions: tuple[Suspicion, ...]
    labels: tuple[str, ...]
    left_out: tuple[str, ...]
    questions: int
    classes: int | None = None

    @property
    def of_class(self) -> dict[str, Suspicion]:
        """The surest suspicion of each suspected class."""
        found: dict[str, Suspicion] = {}
        for one in self.suspicions:
            found.setdefault(one.label, one)
        return found

    @property
    def sentence(self) -> str:
        """What was found in all, and how much that says."""
        compared = len(self.labels) if self.classes is None else self.classes
        if compared < LEAST_CLASSES:
            return (
                f"{compared} classes with {LEAST_PICTURES} pictures or more are too few to compare with one another; "
                f"{LEAST_CLASSES} are needed, and ten are good. Replace parts of the pictures instead."
            )
        found = ", ".join(f"“{label}”" for label in self.of_class)
        if not found:
            return (
                f"None of {compared} classes stands out at the border or in a corner. A shortcut elsewhere, one that "
                "several classes share, or one that the method does not show is not excluded by that."
            )
        if len(self.of_class) > 1:
            return f"Of {compared} classes, {found} have evidence at the border or in a corner far beyond the others'."
        return f"Of {compared} classes, {found} has evidence at the border or in a corner as no other class has."


def class_evidence(
    label: str, heatmaps: np.ndarray, *, border: float = BORDER, corner: float = CORNER
) -> ClassEvidence:
    """Where the ``heatmaps`` (n, h, w) of the pictures of one class, each for that class, have their evidence.

    Raw and signed, as their method gives them, one method and layer for all. ``border`` and ``corner`` are shares of a
    side, more than 0 and at most a half. Pictures without positive evidence are left out. No forward pass. Raises
    BadParameter.
    """
    parts = areas(border, corner)
    shares = shares_of(heatmaps)
    size = shares.values.shape[1], shares.values.shape[2]
    inside = np.stack([np.tensordot(shares.values, area.cover(size), 2) for area in parts])  # (A, m)
    return ClassEvidence(label, shares.mean.astype(np.float32), parts, inside, shares.numbers, shares.count)


def suspected(evidence: Sequence[ClassEvidence], targets: Mapping[str, int] | None = None) -> Suspected:
    """The classes whose evidence lies elsewhere than that of all other classes, by the rule at the head of this file.

    ``evidence`` has one entry a label, with the same areas. ``targets`` is the class of each label, None where each is
    a class of its own: labels of one class, as two folders may be, are not compared with one another, and to others
    they are one, by the mean over their pictures. Labels of fewer than 10 pictures with evidence are left out; of fewer
    than 4 classes that remain, none is suspected. Raises BadParameter.
    """
    labels = [one.label for one in evidence]
    if len(set(labels)) < len(labels) or not labels:
        raise BadParameter(f"evidence is of the classes {', '.join(labels) or 'none'}; it must be one entry a class.")
    if len({one.areas for one in evidence}) > 1:
        raise BadParameter("evidence has areas of different sizes; take the same border and corner for every class.")
    compared = [one for one in evidence if len(one.numbers) >= LEAST_PICTURES]
    left_out = tuple(one.label for one in evidence if len(one.numbers) < LEAST_PICTURES)
    names = tuple(one.label for one in compared)
    of_class = np.array([k if targets is None else targets[name] for k, name in enumerate(names)], np.int64)
    classes = len(set(of_class))
    if classes < LEAST_CLASSES:
        return Suspected((), names, left_out, 0, classes)
    values = np.stack([one.means for one in compared])  # (K, A)
    others = _others(values, [len(one.numbers) for one in compared], of_class)  # (K, classes − 1, A)
    even = compared[0].even
    chances = np.minimum(1, values.size * _chances(np.log1p(values / even), np.log1p(others / even)))
    found = [
        Suspicion(
            label=names[k],
            area=compared[0].areas[area],
            share=float(values[k, area]),
            others=float(np.median(others[k, :, area])),
            even=float(even[area]),
            p=float(chances[k, area]),
        )
        for k, area in np.argwhere((chances < ALARM) & (values * (1 - even) >= LEAST_ODDS * even * (1 - values)))
    ]
    return Suspected(tuple(sorted(found, key=lambda one: one.p)), names, left_out, values.size, classes)


def _others(values: np.ndarray, counts: Sequence[int], of_class: np.ndarray) -> np.ndarray:
    """Of each of K labels the values (A,) of every other class, the mean over its pictures: (K, C − 1, A)."""
    weighed = values * np.array(counts)[:, None]
    of_each = {
        k: weighed[of_class == k].sum(0) / np.array(counts)[of_class == k].sum() for k in dict.fromkeys(of_class)
    }
    return np.stack([[mean for k, mean in of_each.items() if k != own] for own in of_class])


def _chances(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(K, A) and (K, C − 1, A) to how often Student's t would put one of C equal classes so far above the others,
    (K, A)."""
    count = others.shape[1]
    spread = others.std(1, ddof=1) * np.sqrt(1 + 1 / count)
    above = values - others.mean(1)
    return stdtr(count - 1, -above / np.maximum(spread, LEAST_SPREAD))
