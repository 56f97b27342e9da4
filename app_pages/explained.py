"""One method with its options, to be asked about any class, and of any model: what evidence is gathered on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from app_pages import common, views
from app_pages.occlusion_runs import Occlusion
from app_pages.parts import Parts
from app_pages.pixelwise import PASSES, Pixelwise
from vizcore.cam import CAM_METHODS
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS, heatmap, python_of
from vizcore.records import Heatmap, Model, Progress
from vizcore.warp import is_behind_warp

# Those that cost about a pass: they can be asked for dozens of maps.
METHODS = {
    **{name: row.title for name, row in CAM_METHODS.items() if row.needs != "passes"},
    **{name: title for name, title in views.PIXELWISE_TITLES.items() if name not in PASSES},
}
# Those that wait for a button, each map for itself.
COSTLY = {name: row.title for name, row in HEATMAP_METHODS.items() if name not in METHODS}


@dataclass(frozen=True)
class Explained:
    """``method``, of METHODS or COSTLY, on the chosen picture: ``layer`` of the CAM methods, ``view`` of those by
    pixel."""

    here: common.Chosen
    method: str
    layer: str
    view: str

    @property
    def title(self) -> str:
        return HEATMAP_METHODS[self.method].title

    @property
    def is_costly(self) -> bool:
        return self.method in COSTLY

    @property
    def name(self) -> str:
        """Of files."""
        return f"{self.method} {self.here.target} {self.layer}"

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What its answers depend on, but for the class."""
        layer = self.layer if self.method in CAM_METHODS or self.method == "guided_grad_cam" else None
        view = self.view if self.method in BY_PIXEL else None
        return self.here.model.title, self.here.digest, self.method, layer, view

    def heat(self, target: int | None = None, progress: Progress | None = None) -> Heatmap:
        """The map of a class, by default the one that is looked at; known from now on, on the Heatmaps page as well."""
        target = self.here.target if target is None else target
        if self.method == "occlusion":
            return Occlusion.usual(self.here).compute([target], progress or _silent)[0]
        if self.method in views.PARTS_TITLES:
            return Parts(self.here).compute(self.method, [target], progress)[0]
        if self.method in CAM_METHODS:
            return views.heat_of(
                self.here, self.method, target, self.layer, progress, self.seconds if self.is_costly else None
            )
        return Pixelwise(self.here, self.layer, self.view).compute(self.method, target, progress)

    def is_known(self, target: int | None = None) -> bool:
        """Whether its map of a class, or the refusal, is there without computing; those of one pass always are."""
        return not self.is_costly or self.is_stored(target)

    def is_stored(self, target: int | None = None) -> bool:
        """Whether its map of a class, or the refusal, was computed before."""
        return common.results().get(self._key_of_map(target)) is not None

    def _key_of_map(self, target: int | None) -> tuple[object, ...]:
        target = self.here.target if target is None else target
        if self.method == "occlusion":
            return Occlusion.usual(self.here).key(target)
        if self.method in views.PARTS_TITLES:
            return Parts(self.here).key(self.method, target)
        if self.method in CAM_METHODS:
            return views.heat_key(self.here, self.method, target, self.layer)
        return Pixelwise(self.here, self.layer, self.view).key(self.method, target)

    @property
    def seconds(self) -> float:
        """About so long one map takes; of some methods, at most."""
        if self.method == "occlusion":
            return Occlusion.usual(self.here).seconds
        if self.method in views.PARTS_TITLES:
            return Parts(self.here).seconds(self.method)
        if self.method in CAM_METHODS:
            return self._channels * views.seconds_a_pass(self.here)
        return Pixelwise(self.here, self.layer, self.view).seconds(self.method)

    @property
    def price(self) -> str:
        """Of one map, in words."""
        if self.method == "occlusion":
            return Occlusion.usual(self.here).price()
        if self.method in views.PARTS_TITLES:
            return Parts(self.here).price(self.method)
        if self.method in CAM_METHODS:
            return common.price(self._channels, self.seconds)
        return Pixelwise(self.here, self.layer, self.view).price(self.method, 1)

    @property
    def _channels(self) -> int:
        """Passes of a CAM method: one, or one for each channel of the layer."""
        if CAM_METHODS[self.method].needs != "passes":
            return 1
        return next(layer.shape[0] for layer in views.layers_of(self.here) if layer.name == self.layer)

    @cached_property
    def is_behind_warp(self) -> bool:
        return is_behind_warp(self.here.model, self.heat().layer)

    def in_place(self) -> Heatmap:
        """`heat` by place in the picture, also where its layer lies behind a learned warp."""
        heat = self.heat()
        return replace(heat, values=views.in_place(self.here, heat.values, heat.layer))

    def values(self, model: Model) -> np.ndarray:
        """The map (h, w) that the same method, of METHODS, has of another ``model``, same picture, same class."""
        pixels, target = self.here.view.pixels, self.here.target
        return heatmap(model, pixels, target, self.method, self.layer, view=self.view).values

    def script(self, target: int | None = None, *, in_place: bool = False) -> tuple[tuple[str, ...], str]:
        """Imports, and the Python that makes ``heat``: that map, or `in_place`."""
        *imports, call = python_of(self.heat(target))
        if in_place and self.is_behind_warp:
            imports += ["from dataclasses import replace", "from vizcore.warp import laid_back, learned_warp"]
            call += "\nheat = replace(heat, values=laid_back(heat.values, learned_warp(model, view.pixels)))"
        return tuple(imports), call


def _silent(done: int, total: int) -> None:
    """A ``progress`` that tells nobody."""
