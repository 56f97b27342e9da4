"""What one unit sees: a map to click on, the rectangle that the unit can see, and the pixels that do move it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

from app_pages import clickable, common, takeaway, views
from vizcore.anatomy import LayerFacts
from vizcore.export import to_figure
from vizcore.images import Box, Scale, frame, overlay, to_colours, to_png
from vizcore.receptive_field import EffectiveField, box_of, effective

MAP_SIDE = 420  # pixels of a map to be clicked on
ANSWERS_WELL = 0.75  # of the units that are not 0, this share is weaker
KEYS = ("seen_channel", "seen_row", "seen_column")
UNIT = "change of the unit by the pixel"


def names_of(here: common.Chosen) -> set[str]:
    """The layers whose units can be looked at: modules that run once and have maps."""
    return {layer.name for layer in views.layers_of(here)}


@st.fragment
def show(here: common.Chosen, layer: LayerFacts) -> None:
    (maps,) = views.maps_of(here, layer.name)
    unit = _choose(here, layer, maps.values)
    scale = Scale.of(maps.values)
    map_place, rectangle, heat = st.columns(3, gap="medium")
    with map_place:
        _show_map(here, layer, maps.values[unit[0]], scale, unit)
        views.show_scale(scale, "activation, the layer's scale")
        st.caption(
            common.plain(f"Channel {unit[0]} of {layer.name}, {layer.shape[1]} × {layer.shape[2]} (height × width).")
        )
    assert layer.sees
    box = box_of(layer.sees.over(*layer.shape[1:]), unit[1:])
    left, top, right, bottom = box
    if left == right or top == bottom:
        rectangle.info("This unit reads nothing but padding: it sees no pixel of the picture.")
        return
    with rectangle:
        photo, inner = _on_the_photo(here, box)
        name = f"The {bottom - top} × {right - left} pixels that the unit can see"
        views.show_picture(to_png(frame(photo, inner)), f"{name}, framed on {here.title}")
        st.caption(common.plain(_words_for_rectangle(here, layer, box)))
    with heat:
        found = common.known(
            ("effective", here.model.title, here.digest, layer.name, unit),
            lambda: effective(here.model, here.view.pixels, layer.name, unit),
        )
        _show_effective(here, found, box)
    _offer(here, found, box)


def _choose(here: common.Chosen, layer: LayerFacts, values: np.ndarray) -> tuple[int, int, int]:
    """Channel, row and column, by numbers or by a click; at first a unit that answers well.

    Not the strongest: that often stands at the stop of an activation such as ReLU6, where no pixel moves it.
    """
    answering = np.flatnonzero(values)
    order = answering[np.argsort(np.abs(values.ravel()[answering]), kind="stable")]
    first_place = int(order[int(ANSWERS_WELL * len(order))]) if len(order) else 0
    well = [int(place) for place in np.unravel_index(first_place, values.shape)]
    here_now = (here.model.name, layer.name)
    moved = st.session_state.setdefault("layer seen", here_now) != here_now
    st.session_state["layer seen"] = here_now
    row = st.container(horizontal=True)
    found = []
    for word, key, most, first in zip(("Channel", "Row", "Column"), KEYS, layer.shape, well, strict=True):
        if moved or st.session_state.get(key, 0) >= most:
            st.session_state[key] = first
        found.append(
            row.number_input(
                word, 0, most - 1, first, step=1, key=key, bind="query-params", width=130, help=f"0 to {most - 1:,}"
            )
        )
    return found[0], found[1], found[2]


def _show_map(
    here: common.Chosen, layer: LayerFacts, values: np.ndarray, scale: Scale, unit: tuple[int, int, int]
) -> None:
    """The map of the channel with a ring around the unit; a click chooses another."""
    factor = max(1, -(-MAP_SIDE // max(values.shape)))
    key = f"map to see with {here.model.name} {layer.name} {here.digest}"

    def choose(down: float, right: float) -> None:
        for name, share, size in zip(KEYS[1:], (down, right), values.shape, strict=True):
            st.session_state[name] = int(share * size)

    drawn = _ringed(to_colours(values, scale).repeat(factor, 0).repeat(factor, 1), unit[1:], factor)
    clickable.show(to_png(drawn), drawn.shape[:2], f"The map of channel {unit[0]}, to choose a unit on", key, choose)


def _ringed(picture: np.ndarray, place: Sequence[int], factor: int) -> np.ndarray:
    """A ring of black and cyan around one cell of an enlarged map."""
    image = Image.fromarray(picture)
    top, left = place[0] * factor, place[1] * factor
    box = (left - 4, top - 4, left + factor + 3, top + factor + 3)
    ImageDraw.Draw(image).rectangle(box, outline=(0, 0, 0), width=5)
    ImageDraw.Draw(image).rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline=(0, 229, 255), width=3)
    return np.array(image)


def _on_the_photo(here: common.Chosen, box: Box) -> tuple[np.ndarray, Box]:
    """The photo at the size of the page, and a box of what the net saw as one of that photo."""
    photo, (left, top, right, bottom) = views.shown(here)
    height, width = here.view.pixels.shape[2:]
    across, down = (right - left) / width, (bottom - top) / height
    x0, y0 = round(left + box[0] * across), round(top + box[1] * down)
    x1, y1 = round(left + box[2] * across), round(top + box[3] * down)
    x0, y0 = min(x0, photo.shape[1] - 1), min(y0, photo.shape[0] - 1)
    return photo, (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _words_for_rectangle(here: common.Chosen, layer: LayerFacts, box: Box) -> str:
    left, top, right, bottom = box
    height, width = here.view.pixels.shape[2:]
    words = "What the unit can see, its theoretical receptive field: "
    words += f"{bottom - top} × {right - left} pixels of {height} × {width}."
    rows, columns = layer.receptive_field
    if (rows, columns) != (bottom - top, right - left):
        words += f" Without the border of the picture it would be {rows} × {columns}."
    if layer.sees and not layer.sees.known:
        words += " At most: of an operation before it nobody knows where it reads."
    return words


def _show_effective(here: common.Chosen, found: EffectiveField, box: Box) -> None:
    left, top, right, bottom = box
    scale = Scale.of(found.values)
    views.show_picture(
        to_png(_laid(here, found, box, scale)),
        f"The effective receptive field laid over {here.title}: where a pixel moves the unit",
    )
    if not found.values.any():
        st.caption(
            "No pixel moves this unit: an activation on the way is shut, or at its stop, and its gradient is zero."
        )
        return
    views.show_scale(scale, UNIT)
    area = found.area(0.5)
    share = 100 * area / ((right - left) * (bottom - top))
    st.caption(
        f"What does move it, its effective receptive field: half of all the change comes from {area:,} pixels, "
        f"{share:.0f} % of the rectangle. Below, the rectangle alone, each pixel a square."
    )
    with st.container(width=220):
        crop = found.values[top:bottom, left:right]
        views.show_picture(views.enlarged(crop, scale, 220), "The same within the rectangle, enlarged")


def _laid(here: common.Chosen, found: EffectiveField, box: Box, scale: Scale) -> np.ndarray:
    """The effective field laid over the photo, with a frame around the theoretical one."""
    (photo, inner), (_, seen) = _on_the_photo(here, box), views.shown(here)
    return frame(overlay(photo, found.values, seen, scale=scale, alpha=1.0), inner)


def _offer(here: common.Chosen, found: EffectiveField, box: Box) -> None:
    def figure() -> bytes:
        scale = Scale.of(found.values)
        return to_figure(
            _laid(here, found, box, scale),
            scale,
            title=f"What unit {found.unit} of {found.layer} sees",
            lines=(
                f"{here.model.title}; {here.title}",
                "Frame: theoretical receptive field. Colours: effective one (Luo et al. 2016), the gradient's "
                "magnitude, summed over colours.",
            ),
            unit=UNIT,
        )

    row, column = found.unit[1:]
    lines = (
        f"seen = effective(model, view.pixels, {found.layer!r}, {found.unit})  # .values (H, W)",
        f"box = theoretical(model, {found.layer!r}, ({row}, {column}))  # left, top, right, bottom",
    )
    imports = ("from vizcore.receptive_field import effective, theoretical",)
    takeaway.offer(here, f"field {found.layer}", found, figure, imports, "\n".join(lines))
