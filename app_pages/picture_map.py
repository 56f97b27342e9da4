"""The map of many pictures: a dot or a thumbnail each, to zoom into, with a click to pick one and a lasso for many.

Drawn on a canvas by a script of our own, picture_map.js: the charts at hand draw ten thousand pictures of their own
for points either not at all or not smoothly.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from vizcore.images import thumbnail

# Paul Tol's "bright" scheme: told apart by the colour-blind, on white and on black.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377", "#66CCEE", "#999999")
CELLS = ((600, 64), (2500, 48), (10_000, 32))  # up to so many pictures, thumbnails of so many pixels: some 4 MB at most
MARGIN = 0.08  # of the map, around its points: half of a large thumbnail


@dataclass(frozen=True)
class Selection:
    """``lassoed`` are the rows of the pictures inside the lasso, ``picked`` that of the one clicked since the last run
    of the page."""

    lassoed: tuple[int, ...] = ()
    picked: int | None = None


@dataclass(frozen=True)
class Atlas:
    """All thumbnails in one picture, row by row in squares of ``cell`` pixels; ``uri`` is a WebP as text."""

    uri: str
    cell: int


@dataclass(frozen=True, eq=False)
class Mark:
    """A further picture on the map: its ``point`` (2,), and the rows of its true neighbours that are near to it on the
    map, ``kept``, and that are not, ``lost``."""

    point: np.ndarray
    kept: Sequence[int]
    lost: Sequence[int]


def atlas_of(pictures: Sequence[np.ndarray]) -> Atlas:
    """The thumbnails of uint8 pictures (H, W, 3), each whole, on a ground of middle grey."""
    cell = next((cell for most, cell in CELLS if len(pictures) <= most), CELLS[-1][1])
    cell = min(cell, max(max(picture.shape[:2]) for picture in pictures))  # nothing is enlarged
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (columns * cell, math.ceil(len(pictures) / columns) * cell), (128, 128, 128))
    for number, picture in enumerate(pictures):
        small = Image.fromarray(thumbnail(picture, cell))
        row, column = divmod(number, columns)
        sheet.paste(small, (column * cell + (cell - small.width) // 2, row * cell + (cell - small.height) // 2))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=75, method=2)
    return Atlas("data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), cell)


def cut(atlas: Atlas, rows: Sequence[int]) -> list[np.ndarray]:
    """Some of the thumbnails, each uint8 (cell, cell, 3)."""
    with Image.open(io.BytesIO(base64.b64decode(atlas.uri.partition(",")[2]))) as file:
        sheet = np.asarray(file.convert("RGB"))
    columns = sheet.shape[1] // atlas.cell
    places = [(row // columns * atlas.cell, row % columns * atlas.cell) for row in rows]
    return [sheet[top : top + atlas.cell, left : left + atlas.cell] for top, left in places]


def show(
    points: np.ndarray,
    labels: Sequence[str],
    names: Sequence[str] = (),
    *,
    title: str,
    key: str,
    atlas: Atlas | None = None,
    opacity: np.ndarray | None = None,
    mark: Mark | None = None,
) -> Selection:
    """Draw ``points`` (n, 2) with a colour and a shape for each class, and return what is selected.

    ``title`` is the alternative text; ``opacity`` (n,) is from 0 to 1. Of the same ``key``, new points move from where
    the old ones were. Class names and ``names``, if there are any, are shown as text.
    """
    classes = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(classes)}
    middle, reach = _frame(points)
    state = _map(
        key=key,
        data={
            "identity": key,
            "title": title,
            "points": _packed(_in_frame(points, middle, reach) * 65535, np.uint16),
            "labels": _packed(np.array([numbers[label] for label in labels]), np.uint16),
            "classes": classes,
            "names": list(names),
            "colours": COLOURS,
            "atlas": atlas.uri if atlas else None,
            "cell": atlas.cell if atlas else 0,
            "opacity": None if opacity is None else _packed(opacity * 255, np.uint8),
            "marks": mark
            and {
                "place": _in_frame(mark.point[None], middle, reach)[0].tolist(),
                "kept": [int(row) for row in mark.kept],
                "lost": [int(row) for row in mark.lost],
            },
        },
        on_picked_change=lambda: None,
        on_lassoed_change=lambda: None,
    )
    return selection(state.get("picked"), state.get("lassoed"), len(points))


def selection(picked: Any, lassoed: Any, count: int) -> Selection:
    """What the browser says is selected, which may be anything: rows of the map are passed on, nothing else."""

    def is_row(row: Any) -> bool:
        return type(row) is int and 0 <= row < count

    rows: Iterable[Any] = lassoed if isinstance(lassoed, list) else ()
    return Selection(tuple(sorted({row for row in rows if is_row(row)})), picked if is_row(picked) else None)


def _frame(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The middle (2,) and half the side of the square that holds all points: both axes have one unit."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    return (low + high) / 2, float((high - low).max() / 2) * (1 + 2 * MARGIN) or 1.0


def _in_frame(points: np.ndarray, middle: np.ndarray, reach: float) -> np.ndarray:
    """(n, 2) in [0, 1], from the left and from the top; what lies outside of the frame comes to its edge."""
    inside = (points - middle) / (2 * reach) * (1, -1) + 0.5
    return np.clip(inside, 0.0, 1.0)


def _packed(numbers: np.ndarray, kind: type[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(np.rint(numbers).astype(kind)).tobytes()).decode()


_map = st.components.v2.component(
    "cnn_lens_picture_map",
    html="""
        <div class="bar">
          <button type="button" class="pictures" aria-pressed="true">Pictures</button>
          <button type="button" class="lasso" aria-pressed="false">Lasso</button>
          <button type="button" class="nearer" aria-label="Zoom in">+</button>
          <button type="button" class="farther" aria-label="Zoom out">−</button>
          <button type="button" class="whole">Whole map</button>
          <span class="note" role="status"></span>
        </div>
        <div class="frame">
          <canvas class="canvas" role="img" tabindex="0"></canvas>
          <div class="tip" hidden><canvas width="96" height="96"></canvas><b></b><span></span></div>
        </div>
        <div class="legend"></div>
    """,
    css="""
        .bar, .legend { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; }
        .legend { max-height: 92px; overflow-y: auto; margin-top: 6px; }
        button { font: inherit; font-size: 13px; color: inherit; background: none; padding: 2px 8px;
          border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius, 8px); cursor: pointer; }
        button:focus-visible, canvas:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
        .bar button[aria-pressed="true"] { border-color: var(--st-primary-color); color: var(--st-primary-color); }
        .legend button { display: flex; align-items: center; gap: 4px; border-color: transparent; max-width: 170px; }
        .legend button span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
        .legend button[aria-pressed="false"] { opacity: 0.35; text-decoration: line-through; }
        .legend canvas { width: 14px; height: 14px; flex: none; }
        .note { font-size: 13px; opacity: 0.8; min-height: 1.2em; }
        .frame { position: relative; margin-top: 6px; }
        .canvas { width: 100%; aspect-ratio: 1; display: block; cursor: grab; touch-action: pan-y pinch-zoom;
          box-sizing: border-box; border: 1px solid var(--st-border-color); color: var(--st-text-color);
          background: var(--st-background-color); }
        .canvas:focus, .canvas.lassoing { touch-action: none; }
        .canvas.lassoing { cursor: crosshair; }
        .tip { position: absolute; pointer-events: none; z-index: 2; max-width: 220px; padding: 6px; font-size: 13px;
          display: flex; flex-direction: column; overflow-wrap: anywhere; border-radius: 6px;
          color: var(--st-text-color); background: var(--st-secondary-background-color);
          border: 1px solid var(--st-border-color); }
        .tip[hidden] { display: none; }
        .tip canvas { width: 96px; height: 96px; }
        .tip canvas[hidden] { display: none; }
    """,
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)
