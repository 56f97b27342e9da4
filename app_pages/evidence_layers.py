"""Another layer: the same method at every stage of the net, and at which of them to believe it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from app_pages import common, takeaway, views
from app_pages.evidence_curves import FILLED_IN, SHOWN_AS, choose_filling
from app_pages.explained import Explained
from vizcore.advice import Advice, LayerMerit, advise, passes_of
from vizcore.cam import CAM_METHODS, cam_of_layers
from vizcore.fields import Field
from vizcore.heatmaps import scale_of
from vizcore.records import Heatmap, UnsupportedModel
from vizcore.runs import runs_of
from vizcore.warp import is_behind_warp

A_ROW = 4  # pictures
SHARE = 3  # passes that one forth and back costs
HAVE_LAYERS = tuple(name for name, row in CAM_METHODS.items() if row.needs != "passes")


@dataclass(frozen=True)
class Strip:
    """The map of one class at each of ``layers``, dotted names, judged with ``filling`` for missing pixels."""

    explained: Explained
    layers: tuple[str, ...]
    filling: str

    @property
    def key(self) -> tuple[object, ...]:
        here = self.explained.here
        return "advice", here.model.title, here.digest, self.explained.method, here.target, self.layers, self.filling

    @property
    def seconds(self) -> float:
        return SHARE * views.seconds_a_pass(self.explained.here)

    def maps(self) -> dict[str, Heatmap | UnsupportedModel]:
        """Of one pass forth and back, known from now on; a refusal in the place of a map."""
        here, method = self.explained.here, self.explained.method
        keys = {layer: views.heat_key(here, method, here.target, layer) for layer in self.layers}

        def compute(still_open: list[str]) -> list[Heatmap | UnsupportedModel]:
            found = cam_of_layers(here.model, here.view.pixels, here.target, still_open, method)
            return [found[layer] for layer in still_open]

        with suppress(UnsupportedModel):  # its place says why
            common.known_each(keys, compute, self.seconds)
        return {layer: _or_refusal(key) for layer, key in keys.items()}

    def in_place(self) -> dict[str, Heatmap]:
        """The maps that there are, by place in the picture."""
        here = self.explained.here
        heats = {layer: heat for layer, heat in self.maps().items() if isinstance(heat, Heatmap)}
        return {layer: replace(heat, values=views.in_place(here, heat.values, layer)) for layer, heat in heats.items()}


def _or_refusal(key: tuple[object, ...]) -> Heatmap | UnsupportedModel:
    try:
        found = common.recall(key)
    except UnsupportedModel as refusal:
        return refusal.with_traceback(None)
    assert isinstance(found, Heatmap)
    return found


def show(explained: Explained) -> None:
    here = explained.here
    st.markdown(
        "Early layers see sharply and know little of classes; late ones know the class and hardly where. The same "
        "method at every stage, and where its map points at what the score hangs on."
    )
    if explained.method not in HAVE_LAYERS:
        why = "takes a pass for each channel" if explained.method in CAM_METHODS else "has no layer to choose"
        st.info(common.plain(f"{explained.title} {why}. Choose Grad-CAM or another CAM method of one pass above."))
        return
    names = {stage.name for stage in views.stages_of(here)} | {explained.layer}
    layers = tuple(layer.name for layer in views.layers_of(here) if layer.name in names)
    strip = Strip(explained, layers, choose_filling())
    if strip.seconds > common.AT_ONCE and not all(
        common.results().get(views.heat_key(here, explained.method, here.target, layer)) for layer in strip.layers
    ):
        price = common.price(1, strip.seconds, of=("pass forth and back", "passes forth and back"))
        if not views.asked("Show every stage", "stages", price):
            return
    maps = strip.maps()
    found = _advice(strip)
    if found:
        shows = st.success if found.advised else st.info
        shows(common.plain(found.sentence))
        if found.ranking and max(abs(one.merit) for one in found.ranking) < 0.05:
            st.caption(
                "All merits are about 0: what fills the holes may leave the class as it is. Try another filling."
            )
    _show_strip(strip, maps, found)
    st.caption("Each map has a scale of its own: the numbers of two layers have no common unit.")
    if found:
        _take_away(strip, found)
        _how_to_read(found)


def _advice(strip: Strip) -> Advice | None:
    """What is known, or computed when asked; then the page is drawn anew."""
    here = strip.explained.here
    found: Advice | None = common.recall(strip.key)
    if found is None:
        heats = strip.in_place()
        count = passes_of(sum(float(heat.values.min()) < float(heat.values.max()) for heat in heats.values()))
        besides = FILLED_IN * here.view.pixels[0, 0].numel() if strip.filling == "road" else 0.0
        seconds = count * (views.seconds_a_pass(here) + besides)
        if heats and views.asked("Which layer to believe?", "advice", common.price(count, seconds)):
            with common.running("Every stage without its pixels", "pictures") as progress:
                common.known(
                    strip.key,
                    lambda: advise(
                        here.model, here.view.pixels, here.target, heats, filling=strip.filling, progress=progress
                    ),
                    seconds,
                )
            st.rerun()
    return found


def _show_strip(strip: Strip, maps: dict[str, Heatmap | UnsupportedModel], found: Advice | None) -> None:
    merits = {one.layer: one for one in found.layers} if found else {}
    advised = found.advised.layer if found and found.advised else None
    fields = fields_of(strip.explained.here)
    for start in range(0, len(strip.layers), A_ROW):
        row = strip.layers[start : start + A_ROW]
        for place, layer in zip(st.columns(A_ROW), row, strict=False):
            with place.container(border=layer == advised, gap="xsmall"):
                if layer == advised:
                    st.badge("Advised", icon=":material/star:", color="green")
                _show_one(strip.explained, layer, maps[layer], fields.get(layer), merits.get(layer))


def _show_one(
    explained: Explained, layer: str, heat: Heatmap | UnsupportedModel, sees: Field | None, merit: LayerMerit | None
) -> None:
    here = explained.here
    st.markdown(f"**{common.plain(layer)}**")
    if isinstance(heat, UnsupportedModel):
        st.caption(common.plain(str(heat)))
        return
    scale = scale_of(heat)
    words = f"{heat.values.shape[0]} × {heat.values.shape[1]} places; each sees {words_of(sees)}"
    score = "" if merit is None else words_of_merit(merit)
    alt = f"{explained.title} at {layer} of {here.label(heat.target)} on {here.title}: {words}. {score}"
    views.show_picture(views.laid(here, heat, scale), alt)
    views.show_scale(scale, "raw")
    st.caption(common.plain(words) + (f"  \n{common.plain(score)}" if score else ""))
    if layer == explained.layer:
        st.caption("Chosen above.")
    else:
        st.button("Use this layer", key=f"use {layer}", on_click=_use, args=(layer,))


def _use(layer: str) -> None:
    st.session_state["evidence_layer"] = layer


def words_of(sees: Field | None) -> str:
    """What a place of a layer sees of the picture."""
    if sees is None:
        return "nobody knows what"
    if sees.is_whole:
        return "the whole picture" if sees.known else "at most the whole picture"
    return f"{'' if sees.known else 'at most '}{sees.rows.extent} × {sees.columns.extent} pixels"


def words_of_merit(one: LayerMerit) -> str:
    if not one.moved:
        return "The same everywhere: it points nowhere."
    down, up, both = (f"{value:.2f}".replace("-", "−") for value in (one.deletion, one.insertion, one.merit))
    return f"Insertion {up} less deletion {down}: {both}"


def fields_of(here: common.Chosen) -> dict[str, Field | None]:
    """What the places of every layer see, by its dotted name."""
    return common.known(
        ("fields", here.model.title), lambda: {run.name: run.sees for run in runs_of(here.model) if run.module}
    )


def _take_away(strip: Strip, found: Advice) -> None:
    here, method = strip.explained.here, strip.explained.method
    fields = fields_of(here)
    table = pd.DataFrame(
        {
            "layer": one.layer,
            "height": one.size[0],
            "width": one.size[1],
            "each place sees": words_of(fields.get(one.layer)),
            "deletion": one.deletion,
            "insertion": one.insertion,
            "insertion less deletion": one.merit,
            "ahead of the same map in random places": one.lead,
            "advised": one is found.advised,
        }
        for one in found.layers
    )
    imports = ["from vizcore.advice import advise", "from vizcore.cam import cam_of_layers"]
    laid, values = "", "heat"
    if any(is_behind_warp(here.model, one.layer) for one in found.layers):
        imports.append("from vizcore.warp import is_behind_warp, laid_back, learned_warp")
        laid = "warp = learned_warp(model, view.pixels)\n"
        values = "laid_back(heat.values, warp) if is_behind_warp(model, layer) else heat"
    layers = [one.layer for one in found.layers]
    takeaway.offer_table(
        here,
        f"layers {method} {here.target}",
        table,
        tuple(imports),
        f"{laid}maps = cam_of_layers(model, view.pixels, {here.target}, {layers!r}, {method!r})\n"
        f"maps = {{layer: {values} for layer, heat in maps.items()}}\n"
        f"found = advise(model, view.pixels, {here.target}, maps, filling={strip.filling!r})\n"
        "print(found.sentence)",
    )


def _how_to_read(found: Advice) -> None:
    moves = found.params["moves"]
    filling = SHOWN_AS.get(found.params["filling"], found.params["filling"])
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        st.latex(r"\int_0^1 s_{\text{insertion}}(p)\,dp - \int_0^1 s_{\text{deletion}}(p)\,dp")
        st.markdown(
            f"s is the probability of the class, p the share of the pixels; missing ones show: {filling}. From −1 to "
            f"1, larger is better. All maps are also pushed to the same {moves} random places: what they do there "
            "comes of their form, and layers that differ by no more than in one of these are not told apart. "
            f"**Weakness:** chance alone tells two apart once in {moves + 1} times; one picture, one class and one "
            "filling; the test is strict, so that maps which all point well are called equal."
        )
        st.caption("Petsiuk, Das & Saenko, RISE, BMVC 2018; Selvaraju et al., Grad-CAM, ICCV 2017.")
