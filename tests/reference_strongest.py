"""The strongest patches once more, slowly: one picture at a time in plain loops, no code of vizcore.strongest."""

from __future__ import annotations

import numpy as np
from reference import maps_of

from vizcore.records import Model

Strongest = tuple[int, float, tuple[int, int]]  # number of the picture, activation, (row, column)


def strongest(model: Model, pictures: np.ndarray, layer: str, channel: int, k: int) -> list[Strongest]:
    """The k first of all ``pictures`` (N, 3, height, width) in [0, 1], each with its largest activation."""
    found: list[Strongest] = []
    for number, picture in enumerate(pictures):
        values = maps_of(model, layer, picture)[channel]
        best: Strongest | None = None
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                if best is None or values[row, column] > best[1]:
                    best = number, float(values[row, column]), (row, column)
        assert best is not None
        place = sum(other[1] >= best[1] for other in found)  # behind those that are as strong
        found.insert(place, best)
    return found[:k]
