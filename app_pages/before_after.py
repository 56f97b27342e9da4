"""Probabilities before and after a change of the picture, class by class: a chart that reads as text as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common

WHEN = ("whole picture", "with parts hidden")
COLOURS = ("#8a8f98", "#2f7fd6")  # grey and blue: on white and on black, and for the colour-blind
ROW = 54  # pixels of a class: its name, and a bar for each time
FRAME = 96  # pixels of the legend and the axis
FIRST = 5
INK = "luminance(background) < 0.5 ? '#f2f1ee' : '#31333f'"  # the theme leaves text in a chart black on black


def classes_of(here: common.Chosen, before: np.ndarray, after: np.ndarray) -> list[int]:
    """The most probable classes before, in their order, the class looked at, and those that are among the first now."""
    return list(dict.fromkeys([*first_of(before), here.target, *first_of(after)]))


def first_of(chances: np.ndarray) -> list[int]:
    return np.argsort(-chances, kind="stable")[:FIRST].tolist()


def show(here: common.Chosen, before: np.ndarray, after: np.ndarray, when: tuple[str, str] = WHEN) -> None:
    """``before`` and ``after`` are probabilities (K,), and ``when`` the words for the two. Each class keeps its place
    while the numbers change."""
    targets = classes_of(here, before, after)
    words = {target: words_of(float(before[target]), float(after[target])) for target in targets}
    known = {*first_of(before), here.target}
    rows = [
        {
            "order": number,
            "when": time,
            "chance": 100 * float(chances[target]),
            "name": here.label(target) + ("" if target in known else " (new)"),
            "words": words[target],
            "first": target == int(after.argmax()),
        }
        for number, target in enumerate(targets)
        for time, chances in zip(when, (before, after), strict=True)
    ]
    spoken = "; ".join(f"{here.label(target)} {words[target]}" for target in targets)
    st.vega_lite_chart(
        pd.DataFrame(rows),
        {"layer": [bars(when), text("name", "left", when), text("words", "right", when)]},
        height=FRAME + ROW * len(targets),
        alt=f"Probabilities before and after: {spoken}",
    )


PLACE = {"field": "order", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0.25, "paddingOuter": 0.1}}


def lanes(when: tuple[str, str]) -> dict[str, Any]:
    """Within a class: its name, and below it a lane for each time."""
    return {"type": "nominal", "scale": {"domain": ["name", *when], "paddingInner": 0.15}}


def bars(when: tuple[str, str]) -> dict[str, Any]:
    return {
        "mark": {"type": "bar", "cornerRadius": 2},
        "encoding": {
            "y": PLACE,
            "yOffset": {**lanes(when), "field": "when"},
            "x": {
                "field": "chance",
                "type": "quantitative",
                "scale": {"domain": [0, 100]},
                "axis": {"title": "probability in %", "values": [0, 25, 50, 75, 100]},
            },
            "color": {
                "field": "when",
                "scale": {"domain": list(when), "range": list(COLOURS)},
                "legend": {"title": None, "orient": "top", "direction": "horizontal"},
            },
        },
    }


def text(field: str, side: str, when: tuple[str, str]) -> dict[str, Any]:
    """A layer with one line a class, above its bars; bold where it is the answer now."""
    return {
        "transform": [{"filter": f"datum.when == '{when[0]}'"}],
        "mark": {
            "type": "text",
            "align": side,
            "baseline": "middle",
            "fontSize": 14,
            "fontWeight": {"expr": "datum.first ? 'bold' : 'normal'"},
            "color": {"expr": INK},
            "limit": 210,
        },
        "encoding": {
            "y": PLACE,
            "yOffset": {**lanes(when), "datum": "name"},
            "x": {"value": 0 if side == "left" else "width"},
            "text": {"field": field},
        },
    }


def words_of(before: float, after: float) -> str:
    return chance(before) if before == after else f"{chance(before)} → {chance(after)}"


def chance(value: float) -> str:
    """A probability, so that little is not nothing, nor nearly all everything."""
    if 0 < value < 0.0005:
        return "under\u00a00.1\u00a0%"
    if 0.9995 <= value < 1:
        return "over\u00a099.9\u00a0%"
    return f"{100 * value:.1f}\u00a0%"


def percent(share: float) -> str:
    """A share, 0 to 1, with a digit more where little or nearly all would else look like nothing or all."""
    return f"{100 * share:.{int(0 < share < 0.00995 or 0.99 < share < 1)}f}\u00a0%"
