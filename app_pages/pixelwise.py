"""Attributions by pixel in the grid of the Heatmaps page: what they cost, and how they come to be known."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app_pages import common, views
from vizcore.attribution import MOST_STEPS, SAMPLES, attribution, guided_grad_cam
from vizcore.heatmaps import FORTH_AND_BACK
from vizcore.records import VIEWS, Attribution, Heatmap, Progress, UnsupportedModel
from vizcore.warp import is_behind_warp

PASSES = {"integrated_gradients": MOST_STEPS, "smooth_grad": SAMPLES}  # forth and back; 1 where not named
AT_ONCE = 2  # pictures: what a pass leaves behind for the way back is kept of all of them
VIEW = "absolute"


@dataclass(frozen=True)
class Pixelwise:
    """What the controls ask for: ``view``, one of VIEWS, of each attribution; ``layer`` for Guided Grad-CAM."""

    here: common.Chosen
    layer: str
    view: str

    def key(self, method: str, target: int) -> tuple[object, ...]:
        return views.heat_key(self.here, method, target, self.layer if method == "guided_grad_cam" else None)

    def is_quick(self, method: str) -> bool:
        return method not in PASSES

    def seconds(self, method: str) -> float:
        """Of one class; of integrated gradients at most."""
        return PASSES.get(method, 1) * FORTH_AND_BACK * views.seconds_a_pass(self.here)

    def price(self, method: str, classes: int) -> str:
        return common.price(
            classes * PASSES.get(method, 1),
            classes * self.seconds(method),
            of=("pass forth and back", "passes forth and back"),
            bound=method == "integrated_gradients",
        )

    def compute(self, method: str, target: int, progress: Progress | None = None) -> Heatmap:
        """The map, known from now on."""

        def values() -> Attribution:
            if method == "guided_grad_cam":
                return self._guided_grad_cam(target)
            model, pixels = self.here.model, self.here.view.pixels
            return attribution(model, pixels, target, method, batch_size=AT_ONCE, progress=progress)

        return common.known(self.key(method, target), values, self.seconds(method)).heatmap(self.view)

    def _guided_grad_cam(self, target: int) -> Attribution:
        here = self.here
        if is_behind_warp(here.model, self.layer):
            raise UnsupportedModel(
                f"Guided Grad-CAM multiplies place by place, and “{self.layer}” lies behind a learned warp, where the "
                "places are others."
            )
        guided = attribution(here.model, here.view.pixels, target, "guided_backpropagation")
        return guided_grad_cam(guided, views.heat_of(here, "grad_cam", target, self.layer))


def choose_view(shown: bool) -> str:
    if not shown:
        return VIEW
    return st.segmented_control(
        "Numbers by pixel",
        VIEWS,
        default=VIEW,
        required=True,
        key="view",
        bind="query-params",
        help="An attribution has a number for each colour of a pixel. Signed: their sum, for the class in red and "
        "against it in blue. Absolute: the largest, whatever its sign: how much the score hangs on the pixel.",
    )
