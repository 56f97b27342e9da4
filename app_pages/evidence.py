"""Evidence: whether a heatmap can be believed. The score without what it points at, the net without what it has
learned, other methods, another class."""

import streamlit as st

from app_pages import common, evidence_agreement, evidence_cascade, evidence_curves, evidence_rival, views
from app_pages.explained import METHODS, Explained
from app_pages.heatmap_cells import Known, Look, show_maps
from app_pages.pixelwise import choose_view
from vizcore.records import LensError

here = common.chosen()
model = here.model

QUESTIONS = {
    "Take it away": evidence_curves.show,
    "Forget the training": evidence_cascade.show,
    "Ask other methods": evidence_agreement.show,
    "Ask for the rival": evidence_rival.show,
}


def choose() -> Explained:
    left, right = st.columns(2)
    with left:
        method = st.selectbox(
            "Method",
            list(METHODS),
            index=list(METHODS).index("grad_cam"),
            format_func=METHODS.__getitem__,
            key="evidence_method",
            bind="query-params",
            help="Those that cost about a pass: evidence asks for dozens of maps.",
        )
    with right:
        layers = [layer.name for layer in views.layers_of(here)]
        layer = st.selectbox(
            "Layer of the CAM methods",
            layers,
            index=layers.index(model.layers["cam"]),
            key="evidence_layer",
            bind="query-params",
        )
    return Explained(here, method, layer, choose_view(method in views.PIXELWISE))


st.title("Evidence", anchor=False)
st.markdown("Any method paints a heatmap. Whether to believe it is another question, and can be asked.")
common.warn_untrained(here)
explained = choose()
left, right = st.columns([1, 2], gap="large")
try:
    with left:
        heat = explained.heat()
        show_maps(here, [Known(heat, explained.title)], Look("row", None, 0.6))
    with right:
        question = st.segmented_control(
            "Question",
            list(QUESTIONS),
            default=next(iter(QUESTIONS)),
            required=True,
            key="question",
            bind="query-params",
            label_visibility="collapsed",
        )
        QUESTIONS[question](explained)
except LensError as refusal:
    st.info(common.plain(str(refusal)), icon=":material/block:")
