"""Take away: every result as a picture, as raw numbers with their parameters, and as the Python that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import streamlit as st

from app_pages.common import Chosen, call_of
from app_pages.views import in_place, is_by_pixel, shown
from vizcore.colour import Scale
from vizcore.export import to_figure, to_npz
from vizcore.figures import heatmap_figure
from vizcore.heatmaps import python_of
from vizcore.images import Montage
from vizcore.records import Heatmap
from vizcore.scripts import Origin, script
from vizcore.warp import is_behind_warp

if TYPE_CHECKING:
    import pandas as pd

EACH_TILE = "Each tile on its own scale."
COLOURS_OF_FILTERS = "Weights as colours: mid-grey is 0, one scale for all."


@dataclass(frozen=True)
class File:
    """One file of the menu: ``data``, or what makes it when somebody asks for it."""

    label: str
    data: bytes | str | Callable[[], bytes]
    ending: str
    kind: str
    help: str | None = None


def offer(
    here: Chosen,
    name: str,
    record: Any,
    picture: bytes | Callable[[], bytes],
    imports: tuple[str, ...],
    call: str,
) -> None:
    """A small menu with the three files. ``call`` makes the result from ``model``, ``photo`` and ``view``."""
    numbers = File(
        "Numbers (.npz)",
        lambda: to_npz(record, picture=here.title, digest=here.digest),
        "npz",
        "application/octet-stream",
        "The raw values, with the parameters as JSON. Read it with numpy.load.",
    )
    _offer(here, name, (_png(picture), numbers), imports, call)


def offer_picture(here: Chosen, name: str, picture: bytes, imports: tuple[str, ...], call: str) -> None:
    """`offer` of what is a picture already."""
    _offer(here, name, (_png(picture),), imports, call)


def offer_table(
    here: Chosen,
    name: str,
    table: pd.DataFrame,
    imports: tuple[str, ...],
    call: str,
    picture: Callable[[], bytes] | None = None,
) -> None:
    """`offer` of a table of numbers."""
    files = () if picture is None else (_png(picture),)
    numbers = File("Numbers (.csv)", table.to_csv(index=False), "csv", "text/csv")
    _offer(here, name, (*files, numbers), imports, call)


def _png(picture: bytes | Callable[[], bytes]) -> File:
    return File("PNG", picture, "png", "image/png")


def _offer(here: Chosen, name: str, files: tuple[File, ...], imports: tuple[str, ...], call: str) -> None:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{here.model.name}-{name}").strip("-").lower()
    lines = python_lines(here, imports, call)
    with st.popover("Take away", icon=":material/download:", key=f"take {stem}"):
        row = st.container(horizontal=True)
        for file in (*files, File("Python", lines, "py", "text/x-python")):
            row.download_button(
                file.label,
                file.data,
                f"{stem}.{file.ending}",
                file.kind,
                key=f"{file.ending} {stem}",
                on_click="ignore",
                help=file.help,
            )
        st.code(lines, language="python", wrap_lines=True)


def offer_sheet(
    here: Chosen,
    name: str,
    record: Any,
    sheet: Callable[[], Montage],
    scale: Scale | None,
    title: str,
    imports: tuple[str, ...],
    call: str,
    colormap: str | None = None,
    without_scale: str = EACH_TILE,
) -> None:
    """`offer` for a montage, with its title and its scale, or the words that stand for one; drawn when somebody asks
    for it."""

    def figure() -> bytes:
        lines = [f"{here.model.title}; {here.title}"]
        if scale is None:
            lines.append(without_scale)
        return to_figure(sheet().picture, scale, title=title, lines=tuple(lines), unit="raw values", colormap=colormap)

    offer(here, name, record, figure, imports, call)


def offer_heatmap(here: Chosen, heat: Heatmap, scale: Scale, blend: float, besides: str = "") -> None:
    """`offer` for a heatmap; its figure is drawn when somebody asks for it. ``besides`` tells two files apart."""
    solid = is_by_pixel(heat)

    def figure() -> bytes:
        photo, box = shown(here)
        values = in_place(here, heat.values, heat.layer)
        return heatmap_figure(heat, values, photo, box, here.model, here.title, scale=scale, blend=blend)

    *imported, call = python_of(heat)
    how = "alpha=1, solid=True" if solid else f"alpha={blend:g}"
    limits = f"Scale({scale.low:.6g}, {scale.high:.6g})"
    warped = is_behind_warp(here.model, heat.layer)
    values = "laid_back(heat.values, learned_warp(model, view.pixels))" if warped else "heat"
    lines = (
        f"# class {heat.target} is {here.label(heat.target)!r}",
        *(f"# {line}" for note in heat.notes for line in wrap(f"On the page: {note}", 100)),
        call,
        f"picture = overlay(photo, {values}, view.box, scale={limits}, {how})",
        'open("heatmap.png", "wb").write(to_png(picture))',
    )
    imports: tuple[str, ...] = (*imported, "from vizcore.images import Scale, overlay, to_png")
    if warped:
        imports += ("from vizcore.warp import laid_back, learned_warp",)
    offer(here, f"{heat.method} {heat.target} {heat.layer or ''} {besides}", heat, figure, imports, "\n".join(lines))


def python_lines(here: Chosen, imports: tuple[str, ...], call: str) -> str:
    """A script that makes the same result from the same picture."""
    return script(Origin(here.loaded_by or call_of(here.model), here.origin, here.imports), imports, call)
