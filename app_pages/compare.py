"""Compare: two networks, two pictures or two layers side by side, with the same method and one scale."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app_pages import beside, common, takeaway, views
from app_pages.beside import Side
from app_pages.explained import COSTLY, METHODS, Explained
from app_pages.pixelwise import choose_view
from vizcore.cam import CAM_METHODS
from vizcore.colour import Scale
from vizcore.heatmaps import BY_PIXEL, scale_of, unit_of
from vizcore.records import Heatmap, LensError

here = common.chosen()
model = here.model

TITLES = {**METHODS, **COSTLY}
LAYERED = (*CAM_METHODS, "guided_grad_cam")
NETWORK, PICTURE, LAYER = KINDS = ("Another network", "Another picture", "Another layer")
FAINT = 0.25  # of the end of the shared scale: less is hardly seen
AGREE = (
    (0.7, "they point at much the same places"),
    (0.3, "they agree in part"),
    (-0.3, "they have little to do with each other"),
    (-1.1, "where one is strong, the other tends to be weak"),
)


def choose_other(kind: str) -> common.Chosen | None:
    """What the right side looks at; None where there is nothing yet, which is said."""
    if kind == NETWORK:
        return other_network()
    return other_picture() if kind == PICTURE else here


def other_network() -> common.Chosen | None:
    cards = beside.networks_beside(here)
    if not cards:
        st.info("No other network has its weights on this machine. Fetch one in the sidebar, or bring your own.")
        return None
    name = st.selectbox(
        "Network on the right",
        list(cards),
        format_func=lambda name: cards[name].title,
        key="compare_model",
        bind="query-params",
        help="The networks whose weights are on this machine.",
    )
    return beside.by_network(here, name)


def other_picture() -> common.Chosen | None:
    picture = beside.choose_picture(here)
    if not picture:
        st.info("Bring a photo, and it is shown beside the other. A link does not carry one.")
        return None
    return beside.by_picture(here, picture)


def choose_method() -> str:
    return st.selectbox(
        "Method",
        list(TITLES),
        index=list(TITLES).index("grad_cam"),
        format_func=TITLES.__getitem__,
        key="compare_method",
        bind="query-params",
        help="The same on both sides. First those that cost about a pass; the others wait for a button.",
    )


def choose_layers(kind: str, method: str, other: common.Chosen, places: list[DeltaGenerator]) -> tuple[str, str]:
    """The layer of each side; for methods that have none, those that nobody asks."""
    left, right = model.layers["cam"], other.model.layers["cam"]
    if method not in LAYERED:
        return left, right
    with places[0]:
        left = choose_layer(here, "Layer" if kind == PICTURE else "Layer on the left", "compare_layer", left)
    with places[1]:
        if kind == LAYER:
            return left, choose_layer(here, "Layer on the right", "compare_with_layer", layer_beside(left), left)
        if kind == NETWORK:
            return left, choose_layer(other, "Layer on the right", "compare_other_layer", right)
    return left, left


def choose_layer(of: common.Chosen, label: str, key: str, default: str, without: str = "") -> str:
    layers = [layer.name for layer in views.layers_of(of) if layer.name != without]
    return st.selectbox(label, layers, index=layers.index(default), key=key, bind="query-params")


def layer_beside(name: str) -> str:
    """The last stage of the net whose maps have another size, as far as there is one."""
    size = next(layer.shape[1:] for layer in views.layers_of(here) if layer.name == name)
    others = [layer for layer in (*views.layers_of(here), *views.stages_of(here)) if layer.name != name]
    return max(enumerate(others), key=lambda other: (other[1].shape[1:] != size, other[0]))[1].name


def choose_drawing(method: str) -> tuple[str, bool, float]:
    """How both maps are drawn: the view of those by pixel, whether they share a scale, and the blend."""
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="large")
    with row:
        view = choose_view(method in BY_PIXEL)
    scale = row.segmented_control(
        "Scale",
        ("one scale", "each its own"),
        default="one scale",
        required=True,
        key="compare_scale",
        bind="query-params",
        help="On one scale the same number has the same colour on both sides. Numbers of two networks or layers are of "
        "different size by nature: the stronger colour is not the surer answer.",
    )
    blend = row.slider(
        "Blend",
        0.0,
        1.0,
        0.6,
        0.05,
        key="compare_blend",
        bind="query-params",
        help="How far the colours cover both photos. Methods by pixel stand alone: they cannot be read through one.",
    )
    return view, scale == "one scale", blend


def say_class(other: common.Chosen) -> None:
    """Which class both maps are of."""
    name = common.plain(here.label(here.target))
    if other.label(other.target) == here.label(here.target):
        st.markdown(f"Both maps are of **{name}**, the class of the sidebar.")
    else:
        title, top = common.plain(other.model.title), common.plain(other.label(other.target))
        st.markdown(f"{title} has no class **{name}**: its map is of its own top class, **{top}**.")


def map_of(side: Side) -> Heatmap | None:
    """The map of a side: at once, or when asked, and then the page is drawn anew; a refusal is said in its place."""
    explained = side.explained
    try:
        with common.looking_at(side.here):
            if explained.is_stored() or not (explained.is_costly or explained.seconds > common.AT_ONCE):
                return explained.heat()
            common.wait_for_stopped()
            if views.asked(f"Compute {explained.title} on the {side.name}", side.name, explained.price):
                with suppress(LensError), common.running(f"{explained.title} on the {side.name}") as progress:
                    explained.heat(progress=progress)  # a refusal is said where the page is drawn anew
                st.rerun()
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
    return None


def show_title(kind: str, side: Side) -> None:
    """What is other than on the other side, and then the rest."""
    there, layer = side.here, side.explained.layer
    height, width = there.view.pixels.shape[2:]
    facts = [there.model.title, there.title]
    if side.explained.method in LAYERED:
        shape = next(each.shape for each in views.layers_of(there) if each.name == layer)
        facts.append(f"{layer}, {shape[1]} × {shape[2]}")
    st.subheader(common.plain(facts.pop(KINDS.index(kind))), anchor=False)
    colour = "in grey" if len(there.model.mean) == 1 else "in colour"
    st.caption(common.plain(" · ".join([*facts, f"sees {width} × {height} pixels, {colour}"])))


def show_map(side: Side, heat: Heatmap, scale: Scale, blend: float, *, own_bar: bool) -> None:
    there = side.here
    name, title = there.label(heat.target), side.explained.title
    views.show_picture(
        views.laid(there, heat, scale, blend),
        f"On the {side.name}: {title} of {name} on {there.title}, by {there.model.title}, {heat.layer or 'input'}",
    )
    if own_bar:
        views.show_scale(scale, unit_of(heat))
    st.caption(common.plain(f"{title} of {name}, probability {100 * there.chances[heat.target]:.1f} %"))
    st.markdown(common.plain(views.described(side.here, heat)))
    for note in heat.notes:
        st.caption(common.plain(note))
    takeaway.offer_heatmap(there, heat, scale, blend, side.name)


def faint(heats: dict[str, Heatmap], scale: Scale) -> str:
    """Which side is hardly seen on the shared scale, in a sentence, or ""."""
    reach = {name: float(np.abs(heat.values).max()) / (scale.high or 1.0) for name, heat in heats.items()}
    name = min(reach, key=reach.__getitem__)
    if not 0 < reach[name] < FAINT:
        return ""
    return (
        f"The map on the {name} is faint here: it reaches {100 * reach[name]:.2g} % of the shared scale. Choose “each "
        "its own” to see what is in it."
    )


def show_sides(kind: str, sides: tuple[Side, Side], shared: bool, blend: float) -> None:
    """Both sides with what is known of them, and above them what can be said of the two."""
    top = st.container()
    columns = st.columns(2, gap="large")
    heats = {}
    for side, column in zip(sides, columns, strict=True):
        with column:
            show_title(kind, side)
            if heat := map_of(side):
                heats[side.name] = heat
    scale = scale_of(*heats.values()) if heats else Scale(0.0, 0.0)
    with top:
        if kind != PICTURE and len(heats) == 2:
            say_agreement(sides)
        if shared and heats:
            with st.container(width=420):
                views.show_scale(scale, unit_of(next(iter(heats.values()))))
            if words := faint(heats, scale):
                st.info(common.plain(words), icon=":material/contrast:")
    for side, column in zip(sides, columns, strict=True):
        with column:
            if heat := heats.get(side.name):
                show_map(side, heat, scale if shared else scale_of(heat), blend, own_bar=not shared)
            else:
                alt = f"On the {side.name}: {side.here.title}, with a frame around the part that the network saw"
                views.show_picture(views.framed(side.here), alt)
            views.show_classes(side.here)


def say_agreement(sides: tuple[Side, Side]) -> None:
    """How far two maps of one photo agree: only the order of places counts, whatever their units."""
    found = beside.agreement_of(*sides)
    rank = float(found.correlations[0, 1])
    if np.isnan(rank):
        st.markdown("One of the two maps is the same everywhere: there is no order of places to compare.")
        return
    words = next(words for least, words in AGREE if rank >= least)
    number = f"{rank:.2f}".replace("-", "−")
    st.markdown(
        f"The rank correlation of the two maps is **{number}**, over what both sides see of the photo: {words}.",
        help="Spearman's: 1 where the places come in the same order, 0 where the orders have nothing in common. How "
        "large the numbers are does not count.",
    )


def show() -> None:
    left, right = st.columns(2)
    kind = left.segmented_control(
        "On the right", KINDS, default=NETWORK, required=True, key="compare_with", bind="query-params", wrap=True
    )
    with right:
        other = choose_other(kind)
    first, *places = st.columns(3)
    with first:
        method = choose_method()
    if kind == LAYER and method not in LAYERED:
        st.info(
            f"{common.plain(TITLES[method])} asks the whole network: it has no layer to change. Choose a method of the "
            "CAM family."
        )
        return
    if not other:
        return
    layers = choose_layers(kind, method, other, places)
    view, shared, blend = choose_drawing(method)
    say_class(other)
    left_side = Side("left", Explained(here, method, layers[0], view))
    right_side = Side("right", Explained(other, method, layers[1], view))
    show_sides(kind, (left_side, right_side), shared, blend)


st.title("Compare", anchor=False)
st.markdown("What the sidebar says on the left, and beside it the same with one thing changed.")
common.warn_untrained(here)
try:
    show()
except LensError as refusal:
    st.info(common.plain(str(refusal)), icon=":material/block:")
