"""The same pictures at every stage of the network: small maps in a row, and how well each stage tells the classes."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app_pages import common, set_maps, takeaway, views
from app_pages.picture_sets import PictureChoice
from app_pages.set_maps import Rows, Way
from vizcore.embedding import NEIGHBOURS, extract_features_of_layers
from vizcore.records import BadParameter, Embedding
from vizcore.separability import FOLDS, Separability, separability

COLOURS = {"linear probe": "#0072B2", "nearest neighbours": "#D55E00", "raw pixels": "#009E73"}
MOST_MAPPED = 1500  # pictures of the small maps: enough for a square of three centimetres


@dataclass(frozen=True, eq=False)
class Depth:
    """Of each of ``layers``, in order, a map and how well it tells the classes; ``refused`` says why it does not."""

    layers: tuple[str, ...]
    maps: tuple[Embedding, ...]
    found: tuple[Separability, ...]
    pixels: Separability | None
    labels: tuple[str, ...]
    refused: str


def layers_shown(here: common.Chosen, layer: str) -> list[str]:
    """The stages, and the layer of the large map, from the first to the last."""
    names = {stage.name for stage in views.stages_of(here)} | {layer, here.model.layers["features"]}
    every = common.layers_of(here.model.name, here.model.weights is None)
    return [known.name for known in every if known.name in names]


def show(here: common.Chosen, pictures: PictureChoice, layer: str, way: Way, rows: Rows) -> None:
    layers, way = layers_shown(here, layer), way.settled()
    key = ("depth", here.model.title, pictures.key, tuple(layers), way)
    depth: Depth | None = common.recall(key)
    if depth is None:
        count = min(len(pictures), MOST_MAPPED) / len(pictures)
        seconds = set_maps.seconds_of_rows(here, pictures) + len(layers) * (
            0.5 * count * set_maps.seconds_of_maps(pictures, way) + 0.5 + 0.0015 * len(pictures)
        )
        if not views.asked("Map every stage", "depth", common.price(len(pictures), seconds)):
            return
        common.known(key, lambda: _compute(here, pictures, layers, way, rows), seconds)
        st.rerun()
    _show_maps(depth)
    if depth.refused:
        st.info(common.plain(depth.refused))
        return
    table = _table(depth)
    _show_curve(depth, table)
    call = (
        f"{pictures.script}\nlabels = {pictures.folders}\n"
        f"rows = extract_features_of_layers(model, pictures, {layers!r})\n"
        "found = separability_of_layers(rows, labels)\n"
        "for layer, one in found.items():\n    print(layer, one.neighbour, one.linear, one.chance)\n"
        "print(separability(pixel_features(model, pictures), labels).linear)"
    )
    imports = (
        "from vizcore.embedding import extract_features_of_layers, pixel_features",
        "from vizcore.separability import separability, separability_of_layers",
        *pictures.imports,
    )
    takeaway.offer_table(here, "layer by layer", table, imports, call)


def _compute(here: common.Chosen, pictures: PictureChoice, layers: list[str], way: Way, rows: Rows) -> Depth:
    with common.running("Gathering the pictures") as progress:
        loaded = pictures.load(progress)
    with common.running("Showing the pictures to the network") as progress:
        by_layer = extract_features_of_layers(here.model, loaded, layers, progress=progress)
    step = -(-len(rows) // MOST_MAPPED)
    maps, found, pixels, refused = [], [], None, ""
    with common.running("Mapping every stage", "layers") as progress:
        for number, layer in enumerate(layers, 1):
            maps.append(way.draw(by_layer[layer][::step]))
            progress(number, len(layers))
    k = min(NEIGHBOURS, len(rows) - 1)
    try:
        with common.running("Telling the classes apart", "layers") as progress:
            for number, layer in enumerate(layers, 1):
                found.append(separability(by_layer[layer], rows.labels, k=k))
                progress(number, len(layers) + 1)
            pixels = separability(rows.pixels, rows.labels, k=k)
    except BadParameter as refusal:  # one class, or too few pictures of one: the maps are there all the same
        refused = str(refusal)
    return Depth(tuple(layers), tuple(maps), tuple(found), pixels, rows.labels[::step], refused)


def _show_maps(depth: Depth) -> None:
    titles = [
        f"{layer}\n5 nearest {100 * one.neighbour:.0f} %, linear {100 * one.linear:.0f} %"
        for layer, one in zip(depth.layers, depth.found, strict=False)
    ] or list(depth.layers)
    picture = common.drawn(set_maps.sheet, depth.maps, depth.labels, titles, columns=min(len(depth.layers), 4))
    views.show_picture(picture, f"The same pictures at {len(depth.layers)} layers, from the first to the last")
    st.caption(
        "From the first stage to the last, colours by class. Of a layer with maps, each map's mean is taken. "
        f"Maps show {len(depth.labels):,} pictures."
    )


def _table(depth: Depth) -> pd.DataFrame:
    assert depth.pixels is not None
    records = []
    for layer, one in zip(depth.layers, depth.found, strict=True):
        for name, share, low, high in (
            ("linear probe", one.linear, one.lowest, one.highest),
            ("nearest neighbours", one.neighbour, one.neighbour, one.neighbour),
            ("raw pixels", depth.pixels.linear, depth.pixels.lowest, depth.pixels.highest),
        ):
            records.append({"layer": layer, "by": name, "right": 100 * share, "low": 100 * low, "high": 100 * high})
    return pd.DataFrame(records)


def _show_curve(depth: Depth, table: pd.DataFrame) -> None:
    first, last = depth.found[0], depth.found[-1]
    assert depth.pixels is not None
    colour = {
        "field": "by",
        "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
        "legend": {"title": None, "orient": "bottom"},
    }
    x = {"field": "layer", "type": "nominal", "sort": list(depth.layers), "title": "layer, from the first to the last"}
    y = {"type": "quantitative", "title": "class named right, %", "scale": {"domain": [0, 100]}}
    line = {
        "mark": {"type": "line", "strokeWidth": 2.5, "point": True},
        "encoding": {
            "y": {"field": "right", **y},
            "strokeDash": {"condition": {"test": "datum.by === 'raw pixels'", "value": [5, 4]}, "value": [1, 0]},
        },
    }
    band = {
        "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
        "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
    }
    st.vega_lite_chart(
        table,
        {"encoding": {"x": x, "color": colour}, "layer": [band, line]},
        height=340,
        alt=f"A linear probe is right {100 * first.linear:.0f} % at {depth.layers[0]} and {100 * last.linear:.0f} % at "
        f"{depth.layers[-1]}",
    )
    st.markdown(
        f"A linear classifier on **{common.plain(depth.layers[0])}** is right {100 * first.linear:.0f} % of the time, "
        f"on **{common.plain(depth.layers[-1])}** {100 * last.linear:.0f} %; on raw pixels "
        f"{100 * depth.pixels.linear:.0f} %, always naming the largest class {100 * last.chance:.0f} %."
    )
    st.caption(
        f"Of pictures that it was not fitted to, over {FOLDS} folds; the upright lines reach from the worst fold to "
        "the best. Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016."
    )
