"""What was found over a set of pictures: one record, filled as far as somebody asked, and its tables.

Each table is a `pandas.DataFrame` of plain columns: pictures and folders by their names, classes by number and by
label, so that two tables can be joined. `vizcore.survey` writes them; ``docs/survey.md`` lists their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
Block = dict[str, Any]  # columns of one length, or one value for all: many rows at once


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
    """What was found over n pictures: their ``names`` and ``folders``, and of what was asked the records, or
    ``features`` (n, d).

    ``strongest``, ``kernels`` and ``outputs`` have one a layer, ``means`` one a folder; ``groups`` are those of a
    folder's heatmaps, ``replaced`` the counter-tests. Numbers in them are places in ``names``, but in ``means`` and
    ``groups``, where they are places among the pictures of the folder.
    """

    names: Sequence[str]
    folders: Sequence[str]
    labels: Sequence[str]
    evaluation: Evaluation | None = None
    features: np.ndarray | None = None
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


def tables_of(found: Findings, without: Collection[str] = ()) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of all that was found, by name, but those named in ``without``; of what was not asked, none."""
    import pandas as pd

    for name in NAMES:
        if name in without:
            continue
        if name == "answers":
            if found.evaluation is not None:
                yield name, answers_table(found, found.evaluation)
        elif name in BLOCKS:
            if blocks := [pd.DataFrame(block) for block in BLOCKS[name](found)]:
                yield name, pd.concat(blocks, ignore_index=True)
        elif rows := list(TABLES[name](found)):
            yield name, pd.DataFrame(rows)


def _named(found: Findings, target: int) -> Row:
    """A class as columns."""
    return {"class": target, "label": found.labels[target]}


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
        assert found.evaluation is not None
        mapping = found.evaluation.mapping
        yield {
            "folder": score.folder,
            **_named(found, int(mapping.classes[mapping.folders.index(score.folder)])),
            **_score(score),
        }


def _score(score: ClassScore) -> Row:
    (low, high), (precision_low, precision_high) = score.recall.interval, score.precision.interval
    return {
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


def _features(found: Findings) -> Iterator[Block]:
    if found.features is not None:
        yield {"picture": list(found.names), "folder": list(found.folders), "features": list(found.features)}


# -- channels --------------------------------------------------------------------------------------------------------


def _channels(found: Findings) -> Iterator[Block]:
    for ranked in found.strongest:
        yield {
            "layer": ranked.layer,
            "channel": ranked.channels,
            "lowest": ranked.lowest,
            "highest": ranked.activations[:, 0],
            "dead": np.isin(ranked.channels, ranked.dead),
        }


def _strongest(found: Findings) -> Iterator[Block]:
    names, folders = np.array(found.names, object), np.array(found.folders, object)
    for ranked in found.strongest:
        numbers, k = ranked.pictures.ravel(), ranked.pictures.shape[1]
        yield {
            "layer": ranked.layer,
            "channel": ranked.channels.repeat(k),
            "rank": np.tile(np.arange(1, k + 1), len(ranked.channels)),
            "picture": names[numbers],
            "folder": folders[numbers],
            "activation": ranked.activations.ravel(),
            **dict(zip(("row", "column"), ranked.places.reshape(-1, 2).T, strict=True)),
            **_box(ranked.boxes.reshape(-1, 4).T),
        }


def _box(sides: Any) -> Row:
    return dict(zip(("left", "top", "right", "bottom"), sides, strict=True))


def _alike(found: Findings) -> Iterator[Row]:
    for by, every in (("kernels", found.kernels), ("outputs", found.outputs)):
        for likeness in every:
            for one, other in likeness.pairs(found.threshold):
                value = likeness.values[one, other]
                yield {
                    "layer": likeness.layer,
                    "by": by,
                    "one": one,
                    "other": other,
                    "likeness": value,
                    "by_chance": likeness.by_chance,
                }


def _carriers(found: Findings) -> Iterator[Block]:
    for carried in found.carried:
        channels = carried.channels
        order = channels.order
        yield {
            "folder": carried.folder,
            **_named(found, channels.target),
            "layer": channels.layer,
            "rank": np.arange(1, len(order) + 1),
            "channel": order,
            "mean": channels.means[order],
            "error": channels.errors[order],
        }


def _ablated(found: Findings) -> Iterator[Row]:
    for folder, without in ((one.folder, without) for one in found.carried for without in one.ablated):
        for number, (channel,) in enumerate(without.channels):
            yield {
                "folder": folder,
                **_named(found, without.target),
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
            **_named(found, found.evidence.targets[folder]),
            **_map(heat),
        }


def _map(values: np.ndarray) -> Row:
    """(h, w) as a row of numbers, row by row, and its size."""
    return {"height": values.shape[0], "width": values.shape[1], "values": values.ravel()}


def _means(found: Findings) -> Iterator[Row]:
    for one in found.means:
        counts = {"pictures": one.count, "with_evidence": len(one.numbers)}
        yield {"folder": one.label, **_class_of(found, one.label), **counts, **_map(one.mean)}


def _class_of(found: Findings, folder: str) -> Row:
    """What the heatmaps of a folder are for."""
    assert found.evidence is not None
    return _named(found, found.evidence.targets[folder])


def _areas(found: Findings) -> Iterator[Row]:
    for one in found.means:
        for area, share, even in zip(one.areas, one.means, one.even, strict=True):
            yield {
                "folder": one.label,
                **_class_of(found, one.label),
                "area": area.name,
                "share": share,
                "even": even,
            }


def _suspicions(found: Findings) -> Iterator[Row]:
    for one in found.suspected.suspicions if found.suspected else ():
        yield {
            "folder": one.label,
            **_class_of(found, one.label),
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
                **_named(found, test.target),
                "area": area.name,
                "suspected": number == 0,
                **_box(box),
                "pictures": len(test.answered),
                "answered": int(test.answered.sum()),
                "lost": lost,
                "probability_drop": drops.mean(),
            }


BLOCKS: dict[str, Callable[[Findings], Iterator[Block]]] = {
    "features": _features,
    "channels": _channels,
    "strongest": _strongest,
    "carriers": _carriers,
}
TABLES: dict[str, Callable[[Findings], Iterator[Row]]] = {
    "classes": _classes,
    "confusions": _confusions,
    "calibration": _bins,
    "alike": _alike,
    "ablated": _ablated,
    "heatmaps": _heatmaps,
    "class_means": _means,
    "areas": _areas,
    "suspicions": _suspicions,
    "groups": _groups,
    "silhouettes": _silhouettes,
    "replaced": _replaced,
}
NAMES = ("answers", *TABLES, *BLOCKS)
