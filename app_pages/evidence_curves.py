"""Deletion and insertion: the score as the pixels go that a map calls important, or come, beside controls."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app_pages import common, takeaway, views
from app_pages.explained import Explained
from vizcore.faithfulness import CONTROLS, FILLINGS, KINDS, Faithfulness, curves, passes

STEPS = 16
SHOWN_AS = {"mean": "mean colour", "road": "neighbours (ROAD)"}
COLOURS = {"the map": "#CC3311", **dict(zip(CONTROLS.values(), ("#777777", "#009988", "#0077BB"), strict=True))}
FILLED_IN = 2e-6  # seconds a pixel of the picture that filling in from the neighbours takes, measured


def show(explained: Explained) -> None:
    here = explained.here
    st.markdown(
        "If the score hangs on what the map points at, it **falls** soon when those pixels go first, and **rises** "
        "soon when they come first. Controls that know nothing of the class do the same."
    )
    filling = choose_filling()
    keys = {kind: ("curves", *explained.key, here.target, kind, filling) for kind in KINDS}
    if None in map(common.recall, keys.values()):
        missing = {kind: key for kind, key in keys.items() if common.recall(key) is None}
        count = len(missing) * passes(STEPS, controls=tuple(CONTROLS))
        besides = FILLED_IN * here.view.pixels[0, 0].numel() if filling == "road" else 0.0
        seconds = count * (views.seconds_a_pass(here) + besides)
        if not views.asked("Remove pixels", "curves", common.price(count, seconds)):
            return
        for kind, key in missing.items():
            with common.running(f"The {kind} curve", "pictures") as progress:
                common.known(key, lambda kind=kind: _curves(explained, kind, filling, progress), seconds / len(missing))  # type: ignore[misc]
        st.rerun()
    found: dict[str, Any] = {kind: common.recall(key) for kind, key in keys.items()}
    domain = max(float(curve.scores.max()) for one in found.values() for curve in _curves_of(one))
    for place, one in zip(st.columns(2), found.values(), strict=True):
        with place:
            _show(one, domain)
    _take_away(explained, filling, found)
    _how_to_read()


def choose_filling() -> str:
    """What stands in for missing pixels, one of FILLINGS: chosen once for all questions."""
    return st.segmented_control(
        "Missing pixels show",
        FILLINGS,
        default="blur",
        required=True,
        format_func=lambda name: SHOWN_AS.get(name, name),
        key="filling",
        bind="query-params",
        help="A network has never seen a picture with holes, so what fills them is part of the answer. Blur and ROAD "
        "leave no edges that were not there; ROAD (Rong et al. 2022) fills a hole in from its neighbours.",
    )


def _curves(explained: Explained, kind: str, filling: str, progress: Any) -> Faithfulness:
    here = explained.here
    return curves(
        here.model,
        here.view.pixels,
        here.target,
        explained.in_place(),
        kind=kind,
        steps=STEPS,
        filling=filling,
        controls=tuple(CONTROLS),
        progress=progress,
    )


def _curves_of(found: Faithfulness) -> list[Any]:
    return [found.curve, *(found.mean(control) for control in found.controls)]


def _table(found: Faithfulness) -> pd.DataFrame:
    names = ["the map", *(CONTROLS[control] for control in found.controls)]
    bands = [0.0, *(found.band(control) for control in found.controls)]
    parts = [
        pd.DataFrame(
            {
                "order": name,
                "share": 100 * curve.shares,
                "score": 100 * curve.scores,
                "low": 100 * (curve.scores - band),
                "high": 100 * (curve.scores + band),
            }
        )
        for name, curve, band in zip(names, _curves_of(found), bands, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _show(found: Faithfulness, domain: float) -> None:
    kind = found.curve.kind
    filling = found.params["filling"]
    st.markdown(f"**{kind.capitalize()}**, missing pixels: {SHOWN_AS.get(filling, filling)}")
    gone = "gone" if kind == "deletion" else "there"
    share = {"field": "share", "type": "quantitative", "title": f"pixels that are {gone}, %"}
    scale = {"domain": [0, 100 * max(domain, 0.01)]}
    y = {"type": "quantitative", "title": "probability, %", "scale": scale}
    colour = {
        "field": "order",
        "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
        "legend": {"title": None, "orient": "bottom", "columns": 1, "labelLimit": 300, "symbolOpacity": 1},
    }
    band = {
        "mark": {"type": "area", "opacity": 0.2, "clip": True},
        "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
    }
    line = {"mark": {"type": "line", "strokeWidth": 2.5}, "encoding": {"y": {"field": "score", **y}}}
    st.vega_lite_chart(
        _table(found),
        {"encoding": {"x": share, "color": colour}, "layer": [band, line]},
        height=440,
        alt=f"{kind.capitalize()} curves. {found.verdict}",
    )
    better = "lower is better" if kind == "deletion" else "higher is better"
    st.markdown(f"Area **{found.curve.area:.3f}** ({better}).")
    for sentence in found.verdicts.values():
        mark = ":material/check:" if sentence.startswith("Beats") else ":material/close:"
        st.markdown(f"{mark} {common.plain(sentence)}")


def _take_away(explained: Explained, filling: str, found: dict[str, Faithfulness]) -> None:
    imports, call = explained.script(in_place=True)
    options = f"steps={STEPS}, filling={filling!r}, controls={tuple(CONTROLS)!r}"
    asks = "\n".join(
        f'{kind} = curves(model, view.pixels, {explained.here.target}, heat, kind="{kind}", {options})'
        for kind in found
    )
    tables = [_table(one).assign(kind=kind) for kind, one in found.items()]
    takeaway.offer_table(
        explained.here,
        f"evidence {explained.name}",
        pd.concat(tables, ignore_index=True),
        (*imports, "from vizcore.faithfulness import curves"),
        f"{call}\n{asks}\nprint(deletion.curve.area, deletion.verdict)\nprint(insertion.curve.area, insertion.verdict)",
    )


def _how_to_read() -> None:
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        st.latex(r"\text{area} = \int_0^1 s(p)\,dp")
        st.markdown(
            "s is the probability of the class, p the share of the pixels. Each curve goes through the pixels in an "
            "order: that of the map, most important first; a random one, five times; the map itself pushed to random "
            "places, five times; and the edges of the picture, strongest first. Pale bands are a standard deviation of "
            "the five. **Weakness:** sprinkled holes destroy a picture sooner than one large hole, so that a random "
            "order is hard to beat by deletion; the moved map is the fairer control. What fills the holes decides as "
            "well: with the mean colour deletion may call a map worse than random that ROAD calls better. Try several."
        )
        st.caption(
            "Petsiuk, Das & Saenko, RISE, BMVC 2018. Rong et al., A Consistent and Efficient Evaluation Strategy for "
            "Attribution Methods (ROAD), ICML 2022."
        )
