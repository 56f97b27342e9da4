"""A kernel on its way over a grid of numbers: a picture that goes on when somebody says so, step by step or by itself.

It is drawn in the browser, by a few lines of script of our own: a step takes no time. Nothing is computed there: all
numbers come from `vizcore.kernel_bench`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from app_pages.number_grid import bracketed, cells_of, short
from vizcore.images import Scale
from vizcore.kernel_bench import KernelRun

MOST_CELLS = 16  # a side, with padding, that are still to be read


def show(run: KernelRun, key: str) -> None:
    """The grid with its padding, the kernel on it, and the output as far as it is known."""
    padded = np.pad(run.grid, run.padding)
    inside = np.pad(np.ones(run.grid.shape, bool), run.padding)
    cells, output = (cells_of(one, Scale.of(one, signed=True)) for one in (padded, run.values))
    rows, columns = run.values.shape
    weights = [[short(float(weight)) for weight in row] for row in run.kernel]
    _sliding(
        key=key,
        data={
            "grid": {"texts": cells.texts, "fills": cells.fills, "inks": cells.inks, "inside": inside.tolist()},
            "output": {"texts": output.texts, "fills": output.fills, "inks": output.inks},
            "kernel": weights,
            "sums": [[sum_in_words(run, row, column) for column in range(columns)] for row in range(rows)],
            "stride": run.stride,
            "dilation": run.dilation,
            "offset": run.padding,
        },
    )


def sum_in_words(run: KernelRun, row: int, column: int) -> str:
    """The sum behind one output: "0 · 0 + 1 · 1 + 3 · 2 + 4 · 3 = 19"."""
    _, _, patch, _ = run.window(row, column)
    terms = [
        f"{bracketed(short(float(number)))} · {bracketed(short(float(weight)))}"
        for number, weight in zip(patch.flat, run.kernel.flat, strict=True)
    ]
    shown = " + ".join(terms[:9]) + (f" + … {len(terms) - 9} more" if len(terms) > 9 else "")
    return f"{shown} = {short(float(run.values[row, column]))}"


_sliding = st.components.v2.component(
    "cnn_lens_sliding_kernel",
    html="""
        <div class="sliding">
          <div class="controls">
            <button class="back" aria-label="One step back">◀</button>
            <button class="play">Play</button>
            <button class="on" aria-label="One step on">▶</button>
            <input type="range" min="0" value="0" aria-label="Step">
            <span class="count"></span>
          </div>
          <div class="grids">
            <figure><svg class="grid" role="img"></svg><figcaption>grid, with the kernel on it</figcaption></figure>
            <figure><svg class="output" role="img"></svg><figcaption>output so far</figcaption></figure>
          </div>
          <p class="sum" aria-live="polite"></p>
        </div>
    """,
    css="""
        .sliding { color: var(--st-text-color); font-family: var(--st-font); }
        .controls { display: flex; gap: 0.5rem; align-items: center; flex-wrap: wrap; margin-bottom: 0.75rem; }
        .controls button { color: inherit; background: var(--st-secondary-background-color); padding: 0.3rem 0.8rem;
                           border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
                           font: inherit; cursor: pointer; min-width: 2.5rem; }
        .controls button:disabled { opacity: 0.4; cursor: default; }
        .controls input { flex: 1 1 120px; max-width: 260px; accent-color: var(--st-primary-color); }
        .grids { display: flex; gap: 2rem; flex-wrap: wrap; align-items: flex-start; }
        .grids figure { margin: 0; max-width: 100%; }
        .grids svg { max-width: 100%; height: auto; display: block; }
        figcaption, .count { font-size: 0.875rem; opacity: 0.75; }
        .sum { font-size: 1rem; margin: 0.75rem 0 0; overflow-wrap: anywhere; min-height: 3em; }
    """,
    js=Path(__file__).with_name("sliding.js").read_text(encoding="utf-8"),
)
