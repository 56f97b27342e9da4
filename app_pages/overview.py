"""Overview: what is it, and where did the network look? Before any control is touched."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app_pages import common, picture_sets, set_maps, takeaway, views
from app_pages.occlusion_runs import Occlusion, words_of
from app_pages.warp import show_warp
from vizcore.filters import order
from vizcore.heatmaps import title_of
from vizcore.images import Scale, montage, to_png
from vizcore.occlusion import Unfinished
from vizcore.records import LensError, Scores

here = common.chosen()
model, view = here.model, here.view

st.title("Overview", anchor=False)
common.warn_untrained(here)

photo, seen, classes = st.columns([5, 4, 5], gap="medium")
with photo:
    st.subheader("The picture", anchor=False)
    views.show_picture(views.framed(here), f"{here.title}, with a frame around the part that the network saw")
    height, width = here.photo.shape[:2]
    st.caption(common.plain(f"{here.title}, {width} × {height} pixels. The frame holds what the network saw."))
with seen:
    st.subheader("What it saw", anchor=False)
    views.show_picture(common.drawn(to_png, views.as_seen(here)), "The pixels that the network received")
    colour = "in grey" if len(model.mean) == 1 else "in colour"
    st.caption(f"{model.input_size[1]} × {model.input_size[0]} pixels, {colour}.")
with classes:
    st.subheader("What it answers", anchor=False)
    views.show_classes(here)
    st.caption(
        f"{common.plain(model.title)} knows {len(model.labels):,} classes and names one of them whatever it is shown. "
        "The bars are probabilities: the softmax of its scores, the logits."
    )
    takeaway.offer(
        here,
        "classes",
        Scores(here.scores, model.name, model.labels),
        views.framed(here),
        ("from vizcore.images import frame, to_png",),
        "scores = model.logits(view.pixels).softmax(1)  # (1, K) probabilities\n"
        "picture = frame(photo, view.box)  # to_png(picture): the bytes of a file",
    )

show_warp(here)


def show_filters() -> None:
    bank = views.bank_of(here)
    views.show_picture(views.sheet(views.filter_sheet, bank, order(bank)).file, "First-layer filters")
    st.caption(f"**Filters.** The {len(bank.values)} patterns that the first layer looks for.")
    st.page_link("app_pages/layers.py", label="Layers", icon=":material/layers:")


def show_maps() -> None:
    layer = views.stages_of(here)[0]
    (maps,) = views.maps_of(here, layer.name)
    strongest = maps.strengths.argsort()[::-1][:9]
    values = views.shrink(maps.values[strongest])
    sheet = views.sheet(montage, values, Scale.of(values), columns=3, gap=2, tile=56)
    views.show_picture(sheet.file, f"The {len(strongest)} strongest activation maps of {layer.name}")
    shown = f"the {len(strongest)} strongest channels" if len(strongest) < len(maps.values) else "all its channels"
    colours = "red positive, blue negative" if (values < 0).any() else "bright is strong"
    st.caption(f"**Activation maps.** Where the first layer found its patterns: {shown}, {colours}.")
    st.page_link("app_pages/layers.py", label="Layers", icon=":material/layers:")


def show_heatmap() -> None:
    heat = views.summary_of(here)
    title = views.METHOD_TITLES[heat.method]
    views.show_picture(views.laid(here, heat), f"{title} laid over the picture")
    against = ", in red, and against it, in blue" if (heat.values < 0).any() else ""
    st.caption(f"**{title}.** The regions that speak for {common.plain(here.label(here.target))}{against}.")
    st.page_link("app_pages/heatmaps.py", label="Heatmaps", icon=":material/local_fire_department:")


def show_occlusion() -> None:
    window = max(2, model.input_size[0] // 4)
    question = Occlusion(here, window, window // 2)
    common.wait_for_stopped()
    question.estimates(question.to_estimate([here.target]))
    known, picture, label = question.best(here.target), st.empty(), common.plain(here.label(here.target))
    if known:
        alt = f"{title_of(known.heat)} laid over the picture"
        views.show_picture(views.laid(here, known.heat), alt, place=picture)
    if known and known.is_whole:
        fall = views.number(float(known.heat.values.max()))
        st.caption(f"**Occlusion.** Hiding what is red lowers the score of {label}, by up to {fall}.")
        st.caption(common.plain(f"{known.took}."))
    else:
        st.caption(f"**Occlusion.** How far the score of {label} falls when a part is hidden.")
        hide_parts(question, picture, known.heat.notes if known else ())
    st.page_link("app_pages/heatmaps.py", label="Heatmaps", icon=":material/local_fire_department:")


def hide_parts(question: Occlusion, picture: DeltaGenerator, notes: tuple[str, ...]) -> None:
    """The button that makes the map exact, with its price; what is known so far is drawn into ``picture``."""
    words, asking, bar = st.empty(), st.empty(), st.container()
    words.caption(common.plain(" ".join(notes)))
    with asking.container():
        asked = st.button("Hide parts of it", icon=":material/play_arrow:")
        st.caption(f"{common.plain(question.price())}.")
    if not asked:
        return
    asking.empty()

    def show(so_far: Unfinished) -> None:
        words.caption(common.plain(words_of(so_far)))
        heat = question.over_estimates(so_far)[here.target]
        picture.image(views.live(here, heat, Scale.of(heat)), width="stretch", alt="Occlusion so far")

    with bar, common.running("Hiding parts", "windows") as progress:
        question.compute([here.target], progress, common.sparing(show))
    st.rerun()


def show_embedding() -> None:
    pictures = picture_sets.usual(here)
    layer = model.layers["features"]
    way = set_maps.Way()
    maps = common.recall(set_maps.maps_key(here, pictures, layer, way))
    if maps is None:
        place = st.empty()
        cost = set_maps.price_of(here, pictures, layer, way)
        if not place.button("Map many pictures", icon=":material/play_arrow:"):
            st.caption(f"**t-SNE.** What the network finds alike lies close together: {cost}.")
            st.page_link("app_pages/embedding.py", label="Embedding", icon=":material/scatter_plot:")
            return
        with place.container():
            maps = set_maps.maps_of(here, pictures, layer, way)
    picture = common.drawn(set_maps.dots, maps.by_features, pictures.labels, small=True)
    views.show_picture(picture, f"t-SNE of {len(pictures)} pictures, coloured by class")
    st.caption(f"**t-SNE.** {len(pictures):,} pictures; what the network finds alike lies close together.")
    st.page_link("app_pages/embedding.py", label="Embedding", icon=":material/scatter_plot:")


st.subheader("Five views of it", anchor=False)
cards = st.grid(5, min_column_width=140)
for show in (show_filters, show_maps, show_heatmap, show_occlusion, show_embedding):
    with cards.cell():
        try:
            show()
        except LensError as refusal:
            st.info(common.plain(str(refusal)))
