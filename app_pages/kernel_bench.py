"""A bench for kernels: one is typed or taken from a list, laid on a small grid or on the picture, and watched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import clickable, common, sliding, takeaway, views
from vizcore.export import to_figure
from vizcore.images import Scale, to_colours, to_png
from vizcore.kernel_bench import (
    KERNELS,
    MOST_DILATION,
    MOST_PADDING,
    MOST_STRIDE,
    KernelRun,
    grey_of,
    kernel_named,
    size_in_words,
    slide,
)
from vizcore.records import LensError

OWN = "own"
MOST_TYPED = 7  # cells a side of a kernel that is typed
MOST_GRID = 12  # and of a grid
CUT = 9  # cells a side that are cut out of the picture to be watched
LEAST_SIDE = 224


def show(here: common.Chosen) -> None:
    on = st.segmented_control(
        "Lay it on",
        ["grid", "picture"],
        default="grid",
        required=True,
        format_func={"grid": "A small grid", "picture": "The picture"}.__getitem__,
        key="bench_on",
        bind="query-params",
        help="The picture is what the network sees, in grey, from 0 (black) to 1 (white).",
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        kernel, name = _choose_kernel()
        options = _choose_options()
    with right:
        grid = _choose_grid() if on == "grid" else grey_of(views.as_seen(here, 1))
    try:
        run = slide(grid, kernel, **options)
    except LensError as refusal:
        st.error(common.plain(str(refusal)), icon=":material/block:")
        return
    _say_size(run)
    if on == "grid":
        _show_sliding(run, f"sliding {name}")
    else:
        _show_picture(here, run)
    _offer(here, run, on)


# -- what is laid on what --------------------------------------------------------------------------------------------


def _choose_kernel() -> tuple[np.ndarray, str]:
    name = st.selectbox(
        "Kernel",
        [*KERNELS, OWN],
        format_func=lambda name: KERNELS[name][0] if name in KERNELS else "A new one, to be typed",
        key="bench_kernel",
        bind="query-params",
    )
    if name == OWN:
        row = st.container(horizontal=True)
        height = row.number_input("Kernel rows", 1, MOST_TYPED, 3, key="bench_kernel_rows", width=124)
        width = row.number_input("Kernel columns", 1, MOST_TYPED, 3, key="bench_kernel_columns", width=124)
        start = np.zeros((height, width))
    else:
        start = kernel_named(name)
    kernel = editor(start, f"kernel {name} {start.shape}", "The numbers of the kernel")
    st.caption(f"Change any number. Together they make {common.plain(views.number(float(np.nansum(kernel))))}.")
    return kernel, f"{name} {start.shape}"


def _choose_options() -> dict[str, int]:
    row = st.container(horizontal=True)
    return {
        "stride": row.number_input(
            "Stride", 1, MOST_STRIDE, 1, key="bench_stride", bind="query-params", width=124, help="Cells a step."
        ),
        "padding": row.number_input(
            "Padding", 0, MOST_PADDING, 0, key="bench_padding", bind="query-params", width=124, help="Zeros all round."
        ),
        "dilation": row.number_input(
            "Dilation",
            1,
            MOST_DILATION,
            1,
            key="bench_dilation",
            bind="query-params",
            width=124,
            help="Cells from one number of the kernel to the next.",
        ),
    }


def _choose_grid() -> np.ndarray:
    row = st.container(horizontal=True)
    height = row.number_input("Grid rows", 1, MOST_GRID, 3, key="bench_rows", bind="query-params", width=124)
    width = row.number_input("Grid columns", 1, MOST_GRID, 3, key="bench_columns", bind="query-params", width=124)
    start = np.arange(float(height * width)).reshape(height, width)
    grid = editor(start, f"grid {start.shape}", "The numbers of the grid")
    st.caption("It begins with 0, 1, 2, … as in the book; change any number.")
    return grid


def editor(start: np.ndarray, key: str, alt: str, *, label: bool = False) -> np.ndarray:
    """A grid (h, w) of numbers to be changed; an emptied cell is NaN."""
    columns = [str(column) for column in range(start.shape[1])]
    table = st.data_editor(
        pd.DataFrame(start, columns=columns),
        key=key,
        hide_index=True,
        width=min(74 * start.shape[1] + 4, 700) if start.shape[1] > 1 else 120,
        height=38 + 35 * len(start),
        column_config={column: st.column_config.NumberColumn(format="%.4g", width=70) for column in columns},
        alt=alt,
    )
    return table.to_numpy(np.float64)


# -- what comes of it ------------------------------------------------------------------------------------------------


def _say_size(run: KernelRun) -> None:
    height, width = run.values.shape
    options = {"stride": run.stride, "padding": run.padding, "dilation": run.dilation}
    st.markdown(f"**The output is {height} × {width}** (height × width):")
    lines = ["⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1"]
    for axis, word in enumerate(("height", "width")):
        lines.append(f"{word:<6}  {size_in_words(run.grid.shape[axis], run.kernel.shape[axis], **options)}")
    st.code("\n".join(lines), language=None, wrap_lines=True)


def _show_sliding(run: KernelRun, key: str) -> None:
    if max(run.grid.shape) + 2 * run.padding > sliding.MOST_CELLS:
        st.info(
            f"With its padding the grid has more than {sliding.MOST_CELLS} cells a side: too many to be watched. Take "
            "less padding.",
            icon=":material/grid_off:",
        )
        return
    st.markdown("**The kernel slides over the grid.** Each step: numbers times the kernel’s numbers, added up.")
    sliding.show(run, key)
    crossed = " Crossed out: padding, zeros around the grid." if run.padding else ""
    st.caption(f"Red cells are above 0, blue ones below; the grid and the output have a scale each.{crossed}")


def _show_picture(here: common.Chosen, run: KernelRun) -> None:
    """The grey picture and what the kernel makes of it; a click cuts a piece out of it to be watched."""
    before, after = st.columns(2, gap="medium")
    key = f"bench of {here.digest} {run.grid.shape}"
    height, width = run.grid.shape
    down, right = st.session_state.get(f"place of {key}", (0.5, 0.5))
    size = min(CUT, height), min(CUT, width)
    top = min(max(int(down * height) - size[0] // 2, 0), height - size[0])
    left = min(max(int(right * width) - size[1] // 2, 0), width - size[1])

    def choose(down: float, right: float) -> None:
        st.session_state[f"place of {key}"] = (down, right)

    with before:
        st.markdown("**The picture in grey**")
        grey = to_colours(run.grid, Scale(0.0, 1.0), "gray")
        factor = max(1, -(-LEAST_SIDE // max(run.grid.shape)))
        drawn = grey.repeat(factor, 0).repeat(factor, 1)
        y0, y1, x0, x1 = (edge * factor for edge in (top, top + size[0], left, left + size[1]))
        drawn[[y0, y1 - 1], x0:x1] = drawn[y0:y1, [x0, x1 - 1]] = (0, 229, 255)
        clickable.show(to_png(drawn), drawn.shape[:2], "The picture in grey, to choose a piece of", key, choose)
        views.show_scale(Scale(0.0, 1.0), "grey", "gray")
    with after:
        st.markdown("**With the kernel laid on it**")
        scale = Scale.of(run.values)
        views.show_picture(views.enlarged(run.values, scale, LEAST_SIDE), "The output of the kernel")
        views.show_scale(scale, "sum of products")
    st.markdown(
        f"**The kernel at work** on the {size[0]} × {size[1]} pixels in the frame, from row {top}, column {left}. "
        "Click the picture to move the frame."
    )
    piece = run.grid[top : top + size[0], left : left + size[1]]
    try:
        small = slide(piece, run.kernel, stride=run.stride, dilation=run.dilation)
    except LensError:
        st.caption("The kernel is too wide for this piece.")
        return
    sliding.show(small, f"sliding over {key}")


def _offer(here: common.Chosen, run: KernelRun, on: str) -> None:
    def figure() -> bytes:
        scale = Scale.of(run.values)
        words = str(run.kernel.tolist()) if run.kernel.size < 10 else " × ".join(map(str, run.kernel.shape))
        side = max(1, 480 // max(run.values.shape))
        return to_figure(
            to_colours(run.values, scale).repeat(side, 0).repeat(side, 1),
            scale,
            title="Output of a kernel",
            lines=(
                f"stride {run.stride}, padding {run.padding}, dilation {run.dilation}; kernel {words}",
                f"{here.title}, in grey" if on == "picture" else f"grid of {run.grid.shape[0]} × {run.grid.shape[1]}",
            ),
            unit="sum of products",
        )

    seen = "(view.pixels[0].permute(1, 2, 0) * 255).round().byte().numpy()"
    grid = f"grey_of({seen})" if on == "picture" else f"np.array({run.grid.tolist()})"
    call = (
        f"grid = {grid}\n"
        f"kernel = np.array({run.kernel.tolist()})\n"
        f"run = slide(grid, kernel, stride={run.stride}, padding={run.padding}, dilation={run.dilation})\n"
        "print(run.values)"
    )
    names = "grey_of, slide" if on == "picture" else "slide"
    imports = ("import numpy as np", f"from vizcore.kernel_bench import {names}")
    takeaway.offer(here, f"kernel on {on}", run, figure, imports, call)
