"""A report opened again: its network, its picture, its class and all that was chosen become the current ones."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app_pages import common, views
from app_pages.sidebar import Picture
from models import list_models
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS
from vizcore.records import VIEWS, LensError
from vizcore.report import EVIDENCE
from vizcore.report_file import MOST_BYTES, Reopened, read_report
from vizcore.weights import digest_of_weights

MOST_MB = MOST_BYTES // 10**6
MOST_SEED = 2**53 - 1  # that a browser counts to


def offer() -> None:
    """A place for a report, and what became of the one that was put there."""
    with st.expander("Open a report again", icon=":material/folder_open:"):
        file = st.file_uploader("A report of CNN Lens (.html)", ["html"], key="report_file", max_upload_size=MOST_MB)
    if file is None:
        st.session_state.pop("reopened", None)
        return
    if st.session_state.get("reopened", ("",))[0] != file.file_id:
        try:
            report = read_report(file.getvalue())
            said = _restore(report)
            report = replace(report, picture=b"")  # the visit holds its photo
        except LensError as refusal:
            st.error(common.plain(str(refusal)), icon=":material/block:")
            return
        st.session_state["reopened"] = (file.file_id, said, report)
        st.rerun()  # the sidebar is drawn before this page
    _, said, report = st.session_state["reopened"]
    with st.container(border=True):
        for sentence in (*said, *_doubts(report)):
            st.markdown(common.plain(sentence))
        st.page_link(
            "app_pages/heatmaps.py", label="See its maps on the page Heatmaps", icon=":material/arrow_forward:"
        )


def _doubts(report: Reopened) -> tuple[str, ...]:
    """What is other than it was, now that the network is there."""
    here = common.chosen()
    if here.model.name != report.model:
        return ()
    if common.known(("digest", here.model.title), lambda: digest_of_weights(here.model)) != report.weights:
        return (f"The weights of {here.model.title} are others than those of the report: its numbers will differ.",)
    return ()


def _restore(report: Reopened) -> tuple[str, ...]:
    """Make current what a report remembers, and say what could not be. Raises BadImage; nothing is changed then."""
    photo = common.photo_from(report.picture)
    said = [f"“{report.title}”, as {report.model_title} saw it, is the current picture now."]
    if not report.exact:
        said.append("Its photo was packed with loss: numbers differ a little from those in the file.")
    own, names = common.brought(), {card.name for card in list_models()}
    if own and own.model.name == report.model:
        names.add(report.model)
    state = st.session_state
    if report.model in names:
        state["model to be"] = report.model
        state["untrained"] = not report.trained
    else:
        said.append(
            f"Its network, {report.model_title}, is none of the catalogue. Open its weights on the page Your network "
            "first, then the report again; until then another network looks at the picture."
        )
    state["pending"] = Picture(
        photo,
        report.title,
        f"open_photo(read_report(open('report.html', 'rb').read()).picture, max_side={common.PHOTO_SIDE}).pixels",
        ("from vizcore.images import open_photo", "from vizcore.report_file import read_report"),
    )
    if len(report.labels) > views.MOST_CLASSES:
        said.append(
            f"Of its {len(report.labels)} classes the first {views.MOST_CLASSES} are chosen: a page has so many."
        )
    _restore_controls(report)
    return tuple(said)


def _restore_controls(report: Reopened) -> None:
    """Set what this page and the page Heatmaps are asked; what is no option (any more) stays as it is."""
    state, wish, labels = st.session_state, report.wish, list(report.labels[: views.MOST_CLASSES])
    methods = [method for method in wish.methods if method in HEATMAP_METHODS]
    by_pixel = [method for method in methods if method in BY_PIXEL]
    state["inverted"] = False  # its pixels are those that the network saw
    state["class to be"] = labels[0] if labels else None
    state["report_methods"] = methods
    state["report_classes"] = labels[1:]
    state["report_evidence"] = [one for one in wish.evidence if one in EVIDENCE]
    state["methods"] = [method for method in methods if method not in by_pixel]
    state["methods_by_pixel"] = by_pixel
    state["classes"] = labels
    state["report_seed"] = min(wish.seed, MOST_SEED)
    if wish.layer:
        state["report_layer"] = state["cam_layer"] = wish.layer
    if wish.view in VIEWS:
        state["report_view"] = state["view"] = wish.view
