"""Embedding: how the network arranges a set of pictures, beside how raw pixels would arrange them."""

from collections import Counter
from functools import partial

import streamlit as st

from app_pages import common, picture_sets, takeaway
from app_pages.embedding_chart import Selection, scatter
from app_pages.picture_sets import Drawn, PictureChoice
from vizcore.records import LensError

here = common.chosen()
model = here.model
MOST_LISTED = 48


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


def choose_map() -> tuple[float, int]:
    row = st.container(horizontal=True)
    perplexity = row.number_input(
        "Perplexity",
        2.0,
        200.0,
        picture_sets.PERPLEXITY,
        1.0,
        format="%.0f",
        key="perplexity",
        bind="query-params",
        help="Roughly how many neighbours each picture tries to keep. Small shows small groups, large the whole.",
        width=150,
    )
    seed = row.number_input(
        "Seed",
        0,
        9999,
        0,
        key="seed",
        bind="query-params",
        help="Another seed gives another map of the same neighbours.",
        width=150,
    )
    return perplexity, seed


def compute(pictures: PictureChoice, layer: str, perplexity: float, seed: int) -> Drawn | None:
    """The two maps: known, or after their price was shown and the button pressed."""
    drawn = common.results().get(picture_sets.key_of(here, pictures, layer, perplexity, seed))
    if drawn is not None:
        return drawn
    place = st.empty()
    row = place.container(horizontal=True, vertical_alignment="center")
    asked = row.button("Draw the map", type="primary", icon=":material/play_arrow:", key="draw_map")
    row.caption(f"{len(pictures):,} pictures: {picture_sets.price_of(here, pictures)}.")
    if not asked:
        return None
    place.empty()
    return picture_sets.draw(here, pictures, layer, perplexity, seed)


def show_gauges(drawn: Drawn) -> None:
    """How far the maps may be trusted, in words."""
    row = st.container(horizontal=True, gap="large")
    row.metric(
        "Neighbours kept, features",
        f"{drawn.feature_map.trustworthiness:.2f}",
        help="Trustworthiness (Venna & Kaski 2001): 1 where all neighbours on the map are true neighbours.",
    )
    row.metric("Neighbours kept, pixels", f"{drawn.pixel_map.trustworthiness:.2f}")
    if drawn.votes is None:
        st.caption("All pictures are of one class, so there is no class to vote for. Folders in a zip make classes.")
    else:
        features, pixels = 100 * drawn.votes.features, 100 * drawn.votes.pixels
        row.metric("Right by features", f"{features:.1f} %", f"{features - pixels:+.1f} points against pixels")
        row.metric("Right by pixels", f"{pixels:.1f} %")
        st.markdown(
            f"A vote of the {drawn.votes.neighbours} nearest pictures names the right class **{features:.0f} %** of "
            f"the time by the network's features, **{pixels:.0f} %** by raw pixels, and "
            f"{100 * drawn.votes.chance:.0f} % by always naming the largest class."
        )
    for note in dict.fromkeys((*drawn.feature_map.notes, *drawn.pixel_map.notes)):
        st.caption(common.plain(note))


def show_maps(drawn: Drawn, pictures: PictureChoice, layer: str) -> None:
    selections: list[Selection] = []
    maps = (
        ("By the network", f"features of {layer}", drawn.feature_map, "features"),
        ("By raw pixels", "pixels", drawn.pixel_map, "pixels"),
    )
    for place, (title, what, embedding, name) in zip(st.columns(2, gap="medium"), maps, strict=True):
        with place:
            st.subheader(title, anchor=False)
            selection = scatter(
                embedding.points,
                drawn.labels,
                drawn.thumbnails,
                names=drawn.names,
                title=f"t-SNE of the {what} of {len(drawn.labels)} pictures",
                key=f"map of {name}, {pictures.key}, {layer}",
            )
            facts = f"t-SNE of the {what}; divergence {embedding.kl_divergence:.2f} nats. The axes have no unit."
            st.caption(common.plain(facts))
            selections.append(selection)
            takeaway.offer(
                here,
                f"t-sne {name}",
                embedding,
                partial(picture_sets.dots, embedding, drawn.labels),
                ("from vizcore.embedding import extract_features, pixel_features, tsne", *pictures.imports),
                picture_sets.call_of(name, pictures, layer, drawn),
            )
    for selection, (_, _, _, name) in zip(selections, maps, strict=True):
        open_picked(selection, pictures, f"opened in {name}, {pictures.key}, {layer}")
    list_selected(selections, drawn)


def open_picked(selection: Selection, pictures: PictureChoice, key: str) -> None:
    """A dot that was clicked since the last run becomes the current picture, everywhere, from the next run on."""
    before, st.session_state[key] = st.session_state.get(key), selection.picked
    if selection.picked is None or selection.picked == before:
        return
    picture = pictures.picture(selection.picked)
    if picture.photo.digest != here.digest:
        st.session_state["pending"] = picture
        st.rerun()


def list_selected(selections: list[Selection], drawn: Drawn) -> None:
    rows = next((selection.lassoed for selection in selections if selection.lassoed), ())
    if not rows:
        st.caption("Hover over a dot to see its picture, click it to make it the current one, or draw a lasso.")
        return
    counts = Counter(drawn.labels[row] for row in rows)
    words = ", ".join(f"{count} of {label}" for label, count in counts.most_common(8))
    st.markdown(f"**{len(rows)} pictures in the lasso:** {common.plain(words)}.")
    shown = rows[:MOST_LISTED]
    st.image(
        [drawn.thumbnails[row] for row in shown],
        caption=[common.plain(drawn.names[row]) for row in shown],
        alt=[drawn.names[row] for row in shown],
        width=96,
    )
    if len(rows) > MOST_LISTED:
        st.caption(f"The first {MOST_LISTED} are shown.")


st.title("Embedding", anchor=False)
st.caption(
    "t-SNE puts pictures close together that a layer of the network finds alike. Dots of one class in one heap: "
    "the layer tells the class from the others. Distances between heaps, and their sizes, mean little."
)
common.warn_untrained(here)
left, right = st.columns(2, gap="medium")
try:
    with left:
        pictures = picture_sets.choose(here)
    with right:
        layer = choose_layer()
        perplexity, seed = choose_map()
    if pictures is not None:
        drawn = compute(pictures, layer, perplexity, seed)
        if drawn is not None:
            show_gauges(drawn)
            show_maps(drawn, pictures, layer)
except LensError as refusal:
    st.error(common.plain(str(refusal)), icon=":material/block:")
