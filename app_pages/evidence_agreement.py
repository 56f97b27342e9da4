"""Other methods: six of them on one picture, how far they agree, and where they do not; and one by other seeds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pandas as pd
import streamlit as st

from app_pages import common, evidence_seeds, takeaway, views
from app_pages.explained import Explained
from vizcore.agreement import Agreement, agreement
from vizcore.colour import Scale
from vizcore.records import Heatmap, LensError

SIX = ("grad_cam", "hires_cam", "layer_cam", "eigen_cam", "gradient_x_input", "guided_backpropagation")


def show(explained: Explained) -> None:
    _show_others(explained)
    st.divider()
    evidence_seeds.show(explained)


def _show_others(explained: Explained) -> None:
    here = explained.here
    st.markdown("Methods of different kinds that point at the same places are worth more than one that stands alone.")
    asked = [replace(explained, method=method, view="absolute") for method in dict.fromkeys((explained.method, *SIX))]
    price = common.price(len(asked), 3 * len(asked) * views.seconds_a_pass(here), of=("map", "maps"))
    key = ("agreement", *explained.key, explained.layer, here.target)  # some of the six have a layer always
    if (found := common.recall(key)) is None:
        if not views.asked("Ask other methods", "agreement", price):
            return
        maps: dict[str, Heatmap] = {}
        with common.running("Other methods", "maps") as progress:
            for number, each in enumerate(asked, 1):
                with suppress(LensError):  # a net may not allow all of them
                    maps[each.title] = each.in_place()
                progress(number, len(asked))
        size = (here.view.pixels.shape[2], here.view.pixels.shape[3])
        common.known(key, lambda: agreement(maps, size))
        st.rerun()
    for sentence in found.summary:
        st.markdown(common.plain(sentence))
    _show_grid(found)
    one, other = st.columns(2)
    with one:
        st.markdown("**Consensus**: mean rank of a place")
        _show_map(here, found.consensus, "mean rank, 0 to 1")
    with other:
        st.markdown("**Disagreement**: its standard deviation")
        _show_map(here, found.disagreement, "of the ranks, 0 to 0.5")
    takeaway.offer_table(
        here,
        f"agreement {explained.name}",
        pd.DataFrame(found.correlations, found.names, found.names).reset_index(names="method"),
        *_script([each for each in asked if each.title in found.names]),
    )


def _script(asked: list[Explained]) -> tuple[tuple[str, ...], str]:
    """Imports, and the Python that compares the maps."""
    imports, lines = ["from vizcore.agreement import agreement"], ["maps = {}"]
    for each in asked:
        wanted, call = each.script(in_place=True)
        imports += wanted
        lines += [call, f"maps[{each.title!r}] = heat"]
    return tuple(imports), "\n".join([*lines, "found = agreement(maps, tuple(view.pixels.shape[2:]))"])


def _show_grid(found: Agreement) -> None:
    cells = [
        {"one": one, "other": other, "rank": None if value != value else round(float(value), 3)}
        for one, row in zip(found.names, found.correlations, strict=True)
        for other, value in zip(found.names, row, strict=True)
    ]
    order = list(found.names)
    axes = {
        "x": {
            "field": "other",
            "sort": order,
            "title": None,
            "axis": {"labelAngle": -40, "labelOverlap": False, "labelLimit": 200},
        },
        "y": {"field": "one", "sort": order, "title": None, "axis": {"labelLimit": 200}},
    }
    colour = {
        "field": "rank",
        "type": "quantitative",
        "scale": {"domain": [-1, 1], "scheme": "redblue", "reverse": True},
    }
    ink = {"condition": {"test": "abs(datum.rank) > 0.6", "value": "white"}, "value": "black"}
    st.vega_lite_chart(
        pd.DataFrame(cells),
        {
            "encoding": axes,
            "layer": [
                {"mark": "rect", "encoding": {"color": {**colour, "legend": {"title": "rank correlation"}}}},
                {
                    "transform": [{"filter": "isValid(datum.rank)"}],
                    "mark": "text",
                    "encoding": {"text": {"field": "rank", "format": ".2f"}, "color": ink},
                },
            ],
        },
        height=340,
        alt=f"Rank correlations of {', '.join(order)}. {' '.join(found.summary)}",
    )


def _show_map(here: common.Chosen, values: object, unit: str) -> None:
    scale = Scale.of(values)
    views.show_picture(views.laid(here, values, scale), f"Place by place on {here.title}: {unit}")  # type: ignore[arg-type]
    views.show_scale(scale, unit)
