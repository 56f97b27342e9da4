"""How a set of pictures is laid on a plane: the method and its options, each with what it does in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app_pages import common, set_maps
from app_pages.set_maps import Way
from vizcore.neighbours import METRICS
from vizcore.other_maps import MAP_METHODS
from vizcore.tsne import EXAGGERATED_ITERATIONS, EXAGGERATION, MAX_ITERATIONS, STARTS

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator


def choose() -> Way:
    method = st.segmented_control(
        "Map by",
        list(MAP_METHODS),
        default="tsne",
        required=True,
        format_func=lambda name: MAP_METHODS[name].title,
        key="map_by",
        bind="query-params",
        help="  \n".join(
            f"**{one.title}** ({common.plain(one.reference)}). {one.reading}" for one in MAP_METHODS.values()
        ),
    )
    if method == "pca":
        st.caption("No options: the plane on which the features spread most.")
        return Way("pca", ())
    row = st.container(horizontal=True)
    if method == "umap":
        neighbours = row.number_input(
            "Neighbours",
            2,
            200,
            15,
            key="neighbours",
            bind="query-params",
            width=150,
            help="How many neighbours each picture tries to keep. Few show small groups, many the whole.",
        )
        distance = row.number_input(
            "Least distance",
            0.0,
            0.99,
            0.1,
            0.05,
            key="least",
            bind="query-params",
            width=150,
            help="How near pictures of one group may come: 0 packs them, 0.99 spreads them.",
        )
        return Way("umap", (("neighbours", neighbours), ("min_distance", distance), *_more(_seed(row))))
    perplexity = row.number_input(
        "Perplexity",
        2.0,
        200.0,
        set_maps.PERPLEXITY,
        1.0,
        format="%.0f",
        key="perplexity",
        bind="query-params",
        help="Roughly how many neighbours each picture tries to keep. Small shows small groups, large the whole.",
        width=150,
    )
    return Way("tsne", (("perplexity", perplexity), *_more(_seed(row), of_tsne=True)))


def _seed(row: DeltaGenerator) -> int:
    return row.number_input(
        "Seed",
        0,
        9999,
        set_maps.SEED,
        key="seed",
        bind="query-params",
        width=150,
        help="Another seed gives another map of the same neighbours.",
    )


def _more(seed: int, of_tsne: bool = False) -> tuple[tuple[str, Any], ...]:
    """What seldom needs a change, folded away."""
    with st.expander("More options"):
        metric = st.selectbox(
            "Distance",
            list(METRICS),
            key="metric",
            bind="query-params",
            format_func=lambda name: METRICS[name].partition(":")[0],
            help="  \n".join(METRICS.values()),
        )
        if not of_tsne:
            return ("metric", metric), ("seed", seed)
        start = st.selectbox(
            "Start",
            list(STARTS),
            key="start",
            bind="query-params",
            format_func=lambda name: STARTS[name].partition(":")[0],
            help="  \n".join(STARTS.values()),
        )
        exaggeration = st.slider(
            "Early exaggeration",
            1.0,
            40.0,
            EXAGGERATION,
            1.0,
            key="exaggeration",
            bind="query-params",
            help=f"In the first {EXAGGERATED_ITERATIONS} iterations neighbours attract so many times more, so that "
            "groups gather before they spread. 1 is none of it: groups stay in pieces.",
        )
        iterations = st.number_input(
            "Iterations",
            EXAGGERATED_ITERATIONS,
            MAX_ITERATIONS,
            set_maps.ITERATIONS,
            50,
            key="iterations",
            bind="query-params",
            help="Steps until the map is taken down. It changes little after some hundreds.",
        )
    return (
        ("seed", seed),
        ("iterations", iterations),
        ("early_exaggeration", exaggeration),
        ("metric", metric),
        ("start", start),
    )
