"""Take away: every result as a picture, as raw numbers with their parameters, and as the Python that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from app_pages.common import Chosen
from vizcore.cam import CAM_METHODS
from vizcore.colour import Scale
from vizcore.export import to_figure, to_npz
from vizcore.records import Heatmap

TITLES = {name: method.title for name, method in CAM_METHODS.items()}


def offer(
    here: Chosen, name: str, record: Any, picture: bytes | Callable[[], bytes], imports: tuple[str, ...], call: str
) -> None:
    """A small menu with the three files. ``call`` makes the result from ``model`` and ``view``."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{here.model.name}-{name}").strip("-").lower()
    lines = python_lines(here, imports, call)
    with st.popover("Take away", icon=":material/download:", key=f"take {stem}"):
        row = st.container(horizontal=True)
        row.download_button("PNG", picture, f"{stem}.png", "image/png", key=f"png {stem}", on_click="ignore")
        row.download_button(
            "Numbers (.npz)",
            lambda: to_npz(record, picture=here.digest),
            f"{stem}.npz",
            "application/octet-stream",
            key=f"npz {stem}",
            on_click="ignore",
            help="The raw values with the parameters as JSON. Read it with numpy.load.",
        )
        row.download_button("Python", lines, f"{stem}.py", "text/x-python", key=f"py {stem}", on_click="ignore")
        st.code(lines, language="python", wrap_lines=True)


def offer_heatmap(
    here: Chosen, heat: Heatmap, picture: np.ndarray, scale: Scale, unit: str, options: dict[str, object]
) -> None:
    """`offer` for a heatmap; ``options`` are those of occlusion. The figure is drawn when somebody asks for it."""
    title = TITLES.get(heat.method, "Occlusion")
    size = " × ".join(map(str, heat.values.shape))

    def figure() -> bytes:
        return to_figure(
            picture,
            scale,
            title=f"{title} of {here.label(heat.target)}",
            lines=(
                f"{here.model.title}, {heat.layer or 'input'}, {size}; score {heat.score:.4g}",
                ", ".join(f"{name} {value}" for name, value in heat.params.items()),
                here.title,
            ),
            unit=unit,
        )

    comment = f"  # {heat.target} is {here.label(heat.target)!r}"
    if heat.method == "occlusion":
        words = ", ".join(f"{name}={value!r}" for name, value in options.items())
        imports = ("from vizcore.occlusion import occlusion",)
        call = f"heat = occlusion(model, view.pixels, target={heat.target}, {words}){comment}"
    else:
        imports = ("from vizcore.cam import cam",)
        call = f"heat = cam(model, view.pixels, target={heat.target}, method={heat.method!r}, layer={heat.layer!r}){comment}"
    imports += ("from vizcore.images import overlay, to_png",)
    call += "\npicture = overlay(photo, heat, view.box)  # to_png(picture) are the bytes of a file"
    offer(here, f"{heat.method} {heat.target} {heat.layer or ''}", heat, figure, imports, call)


def python_lines(here: Chosen, imports: tuple[str, ...], call: str) -> str:
    """A script that makes the same result from the same picture."""
    weights = "" if here.model.weights else ", weights=None"
    wanted = {
        "from models import load_model",
        "from vizcore.images import prepare",
        *here.imports,
        *imports,
    }
    return "\n".join(
        (
            *merge_imports(wanted),
            "",
            f"model = load_model({here.model.name!r}{weights})",
            f"photo = {here.origin}",
            "view = prepare(photo, model)",
            call,
            "",
        )
    )


def merge_imports(lines: set[str]) -> list[str]:
    """One line a module, names sorted."""
    modules: dict[str, set[str]] = {}
    for line in lines:
        module, names = re.fullmatch(r"from (\S+) import (.+)", line).groups()  # type: ignore[union-attr]
        modules.setdefault(module, set()).update(names.split(", "))
    return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]
