"""Channels of a layer over a set: which are dead, which do the same work twice, and which carry a class."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app_pages import common, exciting, folder_alike, folder_carriers, takeaway, views
from app_pages.folder_set import Folders
from vizcore.records import LensError

MOST_LISTED = 60  # channels by their numbers


def show(folders: Folders) -> None:
    layer = choose_layer(folders.here)
    st.page_link(
        "app_pages/layers.py",
        label="The nine strongest pictures",
        help="Those that excite each channel most, with their patches, on the page Layers.",
        icon=":material/layers:",
        query_params={"layer": layer},
    )
    sections: tuple[tuple[str, Callable[[Folders, str], None]], ...] = (
        ("Which channels are dead?", show_dead),
        ("Which do the same work twice?", folder_alike.show),
        ("Which carry a class?", folder_carriers.show),
    )
    for title, section in sections:
        st.subheader(title, anchor=False)
        try:
            section(folders, layer)
        except LensError as refusal:
            st.info(common.plain(str(refusal)), icon=":material/block:")


def choose_layer(here: common.Chosen) -> str:
    layers = {layer.name: layer for layer in views.layers_of(here)}
    usual = here.model.layers["cam"]
    layer: str = st.selectbox(
        "Layer",
        list(layers),
        index=list(layers).index(usual),
        key="set_layer",
        bind="query-params",
        help="Every layer whose output is maps, in the order in which it runs. Type to search.",
    )
    st.caption(common.plain(f"{layers[layer].size}, channels × height × width"))
    return layer


def show_dead(folders: Folders, layer: str) -> None:
    found = exciting.ranked(folders.here, folders.pictures, layer)
    if found is None:
        st.caption("A channel is dead over a set where it answers the same to every place of every picture.")
        return
    dead, count = [int(channel) for channel in found.dead], len(found.channels)
    if dead:
        more = f" and {len(dead) - MOST_LISTED} more" if len(dead) > MOST_LISTED else ""
        st.markdown(
            f"**{len(dead)} of {count} channels are dead**: each answers the same to every place of these "
            f"{found.count:,} pictures. They are {', '.join(map(str, dead[:MOST_LISTED]))}{more}."
        )
    else:
        st.markdown(f"**None of the {count} channels is dead** over these {found.count:,} pictures.")
    table = pd.DataFrame(
        {
            "channel": found.channels,
            "lowest": found.lowest,
            "highest": found.activations[:, 0],
            "dead": [int(channel) in dead for channel in found.channels],
        }
    )
    call = f"{folders.pictures.script}\nfound = strongest_patches(model, pictures, {layer!r})\nprint(found.dead)"
    imports = ("from vizcore.strongest import strongest_patches", *folders.imports)
    takeaway.offer_table(folders.here, f"dead channels {layer}", table, imports, call)
