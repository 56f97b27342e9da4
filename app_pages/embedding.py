"""Embedding: how the network arranges a set of pictures, beside how raw pixels would arrange them."""

from collections import Counter

import numpy as np
import streamlit as st

from app_pages import (
    common,
    embedding_layers,
    embedding_live,
    embedding_options,
    embedding_placed,
    embedding_trust,
    picture_map,
    picture_sets,
    set_maps,
    takeaway,
)
from app_pages.picture_map import Selection
from app_pages.picture_sets import PictureChoice
from app_pages.set_maps import Maps, Rows, Way
from vizcore.records import LensError

here = common.chosen()
model = here.model
MOST_LISTED = 48
FADED = 0.12  # opacity of a picture of whose neighbours the map keeps none
TITLES = "By the network", "By raw pixels"
TRUST, LAYERS = "How far to trust it", "Layer by layer"


def choose_layer() -> str:
    layers = {layer.name: layer for layer in common.layers_of(model.name, model.weights is None)}
    usual = model.layers["features"]
    layer = st.selectbox(
        "Features from the layer",
        list(layers),
        index=list(layers).index(usual),
        key="feature_layer",
        bind="query-params",
        help="The vector just before the classifier knows most about classes. Of a layer with maps, each map's mean "
        "is taken.",
    )
    shape = layers[layer].shape
    st.caption(f"{shape[0]} numbers a picture" + (", the mean of each map" if len(shape) == 3 else ""))
    return layer


def show_set(pictures: PictureChoice, layer: str, way: Way) -> None:
    """The maps: known, in the making, or after their price was shown and the button pressed."""
    key = set_maps.maps_key(here, pictures, layer, way)
    live = embedding_live.of(key)
    if live is not None and (live.going or live.features.iteration < live.until) and not shown_early(key, live):
        embedding_live.show(live)
        return
    used = way
    if way.method == "tsne":
        used = way.but(iterations=embedding_live.iterations_of(key, way["iterations"]))
        if used != way and common.recall(set_maps.maps_key(here, pictures, layer, used)) is None:
            embedding_live.forget()  # the map that was stopped early is gone
            used = way
    needed = (set_maps.maps_key(here, pictures, layer, used), set_maps.rows_key(here, pictures, layer))
    if any(common.recall(one) is None for one in needed) and not ask(pictures, layer, used):
        return
    maps = set_maps.maps_of(here, pictures, layer, used)
    rows = set_maps.rows_of(here, pictures, layer)
    if used != way and live is None and st.button("Draw the whole map", key="whole map", icon=":material/refresh:"):
        embedding_live.forget()
        st.rerun()
    show(rows, maps, pictures, layer, used, live)


def shown_early(key: tuple[object, ...], live: embedding_live.Live) -> bool:
    """Whether the maps were stopped by their maker, who looks at them now."""
    return not live.going and embedding_live.iterations_of(key, -1) == live.features.iteration


def ask(pictures: PictureChoice, layer: str, way: Way) -> bool:
    """Whether to draw the maps at once; those that are to be watched begin with the next run."""
    place = st.empty()
    row = place.container(horizontal=True, vertical_alignment="center")
    asked = row.button("Draw the map", type="primary", icon=":material/play_arrow:", key="draw_map")
    watch = way.method == "tsne" and row.toggle(
        "Watch it settle",
        True,
        key="watch",
        bind="query-params",
        help="Off, it is there sooner.",
    )
    row.caption(f"{len(pictures):,} pictures: {set_maps.price_of(here, pictures, layer, way)}.")
    if asked:
        place.empty()
        if watch:
            embedding_live.begin(here, pictures, layer, way)
            st.rerun()
    return bool(asked)


def show(
    rows: Rows, maps: Maps, pictures: PictureChoice, layer: str, way: Way, live: embedding_live.Live | None
) -> None:
    key = set_maps.maps_key(here, pictures, layer, way)
    show_gauges(rows, maps)
    row = st.container(horizontal=True, vertical_alignment="center")
    fade = row.toggle(
        "Fade what the map stretches", key="fade", bind="query-params",
        help="The fewer of a picture's 5 nearest the map keeps beside it, the paler it is.",
    )  # fmt: skip
    placing = way.method == "tsne" and row.toggle(
        "Place the current picture", True, key="place", bind="query-params",
        help="Where the picture of the sidebar belongs on this map. No other picture moves for it.",
    )  # fmt: skip
    if live is not None and row.button("Go on", key="go on", icon=":material/play_arrow:", help="250 iterations more."):
        embedding_live.go_on(live)
        st.rerun()
    placed = embedding_placed.placed_of(here, rows, maps, key, layer) if placing else None
    opacity = FADED + (1 - FADED) * embedding_trust.kept_of(here, rows, maps, key, way) if fade else None
    mark = None if placed is None else embedding_placed.mark_of(placed)
    selections = show_maps(rows, maps, pictures, layer, way, opacity, mark)
    if not any(selection.lassoed for selection in selections):
        st.caption("Point at a picture to see it, click it to make it the current one, or draw a lasso around many.")
    for title, selection in zip(TITLES, selections, strict=True):
        list_lassoed(title, selection.lassoed, rows)
    if placed is not None:
        embedding_placed.show(here, rows, placed)
    closer = st.segmented_control("Look closer", [TRUST, LAYERS], key="closer", bind="query-params")
    if closer == TRUST:
        embedding_trust.show(here, pictures, layer, way, rows, maps, key)
    elif closer == LAYERS:
        embedding_layers.show(here, pictures, layer, way, rows)


def show_gauges(rows: Rows, maps: Maps) -> None:
    """How far the maps may be trusted, in words."""
    row = st.container(horizontal=True, gap="large")
    row.metric(
        "Neighbours kept, features",
        f"{maps.by_features.trustworthiness:.2f}",
        help="Trustworthiness (Venna & Kaski 2001): 1 where all neighbours on the map are true neighbours.",
    )
    row.metric("Neighbours kept, pixels", f"{maps.by_pixels.trustworthiness:.2f}")
    if rows.votes is None:
        st.caption("All pictures are of one class, so there is no class to vote for. Folders in a zip make classes.")
    else:
        features, pixels = 100 * rows.votes.features, 100 * rows.votes.pixels
        row.metric("Right by features", f"{features:.1f} %", f"{features - pixels:+.1f} points against pixels")
        row.metric("Right by pixels", f"{pixels:.1f} %")
        st.markdown(
            f"A vote of the {rows.votes.neighbours} nearest pictures names the right class **{features:.0f} %** of "
            f"the time by the network's features, **{pixels:.0f} %** by raw pixels, and "
            f"{100 * rows.votes.chance:.0f} % by always naming the largest class."
        )
    for note in dict.fromkeys((*maps.by_features.notes, *maps.by_pixels.notes)):
        st.caption(common.plain(note))


def show_maps(
    rows: Rows,
    maps: Maps,
    pictures: PictureChoice,
    layer: str,
    way: Way,
    opacity: np.ndarray | None,
    mark: picture_map.Mark | None,
) -> list[Selection]:
    selections: list[Selection] = []
    both = (
        (TITLES[0], f"features of {layer}", maps.by_features, "features"),
        (TITLES[1], "pixels", maps.by_pixels, "pixels"),
    )
    for place, (title, what, embedding, name) in zip(st.columns(2, gap="medium"), both, strict=True):
        with place:
            st.subheader(title, anchor=False)
            method = set_maps.title_of(embedding)
            selection = picture_map.show(
                embedding.points,
                rows.labels,
                rows.names,
                title=f"{method} of the {what} of {len(rows)} pictures",
                key=f"map of {name}, {here.model.title}, {pictures.key}, {layer}, {way}",
                atlas=rows.atlas,
                opacity=opacity if name == "features" else None,
                mark=mark if name == "features" else None,
            )
            divergence = "" if embedding.kl_divergence is None else f"; divergence {embedding.kl_divergence:.2f} nats"
            unit = "" if way.method == "pca" else " The axes have no unit."
            st.caption(common.plain(f"{method} of the {what}{divergence}.{unit}"))
            selections.append(selection)
            imports, call = set_maps.python_of(name, pictures, layer, way, embedding)
            takeaway.offer(
                here,
                f"{method} {name}",
                embedding,
                lambda embedding=embedding: set_maps.dots(embedding, rows.labels),  # type: ignore[misc]
                imports,
                call,
            )
    for selection in selections:
        open_picked(selection, pictures)
    return selections


def open_picked(selection: Selection, pictures: PictureChoice) -> None:
    """A picture that was clicked becomes the current one, everywhere, from the next run on."""
    if selection.picked is None:
        return
    picture = pictures.picture(selection.picked)
    if picture.photo.digest != here.digest:
        st.session_state["pending"] = picture
        st.rerun()


def list_lassoed(title: str, lassoed: tuple[int, ...], rows: Rows) -> None:
    if not lassoed:
        return
    counts = Counter(rows.labels[row] for row in lassoed)
    words = ", ".join(f"{count} of {label}" for label, count in counts.most_common(8))
    st.markdown(f"**{len(lassoed)} pictures in the lasso:** {common.plain(words)}. {title}.")
    shown = lassoed[:MOST_LISTED]
    st.image(
        picture_map.cut(rows.atlas, shown),
        caption=[common.plain(rows.names[row]) for row in shown],
        alt=[rows.names[row] for row in shown],
        width=96,
    )
    if len(lassoed) > MOST_LISTED:
        st.caption(f"The first {MOST_LISTED} are shown.")


st.title("Embedding", anchor=False)
st.caption(
    "Pictures that a layer of the network finds alike lie close together. Dots of one class in one heap: the layer "
    "tells the class from the others. Zoom in, and dots become pictures."
)
common.warn_untrained(here)
left, right = st.columns(2, gap="medium")
try:
    with left:
        pictures = picture_sets.choose(here)
        layer = choose_layer()
    with right:
        way = embedding_options.choose()
    if pictures is not None:
        show_set(pictures, layer, way)
except LensError as refusal:
    st.error(common.plain(str(refusal)), icon=":material/block:")
