"""The map of many pictures: a dot a picture, its thumbnail on hover, a click to pick one, a lasso to pick many."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from matplotlib.path import Path
from PIL import Image

from vizcore.images import thumbnail

# Paul Tol's "bright" scheme: told apart by the colour-blind, on white and on black. 7 colours and 6 shapes have no
# common divisor, so that 42 classes differ in one of the two, and neighbours in both.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377", "#66CCEE", "#999999")
SHAPES = (
    "circle",
    "diamond",
    "triangle",
    "rect",
    "path://M0,0 L10,0 L5,9 Z",
    "path://M3,0 H7 V3 H10 V7 H7 V10 H3 V7 H0 V3 H3 Z",
)
HEIGHT, LEGEND, MARGIN = 510, 60, 8  # pixels
# The plot must be a square, as both axes have one unit, and ECharts has no word for that: the largest side that fits.
SIDES = (430, 400, 360, 320, 280, 240)
SMALL, LARGE = 300, 1000  # pictures; dots shrink in between


@dataclass(frozen=True)
class Selection:
    """``lassoed`` are the rows of the pictures inside the lasso, ``picked`` that of the one clicked last."""

    lassoed: tuple[int, ...] = ()
    picked: int | None = None


def data_uri(picture: np.ndarray, side: int = 48) -> str:
    """A thumbnail of a picture, uint8 (H, W, 3), as text that fits into a tooltip; about 1 kB."""
    file = io.BytesIO()
    Image.fromarray(thumbnail(picture, side)).save(file, "WEBP", quality=70, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def scatter(
    points: np.ndarray,
    labels: Sequence[str],
    thumbnails: Sequence[str],
    *,
    title: str,
    key: str,
    names: Sequence[str] | None = None,
) -> Selection:
    """Draw ``points`` (n, 2) with a colour and a shape for each class, and return what is selected in it.

    ``thumbnails`` are those of `data_uri`. ``title`` is the alternative text. Class names and ``names`` are shown as
    text. The legend switches classes, a double click clears the selection.
    """
    classes = sorted(set(labels))
    members = [np.flatnonzero([label == name for label in labels]) for name in classes]
    columns = {"x": points[:, 0], "y": points[:, 1], "thumb": thumbnails, "label": labels, "name": names or labels}
    table = pd.DataFrame(columns).round({"x": 3, "y": 3})
    state = st.echarts_chart(
        _spec(classes, [table.iloc[rows] for rows in members], points),
        height=HEIGHT,
        key=key,
        on_select="rerun",
        alt=title,
    )
    return _selection(state.selection, members, points, f"{key} picked")


def _selection(selected: Any, members: list[np.ndarray], points: np.ndarray, key: str) -> Selection:
    """What Streamlit returns, the clicked and the lassoed of every class together, taken apart, in rows of the whole.

    Each class keeps its own click, and a second click on it takes it back: the newest click is what came since the
    run before, or what went; none where nothing is left.
    """
    rows: set[int] = set()
    for group in selected.selected:
        # After new data, indices of the old may come once more.
        known = members[group["series_index"]] if group["series_index"] < len(members) else np.empty(0, int)
        rows |= {int(known[i]) for i in group["data_indices"] if i < len(known)}
    inside = {row for area in selected.areas for row in np.flatnonzero(_inside(area, points)).tolist()}
    lassoed = rows & inside  # without what the legend hides
    before, picked = st.session_state.get(key, (frozenset(), None))
    clicked = (rows - inside) | (rows & before)
    changed = clicked - before or before - rows
    if changed:
        picked = min(changed) if rows and len(changed) == 1 and changed != {picked} else None
    st.session_state[key] = (frozenset(clicked), picked)
    return Selection(tuple(sorted(lassoed)), picked)


def _inside(area: Any, points: np.ndarray) -> np.ndarray:
    """(n,) bool: which points lie in what was drawn, a polygon of [x, y] or a box [[x0, x1], [y0, y1]]."""
    corners = np.array(area["coord_range"], dtype=float)
    if area["brush_type"] == "polygon":
        return Path(corners).contains_points(points)
    return ((points >= corners.min(1)) & (points <= corners.max(1))).all(1)


def _spec(classes: list[str], tables: list[pd.DataFrame], points: np.ndarray) -> dict[str, Any]:
    size = float(np.interp(len(points), (SMALL, LARGE), (11, 7)))
    middle = (points.max(0) + points.min(0)) / 2
    reach = float((points.max(0) - points.min(0)).max() / 2) * 1.05 or 1.0
    names = "<br>{@name}" if any((table["name"] != table["label"]).any() for table in tables) else ""
    return {
        "animation": False,
        "grid": _grid(SIDES[0]),
        "media": [{"query": {"maxWidth": side + 50}, "option": {"grid": _grid(side)}} for side in SIDES[1:]],
        "xAxis": _axis(middle[0], reach),
        "yAxis": _axis(middle[1], reach),
        "legend": {
            "type": "scroll",
            "top": 0,
            "data": classes,
            "itemWidth": 12,
            "itemHeight": 12,
            "textStyle": {"width": 120, "overflow": "truncate"},
        },
        "tooltip": {
            "formatter": '<img src="{@thumb}" alt="" width="96" style="display:block;image-rendering:auto">'
            f"<b>{{@label}}</b>{names}",
            "confine": True,
            "extraCssText": "max-width: 260px; white-space: normal; overflow-wrap: anywhere",
        },
        "toolbox": {"left": 0, "top": 28, "feature": {"brush": {"type": ["polygon", "rect", "clear"]}}},
        "brush": {
            "xAxisIndex": 0,
            "brushMode": "single",
            "throttleType": "debounce",
            "throttleDelay": 300,
            "outOfBrush": {"colorAlpha": 0.2},
        },
        "dataset": [{"source": table} for table in tables],
        "series": [
            {
                "type": "scatter",
                "name": name,
                "datasetIndex": i,
                "encode": {"x": "x", "y": "y"},
                "color": COLOURS[i % len(COLOURS)],
                "symbol": SHAPES[i % len(SHAPES)],
                "symbolSize": size,
                "selectedMode": "single",
                "select": {"itemStyle": {"borderColor": "#E07B00", "borderWidth": 3}},
                "emphasis": {"scale": 1.8},
            }
            for i, name in enumerate(classes)
        ],
    }


def _grid(side: int) -> dict[str, Any]:
    return {"left": "center", "top": LEGEND, "width": side, "height": side, "show": True, "containLabel": False}


def _axis(middle: float, reach: float) -> dict[str, Any]:
    """An axis without numbers, since t-SNE has no unit; both show equally much."""
    hidden = {"show": False}
    return {
        "type": "value",
        "min": float(middle - reach),
        "max": float(middle + reach),
        "axisLabel": hidden,
        "axisTick": hidden,
        "axisLine": hidden,
        "splitLine": hidden,
    }
