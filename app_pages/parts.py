"""Heatmaps by hiding other parts of the picture than squares: super-pixels, and random masks (RISE)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app_pages import common, views
from vizcore.heatmaps import MASKS
from vizcore.records import Heatmap, Progress
from vizcore.rise import above_mean, rise_of
from vizcore.superpixels import SEGMENTS, superpixel_ablation_of

PASSES = {"superpixel_ablation": SEGMENTS, "rise": MASKS}
UNITS = {"superpixel_ablation": ("super-pixel", "super-pixels"), "rise": ("mask", "masks")}


@dataclass(frozen=True)
class Parts:
    """The maps of these methods, of all classes in one run."""

    here: common.Chosen

    def key(self, method: str, target: int) -> tuple[object, ...]:
        return views.heat_key(self.here, method, target, None, PASSES[method])

    def seconds(self, method: str) -> float:
        return PASSES[method] * views.seconds_a_pass(self.here)

    def price(self, method: str) -> str:
        return common.price(PASSES[method], self.seconds(method), bound=method == "superpixel_ablation")

    def compute(self, method: str, targets: Sequence[int], progress: Progress | None = None) -> tuple[Heatmap, ...]:
        """The maps of all ``targets``, known from now on."""
        model, pixels = self.here.model, self.here.view.pixels
        ask: Mapping[str, Callable[[list[int]], Sequence[Heatmap]]] = {
            "superpixel_ablation": lambda open: superpixel_ablation_of(model, pixels, open, progress=progress),
            "rise": lambda open: rise_of(model, pixels, open, masks=MASKS, progress=progress),
        }
        keys = {target: self.key(method, target) for target in targets}
        found = common.known_each(keys, ask[method], self.seconds(method))
        return tuple(map(above_mean, found)) if method == "rise" else found
