"""One unit of the net taken apart: the window that it read, the kernel, their products, and each step to its number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import clickable, common, number_grid, takeaway, views
from app_pages.number_grid import bracketed, exact
from vizcore.arithmetic import Stage, UnitArithmetic
from vizcore.export import to_figure
from vizcore.images import Scale, frame, to_colours, to_png
from vizcore.records import LensError

LEAST_SIDE = 336  # pixels of a map to be clicked on
MOST_ROWS = 200
WHAT = {
    "convolution": "a convolution: each cell of the window times the kernel’s number there, all added up",
    "dense": "a dense layer: every number of the layer before times a weight of its own, all added up",
    "maximum": "a pooling: the largest number of the window",
    "mean": "a pooling: the mean of the window",
    "norm": "a pooling: the norm of the window",
    "sampled": "a sampling between cells: the mean of the four nearest, the nearer the more",
    "given": "something that is not taken apart here; the calculation starts behind it",
}


def show(here: common.Chosen) -> None:
    layers = {layer.name: layer for layer in views.all_layers_of(here) if len(layer.shape) in (1, 3)}
    names = list(layers)
    first = here.model.layers.get("first_conv")
    layer = st.selectbox(
        "Layer",
        names,
        index=names.index(first) if first in names else 0,
        key="unit_layer",
        bind="query-params",
        help="Every layer, in the order in which it runs. Type to search.",
    )
    shape = (*layers[layer].shape, 1, 1)[:3]
    what = "channels × height × width" if len(layers[layer].shape) == 3 else "numbers"
    st.caption(common.plain(f"{layers[layer].kind}, {layers[layer].size} ({what})"))
    left, right = st.columns(2, gap="medium")
    with left:
        place = _choose(here, layer, (shape[0], shape[1], shape[2]))
    try:
        unit = views.unit_of(here, layer, *place)
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
        return
    with right:
        _show_what_is_read(here, unit)
    st.subheader("The window, the kernel, and their products", anchor=False)
    _show_window(unit)
    st.subheader("Step by step", anchor=False)
    _show_stages(unit)
    _offer(here, unit)


# -- which unit ------------------------------------------------------------------------------------------------------


def _choose(here: common.Chosen, layer: str, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channel, row and column, by numbers or by a click on the map; at first the largest number of the layer."""
    is_map = shape[1:] != (1, 1)
    values = views.maps_of(here, layer)[0].values if is_map else None
    start = [0, 0, 0]
    if values is not None:
        start = [int(place) for place in np.unravel_index(int(np.abs(values).argmax()), values.shape)]
    here_now, keys = (here.model.name, layer), ("unit_channel", "unit_row", "unit_column")
    known = st.session_state.setdefault("layer of the unit", here_now)
    for key, most, first in zip(keys, shape, start, strict=True):
        if known != here_now or st.session_state.get(key, 0) >= most:
            st.session_state[key] = first
    st.session_state["layer of the unit"] = here_now
    row = st.container(horizontal=True)
    words = ("Channel", "Row", "Column") if is_map else ("Unit",)
    found = [
        row.number_input(
            word, 0, most - 1, first, step=1, key=key, bind="query-params", width=124, help=f"0 to {most - 1:,}"
        )
        for word, most, first, key in zip(words, shape, start, keys, strict=False)
    ]
    place = (*found, 0, 0)
    if values is not None:
        _show_map(here, layer, values[place[0]], Scale.of(values), (place[1], place[2]))
    return place[0], place[1], place[2]


def _show_map(here: common.Chosen, layer: str, values: np.ndarray, scale: Scale, at: tuple[int, int]) -> None:
    """The map of a channel, with a frame around the unit; a click chooses another."""
    factor = max(1, -(-LEAST_SIDE // max(values.shape)))
    drawn = to_colours(values, scale).repeat(factor, 0).repeat(factor, 1)
    top, left = at[0] * factor, at[1] * factor
    drawn = _framed(drawn, (left, top, left + factor, top + factor))
    key = f"map of {here.model.name} {layer} {here.digest}"

    def move(down: float, right: float) -> None:
        st.session_state["unit_row"] = int(down * values.shape[0])
        st.session_state["unit_column"] = int(right * values.shape[1])

    with st.container(width=420, gap="xsmall"):
        clickable.show(to_png(drawn), drawn.shape[:2], "The map of this channel, to choose a unit on", key, move)
        views.show_scale(scale, "activation, the layer’s scale")
    height, width = values.shape
    st.caption(f"The map of this channel, {height} × {width} (height × width). Click a place to take it apart.")


def _framed(picture: np.ndarray, box: tuple[int, int, int, int], least: int = 9) -> np.ndarray:
    """The picture with a frame of two colours, at least ``least`` pixels a side, around a box."""
    (left, top, right, bottom), (height, width) = box, picture.shape[:2]
    grow = max(0, least - (right - left)) // 2 + 2
    picture = picture.copy()
    for line, colour in ((grow, (0, 229, 255)), (grow - 1, (0, 229, 255)), (grow - 2, (0, 0, 0))):
        y0, y1 = max(top - line, 0), min(bottom + line, height) - 1
        x0, x1 = max(left - line, 0), min(right + line, width) - 1
        picture[y0, x0 : x1 + 1] = picture[y1, x0 : x1 + 1] = colour
        picture[y0 : y1 + 1, x0] = picture[y0 : y1 + 1, x1] = colour
    return picture


def _show_what_is_read(here: common.Chosen, unit: UnitArithmetic) -> None:
    """In words, and on the photo where that is what the layer reads."""
    reader = f" **{common.plain(unit.reader)}**," if unit.reader else ""
    st.markdown(f"It comes from{reader} {WHAT[unit.kind]}.")
    if unit.kind == "given":
        return
    channels, height, width = unit.patch.shape
    padded = int((~unit.inside).sum())
    what = f"a window of {height} × {width} in {common.counted(channels, ('channel', 'channels'))}"
    where = f"rows {unit.rows[0]} to {unit.rows[-1]}, columns {unit.columns[0]} to {unit.columns[-1]}"
    size = f"{unit.read_size[0]} × {unit.read_size[1]}"
    words = f"It reads {what}, {common.counted(unit.patch.size, ('number', 'numbers'))}: {where} of maps of {size}."
    if padded:
        words += f" {padded} of its {unit.inside.size} places lie outside: they are padding."
    st.markdown(common.plain(words))
    if not unit.from_picture:
        _show_read_map(unit)
        return
    photo, box = views.shown(here)
    across, down = (box[2] - box[0]) / unit.read_size[1], (box[3] - box[1]) / unit.read_size[0]
    first_row, last_row = (int(row) for row in unit.rows[[0, -1]].clip(0, unit.read_size[0] - 1))
    first_column, last_column = (int(column) for column in unit.columns[[0, -1]].clip(0, unit.read_size[1] - 1))
    left, right = box[0] + first_column * across, box[0] + (last_column + 1) * across
    top, bottom = box[1] + first_row * down, box[1] + (last_row + 1) * down
    marked = _framed(frame(photo, box), (round(left), round(top), round(right), round(bottom)))
    with st.container(width=420):
        views.show_picture(to_png(marked), f"The photo; the window lies at {where} of what the net sees")
    st.caption(
        "Where that lies in the photo; what is grey the network does not see. The input is each pixel, from 0 to 1, "
        "less the mean and divided by the standard deviation of the pictures that the network was trained on."
    )


def _show_read_map(unit: UnitArithmetic) -> None:
    """The map that contributes most, with a frame around the window."""
    height, width = unit.read_size
    if min(height, width) < 2:
        return
    scale = Scale.of(unit.read_map)
    factor = max(1, -(-LEAST_SIDE // max(height, width)))
    drawn = to_colours(unit.read_map, scale).repeat(factor, 0).repeat(factor, 1)
    first_row, last_row = (int(row) for row in unit.rows[[0, -1]].clip(0, height - 1))
    first_column, last_column = (int(column) for column in unit.columns[[0, -1]].clip(0, width - 1))
    box = (first_column * factor, first_row * factor, (last_column + 1) * factor, (last_row + 1) * factor)
    name = _channel(unit, unit.strongest)
    with st.container(width=420, gap="xsmall"):
        views.show_picture(to_png(_framed(drawn, box)), f"The map of {name} that is read, with the window")
        views.show_scale(scale, "input")
    which = f"{name}, which contributes most here" if len(unit.channels) > 1 else name
    st.caption(common.plain(f"What is read: the map of {which}, {height} × {width}, with a frame around the window."))


# -- its numbers -----------------------------------------------------------------------------------------------------


def _show_window(unit: UnitArithmetic) -> None:
    if unit.kind == "given":
        st.markdown(f"There is no window: the number is {common.plain(exact(float(unit.patch.item())))}.")
        return
    sums = unit.channel_sums
    order = np.argsort(-np.abs(sums), kind="stable")
    single = unit.patch.shape[1:] == (1, 1)
    if len(order) > 1:
        _show_contributions(unit, order, single=single)
        if single:
            return
        chosen = st.selectbox(
            "Input channel, strongest contribution first",
            order.tolist(),
            format_func=lambda n: f"{_channel(unit, n)}: {exact(float(sums[n]))}",
            key=f"input channel of {unit.layer} {unit.unit}",
        )
    else:
        chosen = 0
    _show_products(unit, int(chosen))


def _show_contributions(unit: UnitArithmetic, order: np.ndarray, *, single: bool) -> None:
    sums, total = unit.channel_sums, float(np.abs(unit.channel_sums).sum())
    listed = order[:MOST_ROWS]
    table = {"input channel": [_channel(unit, n) for n in listed]}
    if single:
        table |= {"input": unit.patch[listed, 0, 0], "× weight": unit.kernel[listed, 0, 0]}
    share = 100 * np.abs(sums[listed]) / (total or 1.0)
    table |= {"= product" if single else "sum of its products": sums[listed], "share of all": share}
    st.dataframe(
        pd.DataFrame(table),
        hide_index=True,
        width="content",
        height=38 + 35 * min(len(listed), 8),
        column_config={"share of all": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100)},
    )
    among = f"The {MOST_ROWS} strongest of" if len(order) > MOST_ROWS else "All"
    positive, negative = float(sums[sums > 0].sum()), float(sums[sums < 0].sum())
    st.caption(
        common.plain(
            f"{among} {len(order):,} input channels. Together {exact(positive)} for and {exact(negative)} against make "
            f"{exact(float(sums.sum()))}. The share is of the sum of all magnitudes, {exact(total)}."
        )
    )


def _show_products(unit: UnitArithmetic, channel: int) -> None:
    patch, kernel, products = unit.patch[channel], unit.kernel[channel], unit.products[channel]
    name = _channel(unit, channel)
    row = st.container(horizontal=True, gap="medium", vertical_alignment="center")
    with row.container(width="content", gap="xsmall"):
        st.markdown(f"**Window** of {common.plain(name)}")
        marked = _largest(kernel) if unit.kind == "maximum" else None
        scale = Scale.of(unit.patch, signed=True)
        number_grid.show(patch, scale, "input", f"The window in {name}", inside=unit.inside, marked=marked)
    if unit.kind in ("maximum", "norm"):
        row.markdown(f"### → {common.plain(exact(unit.stages[0].value))}")
        if marked:
            row.caption(f"Found at row {unit.rows[marked[0]]}, column {unit.columns[marked[1]]} of the map.")
        return
    row.markdown("### ×")
    with row.container(width="content", gap="xsmall"):
        st.markdown("**Kernel**" if unit.kind != "mean" else "**One share each**")
        number_grid.show(kernel, Scale.of(unit.kernel, signed=True), "weight", f"The kernel for {name}")
    row.markdown("### =")
    with row.container(width="content", gap="xsmall"):
        st.markdown(f"**Products**, together {common.plain(exact(float(products.sum())))}")
        scale = Scale.of(unit.products, signed=True)
        number_grid.show(products, scale, "product", f"Their products in {name}", inside=unit.inside)
    if not unit.inside.all():
        st.caption("Crossed out: padding, outside of the map.")


def _largest(kernel: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(kernel.argmax()), kernel.shape)
    return int(row), int(column)


def _channel(unit: UnitArithmetic, n: int) -> str:
    if unit.from_picture and len(unit.channels) == 3:
        return ("red", "green", "blue")[n]
    return f"channel {unit.channels[n]}"


# -- the steps -------------------------------------------------------------------------------------------------------


def _show_stages(unit: UnitArithmetic) -> None:
    for number, stage in enumerate(unit.stages[: unit.own], 1):
        _show_stage(unit, number, stage)
    far = abs(unit.by_hand - unit.network)
    told = f"By hand {exact(unit.by_hand)} = network {exact(unit.network)}"
    share = far / (unit.scale or 1)
    differ = f"They differ by {far:.1e}, {share:.0e} of the largest number of the layer: rounding.".replace("-", "−")
    rounding = differ if far else "They are the same to the last digit."
    if unit.agrees:
        st.success(common.plain(told), icon=":material/check:")
        st.caption(common.plain(f"{rounding} The network adds in single precision, here it is double."))
    else:
        st.error(common.plain(f"By hand {exact(unit.by_hand)}, network {exact(unit.network)}: this is a defect."))
    if later := unit.stages[unit.own :]:
        st.markdown("**And what the network does with it next:**")
        for number, stage in enumerate(later, unit.own + 1):
            _show_stage(unit, number, stage)


def _show_stage(unit: UnitArithmetic, number: int, stage: Stage) -> None:
    with st.container(border=True, gap="xsmall"):
        where = f" · {common.plain(stage.layer)}" if stage.layer else ""
        st.markdown(f"{number}\\. **{common.plain(stage.title)}**{where}")
        st.code(lines_of(unit, number - 1), language=None, wrap_lines=True)


def lines_of(unit: UnitArithmetic, number: int) -> str:
    """A step as text: the formula with names, with numbers, and what comes out."""
    stage = unit.stages[number]
    network = "" if stage.network is None else f"     (network: {exact(stage.network)})"
    if not stage.text:
        return f"{_first_line(unit)}\n= {exact(stage.value)}{network}"
    numbers = dict(stage.numbers)
    with_names = stage.text.format(**{name: name for name in numbers})
    with_numbers = stage.text.format(**{name: bracketed(exact(value)) for name, value in numbers.items()})
    shown = with_numbers if with_names == stage.text else f"{with_names}\n= {with_numbers}"
    return f"{shown}\n= {exact(stage.value)}{network}"


def _first_line(unit: UnitArithmetic) -> str:
    """The sum over the window, with its first numbers."""
    if unit.kind == "maximum":
        return f"max of {int(unit.inside.sum())} numbers"
    if unit.kind == "norm":
        return f"(Σ |x|^{unit.order:g})^(1/{unit.order:g}) of {unit.inside.sum()} numbers"
    if unit.kind == "mean":
        total, divisor = exact(float(unit.patch.sum())), exact(1 / float(unit.kernel.flat[0]))
        return f"Σ of {int(unit.inside.sum())} numbers / {divisor}\n= {total} / {divisor}"
    strongest = np.argsort(-np.abs(unit.products), axis=None, kind="stable")[:4]
    terms = " + ".join(
        f"{bracketed(exact(unit.patch.flat[n]))} · {bracketed(exact(unit.kernel.flat[n]))}" for n in strongest
    )
    rest = unit.patch.size - len(strongest)
    return f"Σ patch · kernel = {terms}" + (f" + … {rest:,} more" if rest else "")


def _offer(here: common.Chosen, unit: UnitArithmetic) -> None:
    channel, row, column = unit.unit

    def figure() -> bytes:
        strongest = unit.strongest
        parts = [one[strongest] for one in (unit.patch, unit.kernel, unit.products)]
        side = max(1, 240 // max(parts[0].shape))
        tiles = [to_colours(part, Scale.of(part, signed=True)).repeat(side, 0).repeat(side, 1) for part in parts]
        gap = np.full((tiles[0].shape[0], 24, 3), 255, np.uint8)
        return to_figure(
            np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], axis=1),
            None,
            title=f"{unit.layer}, channel {channel}, row {row}, column {column}",
            lines=(
                f"Window × kernel = products in {_channel(unit, strongest)}; white is 0, the ends are "
                + ", ".join(f"±{number_grid.short(float(np.abs(part).max()))}" for part in parts),
                *(f"{stage.title}: {exact(stage.value)}" for stage in unit.stages[: unit.own]),
                f"By hand {exact(unit.by_hand)} = network {exact(unit.network)}",
                f"{here.model.title}; {here.title}",
            ),
        )

    call = (
        f"unit = explain_unit(model, view.pixels, {unit.layer!r}, {channel}, {row}, {column})\n"
        "print(unit.by_hand, unit.network)  # .patch, .kernel, .products (C, kh, kw); .stages"
    )
    name = f"unit {unit.layer} {channel} {row} {column}"
    takeaway.offer(here, name, unit, figure, ("from vizcore.arithmetic import explain_unit",), call)
