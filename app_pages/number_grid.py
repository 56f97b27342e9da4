"""Grids of numbers as pictures: each cell in its colour and, where there is room, with its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app_pages import views
from vizcore.images import Scale, to_colours

MOST_PRINTED = 11  # cells a side: more numbers would not be read
CELL = (48, 30)  # pixels wide and high
PADDING = "#8f949c"


@dataclass(frozen=True)
class Cells:
    """What is printed in each cell, its ``fills`` and ``inks`` as CSS colours, row by row."""

    texts: list[list[str]]
    fills: list[list[str]]
    inks: list[list[str]]


def cells_of(values: np.ndarray, scale: Scale) -> Cells:
    """The cells of a grid (h, w): dark numbers on light colours and the other way round."""
    colours = to_colours(np.asarray(values, np.float64), scale)  # (h, w, 3)
    light = colours @ (0.299, 0.587, 0.114) > 140
    return Cells(
        [[short(float(value)) for value in row] for row in values],
        [["#{:02x}{:02x}{:02x}".format(*colour) for colour in row] for row in colours],
        [["#111" if one else "#fff" for one in row] for row in light],
    )


def short(value: float) -> str:
    """At most six characters: 0.123, −12.3, 6531, 1e−9."""
    size = abs(value)
    if size < 5e-10:
        return "0"
    if size < 1e-3 or size >= 1e5:
        text = f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    else:
        text = f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def exact(value: float) -> str:
    """Five digits that count: enough to see that two numbers are the same but for rounding."""
    size = abs(value)
    text = "0" if value == 0 else f"{value:.5g}" if 1e-4 <= size < 1e7 else f"{value:.4e}"
    return text.replace("-", "−")


def bracketed(text: str) -> str:
    """A number as it stands behind a sign: (−0.5)."""
    return f"({text})" if text.startswith("−") else text


def picture(
    values: np.ndarray, scale: Scale, inside: np.ndarray | None = None, marked: tuple[int, int] | None = None
) -> str:
    """A grid (h, w) as SVG. Cells that are not ``inside`` (h, w) are hatched: padding. ``marked`` is (row, column)."""
    cells, (height, width) = cells_of(values, scale), values.shape
    w, h = CELL
    drawn = []
    for row, column in np.ndindex(height, width):
        x, y, fill, ink = column * w, row * h, cells.fills[row][column], cells.inks[row][column]
        padded = inside is not None and not inside[row, column]
        drawn.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{fill}" stroke="#8888"/>')
        if padded:
            drawn.append(f'<path d="M{x} {y + h}L{x + w} {y}" stroke="{PADDING}" stroke-width="2"/>')
        drawn.append(
            f'<text x="{x + w / 2}" y="{y + h / 2 + 5}" fill="{PADDING if padded else ink}" text-anchor="middle" '
            f'font-family="sans-serif" font-size="14">{cells.texts[row][column]}</text>'
        )
    if marked:
        x, y = marked[1] * w + 2, marked[0] * h + 2
        drawn.append(
            f'<rect x="{x}" y="{y}" width="{w - 4}" height="{h - 4}" fill="none" stroke="#00b8d4" stroke-width="4"/>'
        )
    size = f'width="{width * w}" height="{height * h}" viewBox="0 0 {width * w} {height * h}"'
    return f"<svg {size}>{''.join(drawn)}</svg>"


def show(
    values: np.ndarray,
    scale: Scale,
    unit: str,
    alt: str,
    *,
    inside: np.ndarray | None = None,
    marked: tuple[int, int] | None = None,
) -> None:
    """A grid (h, w) with its scale; a large one in colours alone."""
    with st.container(width=max(180, min(CELL[0] * values.shape[1], 480)), gap="xsmall"):
        if max(values.shape) <= MOST_PRINTED:
            st.image(picture(values, scale, inside, marked), width="stretch", alt=alt)
        else:
            views.show_picture(views.enlarged(np.asarray(values, np.float64), scale), alt)
        views.show_scale(scale, unit)
