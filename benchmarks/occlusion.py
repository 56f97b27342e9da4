"""Occlusion sensitivity against Captum's: the same windows, the same baseline, and the best of its batch sizes.

Ours computes only what a window can change. How much that saves at least depends on the architecture: "bound" is the
multiplications of a pass for each window, divided by those of the cells that can change. A ratio above it comes from
running them better.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from captum.attr import Occlusion
from torch import Tensor

from benchmarks.timing import Options, columns, duration, figure, machine, peak_megabytes, read_options, time_in_turns
from models import list_models, load_model
from models.torchvision_guard import guarded_import
from vizcore.incremental import Variants
from vizcore.occlusion import Grid, occlusion
from vizcore.records import Model

TARGET = 3
BATCHES = (1, 8, 32)  # Captum's perturbations_per_eval
TYPICAL = 16  # windows that ours takes at once
# The speed wanted, as a multiple of Captum's
WANTED = {
    "vgg16": 10,
    "googlenet": 4,
    "alexnet": 3,
    "resnet18": 3,
    "resnet50": 3,
    "mobilenet_v2": 3,
    "efficientnet_lite0": 3,
}


@dataclass(frozen=True, eq=False)
class Line:
    """One net and grid: seconds, ours (rounds,) and Captum's at its best; ratios by multiplications; how exact."""

    model: Model
    grid: Grid
    ours: np.ndarray
    captum: float
    batch: int
    bound: float
    computed: float
    difference: float
    share: float
    megabytes: float

    def cells(self) -> tuple[str, ...]:
        ratio, wanted = self.captum / float(np.median(self.ours)), WANTED.get(self.model.name, 1)
        (window, _), (stride, _) = self.grid.window, self.grid.stride
        return (
            self.model.title,
            f"{window}/{stride}, {len(self.grid.region)}",
            duration(float(np.median(self.ours))),
            f"Captum, {self.batch} an eval: {duration(self.captum)}",
            figure(ratio),
            f"{figure(self.captum / self.ours.max())}–{figure(self.captum / self.ours.min())}",
            f"{wanted}: {'met' if ratio >= wanted else 'missed'}",
            figure(self.bound),
            figure(self.computed),
            f"{ratio / self.bound:.0%}",
            f"{self.difference:.0e}",
            f"{self.share:.0e}",
            f"{self.megabytes:.0f}",
        )


HEADS = (
    "what",
    "window/stride, windows",
    "ours",
    "against",
    "Captum ÷ ours",
    "lowest–highest",
    "wanted",
    "bound",
    "computed",
    "of the bound",
    "difference",
    "of the drops",
    "MB",
)


def main() -> None:
    warnings.simplefilter("ignore")  # Captum's own
    options = read_options(__doc__)
    print(machine(options, "torch", "captum"), flush=True)
    names = ["lenet5"] if options.quick else list(WANTED)
    grids = [(8, 4)] if options.quick else [(32, 16), (16, 8)]
    lines = [line for name in names for line in lines_of(network(name), grids, options)]
    print(
        "\nSeconds for the map of one picture with all that it needs; Captum's at its fastest perturbations_per_eval\n"
        f"of {', '.join(map(str, BATCHES))}. “bound” and “computed”: multiplications of whole passes, divided by\n"
        f"those of the cells that change and by those done, {TYPICAL} windows at once. “difference”: the largest\n"
        "between the maps, in parts of the largest logit and of the largest value of the map. “MB”: peak memory above\n"
        "the loaded net. Captum is timed once, between two runs of ours.\n"
    )
    print(columns(HEADS, [line.cells() for line in lines]))


def network(name: str) -> Model:
    """A net of the catalogue, its weights random where they are not at hand; MobileNet-V2 from torchvision."""
    cards = {card.name: card for card in list_models()}
    if name in cards:
        return load_model(name, weights="default" if cards[name].ready() else None)
    torch.manual_seed(0)
    net = getattr(guarded_import("torchvision.models"), name)(weights=None).eval().requires_grad_(False)
    like = load_model("resnet18", weights=None)
    return Model(name, net, like.labels, like.input_size, like.mean, like.std, {}, title=f"{name} (untrained)")


def lines_of(model: Model, grids: list[tuple[int, int]], options: Options) -> list[Line]:
    height, width = model.input_size
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        variants = Variants(model, pixels)
        model.logits(pixels.expand(max(BATCHES), -1, -1, -1))  # in place of a first round, which would take minutes
    batch = best_batch(model, pixels, options)
    found = []
    for window, stride in grids:
        grid = Grid((height, width), (window, window), (stride, stride))
        megabytes = peak_megabytes(partial(ours, model, pixels, grid))
        maps: dict[str, np.ndarray] = {}

        def keep(name: str, compute: Callable[[], np.ndarray], maps: dict[str, np.ndarray] = maps) -> None:
            maps[name] = compute()

        own = {"ours": partial(keep, "ours", partial(ours, model, pixels, grid))}
        other = {"captum": partial(keep, "captum", partial(captum, model, pixels, grid, batch))}
        before = time_in_turns(own, 1, options.clock)["ours"]
        captums = float(time_in_turns(other, 1, options.clock, warm=False)["captum"][0])
        after = time_in_turns(own, 1, options.clock, warm=False)["ours"]
        order = grid.region.order()
        batches = [grid.region[order[first : first + TYPICAL]] for first in range(0, len(order), TYPICAL)]
        whole = variants.whole_work * len(grid.region)
        line = Line(
            model=model,
            grid=grid,
            ours=np.concatenate([before, after]),
            captum=captums,
            batch=batch,
            bound=whole / variants.least_work(grid.region),
            computed=whole / sum(map(variants.work, batches)),
            difference=(apart := float(np.abs(maps["ours"] - maps["captum"]).max()))
            / float(variants.logits.abs().max()),
            share=apart / float(np.abs(maps["captum"]).max()),
            megabytes=megabytes,
        )
        print("…", *line.cells(), flush=True)
        found.append(line)
    return found


def best_batch(model: Model, pixels: Tensor, options: Options) -> int:
    """Captum's fastest perturbations_per_eval, found on 64 windows side by side: to it one is like another."""
    height, width = model.input_size
    coarse = Grid((height, width), (height // 8, width // 8), (height // 8, width // 8))
    contenders = {str(size): partial(captum, model, pixels, coarse, size) for size in BATCHES}
    seconds = time_in_turns(contenders, 1, options.clock, warm=False)
    return int(min(seconds, key=lambda size: float(seconds[size][0])))


def ours(model: Model, pixels: Tensor, grid: Grid) -> np.ndarray:
    return occlusion(model, pixels, TARGET, grid.window, grid.stride).values


def captum(model: Model, pixels: Tensor, grid: Grid, size: int) -> np.ndarray:
    method = Occlusion(lambda shown: model.net(model.normalise(shown)))
    with torch.no_grad():
        drops = method.attribute(
            pixels,
            target=TARGET,
            sliding_window_shapes=(3, *grid.window),
            strides=(3, *grid.stride),
            baselines=pixels.mean((2, 3), keepdim=True).expand_as(pixels),
            perturbations_per_eval=size,
        )
    return drops[0, 0].numpy()


if __name__ == "__main__":
    main()
