"""The heatmaps of one class in groups, each shown by its mean and by examples."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app_pages import common, folder_set, views
from app_pages.folder_set import Folders
from vizcore.colour import Scale
from vizcore.heat_clusters import LEAST, STRUCTURE, HeatClusters, cluster_heatmaps

EXAMPLES = 3
PER_PAIR = 1e-6  # seconds: of n pictures n² distances, many times


def show(folders: Folders, heats: np.ndarray, targets: dict[str, int], method: str, folder: str) -> None:
    rows = folders.rows(folder)
    key = ("clusters of heatmaps", *folders.key, folder, targets[folder], method)
    found: HeatClusters = common.known(key, lambda: cluster_heatmaps(heats[rows]), 1 + PER_PAIR * len(rows) ** 2)
    say(found, folder)
    scale = Scale.of(*(cluster.mean for cluster in found.clusters))
    for number, cluster in enumerate(found.clusters, 1):
        left, *places = st.columns(1 + EXAMPLES, gap="small")
        count = common.counted(len(cluster.numbers), ("picture", "pictures"))
        with left:
            words = f"Group {number}: mean heatmap of {count}, {cluster.share:.0%} of those with evidence"
            views.show_picture(views.enlarged(cluster.mean, scale, 168), words)
            st.caption(f"**Group {number}**: mean of {count}, {cluster.share:.0%}")
        nearest = rows[cluster.numbers[:EXAMPLES]]
        own = Scale.of(*heats[nearest])
        for place, row in zip(places, nearest, strict=False):
            picture = folders.pictures.picture(int(row))
            with place:
                drawn = common.drawn(folder_set.laid, folders.here, picture.photo.pixels, heats[row], own)
                views.show_picture(drawn, f"{views.METHOD_TITLES[method]} on {picture.title}, group {number}")
                st.caption(common.plain(picture.title))
                folder_set.open_button(folders, int(row), f"group {number}")
    with st.container(width=420):
        views.show_scale(scale, "share of the evidence in a cell, of the means")
    st.caption(
        "The examples are the nearest to the middle of each group, on a scale of their own, "
        f"{views.METHOD_TITLES[method]}. A group is no accusation: a class may have several kinds of pictures. Nor is one group an acquittal: a mark "
        "in every picture does not divide a class. After Lapuschkin et al., Nature Communications 2019."
    )


def say(found: HeatClusters, folder: str) -> None:
    name = common.plain(folder)
    best = max(found.silhouettes, default=None)
    if best is None:
        st.markdown(f"**{name}** has too few heatmaps to divide: {LEAST} different ones are the least.")
    elif len(found.clusters) == 1:
        st.markdown(
            f"**{name}** is one group: no division has a mean silhouette above {STRUCTURE}; the best has {best:.2f}."
        )
    else:
        st.markdown(f"**{name}** falls into {len(found.clusters)} groups, with a mean silhouette of {best:.2f}.")
