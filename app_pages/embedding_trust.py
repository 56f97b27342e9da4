"""How far a map may be trusted: neighbours invented and lost over k, and what other seeds and perplexities draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common, set_maps, takeaway, views
from app_pages.picture_sets import PictureChoice
from app_pages.set_maps import Maps, Rows, Way
from vizcore.map_quality import (
    NEIGHBOURS,
    MapAgreement,
    MapQuality,
    kept_neighbours,
    map_agreement,
    map_quality,
    reading,
)
from vizcore.records import Embedding

SEEDS = (0, 1, 2)
FACTORS = (1 / 3, 1.0, 3.0)  # of the perplexity
MEASURES = ("trustworthiness", "continuity")
COLOURS = {  # Okabe and Ito's, told apart by the colour-blind; pixels are dashed as well
    "features, trustworthiness": "#0072B2",
    "features, continuity": "#D55E00",
    "pixels, trustworthiness": "#56B4E9",
    "pixels, continuity": "#E69F00",
}


@dataclass(frozen=True, eq=False)
class Nine:
    """Maps of the same features by three seeds and three perplexities, row by row, and how far they agree."""

    maps: tuple[Embedding, ...]
    agreement: MapAgreement


def kept_of(here: common.Chosen, rows: Rows, maps: Maps, key: tuple[object, ...], way: Way) -> np.ndarray:
    """(n,) share of each picture's neighbours that the map keeps, 0 to 1."""
    return common.known(
        ("kept", here.model.title, key),
        lambda: kept_neighbours(rows.features, maps.by_features.points, _near(rows), metric=way.metric),
        1e-7 * len(rows) ** 2,
    )


def show(
    here: common.Chosen, pictures: PictureChoice, layer: str, way: Way, rows: Rows, maps: Maps, key: tuple[object, ...]
) -> None:
    quality = _quality_of(here, rows, maps.by_features, key, way)
    nine_key = ("nine maps", here.model.title, key)
    nine: Nine | None = common.recall(nine_key)
    title = set_maps.title_of(maps.by_features)
    st.info(common.plain(reading(quality, nine.agreement if nine else None, method=title)), icon=":material/menu_book:")
    _show_curves(quality, _quality_of(here, rows, maps.by_pixels, key, way, of_pixels=True), title)
    _take_away(here, pictures, layer, way, quality, maps.by_features)
    if way.method != "tsne":
        return
    st.markdown("**Would another seed or perplexity tell the same?**")
    if nine is None:
        way = way.settled()
        count = len(_perplexities(rows, way))
        seconds = 0.5 * count * len(SEEDS) * set_maps.seconds_of_maps(pictures, way)
        price = f"{len(SEEDS)} seeds × {count} perplexities, about {common.duration(seconds)}"
        if not views.asked("Draw them all", "nine maps", price):
            return
        nine = common.known(nine_key, lambda: _draw(rows, way), seconds)
        st.rerun()
    _show_nine(nine, rows)


def _quality_of(
    here: common.Chosen, rows: Rows, embedding: Embedding, key: tuple[object, ...], way: Way, of_pixels: bool = False
) -> MapQuality:
    def compute() -> MapQuality:
        given = rows.pixels if of_pixels else rows.features
        with common.running(f"Ranking all neighbours by {'pixels' if of_pixels else 'features'}") as progress:
            return map_quality(given, embedding.points, metric=way.metric, progress=progress)

    return common.known(("trust", here.model.title, key, of_pixels), compute, 1e-6 * len(rows) ** 2)


def _table(quality: MapQuality, name: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "map": name,
            "k": np.tile(quality.ks, 2),
            "measure": np.repeat(MEASURES, len(quality.ks)),
            "share": np.concatenate([quality.trustworthiness, quality.continuity]),
        }
    )


def _show_curves(quality: MapQuality, of_pixels: MapQuality, title: str) -> None:
    table = pd.concat([_table(quality, "features"), _table(of_pixels, "pixels")], ignore_index=True)
    table["curve"] = table["map"] + ", " + table["measure"]
    low = float(table["share"].min())
    st.vega_lite_chart(
        table,
        {
            "mark": {"type": "line", "strokeWidth": 2.5, "point": True},
            "encoding": {
                "x": {
                    "field": "k",
                    "type": "quantitative",
                    "scale": {"type": "log"},
                    "axis": {"values": list(quality.ks)},
                    "title": "neighbours asked, k",
                },
                "y": {
                    "field": "share",
                    "type": "quantitative",
                    "scale": {"domain": [max(0.0, min(0.5, low)), 1]},
                    "title": "1 is no error, 0.5 chance",
                },
                "color": {
                    "field": "curve",
                    "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
                    "legend": {"title": None, "orient": "bottom", "columns": 2},
                },
                "strokeDash": {"condition": {"test": "datum.map === 'pixels'", "value": [5, 4]}, "value": [1, 0]},
            },
        },
        height=320,
        alt=f"Trustworthiness and continuity over the number of neighbours. {reading(quality, method=title)}",
    )
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        st.markdown(
            "**Trustworthiness** falls with neighbours on the map that are none in the features: the map folds. "
            "**Continuity** falls with neighbours in the features that are far on the map: the map tears. Each error "
            "weighs as much as it is far. A map that is good at 5 neighbours may be poor at 100: it then shows who is "
            "beside whom, and not which groups are alike. **Weakness:** both are means; a few torn pictures among many "
            "good ones do not show. Let the map fade what it stretches."
        )
        st.caption("Venna & Kaski, Neighborhood preservation in nonlinear projection methods, ICANN 2001.")


def _take_away(
    here: common.Chosen, pictures: PictureChoice, layer: str, way: Way, quality: MapQuality, embedding: Embedding
) -> None:
    imports, made = set_maps.python_of("features", pictures, layer, way, embedding)
    call = (
        f"{made}\nquality = map_quality(rows, embedding.points, metric={way.metric!r})\n"
        "print(quality.ks, quality.trustworthiness, quality.continuity)"
    )
    table = _table(quality, "features").drop(columns="map")
    imports = (*imports, "from vizcore.map_quality import map_quality")
    takeaway.offer_table(here, "trust in the map", table, imports, call)


def _draw(rows: Rows, way: Way) -> Nine:
    found = []
    perplexities = _perplexities(rows, way)
    with common.running("Drawing maps", "maps") as progress:
        for perplexity in perplexities:
            for seed in SEEDS:
                found.append(way.but(perplexity=perplexity, seed=seed).draw(rows.features))
                progress(len(found), len(perplexities) * len(SEEDS))
    return Nine(tuple(found), map_agreement([one.points for one in found], _near(rows)))


def _near(rows: Rows) -> int:
    return min(NEIGHBOURS, len(rows) - 1)


def _perplexities(rows: Rows, way: Way) -> list[float]:
    """Those that differ: of few pictures large ones are all lowered to the same, and would agree with themselves."""
    most = (len(rows) - 1) / 3
    lowered = [math.floor(10 * min(max(way["perplexity"] * factor, 1.0), most)) / 10 for factor in FACTORS]
    return list(dict.fromkeys(lowered))


def _show_nine(nine: Nine, rows: Rows) -> None:
    titles = [
        f"perplexity {one.params['perplexity']:.3g}, seed {one.params['seed']}\ntrustworthiness "
        f"{one.trustworthiness:.2f}, KL {one.kl_divergence:.2f}"
        for one in nine.maps
    ]
    picture = common.drawn(set_maps.sheet, nine.maps, rows.labels, titles, columns=len(SEEDS))
    shared = 100 * nine.agreement.mean
    views.show_picture(
        picture, f"{len(nine.maps)} maps of the same features; any two share {shared:.0f} % of their neighbours"
    )
    st.caption(
        f"Rows: perplexity; columns: seed. Two of them share {shared:.0f} % of a picture's "
        f"{nine.agreement.k} neighbours on average; by chance {100 * nine.agreement.chance:.2g} %. Groups that "
        "stand in all of them are in the features; where a group lies, and how large it is, is the map's doing."
    )
