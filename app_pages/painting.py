"""What somebody has hidden of a picture, with a brush or cell by cell, and the board that they paint on.

The board is a few lines of script of our own: the package that draws digits in the sidebar waits for a fifth of a
second before it says that a stroke has ended, which is half of the time in which the classes are to change.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

from app_pages import common, views
from vizcore.hiding import CellGrid
from vizcore.images import to_jpeg, to_png

COLOUR = "#ff8c00"  # orange: neither red nor green, and seldom in a photo
FINE = 896  # a mask is drawn at least this large, and then reduced
KEPT = 10  # pictures whose paint is remembered in a visit
UNDOS = 50
MOST_POINTS = 5000  # of a stroke

Cell = tuple[int, int]


@dataclass(frozen=True)
class Stroke:
    """A line of the brush: ``points`` (right, down), 0 to 1 of the picture; ``width`` of its longer side."""

    points: tuple[tuple[float, float], ...]
    width: float


@dataclass(frozen=True)
class Paint:
    """All that is painted at one moment: strokes, and cells (row, column) of the grid."""

    strokes: tuple[Stroke, ...] = ()
    cells: tuple[Cell, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.cells and not self.strokes

    def mask(self, grid: CellGrid) -> np.ndarray:
        """(H, W) bool, in pixels of what the net sees: True where a cell or most of the pixel is painted."""
        height, width = grid.size
        factor = -(-FINE // max(grid.size))
        drawn = Image.new("L", (width * factor, height * factor))
        pen = ImageDraw.Draw(drawn)
        for stroke in self.strokes:
            # Pillow's whole numbers are the middles of pixels, and it draws both borders.
            places = [(x * drawn.width - 0.5, y * drawn.height - 0.5) for x, y in stroke.points]
            radius = (stroke.width * max(drawn.size) - 1) / 2
            pen.line(places, fill=255, width=round(2 * radius + 1))
            for x, y in places:  # round ends and corners
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return grid.mask(self.cells) | (np.asarray(drawn.resize((width, height), Image.Resampling.BOX)) >= 128)


@dataclass(eq=False)
class Painting:
    """The paint on one picture and how it came about; ``heard`` is the number of the latest mark from the board."""

    now: Paint = field(default_factory=Paint)
    before: list[Paint] = field(default_factory=list)
    heard: int = 0

    def take(self, paint: Paint) -> None:
        """Something was painted."""
        self.before = [*self.before[1 - UNDOS :], self.now]
        self.now = paint

    def undo(self) -> None:
        if self.before:
            self.now = self.before.pop()

    def clear(self) -> None:
        if not self.now.is_empty:
            self.take(Paint())

    def hide_cells(self, cells: list[Cell]) -> None:
        """These cells and nothing else."""
        self.take(Paint(cells=tuple(cells)))

    def toggle(self, cell: Cell) -> None:
        cells = self.now.cells
        kept = tuple(other for other in cells if other != cell)
        self.take(replace(self.now, cells=kept if cell in cells else (*cells, cell)))

    def hear(self, marks: list[dict[str, Any]], grid: CellGrid) -> None:
        """Marks from the board, oldest first. It repeats what it does not know to be heard; each counts once."""
        for mark in marks:
            if mark["id"] <= self.heard:
                continue
            self.heard = mark["id"]
            points = np.clip(np.array(mark["points"][:MOST_POINTS], float).reshape(-1, 2), 0, 1)
            if mark["tool"] == "brush":
                stroke = Stroke(tuple(map(tuple, points.tolist())), float(mark["width"]))
                self.take(replace(self.now, strokes=(*self.now.strokes, stroke)))
            elif cell := grid.cell_at(points[0][1] * grid.size[0], points[0][0] * grid.size[1]):
                self.toggle(cell)


def painting_of(here: common.Chosen) -> Painting:
    """The paint on the current picture, kept for the visit."""
    kept: OrderedDict[str, Painting] = st.session_state.setdefault("paintings", OrderedDict())
    painting = kept.setdefault(here.digest, Painting())
    kept.move_to_end(here.digest)
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return painting


def board(here: common.Chosen, painting: Painting, grid: CellGrid, tool: str, width: float) -> None:
    """The picture, to be painted on with the "brush", whose ``width`` is a share of the longer side, or by "cells"."""
    key = f"board of {here.digest} {grid.size}"
    (rows, columns), (height, wide) = grid.edges, grid.size
    down, across = (rows / height).tolist(), (columns / wide).tolist()
    _board(
        key=key,
        data={
            "picture": address(views.as_seen(here), lossless=max(grid.size) < 64),
            "alt": f"{here.title} as the network sees it, to be painted on",
            "size": grid.size,
            "tool": tool,
            "width": width,
            "colour": COLOUR,
            "heard": painting.heard,
            "strokes": [{"points": stroke.points, "width": stroke.width} for stroke in painting.now.strokes],
            "cells": [(down[r], across[c], down[r + 1], across[c + 1]) for r, c in painting.now.cells],
            "lines": (down[1:-1], across[1:-1]) if tool == "cells" else ((), ()),
        },
        on_marks_change=lambda: painting.hear(st.session_state[key].marks or [], grid),
    )


def address(picture: np.ndarray, *, lossless: bool = False) -> str:
    """A picture, uint8 (H, W, 3), as an address that holds it."""
    kind, data = ("png", to_png(picture)) if lossless else ("jpeg", to_jpeg(picture))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


_board = st.components.v2.component(
    "cnn_lens_board",
    html='<div class="board"><img><canvas></canvas></div>',
    css="""
        .board { position: relative; width: 94%; max-width: 448px; line-height: 0; }  /* beside it a finger scrolls */
        .board img { width: 100%; border-radius: var(--st-base-radius); }
        .board canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0.7; touch-action: none;
                        border-radius: var(--st-base-radius); }
    """,
    js=Path(__file__).with_name("board.js").read_text(encoding="utf-8"),
)
