"""Randomised weights: what becomes of a map as the net forgets what it has learned, from the top down."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app_pages import common, takeaway, views
from app_pages.explained import Explained
from vizcore.heatmaps import scale_of
from vizcore.randomisation import Cascade, cascade
from vizcore.records import Heatmap

STAGES, REPEATS = 7, 3
A_ROW = 4  # pictures
SHARE = 3  # passes that a map costs, forth and back


def show(explained: Explained) -> None:
    here = explained.here
    st.markdown(
        "The weights are drawn anew, layer by layer from the top, in a copy. A map that stays as it is shows the "
        "picture and not what the network has learned."
    )
    if here.model.weights is None:
        st.info("This network is untrained: there is nothing that it could forget.")
        return
    if explained.is_costly:
        _say_what_it_would_take(explained)
        return
    key = ("cascade", *explained.key, here.target, STAGES, REPEATS)
    if (found := common.recall(key)) is None:
        maps = 1 + STAGES * REPEATS
        copy = sum(tensor.nbytes for tensor in here.loaded.net.parameters())
        seconds = maps * SHARE * views.seconds_a_pass(here)
        if not views.asked(
            "Randomise weights", "cascade", common.price(maps, seconds, of=("map", "maps"), bound=True, besides=copy)
        ):
            return
        with common.running("The cascade", "maps") as progress:
            common.known(
                key,
                lambda: first_draws(
                    cascade(here.model, explained.values, stages=STAGES, repeats=REPEATS, progress=progress)
                ),
                seconds,
                common.room_for(seconds) + copy,
            )
        st.rerun()
    verdict = common.plain(found.verdict)
    shows = {"Stands": st.warning, "Falls apart": st.success}
    shows.get(found.verdict.split(":")[0], st.info)(verdict)
    _show_strip(explained, found)
    if explained.is_behind_warp:
        st.caption("All maps are laid where the trained network's warp has them; the drawn ones may warp otherwise.")
    for note in found.notes:
        st.caption(common.plain(note))
    imports, call = explained.script()
    lines = call.splitlines()
    explain = "\n".join(("def explain(model):", *(f"    {line}" for line in lines), "    return heat.values"))
    ask = f"found = cascade(model, explain, stages={STAGES}, repeats={REPEATS})\nprint(found.verdict)"
    takeaway.offer_table(
        here,
        f"cascade {explained.name}",
        _table(found),
        (*imports, "from vizcore.randomisation import cascade"),
        f"{explain}\n\n\n{ask}",
    )
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        st.markdown(
            "Below each map: Spearman's rank correlation of the magnitudes with the true map, 1 for the same order of "
            "places, 0 for none, and the structural similarity (SSIM); both are means over three draws, of which the "
            "first is shown. Each map has a scale of its own. **Weakness:** a coarse map, as of 7 × 7 places, "
            "correlates with any other by chance, easily by 0.3; and a map that falls apart is not thereby right."
        )
        st.caption("Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018.")


def _say_what_it_would_take(explained: Explained) -> None:
    count = 1 + STAGES * REPEATS
    st.info(
        f"It takes {count} maps, and one of {common.plain(explained.title)} takes about "
        f"{common.duration(explained.seconds)}: {common.duration(count * explained.seconds)} in all. Choose a method "
        "that costs about a pass, above."
    )


def first_draws(found: Cascade) -> Cascade:
    """Without the maps that are not shown: there is room for so many results only."""
    return replace(found, stages=tuple(replace(stage, maps=stage.maps[:1].copy()) for stage in found.stages))


def _show_strip(explained: Explained, found: Cascade) -> None:
    here, heat = explained.here, explained.heat()
    steps = [("trained", found.values, "the true map")]
    for stage in found.stages:
        words = f"rank {_two(stage.absolute_rank)} · SSIM {_two(stage.similarity)}"
        steps.append((f"down to {stage.layer}", stage.maps[0], words))
    for start in range(0, len(steps), A_ROW):
        for place, (name, values, words) in zip(st.columns(A_ROW), steps[start : start + A_ROW], strict=False):
            one = Heatmap(values, heat.method, heat.model_name, heat.layer, heat.target, heat.score, heat.params)
            with place:
                alt = f"{explained.title}, {name}, on {here.title}; {words}"
                views.show_picture(views.laid(here, one, scale_of(one)), alt)
                st.caption(f"**{common.plain(name)}**  \n{common.plain(words)}")


def _table(found: Cascade) -> object:
    import pandas as pd

    columns = ("layer", "rank", "absolute_rank", "similarity")
    return pd.DataFrame([{column: getattr(stage, column) for column in columns} for stage in found.stages])


def _two(value: float) -> str:
    return "none" if value != value else f"{value:.2f}".replace("-", "−")
