"""One method with its options, to be asked about any class, and of any model: what evidence is gathered on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from app_pages import common, views
from app_pages.pixelwise import PASSES, Pixelwise
from app_pages.takeaway import python_of
from vizcore.attribution import attribution, guided_grad_cam
from vizcore.cam import CAM_METHODS, cam
from vizcore.records import Heatmap, Model
from vizcore.warp import is_behind_warp

# Those that cost about a pass: evidence asks for dozens of maps.
METHODS = {
    **{name: row.title for name, row in CAM_METHODS.items() if row.needs != "passes"},
    **{name: title for name, title in views.PIXELWISE_TITLES.items() if name not in PASSES},
}


@dataclass(frozen=True)
class Explained:
    """``method`` of METHODS on the chosen picture: ``layer`` of the CAM methods, ``view`` of those by pixel."""

    here: common.Chosen
    method: str
    layer: str
    view: str

    @property
    def title(self) -> str:
        return METHODS[self.method]

    @property
    def name(self) -> str:
        """Of files."""
        return f"{self.method} {self.here.target} {self.layer}"

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What its answers depend on, but for the class."""
        layer = self.layer if self.method in CAM_METHODS or self.method == "guided_grad_cam" else None
        view = self.view if self.method in views.PIXELWISE else None
        return self.here.model.title, self.here.digest, self.method, layer, view

    def heat(self, target: int | None = None) -> Heatmap:
        """The map of a class, by default the one that is looked at; known from now on."""
        target = self.here.target if target is None else target
        if self.method in CAM_METHODS:
            return views.heat_of(self.here, self.method, target, self.layer)
        return Pixelwise(self.here, self.layer, self.view).compute(self.method, target)

    @cached_property
    def is_behind_warp(self) -> bool:
        return is_behind_warp(self.here.model, self.heat().layer)

    def in_place(self) -> Heatmap:
        """`heat` by place in the picture, also where its layer lies behind a learned warp."""
        heat = self.heat()
        return replace(heat, values=views.in_place(self.here, heat.values, heat.layer))

    def values(self, model: Model) -> np.ndarray:
        """The map (h, w) that the same method has of another ``model``, same picture, same class."""
        pixels, target = self.here.view.pixels, self.here.target
        if self.method in CAM_METHODS:
            return cam(model, pixels, target, self.method, self.layer).values
        if self.method == "guided_grad_cam":
            guided = attribution(model, pixels, target, "guided_backpropagation")
            return guided_grad_cam(guided, cam(model, pixels, target, layer=self.layer)).heatmap(self.view).values
        return attribution(model, pixels, target, self.method).heatmap(self.view).values

    def script(self, target: int | None = None, *, in_place: bool = False) -> tuple[tuple[str, ...], str]:
        """Imports, and the Python that makes ``heat``: that map, or `in_place`."""
        *imports, call = python_of(self.heat(target))
        if in_place and self.is_behind_warp:
            imports += ["from dataclasses import replace", "from vizcore.warp import laid_back, learned_warp"]
            call += "\nheat = replace(heat, values=laid_back(heat.values, learned_warp(model, view.pixels)))"
        return tuple(imports), call
