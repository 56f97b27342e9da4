"""What a network answers to a set of pictures in folders, and how far that agrees with the folders.

`predict` asks for the probabilities; `class_mapping` says which class of the net each folder is named after; `evaluate`
puts the two together: accuracy, recall and precision of each class, the table of confusions with the pictures in each
of its cells, and the mistakes, the surest first. An accuracy is a share of few pictures, so it comes with the interval
of Wilson (*Probable Inference, the Law of Succession, and Statistical Inference*, 1927): all p no more than 1.96 of
their own standard errors away, which unlike p̂ ± 1.96 σ stay between 0 and 1, and are more than one number where every
answer is right. It takes the pictures for independent draws of those that the net will see: frames of one film are not.

A folder that is named after no class, or after several, is reported and never guessed; its pictures are answered, but
counted neither right nor wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.stats import binomtest

from vizcore.images import Pictures, in_batches
from vizcore.records import (
    BadParameter,
    Model,
    Progress,
    UnsupportedModel,
    check_whole,
    probabilities,
)

CONFIDENCE = 0.95  # of an interval
NO_CLASS = -1


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a net answers to n pictures: ``probabilities`` (n, K) float32, a row a picture, summing to 1; ``labels``,
    the names of the K classes. 4 bytes · n · K: 8 MB for 2 000 pictures and 1 000 classes."""

    probabilities: np.ndarray
    model_name: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = np.shape(self.probabilities)
        if len(shape) != 2 or shape[1] != len(self.labels) or shape[1] < 2:
            raise BadParameter(
                f"probabilities has the shape {shape} beside {len(self.labels)} labels; it must be (n, K), a column "
                "for each label, and two at least."
            )
        if not np.isfinite(self.probabilities).all():
            raise BadParameter("probabilities holds NaN or infinity; it must be numbers from 0 to 1.")

    @cached_property
    def answers(self) -> np.ndarray:
        """(n,) the class of the highest probability; of equal ones the first."""
        return self.probabilities.argmax(1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(n,) the probability of the answer, 0 to 1."""
        return self.probabilities.max(1)

    def top(self, k: int) -> np.ndarray:
        """(n, k) the classes of the ``k`` (1 to K) highest probabilities, the highest first; of equal ones the first
        class."""
        check_whole("k", k, 1, len(self.labels))
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]


@dataclass(frozen=True)
class ClassMapping:
    """Which class of the net each of ``folders`` is named after: ``candidates``, class indices, one tuple a folder.

    One candidate is a match; none, and the folder is unmatched; several, and it is ambiguous.
    """

    folders: tuple[str, ...]
    candidates: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]

    @property
    def classes(self) -> np.ndarray:
        """(F,) the class of each folder, −1 where it has none of its own."""
        return np.array([found[0] if len(found) == 1 else NO_CLASS for found in self.candidates], np.int64)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Folders that are named after no class."""
        return tuple(name for name, found in zip(self.folders, self.candidates, strict=True) if not found)

    @property
    def ambiguous(self) -> dict[str, tuple[str, ...]]:
        """Folders that are named after several classes, with the labels of these."""
        pairs = zip(self.folders, self.candidates, strict=True)
        return {name: tuple(self.labels[k] for k in found) for name, found in pairs if len(found) > 1}

    def with_class(self, folder: str, answer: int) -> ClassMapping:
        """The same with ``folder`` standing for the class ``answer``, as somebody who knows it says."""
        if folder not in self.folders:
            raise BadParameter(f"folder is {folder!r}; it must be one of {', '.join(self.folders)}.")
        answer = check_whole("answer", answer, 0, len(self.labels) - 1)
        pairs = zip(self.folders, self.candidates, strict=True)
        return replace(self, candidates=tuple((answer,) if name == folder else found for name, found in pairs))


@dataclass(frozen=True)
class Share:
    """``hits`` of ``count``, and the 95 % interval of Wilson for what it would be over ever more such pictures."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """0 to 1; NaN of none."""
        return self.hits / self.count if self.count else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, 0 to 1; of none all that is possible, 0 and 1."""
        if not self.count:
            return 0.0, 1.0
        ends = binomtest(self.hits, self.count).proportion_ci(CONFIDENCE, method="wilson")
        return float(ends.low), float(ends.high)


@dataclass(frozen=True)
class ClassScore:
    """One folder and its class: ``recall``, the share of its pictures that are answered with the class, and
    ``precision``, the share of all so answered, of matched folders, that lie in a folder of the class."""

    folder: str
    label: str
    recall: Share
    precision: Share


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many pictures of each folder were answered with each class: ``counts`` (F, C) int64.

    Rows are ``folders``, unmatched ones included. Columns are ``classes`` (C,): the folders' own in the order of the
    folders, then other answers, the commonest first.
    """

    counts: np.ndarray
    folders: tuple[str, ...]
    classes: np.ndarray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """``predictions`` beside the folders of the pictures: ``rows`` (n,) are indices into ``mapping.folders``."""

    predictions: Predictions
    mapping: ClassMapping
    rows: np.ndarray

    @cached_property
    def truth(self) -> np.ndarray:
        """(n,) the class that the picture's folder is named after, −1 where it is not known."""
        return self.mapping.classes[self.rows]

    @property
    def counted(self) -> np.ndarray:
        """(n,) bool: whether it is known which answer is right."""
        return self.truth != NO_CLASS

    @property
    def right(self) -> np.ndarray:
        """(n,) bool: the answer is the folder's class."""
        return self.predictions.answers == self.truth

    @property
    def accuracy(self) -> Share:
        return Share(int(self.right.sum()), int(self.counted.sum()))

    def accuracy_in(self, k: int) -> Share:
        """The share of the pictures whose class is among the ``k`` most probable ones: top-5 accuracy with 5."""
        hits = (self.predictions.top(k) == self.truth[:, None]).any(1)
        return Share(int(hits.sum()), int(self.counted.sum()))

    @property
    def by_class(self) -> tuple[ClassScore, ...]:
        """Recall and precision of each matched folder, in the order of the folders."""
        scores = []
        for row, (folder, k) in enumerate(zip(self.mapping.folders, self.mapping.classes, strict=True)):
            if k != NO_CLASS:
                mine, answered = self.rows == row, (self.predictions.answers == k) & self.counted
                recall = Share(int(self.right[mine].sum()), int(mine.sum()))
                precision = Share(int(self.right[answered].sum()), int(answered.sum()))
                scores.append(ClassScore(folder, self.mapping.labels[k], recall, precision))
        return tuple(scores)

    @cached_property
    def confusion(self) -> Confusion:
        counts = np.zeros((len(self.mapping.folders), len(self.mapping.labels)), np.int64)
        np.add.at(counts, (self.rows, self.predictions.answers), 1)
        own = list(dict.fromkeys(int(k) for k in self.mapping.classes if k != NO_CLASS))
        total = counts.sum(0)
        others = [int(k) for k in np.argsort(-total, kind="stable") if total[k] and k not in own]
        classes = np.array(own + others, np.int64)
        return Confusion(counts[:, classes], self.mapping.folders, classes)

    def cell(self, folder: str, answer: int) -> np.ndarray:
        """Numbers of the pictures of ``folder`` answered with the class ``answer``, the surest first."""
        row = self._row_of(folder)
        check_whole("answer", answer, 0, len(self.mapping.labels) - 1)
        inside = (self.rows == row) & (self.predictions.answers == answer)
        return self._surest_first(np.flatnonzero(inside))

    def target(self, folder: str) -> int:
        """The class of ``folder``, or where it has none the one that its pictures are answered with most; of equal
        ones the first."""
        row = self._row_of(folder)
        known = int(self.mapping.classes[row])
        return known if known != NO_CLASS else int(np.bincount(self.predictions.answers[self.rows == row]).argmax())

    @property
    def mistakes(self) -> np.ndarray:
        """Numbers of the pictures whose answer is not their folder's class, the surest first; of unmatched folders
        none."""
        return self._surest_first(np.flatnonzero(self.counted & ~self.right))

    def _row_of(self, folder: str) -> int:
        if folder not in self.mapping.folders:
            raise BadParameter(f"folder is {folder!r}; it must be one of {', '.join(self.mapping.folders)}.")
        return self.mapping.folders.index(folder)

    def _surest_first(self, numbers: np.ndarray) -> np.ndarray:
        return numbers[np.argsort(-self.predictions.confidence[numbers], kind="stable")]


def predict(model: Model, pictures: Pictures, *, batch_size: int = 8, progress: Progress | None = None) -> Predictions:
    """The probabilities of every class for each of ``pictures``.

    ``pictures`` are uint8 arrays (H, W, 3) of any sizes, each shown to the net as `images.prepare` cuts it, or a float
    tensor (N, 3, H, W) in [0, 1], shown as it is. One forward pass for every ``batch_size`` pictures (1 to 4096), which
    bounds the memory and does not change the result; the model's lock is held for one such batch at a time. Progress
    counts pictures. Raises BadParameter for an empty set, UnsupportedModel for a net with one score.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    rows = []
    for batch in in_batches(pictures, model, batch_size, progress):
        with model.lock:
            logits = model.logits(batch).detach()
        if logits.shape[1] < 2:
            raise UnsupportedModel(f"{model.title} has one score: there are no classes to choose from.")
        rows.append(probabilities(logits.double()).float().cpu().numpy())
    return Predictions(np.concatenate(rows), model.name, model.labels)


def class_mapping(folders: Sequence[str], labels: Sequence[str]) -> ClassMapping:
    """Which class each of ``folders`` is named after; each is looked up once, in the order of its first appearance.

    A folder spelled exactly as one label is that class. Otherwise a name is compared in lower case, with spaces,
    underscores and hyphens taken for the same, with each label and with each name in it between commas ("cock, hen's
    mate" has two). WordNet numbers such as n01440764 and class numbers are not looked up.
    """
    if isinstance(folders, str) or not len(folders):
        raise BadParameter(f"folders is {folders!r}; it must be a list of one folder's name or more.")
    spelled: dict[str, list[int]] = {}
    named: dict[str, list[int]] = {}
    for k, label in enumerate(labels):
        spelled.setdefault(label, []).append(k)
        for name in dict.fromkeys([_plain(label), *map(_plain, label.split(","))]):
            named.setdefault(name, []).append(k)
    distinct = tuple(dict.fromkeys(folders))
    found = []
    for folder in distinct:
        exact = spelled.get(folder, [])
        found.append(tuple(exact if len(exact) == 1 else named.get(_plain(folder), ())))
    return ClassMapping(distinct, tuple(found), tuple(labels))


def evaluate(predictions: Predictions, folders: Sequence[str], mapping: ClassMapping | None = None) -> Evaluation:
    """``predictions`` of n pictures beside the folder of each, ``folders`` (n,).

    ``mapping`` None is `class_mapping` of the folders and the net's labels; `ClassMapping.with_class` gives a class to
    a folder that has none. Raises BadParameter.
    """
    if len(folders) != len(predictions.probabilities):
        raise BadParameter(
            f"folders names the folder of {len(folders)} pictures; predictions are of {len(predictions.probabilities)}."
        )
    mapping = mapping or class_mapping(folders, predictions.labels)
    if mapping.labels != predictions.labels:
        raise BadParameter(
            f"mapping is on to {len(mapping.labels)} classes that are not the {len(predictions.labels)} of "
            "predictions.labels; make it with class_mapping(folders, predictions.labels)."
        )
    numbers = {folder: row for row, folder in enumerate(mapping.folders)}
    missing = [folder for folder in dict.fromkeys(folders) if folder not in numbers]
    if missing:
        raise BadParameter(f"mapping lacks the folder {missing[0]!r}; it must hold every folder of the pictures.")
    return Evaluation(predictions, mapping, np.array([numbers[folder] for folder in folders], np.int64))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()
