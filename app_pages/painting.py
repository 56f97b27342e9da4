"""What somebody has hidden of a picture, with a brush or cell by cell, and the picture that they paint on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image
from streamlit_image_coordinates import streamlit_image_coordinates

from app_pages import common, views
from vizcore.hiding import CellGrid
from vizcore.images import to_jpeg, to_png

SIDE = 336  # pixels of the longer side on the page: as wide as a phone held upright leaves; whole squares for 28 pixels
PAINT = (255, 140, 0)  # orange: neither red nor green, and seldom in a photo
OPACITY = 0.7  # what is hidden can still be made out under the paint
KEPT = 10  # pictures whose paint is remembered in a visit
UNDOS = 30

Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Paint:
    """At one moment: the strokes as the canvas describes them, what they cover, (SIDE, SIDE) bool, and the cells."""

    strokes: tuple[dict[str, Any], ...] = ()
    brushed: np.ndarray | None = None
    cells: tuple[Cell, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.cells and (self.brushed is None or not self.brushed.any())

    def mask(self, grid: CellGrid) -> np.ndarray:
        """(H, W) bool, in pixels of what the net sees: True where a cell or most of the pixel is painted."""
        mask = grid.mask(self.cells)
        if self.brushed is not None:
            drawn = Image.fromarray(self.brushed.astype(np.uint8) * 255)
            mask |= np.asarray(drawn.resize(grid.size[::-1], Image.Resampling.BOX)) >= 128
        return mask


@dataclass(eq=False)
class Painting:
    """The paint on one picture, how it came about, and what the canvas was last told and last said."""

    now: Paint = field(default_factory=Paint)
    before: list[Paint] = field(default_factory=list)
    told: tuple[dict[str, Any], ...] = ()
    revision: int = 0  # the canvas draws what it is told only where that differs from the last time
    heard: str | None = None

    def take(self, paint: Paint) -> None:
        """Something was painted."""
        self.before = [*self.before[1 - UNDOS :], self.now]
        self.now = paint

    def undo(self) -> None:
        if self.before:
            self.now = self.before.pop()
            self.tell()

    def clear(self) -> None:
        if not self.now.is_empty:
            self.take(Paint())
            self.tell()

    def toggle(self, cell: Cell) -> None:
        cells = self.now.cells
        kept = tuple(other for other in cells if other != cell)
        self.take(replace(self.now, cells=kept if cell in cells else (*cells, cell)))

    def hide_cells(self, cells: list[Cell]) -> None:
        """These cells and nothing else."""
        self.take(Paint(cells=tuple(cells)))
        self.tell()

    def tell(self) -> None:
        """The canvas is to show the strokes of now."""
        self.told, self.revision = self.now.strokes, self.revision + 1

    def hear(self, strokes: list[dict[str, Any]], drawing: str, alpha: np.ndarray) -> None:
        """The canvas says what is on it: news once, and none where it repeats what it was told."""
        if drawing == self.heard:
            return
        self.heard = drawing
        brushed = alpha > 255 * OPACITY / 2
        same = self.now.brushed if self.now.brushed is not None else np.zeros_like(brushed)
        if len(strokes) == len(self.now.strokes) and (same != brushed).mean() < 1e-3:
            return
        self.take(replace(self.now, strokes=tuple(strokes), brushed=brushed))


def painting_of(here: common.Chosen) -> Painting:
    """The paint on the current picture, kept for the visit."""
    kept: OrderedDict[object, Painting] = st.session_state.setdefault("paintings", OrderedDict())
    painting = kept.setdefault((here.digest, page_size(here)), Painting())
    kept.move_to_end((here.digest, page_size(here)))
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return painting


def page_size(here: common.Chosen) -> tuple[int, int]:
    """(height, width) on the page of what the net sees."""
    height, width = here.view.pixels.shape[2:]
    return round(SIDE * height / max(height, width)), round(SIDE * width / max(height, width))


def brush(here: common.Chosen, painting: Painting, grid: CellGrid, width: int) -> None:
    """A canvas to paint on; ``width`` of the brush in pixels of the page. What is painted is in ``painting``."""
    from streamlit_drawable_canvas import st_canvas  # on import it asks the running server where its files are

    key = f"canvas {here.digest} {page_size(here)}"
    if key not in st.session_state:  # it was not on the page a moment ago
        painting.tell()
    height, wide = page_size(here)
    backdrop = painted(here, grid.mask(painting.now.cells))
    drawing = st_canvas(
        stroke_width=width,
        stroke_color=f"rgba({', '.join(map(str, PAINT))}, {OPACITY})",
        background_image=to_png(backdrop) if max(grid.size) < 64 else to_jpeg(backdrop),
        initial_drawing={"objects": list(painting.told), "revision": painting.revision},
        height=height,
        width=wide,
        drawing_mode="freedraw",
        return_image_data=True,
        key=key,
    )
    if drawing.json_data and drawing.image_bytes:
        paint = Image.fromarray(drawing.image_data[..., 3])  # of more pixels than on the page where the screen has more
        alpha = np.asarray(paint.resize((wide, height), Image.Resampling.BOX))
        painting.hear(drawing.json_data["objects"], str(hash(drawing.image_bytes)), alpha)


def cells(here: common.Chosen, painting: Painting, grid: CellGrid) -> None:
    """The picture with a grid, whose cells are hidden and shown by clicks."""
    key = f"cells {here.digest} {page_size(here)}"

    def choose() -> None:
        click = st.session_state.get(key)
        if click and click.get("width"):
            scale = grid.size[1] / click["width"]
            cell = grid.cell_at(click["y"] * scale, click["x"] * scale)
            if cell:
                painting.toggle(cell)

    streamlit_image_coordinates(
        ruled(painted(here, painting.now.mask(grid)), grid),
        width=page_size(here)[1],
        key=key,
        on_click=choose,
        cursor="pointer",
        png_compression_level=1,
    )


def painted(here: common.Chosen, mask: np.ndarray) -> np.ndarray:
    """What the net saw, at least SIDE wide, uint8, under paint where ``mask`` (H, W) is True."""
    picture = views.as_seen(here, SIDE)
    if not mask.any():
        return picture
    factor = len(picture) // len(mask)
    under = mask.repeat(factor, 0).repeat(factor, 1)
    return np.where(under[..., None], OPACITY * np.array(PAINT) + (1 - OPACITY) * picture, picture).astype(np.uint8)


def ruled(picture: np.ndarray, grid: CellGrid) -> np.ndarray:
    """The picture with the lines between the cells, black beside white: to be seen on any colour."""
    picture, factor = picture.copy(), len(picture) // grid.size[0]
    for line in grid.edges[0][1:-1] * factor:
        picture[line - 1], picture[line] = 0, 255
    for line in grid.edges[1][1:-1] * factor:
        picture[:, line - 1], picture[:, line] = 0, 255
    return picture
