"""What was found over a set of pictures: one record, filled as far as somebody asked, and its tables.

Each table is a `pandas.DataFrame` of plain columns: pictures and folders by their names, classes by number and by
label, so that two tables can be joined. `vizcore.survey` writes them; ``docs/survey.md`` lists their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vizcore.alike import THRESHOLD, Likeness
from vizcore.calibration import Reliability, reliability
from vizcore.class_channels import ChannelAblation, ClassChannels
from vizcore.heat_clusters import HeatClusters
from vizcore.predictions import ClassScore, Confusion, Evaluation
from vizcore.replaced import Replaced
from vizcore.shares import Area
from vizcore.shortcuts import ClassEvidence, Suspected
from vizcore.strongest import StrongestPatches

if TYPE_CHECKING:
    import pandas as pd

TOP = 5  # classes of a picture

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Carried:
    """What the channels of a layer carry of the class of ``folder``, and what becomes of it without some of them, put
    at one value or at several."""

    folder: str
    channels: ClassChannels
    ablated: Sequence[ChannelAblation] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """The heatmaps of a whole set by ``method`` at ``layer``: ``heats`` (n, h, w) float32, raw, each for the class of
    its folder, which is one of ``targets``."""

    heats: np.ndarray
    targets: Mapping[str, int]
    method: str
    layer: str


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found over n pictures: their ``names`` and ``folders``, and of what was asked the records.

    ``strongest``, ``kernels`` and ``outputs`` have one a layer, ``means`` one a folder; ``groups`` are those of a
    folder's heatmaps, ``replaced`` the counter-tests. Numbers in them are places in ``names``, but in ``means`` and
    ``groups``, where they are places among the pictures of the folder.
    """

    names: Sequence[str]
    folders: Sequence[str]
    labels: Sequence[str]
    evaluation: Evaluation | None = None
    strongest: Sequence[StrongestPatches] = ()
    kernels: Sequence[Likeness] = ()
    outputs: Sequence[Likeness] = ()
    carried: Sequence[Carried] = ()
    evidence: Evidence | None = None
    means: Sequence[ClassEvidence] = ()
    suspected: Suspected | None = None
    groups: Mapping[str, HeatClusters] = field(default_factory=dict)
    replaced: Mapping[tuple[str, Area], Replaced] = field(default_factory=dict)
    threshold: float = THRESHOLD

    def numbers(self, folder: str) -> np.ndarray:
        """Places of the pictures of ``folder``."""
        return np.flatnonzero(np.array(self.folders, object) == folder)


def tables_of(found: Findings) -> dict[str, pd.DataFrame]:
    """The tables of all that was found, by name; of what was not asked, or found nothing, none."""
    import pandas as pd

    made: dict[str, pd.DataFrame] = {}
    if found.evaluation is not None:
        made["answers"] = answers_table(found, found.evaluation)
    for name, rows_of in TABLES.items():
        if rows := list(rows_of(found)):
            made[name] = pd.DataFrame(rows)
    return made


# -- answers ---------------------------------------------------------------------------------------------------------


def answers_table(found: Findings, evaluation: Evaluation) -> pd.DataFrame:
    """A row a picture: its folder's class, null where there is none, and what it is answered with."""
    import pandas as pd

    predictions, unknown = evaluation.predictions, ~evaluation.counted
    top = predictions.top(min(TOP, len(predictions.labels)))
    return pd.DataFrame(
        {
            "picture": list(found.names),
            "folder": list(found.folders),
            "class": pd.arrays.IntegerArray(evaluation.truth.astype(np.int64), unknown),
            "answer": predictions.answers,
            "label": [predictions.labels[k] for k in predictions.answers],
            "confidence": predictions.confidence,
            "right": pd.arrays.BooleanArray(evaluation.right.copy(), unknown),
            "top_classes": list(top),
            "top_probabilities": list(np.take_along_axis(predictions.probabilities, top, 1)),
        }
    )


def calibration_of(evaluation: Evaluation) -> Reliability:
    """The reliability curve of the pictures whose class is known."""
    counted = evaluation.counted
    return reliability(evaluation.predictions.confidence[counted].clip(0, 1), evaluation.right[counted])


def bins_of(curve: Reliability) -> Iterator[Row]:
    each = zip(curve.edges[:-1], curve.edges[1:], curve.counts, curve.confidence, curve.accuracy, strict=True)
    for start, end, count, confidence, accuracy in each:
        yield {"from": start, "to": end, "pictures": count, "confidence": confidence, "accuracy": accuracy}


def _bins(found: Findings) -> Iterator[Row]:
    if found.evaluation is not None and found.evaluation.counted.any():
        yield from bins_of(calibration_of(found.evaluation))


def _classes(found: Findings) -> Iterator[Row]:
    for score in found.evaluation.by_class if found.evaluation else ():
        yield _class(score)


def _class(score: ClassScore) -> Row:
    (low, high), (precision_low, precision_high) = score.recall.interval, score.precision.interval
    return {
        "folder": score.folder,
        "label": score.label,
        "pictures": score.recall.count,
        "right": score.recall.hits,
        "recall": score.recall.value,
        "recall_low": low,
        "recall_high": high,
        "answered": score.precision.count,
        "precision": score.precision.value,
        "precision_low": precision_low,
        "precision_high": precision_high,
    }


def _confusions(found: Findings) -> Iterator[Row]:
    """A row a cell that is not empty."""
    if found.evaluation is None:
        return
    confusion: Confusion = found.evaluation.confusion
    for row, column in np.argwhere(confusion.counts):
        answer = int(confusion.classes[column])
        yield {
            "folder": confusion.folders[row],
            "answer": answer,
            "label": found.labels[answer],
            "pictures": confusion.counts[row, column],
        }


# -- channels --------------------------------------------------------------------------------------------------------


def _channels(found: Findings) -> Iterator[Row]:
    for ranked in found.strongest:
        dead = set(map(int, ranked.dead))
        for channel, lowest, highest in zip(ranked.channels, ranked.lowest, ranked.activations[:, 0], strict=True):
            yield {
                "layer": ranked.layer,
                "channel": channel,
                "lowest": lowest,
                "highest": highest,
                "dead": int(channel) in dead,
            }


def _strongest(found: Findings) -> Iterator[Row]:
    for ranked in found.strongest:
        for row, rank in np.ndindex(ranked.pictures.shape):
            number, place, box = int(ranked.pictures[row, rank]), ranked.places[row, rank], ranked.boxes[row, rank]
            yield {
                "layer": ranked.layer,
                "channel": ranked.channels[row],
                "rank": rank + 1,
                "picture": found.names[number],
                "folder": found.folders[number],
                "activation": ranked.activations[row, rank],
                **dict(zip(("row", "column"), place, strict=True)),
                **dict(zip(("left", "top", "right", "bottom"), box, strict=True)),
            }


def _alike(found: Findings) -> Iterator[Row]:
    for by, every in (("kernels", found.kernels), ("outputs", found.outputs)):
        for likeness in every:
            for one, other in likeness.pairs(found.threshold):
                value = likeness.values[one, other]
                yield {"layer": likeness.layer, "by": by, "one": one, "other": other, "likeness": value}


def _carriers(found: Findings) -> Iterator[Row]:
    for carried in found.carried:
        channels = carried.channels
        means, errors = channels.means, channels.errors
        for rank, channel in enumerate(channels.order, 1):
            yield {
                "folder": carried.folder,
                "class": channels.target,
                "layer": channels.layer,
                "rank": rank,
                "channel": channel,
                "mean": means[channel],
                "error": errors[channel],
            }


def _ablated(found: Findings) -> Iterator[Row]:
    for folder, without in ((one.folder, without) for one in found.carried for without in one.ablated):
        for number, (channel,) in enumerate(without.channels):
            yield {
                "folder": folder,
                "class": without.target,
                "layer": without.layer,
                "channel": channel,
                "value": without.value,
                "pictures": len(without.before),
                "answered": int((without.before == without.target).sum()),
                "lost": without.lost[number],
                "changed": without.changed[number],
                "logit_drop": without.logit_drops[number].mean(),
                "probability_drop": without.probability_drops[number].mean(),
            }


# -- shortcuts -------------------------------------------------------------------------------------------------------


def _heatmaps(found: Findings) -> Iterator[Row]:
    if found.evidence is None:
        return
    for name, folder, heat in zip(found.names, found.folders, found.evidence.heats, strict=True):
        yield {
            "picture": name,
            "folder": folder,
            "class": found.evidence.targets[folder],
            **_map(heat),
        }


def _map(values: np.ndarray) -> Row:
    """(h, w) as a row of numbers, row by row, and its size."""
    return {"height": values.shape[0], "width": values.shape[1], "values": values.ravel()}


def _means(found: Findings) -> Iterator[Row]:
    for one in found.means:
        yield {"folder": one.label, "pictures": one.count, "with_evidence": len(one.numbers), **_map(one.mean)}


def _areas(found: Findings) -> Iterator[Row]:
    for one in found.means:
        for area, share, even in zip(one.areas, one.means, one.even, strict=True):
            yield {"folder": one.label, "area": area.name, "share": share, "even": even}


def _suspicions(found: Findings) -> Iterator[Row]:
    for one in found.suspected.suspicions if found.suspected else ():
        yield {
            "folder": one.label,
            "area": one.area.name,
            "share": one.share,
            "others": one.others,
            "even": one.even,
            "p": one.p,
        }


def _groups(found: Findings) -> Iterator[Row]:
    """The nearest to the middle of its group first."""
    for folder, groups in found.groups.items():
        inside = found.numbers(folder)
        for number, group in enumerate(groups.clusters, 1):
            for rank, place in enumerate(group.numbers, 1):
                yield {"folder": folder, "group": number, "rank": rank, "picture": found.names[inside[place]]}


def _silhouettes(found: Findings) -> Iterator[Row]:
    for folder, groups in found.groups.items():
        for count, silhouette in enumerate(groups.silhouettes, 2):
            yield {"folder": folder, "groups": count, "silhouette": silhouette}


def _replaced(found: Findings) -> Iterator[Row]:
    """A row a place, the suspected one first."""
    for (folder, area), test in found.replaced.items():
        for number, (box, lost, drops) in enumerate(zip(test.boxes, test.lost_shares, test.drops, strict=True)):
            yield {
                "folder": folder,
                "area": area.name,
                "suspected": number == 0,
                **dict(zip(("left", "top", "right", "bottom"), box, strict=True)),
                "pictures": len(test.answered),
                "answered": int(test.answered.sum()),
                "lost": lost,
                "probability_drop": drops.mean(),
            }


TABLES: dict[str, Callable[[Findings], Iterator[Row]]] = {  # beside "answers", whose columns may hold nothing
    "classes": _classes,
    "confusions": _confusions,
    "calibration": _bins,
    "channels": _channels,
    "strongest": _strongest,
    "alike": _alike,
    "carriers": _carriers,
    "ablated": _ablated,
    "heatmaps": _heatmaps,
    "class_means": _means,
    "areas": _areas,
    "suspicions": _suspicions,
    "groups": _groups,
    "silhouettes": _silhouettes,
    "replaced": _replaced,
}
NAMES = ("answers", *TABLES)
