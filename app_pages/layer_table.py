"""The table of all layers: a row each, sortable, with what every column means, and as a file."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app_pages import common, takeaway
from vizcore.anatomy import Anatomy, LayerFacts, to_csv

SPOTTED = "background-color: rgba(224, 123, 0, 0.35)"
TEXTS = {
    "layer": ("Layer", "The dotted name of the module; an operation that is none has the name of where it stands."),
    "kind": ("Kind", "The class of the module, or what torch calls the operation."),
    "kernel": ("Kernel", "Height × width of the window, in cells."),
    "stride": ("Stride", "Cells from one window to the next."),
    "padding": ("Padding", "Cells around the maps: one number for all sides, or before+behind of rows × of columns."),
    "dilation": ("Dilation", "From one cell of the window to the next; 1: side by side."),
    "groups": ("Groups", "Channels are dealt out to so many groups; each output reads one of them."),
    "shape by formula": ("Output by the formula", "Channels × height × width, calculated."),
    "shape as run": ("Output as run", "Channels × height × width of what came out."),
}
NUMBERS = {
    "number": ("No.", "Place in the order of execution.", "%d"),
    "parameters": ("Parameters", "Weights and biases of this layer.", "localized"),
    "multiply-adds": ("Multiply-adds", "Products for one picture, biases left out.", "localized"),
    "activations": ("Activations (numbers)", "How many numbers come out for one picture.", "localized"),
    "memory": ("Memory (kB)", "Of these, at 4 bytes each (float32); 1 kB is 1,000 bytes.", "%,.1f"),
    "sees": (
        "Receptive field (pixels)",
        "How many pixels a side a unit sees, as if the picture had no border; behind a dense layer, a global average "
        "or a norm of whole maps, the whole picture. Empty where it is at most that, and nobody knows how much.",
        "%d",
    ),
    "jump": ("Jump (pixels)", "From one unit to the next, measured in the picture; 0: all see the same.", "%g"),
    "centre": (
        "Centre of the first (pixel)",
        "The middle of what the first unit sees; 0 is the middle of the first pixel.",
        "%g",
    ),
}


def table_of(facts: Anatomy) -> pd.DataFrame:
    """A row a layer. Where all that is seen is square, one column says both heights and widths."""
    square = all(
        pair[0] == pair[1] for layer in facts.layers for pair in (layer.receptive_field, layer.jump, layer.centre)
    )
    rows: list[dict[str, Any]] = []
    for number, layer in enumerate(facts.layers, 1):
        flat = layer.flat()
        row: dict[str, Any] = {"number": number, **{name: str(flat[name]) for name in TEXTS}}
        row |= {name: flat[name] for name in ("parameters", "multiply-adds", "activations")}
        row["memory"] = layer.memory / 1000
        for axis, of in enumerate([""] if square else [", rows", ", columns"]):
            row[f"sees{of}"] = layer.receptive_field[axis] if layer.known else None
            row[f"jump{of}"] = layer.jump[axis] if layer.is_map and layer.known else None
            row[f"centre{of}"] = layer.centre[axis] if layer.known else None
        rows.append(row)
    return pd.DataFrame(rows)


def columns_of(table: pd.DataFrame) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: st.column_config.TextColumn(title, help=words, pinned=name == "layer")
        for name, (title, words) in TEXTS.items()
    }
    for name in table.columns.difference(list(TEXTS)):
        kind, _, axis = name.partition(", ")
        title, words, form = NUMBERS[kind]
        columns[name] = st.column_config.NumberColumn(f"{title}, {axis}" if axis else title, help=words, format=form)
    return columns


def show(here: common.Chosen, facts: Anatomy, spotted: LayerFacts | None, pick: str) -> None:
    """The table. A row that is chosen writes the title of its layer to ``st.session_state[pick]``."""
    table = table_of(facts)
    key = f"layers of {here.model.title}"

    def choose() -> None:
        if rows := st.session_state[key]["selection"]["rows"]:
            st.session_state[pick] = facts.layers[rows[0]].title

    title = spotted.title if spotted else None
    styled = table.style.apply(lambda row: [SPOTTED * (row["layer"] == title)] * len(row), axis=1)
    st.dataframe(
        styled if title else table,
        hide_index=True,
        column_config=columns_of(table),
        on_select=choose,
        selection_mode="single-row",
        key=key,
        height=320,
        placeholder="",
        alt=f"The {len(table)} layers of {here.model.title}, a row each",
    )
    agreeing = sum(layer.by_formula == layer.shape != () for layer in facts.layers)
    st.caption(
        f"In order of execution. Formula and run agree for {agreeing} of {len(table)} layers. Click a heading "
        "to sort, the box on the left of a row to choose its layer."
    )
    offer(here, facts)


def offer(here: common.Chosen, facts: Anatomy) -> None:
    call = (
        'facts = anatomy(model)  # .layers, .parameters, .multiply_adds\nopen("anatomy.csv", "w").write(to_csv(facts))'
    )
    lines = takeaway.python_lines(here, ("from vizcore.anatomy import anatomy, to_csv",), call)
    with st.popover("Take away", icon=":material/download:", key="take anatomy"):
        row = st.container(horizontal=True)
        stem = f"{here.model.name.replace('_', '-')}-anatomy"
        row.download_button("Table (.csv)", lambda: to_csv(facts), f"{stem}.csv", "text/csv", on_click="ignore")
        row.download_button("Python", lines, f"{stem}.py", "text/x-python", on_click="ignore")
        st.code(lines, language="python", wrap_lines=True)
