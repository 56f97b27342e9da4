"""Another class: the same map for the strongest rival, and the difference, on one scale."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import streamlit as st

from app_pages import common, takeaway, views
from app_pages.explained import Explained
from vizcore.agreement import agreement
from vizcore.heatmaps import scale_of, unit_of
from vizcore.records import LensError


def show(explained: Explained) -> None:
    here = explained.here
    rivals = [int(k) for k in here.ranking[:10] if k != here.target]
    if not rivals:
        st.info("This network knows one class only: there is no rival.")
        return
    rival = st.selectbox(
        "Rival", rivals, format_func=here.label, key=f"rival of {here.target} of {here.loaded.name} in {here.digest}"
    )
    if not explained.is_known(rival):
        if views.asked(f"Compute {explained.title} of the rival", "rival", explained.price):
            with suppress(LensError), common.running(explained.title) as progress:  # said where the page is drawn anew
                explained.heat(rival, progress)
            st.rerun()
        return
    mine, other = explained.heat(), explained.heat(rival)
    note = f"Not the map of one class: that of class {here.target} less that of class {rival}."
    difference = replace(mine, values=mine.values - other.values, notes=(note,))
    scale = scale_of(mine, other, difference)
    names = (here.label(here.target), here.label(rival), "the first less the second")
    for place, heat, name in zip(st.columns(3), (mine, other, difference), names, strict=True):
        with place:
            st.markdown(f"**{common.plain(name)}**")
            views.show_picture(views.laid(here, heat, scale), f"{explained.title} of {name} on {here.title}")
    with st.container(width=420):
        views.show_scale(scale, unit_of(mine))
    st.markdown(_in_words(mine.values, other.values))
    (imports, call), (_, of_rival) = explained.script(), explained.script(rival)
    takeaway.offer(
        here,
        f"rival {explained.method} {rival}",
        difference,
        views.laid(here, difference, scale),
        imports,
        f"{call}\nmine = heat\n{of_rival}\ndifference = mine.values - heat.values",
    )


def _in_words(mine: np.ndarray, other: np.ndarray) -> str:
    size = (max(mine.shape[0], 2), max(mine.shape[1], 2))
    rank = agreement({"one": mine, "other": other}, size).correlations[0, 1]
    if np.isnan(rank):
        return "One of the two is the same everywhere: there is nothing to compare."
    if np.array_equal(mine, other):
        return "**The two are the same:** this method does not know the class."
    close = "hardly tells the two classes apart" if rank > 0.9 else "tells them apart"
    return f"Their rank correlation is **{rank:.2f}**: here the method {close}.".replace("-", "−")
