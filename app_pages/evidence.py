"""Evidence: whether a heatmap can be believed. The score without what it points at, the net without what it has
learned, other methods, another class, another layer, a picture that fools the net."""

from contextlib import suppress

import streamlit as st

from app_pages import (
    common,
    evidence_agreement,
    evidence_cascade,
    evidence_curves,
    evidence_fooled,
    evidence_layers,
    evidence_rival,
    takeaway,
    views,
)
from app_pages.explained import COSTLY, METHODS, Explained
from app_pages.pixelwise import choose_view
from vizcore.heatmaps import BY_PIXEL, scale_of, unit_of
from vizcore.records import Heatmap, LensError

here = common.chosen()
model = here.model

BLEND = 0.6
TITLES = {**METHODS, **COSTLY}
QUESTIONS = {
    "Remove pixels": evidence_curves.show,
    "Randomise weights": evidence_cascade.show,
    "Other methods": evidence_agreement.show,
    "Another class": evidence_rival.show,
    "Another layer": evidence_layers.show,
    "A fooled network": evidence_fooled.show,
}


def choose() -> Explained:
    left, right = st.columns(2)
    with left:
        method = st.selectbox(
            "Method",
            list(TITLES),
            index=list(TITLES).index("grad_cam"),
            format_func=TITLES.__getitem__,
            key="evidence_method",
            bind="query-params",
            help="First those that cost about a pass. The others wait for a button, and are not asked where evidence "
            "needs dozens of maps.",
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
    return Explained(here, method, layer, choose_view(method in BY_PIXEL))


def map_of(explained: Explained) -> Heatmap | None:
    """The map in question; of a costly method when asked, and then the page is drawn anew."""
    if explained.is_known():
        return explained.heat()
    common.wait_for_stopped()
    if views.asked(f"Compute {explained.title}", "map", explained.price):
        with suppress(LensError), common.running(explained.title) as progress:  # said where the page is drawn anew
            explained.heat(progress=progress)
        st.rerun()
    return None


def show_map(title: str, heat: Heatmap) -> None:
    scale = scale_of(heat)
    name = here.label(heat.target)
    st.markdown(f"{common.plain(title)} of **{common.plain(name)}**")
    words = views.described(here, heat)
    views.show_picture(views.laid(here, heat, scale, BLEND), f"{title} of {name} on {here.title}. {words}")
    views.show_scale(scale, unit_of(heat))
    size = " × ".join(map(str, heat.values.shape))
    st.caption(common.plain(f"{heat.layer or 'input'}, {size} · probability {100 * here.chances[heat.target]:.1f} %"))
    st.caption(common.plain(words))
    for note in heat.notes:
        st.caption(common.plain(note))
    takeaway.offer_heatmap(here, heat, scale, BLEND)


st.title("Evidence", anchor=False)
st.markdown("Any method paints a heatmap. Whether to believe it is another question, and can be asked.")
common.warn_untrained(here)
explained = choose()
left, right = st.columns([1, 2], gap="large")
try:
    with left:
        heat = map_of(explained)
        if heat:
            show_map(explained.title, heat)
    with right:
        question = st.pills(
            "Question",
            list(QUESTIONS),
            default=next(iter(QUESTIONS)),
            required=True,
            key="question",
            bind="query-params",
            label_visibility="collapsed",
            wrap=True,
        )
        if heat:
            QUESTIONS[question](explained)
        else:
            st.info(f"{common.plain(explained.title)} takes its time: compute the map first, then ask.")
except LensError as refusal:
    st.info(common.plain(str(refusal)), icon=":material/block:")
