"""Occlusion sensitivity against Captum's: the same windows, the same baseline, the same number of passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from captum.attr import Occlusion
from torch import Tensor

from benchmarks.timing import Options, Row, figure, machine, read_options, table, time_in_turns
from models import load_model
from vizcore.occlusion import count_windows, occlusion
from vizcore.records import Model

TARGET = 3
BATCHES = (1, 8, 32)  # Captum's perturbations_per_eval; ours runs at its default


def main() -> None:
    warnings.simplefilter("ignore")  # Captum's own
    options = read_options(__doc__)
    torch.manual_seed(0)
    if options.quick:
        models, window, stride, rounds = [load_model("lenet5", weights=None)], 8, 4, 1
    else:
        models = [load_model("efficientnet_lite0"), load_model("resnet18", weights=None)]
        window, stride, rounds = 32, 16, 2
    print(machine(options, "torch", "captum"))

    rows: list[Row] = []
    notes: list[str] = []
    for model in models:
        height, width = model.input_size
        pixels = torch.rand(1, 3, height, width)
        maps: dict[str, np.ndarray] = {}
        found = list(rows_of(model, pixels, window, stride, options, rounds, maps))
        best = min(found, key=lambda row: float(np.median(row.theirs)))
        rows += found
        notes.append(
            f"{model.title}: {count_windows(model.input_size, window, stride)} windows of {window} × {window}, stride "
            f"{stride}, on {height} × {width} pixels. {figure(best.ratio)} of the time of {best.peer}, its best. "
            f"The maps differ by at most {difference(maps['ours'], maps[best.peer]):.0e} of their range."
        )
    print(f"\nThe whole map of one picture, {rounds} rounds\n{table(rows)}\n\n" + "\n".join(notes))


def rows_of(
    model: Model,
    pixels: Tensor,
    window: int,
    stride: int,
    options: Options,
    rounds: int,
    maps: dict[str, np.ndarray],
) -> Iterator[Row]:
    """One row for each of Captum's batch sizes. Leaves in ``maps`` what each contender found."""

    def keep(name: str, compute: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: maps.update({name: compute()})

    contenders = {"ours": keep("ours", lambda: ours(model, pixels, window, stride))}
    for size in BATCHES:
        name = f"Captum, {size} an eval"
        contenders[name] = keep(name, partial(captum, model, pixels, window, stride, size))
    with torch.no_grad():
        model.logits(pixels.expand(max(BATCHES), -1, -1, -1))  # in place of a first round, which would take a minute
    seconds = time_in_turns(contenders, rounds, options.clock, warm=False)
    for name in list(contenders)[1:]:
        yield Row(f"{model.title}, occlusion", name, seconds["ours"], seconds[name])


def ours(model: Model, pixels: Tensor, window: int, stride: int) -> np.ndarray:
    return occlusion(model, pixels, TARGET, window, stride, baseline=baseline_of(pixels)).values


def captum(model: Model, pixels: Tensor, window: int, stride: int, size: int) -> np.ndarray:
    method = Occlusion(lambda shown: model.net(model.normalise(shown)))
    drops = method.attribute(
        pixels,
        target=TARGET,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=baseline_of(pixels),
        perturbations_per_eval=size,
    )
    return drops[0, 0].numpy()


def baseline_of(pixels: Tensor) -> Tensor:
    return pixels.mean((2, 3), keepdim=True).expand_as(pixels)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest between the two maps, in parts of the range: whether the same job was done."""
    return float(np.abs(ours - theirs).max() / np.ptp(theirs))


if __name__ == "__main__":
    main()
