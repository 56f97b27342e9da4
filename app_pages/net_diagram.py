"""A net drawn as blocks in the order in which they run: as high as the maps are, as wide as there are channels."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from vizcore.anatomy import Anatomy, LayerFacts

HEIGHT = 260
# Paul Tol's "bright" scheme, told apart by the colour-blind on white and on black; the shape of a block tells the rest
COLOURS = {
    "picture": "#999999",
    "convolution": "#4477AA",
    "pooling": "#EE6677",
    "dense": "#CCBB44",
    "join": "#AA3377",
}
CHOSEN = "#E07B00"
APART = 0.06  # of the width: what a size needs to be read


def blocks(facts: Anatomy) -> pd.DataFrame:
    """A row a block: the picture, and every layer that does more than change numbers where they are."""
    rows: list[dict[str, Any]] = [_block("the picture", "input", "picture", facts.input_shape, 0.0, None)]
    for layer in facts.layers:
        if layer.family in COLOURS and layer.shape:
            rows.append(_block(layer.title, layer.kind, layer.family, layer.shape, rows[-1]["right"] + 0.8, layer))
    written = {"": -math.inf}
    for row in rows:  # a size is written where it is new, if there is room
        side = row["size"].split(" × ", 1)[-1] if row["maps"] else ""
        room = row["left"] - max(written.values()) > APART * rows[-1]["right"]
        row["label"] = side if side not in written and room else ""
        if row["label"]:
            written[side] = row["left"]
    return pd.DataFrame(rows)


def _block(
    title: str, kind: str, family: str, shape: tuple[int, ...], left: float, layer: LayerFacts | None
) -> dict[str, Any]:
    is_map = layer.is_map if layer else len(shape) == 3
    side = max(shape[1:]) if is_map else math.sqrt(math.prod(shape))  # a vector as if it lay in a square
    half = (math.log2(side) + 1) / 2
    return {
        "layer": title,
        "kind": kind,
        "family": family,
        "maps": is_map,
        "size": " × ".join(map(str, shape)),
        "left": left,
        "right": left + (math.log2(shape[0]) + 1 if is_map else 2) / 2,
        "top": half,
        "bottom": -half,
        "parameters": layer.parameters if layer else 0,
        "multiply-adds": layer.multiply_adds if layer else 0,
    }


def show(facts: Anatomy, chosen: str, spotted: str | None, key: str, pick: str) -> None:
    """The drawing. A click on a block writes its title to ``st.session_state[pick]``."""

    def choose() -> None:
        picked = st.session_state[key]["selection"].get("picked") or []
        titles = {layer.title for layer in facts.layers}
        if picked and picked[0]["layer"] in titles:
            st.session_state[pick] = picked[0]["layer"]

    table = blocks(facts)
    table["outline"] = ["spotted" if t == spotted else "chosen" if t == chosen else "none" for t in table["layer"]]
    st.vega_lite_chart(
        table,
        _spec(dimmed=spotted is not None),
        height=HEIGHT,
        width="stretch",
        key=key,
        on_select=choose,
        alt=f"The {len(table) - 1} layers of the net as blocks in the order in which they run, from "
        f"{table['size'].iloc[0]} to {table['size'].iloc[-1]}; the table below has the same in numbers",
    )
    st.caption(
        "From the left, as it runs: as high as the maps are, as wide as there are channels, both on a logarithmic "
        "scale; the units of a dense layer as if they lay in a square. The numbers say where the maps become smaller "
        "(height × width). Activations and norms, which change no shape, are left out. Click a block to choose its "
        "layer."
    )


def _spec(*, dimmed: bool) -> dict[str, Any]:
    hidden: dict[str, Any] = {"axis": None, "type": "quantitative", "scale": {"zero": False, "nice": False}}
    place: dict[str, Any] = {
        "x": {"field": "left", **hidden},
        "x2": {"field": "right"},
        "y": {"field": "bottom", **hidden},
        "y2": {"field": "top"},
    }
    outline: dict[str, Any] = {"field": "outline", "type": "nominal", "legend": None}
    names = ["none", "chosen", "spotted"]
    rects: dict[str, Any] = {
        "mark": {"type": "rect", "cursor": "pointer"},
        "params": [{"name": "picked", "select": {"type": "point", "fields": ["layer"]}}],
        "encoding": {
            **place,
            "color": {
                "field": "family",
                "type": "nominal",
                "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
                "legend": {"orient": "top", "title": None},
            },
            "stroke": {**outline, "scale": {"domain": names, "range": ["transparent", CHOSEN, CHOSEN]}},
            "strokeWidth": {**outline, "scale": {"domain": names, "range": [0, 3, 4]}},
            "opacity": {**outline, "scale": {"domain": names, "range": [0.25 if dimmed else 0.9, 0.9, 1]}},
            "tooltip": [
                {"field": "layer", "title": "layer"},
                {"field": "kind", "title": "kind"},
                {"field": "size", "title": "output"},
                {"field": "parameters", "title": "parameters", "format": ","},
                {"field": "multiply-adds", "title": "multiply-adds", "format": ","},
            ],
        },
    }
    labels: dict[str, Any] = {
        "mark": {"type": "text", "align": "left", "baseline": "bottom", "dy": -3, "fontSize": 11, "color": "#888888"},
        "transform": [{"filter": "datum.label != ''"}],
        "encoding": {
            "x": place["x"],
            "y": {"field": "top", **hidden},
            "text": {"field": "label", "type": "nominal"},
        },
    }
    return {"layer": [rects, labels], "view": {"stroke": None}}
