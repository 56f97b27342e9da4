"""Take away: every result as a picture, as raw numbers with their parameters, and as the Python that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import streamlit as st

from app_pages.common import Chosen, call_of
from app_pages.views import PIXELWISE, in_place, is_by_pixel, shown, title_of
from vizcore.colour import Scale
from vizcore.export import to_figure, to_npz
from vizcore.images import Montage, overlay
from vizcore.records import Heatmap
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


def offer_table(here: Chosen, name: str, table: pd.DataFrame, imports: tuple[str, ...], call: str) -> None:
    """`offer` of a table of numbers."""
    _offer(here, name, (File("Numbers (.csv)", table.to_csv(index=False), "csv", "text/csv"),), imports, call)


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
    size, solid = " × ".join(map(str, heat.values.shape)), is_by_pixel(heat)

    def figure() -> bytes:
        photo, box = shown(here)
        values = in_place(here, heat.values, heat.layer)
        return to_figure(
            overlay(photo, values, box, scale=scale, alpha=1.0 if solid else blend, solid=solid),
            scale,
            title=f"{title_of(heat)} of {here.label(heat.target)}",
            lines=(
                f"{here.model.title}, {heat.layer or 'input'}, {size}; score {heat.score:.4g}",
                ", ".join(f"{name} {value}" for name, value in heat.params.items()),
                *(line for note in heat.notes for line in wrap(note, 100)),
                here.title,
            ),
            unit=unit_of(heat),
        )

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


def python_of(heat: Heatmap) -> tuple[str, ...]:
    """The imports and, last, the lines that compute a heatmap; one that was stopped early is computed to its end."""
    options = ", ".join(f"{name}={value!r}" for name, value in heat.params.items())
    if heat.method == "occlusion":
        call = f"heat = occlusion(model, view.pixels, {heat.target}, {options})"
        return "from vizcore.occlusion import occlusion", call
    if heat.method == "occlusion_estimate":
        call = f"(heat,) = estimate_occlusion(model, view.pixels, [{heat.target}], {options})"
        return "from vizcore.occlusion import estimate_occlusion", call
    if heat.method in PIXELWISE:
        return _python_of_attribution(heat)
    if heat.method == "superpixel_ablation":
        call = f"heat = superpixel_ablation(model, view.pixels, {heat.target}, {options})"
        return "from vizcore.superpixels import superpixel_ablation", call
    if heat.method == "rise":
        call = (
            f"heat = rise(model, view.pixels, {heat.target}, {options})\n"
            "heat = replace(heat, values=heat.values - heat.values.mean())"
        )
        return "from dataclasses import replace", "from vizcore.rise import rise", call
    call = f"heat = cam(model, view.pixels, {heat.target}, {heat.method!r}, {heat.layer!r})"
    return "from vizcore.cam import cam", call


def _python_of_attribution(heat: Heatmap) -> tuple[str, ...]:
    params = dict(heat.params)
    view = params.pop("view")
    if heat.method == "guided_grad_cam":
        call = (
            f'guided = attribution(model, view.pixels, {heat.target}, "guided_backpropagation")\n'
            f'coarse = cam(model, view.pixels, {heat.target}, "grad_cam", {params["layer"]!r})\n'
            f"heat = guided_grad_cam(guided, coarse).heatmap({view!r})"
        )
        return "from vizcore.attribution import attribution, guided_grad_cam", "from vizcore.cam import cam", call
    options = "".join(f", {name}={value!r}" for name, value in params.items())
    call = f"heat = attribution(model, view.pixels, {heat.target}, {heat.method!r}{options}).heatmap({view!r})"
    return "from vizcore.attribution import attribution", call


def unit_of(heat: Heatmap) -> str:
    """What the numbers of a heatmap are, in words."""
    if heat.method in PIXELWISE:
        return PIXELWISE[heat.method].unit
    if heat.method == "rise":
        return f"{heat.params['score']} above its mean"
    if heat.method in ("occlusion", "occlusion_estimate", "superpixel_ablation"):
        return f"drop of the {heat.params['score']}"
    return f"{title_of(heat)}, raw"


def python_lines(here: Chosen, imports: tuple[str, ...], call: str) -> str:
    """A script that makes the same result from the same picture."""
    wanted = {"from models import load_model", "from vizcore.images import prepare", *here.imports, *imports}
    return "\n".join(
        (
            *merged(wanted),
            "",
            f"model = {here.loaded_by or call_of(here.model)}",
            f"photo = {here.origin}",
            "view = prepare(photo, model)",
            call,
            "",
        )
    )


def merged(imports: set[str]) -> list[str]:
    """One line a module, names sorted."""
    plain = sorted(line for line in imports if line.startswith("import "))
    modules: dict[str, set[str]] = {}
    for line in imports.difference(plain):
        _, module, _, names = line.split(" ", 3)
        modules.setdefault(module, set()).update(names.split(", "))
    froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]
    return [*plain, *[""] * bool(plain), *froms]
