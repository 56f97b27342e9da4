"""Heatmaps by hiding other parts of the picture than squares: super-pixels, and random masks (RISE)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from app_pages import common, views
from vizcore.records import Heatmap, Progress
from vizcore.rise import rise_of
from vizcore.superpixels import SEGMENTS, superpixel_ablation_of

MASKS = 1000
PASSES = {"superpixel_ablation": SEGMENTS, "rise": MASKS}
UNITS = {"superpixel_ablation": ("super-pixel", "super-pixels"), "rise": ("mask", "masks")}


@dataclass(frozen=True)
class Reading:
    """How to read a method."""

    formula: str
    symbols: str
    reading: str
    weakness: str
    reference: str


READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "superpixel_ablation": Reading(
            r"\text{drop} = s(x) - s(x \text{ with the super-pixel hidden})",
            "s: the logit of the class, x: the picture, cut along its own edges by SLIC.",
            "Each patch shows the drop of the score when it takes the mean colour of the picture. Red speaks for the "
            "class, blue against it.",
            "The drop is that of a whole patch: a large one has more to hide. Evidence in two patches does not show.",
            "Achanta et al., SLIC Superpixels, TPAMI 2012; Zeiler & Fergus, ECCV 2014",
        ),
        "rise": Reading(
            r"S = \frac{1}{\mathbb{E}[M]\,N} \sum_i s(x \odot M_i)\, M_i",
            "s: the probability of the class, x: the picture, M: a random mask, N: how many there are.",
            "How probable the class is where a pixel is seen, over many pictures of which half is black. Shown is how "
            "far that lies above (red) or below (blue) its mean.",
            "It is an estimate: what it would be with other masks is said below the map. Fine parts do not show.",
            "Petsiuk, Das & Saenko, RISE, BMVC 2018",
        ),
    }
)


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
        return tuple(map(as_shown, common.known_each(keys, ask[method], self.seconds(method))))


def as_shown(heat: Heatmap) -> Heatmap:
    """Of RISE, what lies above and below the mean: all of it lies above 0, and the differences would not be seen."""
    if heat.method != "rise":
        return heat
    mean = heat.values.mean()
    note = f"The colours show what lies above and below the mean of the map, {mean:.2g}."
    return replace(heat, values=heat.values - mean, notes=(*heat.notes, note))
