"""The current picture on the map of a set: where it belongs, and which of its true neighbours lie beside it there."""

from __future__ import annotations

import streamlit as st

from app_pages import common, picture_map
from app_pages.picture_map import Mark
from app_pages.set_maps import Maps, Rows
from vizcore.embedding import extract_features
from vizcore.placing import NEIGHBOURS, Placed, place, placeable


def placed_of(here: common.Chosen, rows: Rows, maps: Maps, key: tuple[object, ...], layer: str) -> Placed:
    """Known, or computed now: one pass, and the point moved alone."""

    def compute() -> Placed:
        own = extract_features(here.model, [here.photo], layer)
        onto = placeable(maps.by_features, rows.features)
        return place(onto, own, k=min(NEIGHBOURS, len(rows)))

    return common.known(("placed", here.model.title, here.digest, key), compute)


def mark_of(placed: Placed) -> Mark:
    return Mark(placed.points[0], placed.kept().tolist(), placed.lost().tolist())


def show(here: common.Chosen, rows: Rows, placed: Placed) -> None:
    """The true neighbours, nearest first, those that the map keeps beside the picture told from those that it loses."""
    kept, lost = placed.kept(), placed.lost()
    st.markdown(
        f"**{common.plain(here.title)}** lies at the cross. Of its {placed.k} nearest in the features, "
        f"{len(kept)} are among its {placed.k} nearest on the map (full lines) and {len(lost)} are not (dashed)."
    )
    distances = dict(zip(placed.true[0].tolist(), placed.distances[0].tolist(), strict=True))
    for title, some in (("Kept by the map", kept), ("Lost by the map", lost)):
        if not len(some):
            continue
        st.caption(f"{title}, nearest first; under each how far it is in the features.")
        st.image(
            picture_map.cut(rows.atlas, some.tolist()),
            caption=[f"{common.plain(rows.names[row])}, {distances[int(row)]:.3g}" for row in some],
            alt=[f"{rows.names[row]}, {title.lower()}" for row in some],
            width=80,
        )
    if len(false := placed.false()):
        names = ", ".join(rows.names[row] for row in false[:5])
        more = f" and {len(false) - 5} more" if len(false) > 5 else ""
        st.caption(f"Beside it on the map only, without being among the nearest: {common.plain(names)}{more}.")
