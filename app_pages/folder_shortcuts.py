"""Shortcuts: where the evidence for each class lies over its pictures, and classes known by what lies at the edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app_pages import common, folder_clusters, folder_replaced, folder_set, takeaway, views
from app_pages.folder_set import Answered, Folders
from vizcore.colour import Scale
from vizcore.findings import Evidence
from vizcore.predictions import NO_CLASS
from vizcore.set_figures import means_figure
from vizcore.shortcuts import ClassEvidence, Suspected, class_evidence, suspected

METHODS = ("grad_cam", "hires_cam", "layer_cam")
MOST_MAPS = 20
BORDER = "border"  # the name of the whole border among the areas


def show(folders: Folders) -> None:
    method = choose_method(folders)
    evidence = asked_for_evidence(folders, method)
    if evidence is None:
        return
    _say_targets(folders, evidence)
    found, without = evidence_of(folders, evidence)
    if without:
        st.caption(
            f"No positive evidence in any picture of {folder_set.named(without)} by "
            f"{views.METHOD_TITLES[method]}. Try another method."
        )
    if not found:
        st.info("There is no positive evidence to show.", icon=":material/info:")
        return
    result = suspected(found, evidence.targets)
    say_suspected(result)
    show_means(folders, found, result)
    offer(folders, evidence, found)
    st.subheader("Is a class known by one thing, or by several?", anchor=False)
    names = [one.label for one in found]
    first = next(iter(result.of_class), names[0])
    folder: str = st.selectbox("The folder", names, index=names.index(first), key="cluster_folder", bind="query-params")
    folder_clusters.show(folders, evidence.heats, evidence.targets, evidence.method, folder)
    st.subheader("Does the answer hang on a part?", anchor=False)
    folder_replaced.show(folders, evidence.targets, folder, result)


def choose_method(folders: Folders) -> str:
    usual = views.summary_of(folders.here).method
    method: str = st.segmented_control(
        "Heatmaps by",
        list(METHODS),
        default=usual if usual in METHODS else "hires_cam",
        required=True,
        key="shortcut_method",
        format_func=views.METHOD_TITLES.__getitem__,
        bind="query-params",
        help="Only what the method sees is found. Of nets that do not average their last maps, HiResCAM says where the "
        "score comes from; Grad-CAM may have no evidence at all.",
    )
    return method


# -- what is computed ------------------------------------------------------------------------------------------------


def asked_for_evidence(folders: Folders, method: str) -> Evidence | None:
    """Known, or after their price was shown and the button pressed."""
    open_ones = [name for name in folders.names if folders.class_of(name) == NO_CLASS]
    answered = folder_set.recalled(folders)
    needs_answers = bool(open_ones) and answered is None
    if not needs_answers:
        found: Evidence | None = common.recall(key_of(folders, targets_of(folders, answered), method))
        if found is not None:
            return found
    count = len(folders.pictures)
    seconds = folder_set.seconds_of_heats(folders, count) + folder_set.seconds_of(folders, count * needs_answers)
    price = common.price(count, seconds, of=("heatmap", "heatmaps"))
    if not views.asked("Draw the heatmaps of all", "shortcuts", price):
        st.caption("One heatmap for each picture, of the class of its folder.")
        return None
    if needs_answers:
        answered = folder_set.answers_of(folders)
    targets = targets_of(folders, answered)

    def compute() -> Evidence:
        pictures = folder_set.gather(folders.pictures, " for their heatmaps")
        wanted = [targets[folder] for folder in folders.pictures.labels]
        heats = folder_set.heats_of(folders, pictures, wanted, method, "Drawing heatmaps")
        return Evidence(heats, targets, method, folders.here.model.layers["cam"])

    return common.known(key_of(folders, targets, method), compute, seconds)


def targets_of(folders: Folders, answered: Answered | None) -> dict[str, int]:
    return {name: folders.target(name, answered) for name in folders.names}


def key_of(folders: Folders, targets: dict[str, int], method: str) -> tuple[object, ...]:
    return ("heatmaps of a set", *folders.key, tuple(targets.items()), method)


def evidence_of(folders: Folders, evidence: Evidence) -> tuple[list[ClassEvidence], list[str]]:
    """Of each folder, and those without any."""
    found, without = [], []
    for name in folders.names:
        heats = evidence.heats[folders.rows(name)]
        if (heats > 0).any():
            found.append(class_evidence(name, heats))
        else:
            without.append(name)
    return found, without


# -- what is shown ---------------------------------------------------------------------------------------------------


def _say_targets(folders: Folders, evidence: Evidence) -> None:
    open_ones = [name for name in folders.names if folders.class_of(name) == NO_CLASS]
    if open_ones:
        words = "; ".join(f"“{name}”: {folders.label(evidence.targets[name])}" for name in open_ones[:12])
        st.caption(
            common.plain(f"Folders without a class: taken is what their pictures are answered with most. {words}.")
        )


def say_suspected(result: Suspected) -> None:
    show_words = st.warning if result.suspicions else st.info
    show_words(common.plain(result.sentence), icon=":material/search:" if result.suspicions else ":material/info:")
    for one in result.suspicions:
        st.markdown(f"- {common.plain(one.sentence)}")
    if result.left_out and result.labels:
        st.caption(f"Left out, with fewer than 10 pictures with evidence: {folder_set.named(result.left_out)}.")


def share_of(one: ClassEvidence, area: str) -> tuple[float, float]:
    """The mean share of the evidence in an area, and that of an even map."""
    number = next(number for number, known in enumerate(one.areas) if known.name == area)
    return float(one.means[number]), float(one.even[number])


def show_means(folders: Folders, found: list[ClassEvidence], result: Suspected) -> None:
    """The mean heatmaps side by side, the suspected ones first, on one scale."""
    suspects = list(result.of_class)
    order = sorted(found, key=lambda one: suspects.index(one.label) if one.label in suspects else len(suspects))
    shown = order[:MOST_MAPS]
    scale = Scale.of(*(one.mean for one in shown))
    st.subheader("The mean heatmap of each class", anchor=False)
    for place, one in zip(folder_set.row_of_tiles(len(shown), folder_set.WIDE), shown, strict=True):
        border, even = (f"{100 * share:.0f} %" for share in share_of(one, BORDER))
        mark = "suspected · " if one.label in suspects else ""
        count = common.counted(len(one.numbers), ("picture", "pictures"))
        with place:
            words = f"Mean heatmap of {one.label}: {border} of it on the border, {even} of an even map"
            views.show_picture(views.enlarged(one.mean, scale, 168), words)
            st.markdown(f"**{common.plain(one.label)}**")
            st.caption(f"{mark}border **{border}** (even map {even}) · {count}")
    with st.container(width=420):
        views.show_scale(scale, "share of the evidence in a cell; one scale")
    more = f" The first {MOST_MAPS} of {len(found)} are shown." if len(found) > MOST_MAPS else ""
    st.caption(
        "Each picture has one vote: its positive evidence, summing to 1. The border is an eighth of a side wide. "
        f"A subject that fills the picture has evidence at the border too.{more}"
    )


@dataclass(frozen=True, eq=False)
class Means:
    """To be taken away: of each of ``folders`` the mean heatmap, ``means`` (F, h, w), each summing to 1, and its share
    in each of ``areas``, ``shares`` (F, A)."""

    means: np.ndarray
    shares: np.ndarray
    folders: tuple[str, ...]
    areas: tuple[str, ...]
    targets: tuple[int, ...]
    method: str
    model_name: str


def offer(folders: Folders, evidence: Evidence, found: list[ClassEvidence]) -> None:
    record = Means(
        means=np.stack([one.mean for one in found]),
        shares=np.stack([one.means for one in found]),
        folders=tuple(one.label for one in found),
        areas=tuple(area.name for area in found[0].areas),
        targets=tuple(evidence.targets[one.label] for one in found),
        method=evidence.method,
        model_name=folders.here.model.name,
    )

    def figure() -> bytes:
        title = f"Mean heatmaps by {views.METHOD_TITLES[evidence.method]} of {folders.here.model.title}"
        return means_figure(record.means, record.folders, title)

    heat = folder_set.heat_call(folders, "pixels", "targets[folder]", evidence.method)
    call = (
        f"{folders.pictures.script}\nfolders = {folders.pictures.folders}\n"
        f"targets = {evidence.targets!r}\n"
        "seen = [(prepare(picture, model).pixels, folder) for picture, folder in zip(pictures, folders)]\n"
        f"heats = np.stack([{heat} for pixels, folder in seen])\n"
        "inside = {name: np.array([folder == name for folder in folders]) for name in targets}\n"
        "evidence = [\n"
        "    class_evidence(name, heats[rows]) for name, rows in inside.items() if (heats[rows] > 0).any()\n"
        "]\n"
        "print(suspected(evidence, targets).sentence)"
    )
    imports = (
        "import numpy as np",
        "from vizcore.cam import cam",
        "from vizcore.shortcuts import class_evidence, suspected",
        *folder_set.imports_of_warp(folders),
        *folders.imports,
    )
    takeaway.offer(folders.here, f"evidence of the set {evidence.method}", record, figure, imports, call)
