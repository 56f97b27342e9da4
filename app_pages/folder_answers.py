"""Right and wrong: accuracy, calibration, the table of confusions with the pictures of a cell, and the mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common, folder_confusion, folder_set, takeaway, views
from app_pages.folder_set import Answered, Folders
from vizcore.calibration import Reliability
from vizcore.colour import Scale
from vizcore.export import to_figure
from vizcore.findings import bins_of, calibration_of
from vizcore.predictions import NO_CLASS, Evaluation, Share

MOST_TILES = 12  # pictures in a list
WITH_HEATMAPS = 4  # pictures of a cell
IMPORTS = ("from vizcore.predictions import class_mapping, evaluate, predict",)


def show(folders: Folders) -> None:
    answered = folder_set.asked_for_answers(folders)
    if answered is None:
        return
    found = folders.evaluation(answered)
    show_numbers(found)
    if found.counted.any():
        show_calibration(folders, found)
    chosen = folder_confusion.show(folders, found)
    if chosen is not None:
        show_cell(folders, answered, found, *chosen)
    st.subheader("Mistakes, the surest first", anchor=False)
    show_mistakes(folders, answered, found)


# -- numbers ---------------------------------------------------------------------------------------------------------


def show_numbers(found: Evaluation) -> None:
    if not found.counted.any():
        st.info(
            "No folder has a class of the network, so that nothing can be counted right or wrong. The table below "
            "shows what each folder was answered with; above, folders can be given a class.",
            icon=":material/info:",
        )
        return
    row = st.container(horizontal=True, gap="large")
    row.metric(
        "Accuracy",
        percent(found.accuracy.value),
        help="The share of pictures whose most probable class is that of their folder.",
    )
    if len(found.mapping.labels) > 5:
        row.metric("Top-5 accuracy", percent(found.accuracy_in(5).value), help="The class is among the five surest.")
    row.metric("Pictures counted", f"{int(found.counted.sum()):,} of {len(found.counted):,}")
    st.markdown(words_for(found.accuracy))
    if len(scores := found.by_class) > 1 and found.accuracy.hits < found.accuracy.count:
        worst = min(scores, key=lambda score: score.recall.value)
        st.markdown(
            f"Least often right is the folder **{common.plain(worst.folder)}**: {worst.recall.hits} of "
            f"{worst.recall.count} pictures."
        )


def words_for(share: Share) -> str:
    low, high = share.interval
    return (
        f"**{share.hits:,} of {share.count:,}** are right. Over ever more such pictures it would lie between "
        f"{percent(low)} and {percent(high)} (95 % interval of Wilson)."
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# -- calibration -----------------------------------------------------------------------------------------------------


def show_calibration(folders: Folders, found: Evaluation) -> None:
    confidence = found.predictions.confidence[found.counted].clip(0, 1)
    curve = calibration_of(found)
    verdict = "more than chance explains" if curve.error > curve.rarely else "no more than chance explains"
    st.markdown(
        f"**Does it know how sure it may be?** It is sure of its answers by {percent(float(confidence.mean()))} on "
        f"average and right in {percent(found.accuracy.value)}. The expected calibration error is "
        f"{percent(curve.error)}, {verdict}: a calibrated network would have {percent(curve.by_chance)} with these "
        f"pictures, and above {percent(curve.rarely)} once in 20 sets."
    )
    with st.expander("The reliability curve"):
        _show_curve(curve)
        call = (
            f"{folders.script}\nfound = evaluate(predict(model, pictures), folders, mapping)\n"
            "curve = reliability(found.predictions.confidence[found.counted].clip(0, 1), found.right[found.counted])"
        )
        imports = (*IMPORTS, "from vizcore.calibration import reliability", *folders.imports)
        takeaway.offer_table(folders.here, "reliability of the set", _bins(curve), imports, call)


def _bins(curve: Reliability) -> pd.DataFrame:
    return pd.DataFrame(bins_of(curve))


def _show_curve(curve: Reliability) -> None:
    share = {"type": "quantitative", "scale": {"domain": [0, 1]}}
    st.vega_lite_chart(
        _bins(curve).dropna(),
        {
            "layer": [
                {
                    "data": {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]},
                    "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888888"},
                },
                {"mark": {"type": "line", "color": "#0072B2"}},
                {
                    "mark": {"type": "circle", "color": "#0072B2", "opacity": 1},
                    "encoding": {"size": {"field": "pictures", "type": "quantitative"}},
                },
            ],
            "encoding": {
                "x": {"field": "confidence", "title": "mean confidence of a bin", **share},
                "y": {"field": "accuracy", "title": "share that is right", **share},
            },
        },
        height=300,
        alt=f"Share of right answers over confidence in ten bins; calibration error {percent(curve.error)}",
    )
    st.caption(
        "Below the dashed line the network is surer than it may be. Larger dots are of more pictures. Guo et al., On "
        "Calibration of Modern Neural Networks, ICML 2017."
    )


# -- pictures of a cell ----------------------------------------------------------------------------------------------


def show_cell(folders: Folders, answered: Answered, found: Evaluation, folder: str, answer: int) -> None:
    rows = found.cell(folder, answer)
    name, label = common.plain(folder), common.plain(folders.label(answer))
    if not len(rows):
        st.caption(f"No picture of {name} was answered with {label}.")
        return
    count = common.counted(len(rows), ("picture", "pictures"))
    st.markdown(f"**{count} of {name} answered with {label}**, the surest first.")
    show_heatmaps(folders, rows[:WITH_HEATMAPS], folder, answer)
    rest = rows[WITH_HEATMAPS : WITH_HEATMAPS + MOST_TILES]
    folder_set.show_tiles(folders, answered.atlas, rest, lambda row: words_of(folders, found, row), "cell")
    left = len(rows) - WITH_HEATMAPS - len(rest)
    if left > 0:
        st.caption(f"And {left} more, less sure.")


def words_of(folders: Folders, found: Evaluation, row: int) -> str:
    """A picture and its answer."""
    answer = folders.label(int(found.predictions.answers[row]))
    return f"{folders.pictures.names[row]}: {answer}, {percent(float(found.predictions.confidence[row]))}"


def show_heatmaps(folders: Folders, rows: np.ndarray, folder: str, answer: int) -> None:
    """Of each picture what it saw of the answer, and where it has one, of the folder's class."""
    here, truth = folders.here, folders.class_of(folder)
    targets = [answer] if truth in (NO_CLASS, answer) else [answer, truth]
    method = views.summary_of(here).method
    key = ("heatmaps of a cell", *folders.key, tuple(map(int, rows)), tuple(targets), method)
    if (heats := common.recall(key)) is None:
        seconds = folder_set.seconds_of_heats(folders, len(rows) * len(targets))
        price = common.price(len(rows) * len(targets), seconds, of=("heatmap", "heatmaps"))
        if seconds > common.AT_ONCE and not views.asked("Draw their heatmaps", "heatmaps of a cell", price):
            return
        pixels = [folders.pictures.picture(int(row)).photo.pixels for row in rows for _ in targets]
        each = [target for _ in rows for target in targets]
        heats = common.known(
            key,
            lambda: folder_set.heats_of(folders, pixels, each, method, "Drawing heatmaps"),
            seconds,
        )
    scale = Scale.of(heats)
    numbers = iter(range(len(heats)))
    for place, row in zip(folder_set.row_of_tiles(len(rows), folder_set.WIDE), rows, strict=True):
        picture = folders.pictures.picture(int(row))
        with place:
            for target in targets:
                label = folders.label(target)
                kind = "the answer" if target == answer else "the folder's class"
                heat = heats[next(numbers)]
                drawn = common.drawn(folder_set.laid, here, picture.photo.pixels, heat, scale)
                views.show_picture(drawn, f"{views.METHOD_TITLES[method]} of {label}, {kind}, on {picture.title}")
                st.caption(common.plain(f"{label}, {kind}" if len(targets) > 1 else picture.title))
            folder_set.open_button(folders, int(row), "with heatmap")
    with st.container(width=420):
        views.show_scale(scale, f"{views.METHOD_TITLES[method]}, raw")
    _offer_heatmaps(folders, rows, targets, method, heats, scale)


@dataclass(frozen=True, eq=False)
class Heats:
    """``heats`` (n, h, w), raw, of the picture ``pictures`` (n,) of the set for the class ``targets`` (n,) each."""

    heats: np.ndarray
    pictures: np.ndarray
    targets: np.ndarray
    method: str
    model_name: str


def _offer_heatmaps(
    folders: Folders, rows: np.ndarray, targets: list[int], method: str, heats: np.ndarray, scale: Scale
) -> None:
    here, each = folders.here, np.repeat(rows, len(targets))
    record = Heats(heats, each, np.tile(targets, len(rows)), method, here.model.name)

    def figure() -> bytes:
        pictures = [folders.pictures.picture(int(row)) for row in each]
        drawn = [
            folder_set.overlaid(here, one.photo.pixels, heat, scale) for one, heat in zip(pictures, heats, strict=True)
        ]
        names = [
            f"{one.title}: {folders.label(int(target))}" for one, target in zip(pictures, record.targets, strict=True)
        ]
        return to_figure(
            np.concatenate(drawn, axis=1),
            scale,
            title=f"{views.METHOD_TITLES[method]} of {here.model.title}",
            lines=("From the left:", *names),
            unit="raw values",
        )

    call = "\n".join(
        [
            folders.pictures.script,
            f"rows, targets = {[int(row) for row in rows]}, {targets}",
            "seen = [(prepare(pictures[row], model).pixels, target) for row in rows for target in targets]",
            f"heats = [{folder_set.heat_call(folders, 'pixels', 'target', method)} for pixels, target in seen]",
        ]
    )
    imports = ("from vizcore.cam import cam", *folder_set.imports_of_warp(folders), *folders.imports)
    takeaway.offer(here, "heatmaps of a cell", record, figure, imports, call)


# -- mistakes --------------------------------------------------------------------------------------------------------


def show_mistakes(folders: Folders, answered: Answered, found: Evaluation) -> None:
    mistakes = found.mistakes
    if not len(mistakes):
        st.caption("None among the pictures whose class is known." if found.counted.any() else "No class is known.")
        return
    shown = mistakes[:MOST_TILES]
    st.caption(
        f"{len(mistakes):,} of {int(found.counted.sum()):,}. A sure mistake is a picture in the wrong folder, one with "
        "two subjects, or something that the network has learnt wrong: open it and look."
    )
    folder_set.show_tiles(folders, answered.atlas, shown, lambda row: words_of(folders, found, row), "mistake")
    table = pd.DataFrame(
        {
            "picture": [folders.pictures.names[row] for row in mistakes],
            "folder": [folders.pictures.labels[row] for row in mistakes],
            "answer": [folders.label(int(found.predictions.answers[row])) for row in mistakes],
            "confidence": found.predictions.confidence[mistakes],
        }
    )
    call = (
        f"{folders.script}\nfound = evaluate(predict(model, pictures), folders, mapping)\n"
        "print(found.mistakes, found.predictions.confidence[found.mistakes])"
    )
    takeaway.offer_table(folders.here, "mistakes in the set", table, (*IMPORTS, *folders.imports), call)
