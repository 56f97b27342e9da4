"""The heatmaps of one class in groups, each shown by its mean and by examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common, folder_set, takeaway, views
from app_pages.folder_set import Folders
from vizcore.colour import Scale
from vizcore.heat_clusters import LEAST, STRUCTURE, HeatClusters, cluster_heatmaps

EXAMPLES = 3
PER_PAIR = 1e-6  # seconds: of n pictures n² distances, many times


def show(folders: Folders, heats: np.ndarray, targets: Mapping[str, int], method: str, folder: str) -> None:
    rows = folders.rows(folder)
    key = clusters_key(folders, folder, targets[folder], method)
    found: HeatClusters = common.known(key, lambda: cluster_heatmaps(heats[rows]), 1 + PER_PAIR * len(rows) ** 2)
    say(found, folder)
    scale = Scale.of(*(cluster.mean for cluster in found.clusters))
    nearest = [rows[cluster.numbers[:EXAMPLES]] for cluster in found.clusters]
    own = Scale.of(*(heats[some] for some in nearest))
    for number, (cluster, some) in enumerate(zip(found.clusters, nearest, strict=True), 1):
        first, *places = folder_set.row_of_tiles(1 + len(some), folder_set.WIDE)
        count, share = common.counted(len(cluster.numbers), ("picture", "pictures")), f"{100 * cluster.share:.0f} %"
        with first:
            words = f"Group {number}: mean heatmap of {count}, {share} of those with evidence"
            views.show_picture(views.enlarged(cluster.mean, scale, 168), words)
            st.caption(f"**Group {number}**: mean of {count}, {share}")
        for place, row in zip(places, some, strict=True):
            picture = folders.pictures.picture(int(row))
            with place:
                drawn = common.drawn(folder_set.laid, folders.here, picture.photo.pixels, heats[row], own)
                views.show_picture(drawn, f"{views.METHOD_TITLES[method]} on {picture.title}, group {number}")
                st.caption(common.plain(picture.title))
                folder_set.open_button(folders, int(row), f"group {number}")
    with st.container(width=420):
        views.show_scale(scale, "means: share of the evidence in a cell")
        views.show_scale(own, f"examples: {views.METHOD_TITLES[method]}, raw")
    st.caption(
        "The examples are the nearest to the middle of each group. A group is no accusation: a class may have several "
        "kinds of pictures. Nor is one group an acquittal: a mark in every picture does not divide a class. After "
        "Lapuschkin et al., Nature Communications 2019."
    )
    offer(folders, found, folder, targets[folder], method)


def clusters_key(folders: Folders, folder: str, target: int, method: str) -> tuple[object, ...]:
    return "clusters of heatmaps", *folders.key, folder, target, method


def offer(folders: Folders, found: HeatClusters, folder: str, target: int, method: str) -> None:
    rows = folders.rows(folder)
    each = [(number, int(row)) for number, one in enumerate(found.clusters, 1) for row in rows[one.numbers]]
    table = pd.DataFrame(
        {
            "group": [number for number, _ in each],
            "number": [row for _, row in each],
            "picture": [folders.pictures.names[row] for _, row in each],
        }
    )
    call = "\n".join(
        [
            folders.pictures.script,
            f"folders = {folders.pictures.folders}",
            f"inside = [picture for picture, folder in zip(pictures, folders) if folder == {folder!r}]",
            "seen = [prepare(picture, model).pixels for picture in inside]",
            f"heats = np.stack([{folder_set.heat_call(folders, 'pixels', str(target), method)} for pixels in seen])",
            "found = cluster_heatmaps(heats)",
            "print([cluster.numbers for cluster in found.clusters], found.silhouettes)",
        ]
    )
    imports = (
        "import numpy as np",
        "from vizcore.cam import cam",
        "from vizcore.heat_clusters import cluster_heatmaps",
        *folder_set.imports_of_warp(folders),
        *folders.imports,
    )
    takeaway.offer_table(folders.here, f"groups of heatmaps {target}", table, imports, call)


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
