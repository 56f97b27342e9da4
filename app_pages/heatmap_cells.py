"""A row of heatmaps side by side, each with what it is and how far to trust it; and one drawn while it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app_pages import common, takeaway, views
from vizcore.heatmaps import scale_of, title_of, unit_of
from vizcore.images import Scale
from vizcore.records import Heatmap

NO_SUM = ("score per unit of a pixel", "no unit", "probability above its mean")
FAINT = 0.05  # of a scale: hardly to be seen
BADGES = {"estimate": "orange", "stopped early": "orange", "exact": "blue"}


@dataclass(frozen=True)
class Known:
    """A map and what it ``took``, in words; ``state``, one of BADGES, where there are maps of more than one kind."""

    heat: Heatmap
    took: str
    state: str | None = None

    @property
    def is_whole(self) -> bool:
        return self.state in (None, "exact")


@dataclass(frozen=True)
class Look:
    """How maps are coloured: ``scaling`` by one scale for each "row", one for "all", or "each" its own."""

    scaling: str
    for_all: Scale | None
    blend: float

    def scale(self, heat: Heatmap, for_row: Scale) -> Scale:
        return {"each": scale_of(heat), "row": for_row}.get(self.scaling, self.for_all or for_row)


def show_maps(here: common.Chosen, maps: Sequence[Known], look: Look) -> None:
    """Maps of one method side by side."""
    for_row = scale_of(*(known.heat for known in maps))
    for place, known in zip(st.columns(max(2, len(maps)), gap="small"), maps, strict=False):
        with place:
            _show_map(here, known, look.scale(known.heat, for_row), look)
    if look.scaling == "row":
        with st.container(width=420):
            views.show_scale(for_row, unit_of(maps[0].heat))


def places_for(here: common.Chosen, targets: Sequence[int], look: Look) -> Callable[[Mapping[int, Heatmap]], None]:
    """Places for the maps of ``targets`` side by side, and what draws them there, again and again."""
    places = {}
    for column, target in zip(st.columns(max(2, len(targets)), gap="small"), targets, strict=False):
        with column:
            st.markdown(_name_of(here, target))
            places[target] = st.empty(), st.empty()
    below = st.container(width=420).empty()

    def draw(heats: Mapping[int, Heatmap]) -> None:
        for_row = Scale.of(*heats.values())
        for target, (picture, bar) in places.items():
            heat, scale = heats[target], look.scale(heats[target], for_row)
            alt = f"{_words_for(here, heat)}, so far"
            picture.image(views.live(here, heat, scale, look.blend), width="stretch", alt=alt)
            if look.scaling == "each":
                with bar.container():
                    views.show_scale(scale, unit_of(heat))
        if look.scaling == "row":
            with below.container():
                views.show_scale(for_row, unit_of(heat))

    return draw


def _show_map(here: common.Chosen, known: Known, scale: Scale, look: Look) -> None:
    heat = known.heat
    badge = f" :{BADGES[known.state]}-badge[{known.state}]" if known.state else ""
    st.markdown(_name_of(here, heat.target) + badge)
    alt = f"{_words_for(here, heat)}. {views.described(here, heat)}"
    views.show_picture(views.laid(here, heat, scale, look.blend), alt)
    if look.scaling == "each":
        views.show_scale(scale, unit_of(heat))
    st.caption(common.plain(" · ".join(_facts_of(known))))
    for note in (*heat.notes, *_remarks(heat, scale)):
        st.caption(common.plain(note))
    takeaway.offer_heatmap(here, heat, scale, look.blend)


def _name_of(here: common.Chosen, target: int) -> str:
    return f"{common.plain(here.label(target))} · {100 * float(here.chances[target]):.1f} %"


def _words_for(here: common.Chosen, heat: Heatmap) -> str:
    """What a picture shows, for who cannot see it."""
    where = "on" if views.is_by_pixel(heat) else "laid over"
    return f"{title_of(heat)} of {here.label(heat.target)} {where} {here.title}"


def _facts_of(known: Known) -> Iterator[str]:
    heat = known.heat
    size = " × ".join(map(str, heat.values.shape))
    view = f", {heat.params['view']}" if "view" in heat.params else ""
    yield f"{heat.layer}, {size}" if heat.layer else f"{size} pixels{view}"
    yield known.took
    if known.is_whole and _adds_up(heat):  # the sum of a part means nothing
        yield f"sum of evidence {views.number(float(heat.values.sum()))}"
    yield f"score {views.number(heat.score)}"


def _adds_up(heat: Heatmap) -> bool:
    """Whether a sum over pixels means something: not of slopes or of magnitudes, nor where each shows a patch's."""
    return (
        heat.method != "superpixel_ablation" and heat.params.get("view") != "absolute" and unit_of(heat) not in NO_SUM
    )


def _remarks(heat: Heatmap, scale: Scale) -> Iterator[str]:
    if heat.method == "eigen_cam":
        yield "Eigen-CAM does not know the class: this map is the same for each."
    largest = float(abs(heat.values).max())
    if largest > scale.high:
        beyond = 100 * float((abs(heat.values) > scale.high).mean())
        yield f"{beyond:.2g} % of the pixels lie beyond the scale and have the colour of its end: up to {largest:.3g}."
    if 0 < largest < FAINT * scale.high:
        yield f"Faint: less than {100 * FAINT:.0f} % of this scale. Choose “one for each method” to see it."
