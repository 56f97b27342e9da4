"""The table of confusions: folders down, answers across; a cell that is clicked or chosen opens its pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import takeaway
from app_pages.folder_set import Folders
from vizcore.predictions import Evaluation
from vizcore.set_figures import confusion_figure

MOST_ROWS, MOST_COLUMNS = 30, 16
OTHERS = "all others"
ROW, COLUMN = "cell_folder", "cell_answer"


def show(folders: Folders, found: Evaluation) -> tuple[str, int] | None:
    """The folder and the answer of the cell that is looked at."""
    st.subheader("What was answered", anchor=False)
    cells = cells_of(folders, found)
    names = {folders.label(int(k)): int(k) for k in found.confusion.classes}
    _draw(folders, cells, found)
    offer(folders, found)
    row, column = first_looked_at(found)
    left, right = st.columns(2, gap="medium")
    folder = left.selectbox(
        "Pictures of the folder", list(folders.names), row, key=ROW, bind="query-params", help="Or click a cell."
    )
    answer = right.selectbox("answered with", list(names), column, key=COLUMN, bind="query-params")
    return None if folder is None or answer is None else (folder, names[answer])


def first_looked_at(found: Evaluation) -> tuple[int, int]:
    """Row and column of the commonest mistake, or where there is none of the fullest cell."""
    counts, truth = found.confusion.counts, found.mapping.classes[:, None]
    wrong = (truth >= 0) & (truth != found.confusion.classes)
    looked_at = counts * wrong if (counts * wrong).any() else counts
    row, column = np.unravel_index(int(looked_at.argmax()), counts.shape)
    return int(row), int(column)


def cells_of(folders: Folders, found: Evaluation) -> pd.DataFrame:
    """A row a cell: what is drawn. Answers beyond the first few stand together, so that each row sums up."""
    confusion, classes = found.confusion, found.confusion.classes
    own = len({int(k) for k in found.mapping.classes if k >= 0})
    across = len(classes) if len(classes) <= max(own, MOST_COLUMNS) else max(own, MOST_COLUMNS)
    rows = []
    for number in shown_rows(found):
        counts, truth = confusion.counts[number], found.mapping.classes[number]
        total = counts.sum()
        each = [(folders.label(int(k)), int(count), int(k) == truth) for k, count in zip(classes, counts, strict=True)]
        each = each[:across]
        if across < len(classes):
            each.append((OTHERS, int(counts[across:].sum()), False))
        for label, count, right in each:
            rows.append((folders.names[number], label, count, float(count / total), right))
    return pd.DataFrame(rows, columns=["folder", "answer", "pictures", "share", "right"])


def shown_rows(found: Evaluation) -> list[int]:
    """Numbers of the folders that are drawn: of very many the ones that are least often right."""
    count = len(found.mapping.folders)
    if count <= MOST_ROWS:
        return list(range(count))
    recall = {score.folder: score.recall.value for score in found.by_class}
    order = sorted(range(count), key=lambda number: recall.get(found.mapping.folders[number], 2.0))
    return sorted(order[:MOST_ROWS])


def _draw(folders: Folders, cells: pd.DataFrame, found: Evaluation) -> None:
    key = f"confusions {folders.key}"

    def choose() -> None:
        picked = st.session_state[key]["selection"].get("cell") or []
        answers = {folders.label(int(k)) for k in found.confusion.classes}  # not "all others", which is no cell
        if picked and picked[0].get("folder") in folders.names and picked[0].get("answer") in answers:
            st.session_state[ROW] = picked[0]["folder"]
            st.session_state[COLUMN] = picked[0]["answer"]

    st.vega_lite_chart(
        cells,
        _spec(cells),
        height=90 + max(26, min(40, 420 // cells["folder"].nunique())) * cells["folder"].nunique(),
        key=key,
        on_select=choose,
        alt=alt_of(found),
    )
    more = len(folders.names) - cells["folder"].nunique()
    st.caption(
        "Rows: folders; columns: the most probable class. The number is that of pictures, the colour its share of the "
        "row; a frame marks the folder's own class. Click a cell to see its pictures."
        + (f" Shown are the {MOST_ROWS} folders least often right; {more} more are in the file." if more else "")
    )


def alt_of(found: Evaluation) -> str:
    counts = found.confusion.counts
    size = f"{counts.shape[0]} folders by {counts.shape[1]} answers"
    if not found.counted.any():
        return f"Table of confusions, {size}"
    return f"Table of confusions, {size}: {found.accuracy.hits} of {found.accuracy.count} pictures in the frames"


def _spec(cells: pd.DataFrame) -> dict[str, Any]:
    x = {
        "field": "answer",
        "sort": list(dict.fromkeys(cells["answer"])),
        "title": None,
        "axis": {"labelAngle": -40, "labelOverlap": False, "labelLimit": 120, "orient": "top"},
    }
    y = {
        "field": "folder",
        "sort": list(dict.fromkeys(cells["folder"])),
        "title": None,
        "axis": {"labelLimit": 120, "labelOverlap": False},
    }
    colour = {
        "field": "share",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "scheme": "blues"},
        "legend": {"title": "share of the folder", "format": ".0%", "orient": "bottom"},
    }
    tooltip = [
        {"field": "folder", "title": "folder"},
        {"field": "answer", "title": "answered with"},
        {"field": "pictures", "title": "pictures"},
        {"field": "share", "title": "of the folder", "format": ".1%"},
    ]
    rects = {
        "mark": {"type": "rect", "cursor": "pointer"},
        "params": [{"name": "cell", "select": {"type": "point", "fields": ["folder", "answer"]}}],
        "encoding": {
            "color": colour,
            "tooltip": tooltip,
            "stroke": {"condition": {"test": "datum.right", "value": "#E69F00"}, "value": None},
            "strokeWidth": {"value": 2},
        },
    }
    numbers = {
        "transform": [{"filter": "datum.pictures > 0"}],
        "mark": {"type": "text"},
        "encoding": {
            "text": {"field": "pictures"},
            "color": {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "black"},
        },
    }
    return {"encoding": {"x": x, "y": y}, "layer": [rects, numbers]}


def offer(folders: Folders, found: Evaluation) -> None:
    columns = [folders.label(int(k)) for k in found.confusion.classes]
    table = pd.DataFrame(found.confusion.counts, folders.names, columns).reset_index(names="folder")
    call = (
        f"{folders.script}\nfound = evaluate(predict(model, pictures), folders, mapping)\n"
        "print(found.accuracy, found.confusion.counts)"
    )
    imports = ("from vizcore.predictions import class_mapping, evaluate, predict", *folders.imports)
    takeaway.offer_table(
        folders.here,
        "confusions of the set",
        table,
        imports,
        call,
        lambda: confusion_figure(found, folders.here.model.title),
    )
