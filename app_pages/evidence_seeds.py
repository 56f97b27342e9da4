"""Over seeds: how much of a map that is drawn by chance would be another next time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from app_pages import common, takeaway, views
from app_pages.explained import COSTLY, Explained
from app_pages.pixelwise import AT_ONCE
from vizcore.agreement import Spread, spread
from vizcore.attribution import attribution
from vizcore.heatmaps import MASKS, scale_of, unit_of
from vizcore.images import Scale
from vizcore.records import Heatmap, Progress
from vizcore.rise import above_mean, rise

BY_CHANCE = ("smooth_grad", "rise")
COUNTS = (3, 5)
IN_PLACE = "smooth_grad"  # shown where the method in question draws nothing


@dataclass(frozen=True)
class Drawn:
    """``explained``, whose method is one of BY_CHANCE, by a ``seed``; seed 0 is the map that every page shows."""

    explained: Explained
    seed: int

    @property
    def key(self) -> tuple[object, ...]:
        return "seed", *self.explained.key, self.explained.here.target, self.seed

    def heat(self, progress: Progress) -> Heatmap:
        """The map, known from now on."""
        if self.seed == 0:
            return self.explained.heat(progress=progress)
        return common.known(self.key, lambda: self._draw(progress), self.explained.seconds)

    def _draw(self, progress: Progress) -> Heatmap:
        here, target = self.explained.here, self.explained.here.target
        if self.explained.method == "rise":
            return above_mean(
                rise(here.model, here.view.pixels, target, masks=MASKS, seed=self.seed, progress=progress)
            )
        found = attribution(
            here.model,
            here.view.pixels,
            target,
            self.explained.method,
            seed=self.seed,
            batch_size=AT_ONCE,
            progress=progress,
        )
        return found.heatmap(self.explained.view)


def show(explained: Explained) -> None:
    st.markdown("**Over seeds**")
    drawn = explained
    if explained.method not in BY_CHANCE:
        st.markdown(
            f"{common.plain(explained.title)} draws nothing by chance: it is the same at every seed. Other methods do, "
            "such as SmoothGrad, which adds noise to the picture."
        )
        drawn = replace(explained, method=IN_PLACE)
    count = st.segmented_control(
        "Seeds",
        COUNTS,
        default=COUNTS[0],
        required=True,
        key="seeds",
        bind="query-params",
        label_visibility="collapsed",
    )
    key = ("seeds", *drawn.key, drawn.here.target, count)
    if (found := common.recall(key)) is None:
        if views.asked(f"Compute {COSTLY[drawn.method]} by {count} seeds", "seeds", _price(drawn, count)):
            maps = [_one(drawn, seed, count) for seed in range(count)]
            common.known(key, lambda: spread(maps))
            st.rerun()
        return
    _show(drawn, found)


def _one(drawn: Explained, seed: int, count: int) -> Heatmap:
    with common.running(f"{drawn.title} by seed {seed}, {seed + 1} of {count}") as progress:
        return Drawn(drawn, seed).heat(progress)


def _price(drawn: Explained, count: int) -> str:
    return common.price(count, count * drawn.seconds, of=("map", "maps"))


def _show(drawn: Explained, found: Spread) -> None:
    here, heat = drawn.here, drawn.heat()
    st.markdown(in_words(drawn.title, found))
    note = f"Not one map: the standard deviation over {found.count} seeds, place by place."
    mean = replace(heat, values=found.mean, notes=())
    deviation = replace(heat, values=found.deviation, notes=(note,))
    one, other = st.columns(2)
    for place, title, values in ((one, "Mean", mean), (other, "Standard deviation", deviation)):
        with place:
            st.markdown(f"**{title}** over {found.count} seeds")
            scale = scale_of(values) if values is mean else Scale.of(found.deviation)
            views.show_picture(
                views.laid(here, values, scale), f"{title} of {drawn.title} over {found.count} seeds on {here.title}"
            )
            views.show_scale(scale, unit_of(heat))
    imports, call = _script(drawn, found.count)
    takeaway.offer(
        here, f"seeds {drawn.name}", deviation, views.laid(here, deviation, Scale.of(found.deviation)), imports, call
    )


def in_words(title: str, found: Spread) -> str:
    """How much of a map is chance."""
    if np.isnan(found.chance):
        return f"The maps of {common.plain(title)} are the same everywhere: there is nothing to compare."
    rank = f"{found.agreement:.2f}".replace("-", "−")
    share = f"{100 * found.chance:.0f} %" if found.chance >= 0.01 else "less than 1 %"
    return (
        f"Maps of {common.plain(title)} by {found.count} seeds have a rank correlation of **{rank}** on average. Of "
        f"how one map differs from place to place, **{share}** is chance: another seed would not give it again."
    )


def _script(drawn: Explained, count: int) -> tuple[tuple[str, ...], str]:
    """Imports, and the Python that draws the maps and compares them."""
    here = drawn.here
    imports: tuple[str, ...]
    less: tuple[str, ...]
    if drawn.method == "rise":
        imports = ("from dataclasses import replace", "from vizcore.rise import rise")
        call = f"rise(model, view.pixels, {here.target}, masks={MASKS}, seed=seed)"
        less = ("maps = [replace(heat, values=heat.values - heat.values.mean()) for heat in maps]",)
    else:
        imports, less = ("from vizcore.attribution import attribution",), ()
        call = f"attribution(model, view.pixels, {here.target}, {drawn.method!r}, seed=seed).heatmap({drawn.view!r})"
    lines = (
        f"maps = [{call} for seed in range({count})]",
        *less,
        "found = spread(maps)  # .mean, .deviation (h, w)",
        "print(found.agreement, found.chance)",
    )
    return (*imports, "from vizcore.agreement import spread"), "\n".join(lines)
