"""A set of pictures as the network sorts them: the features of each, and by their names the maps made of them.

The question: which pictures does the network hold to be alike? `extract_features` takes the numbers of one layer
for each picture, `extract_features_of_layers` those of several in the same passes; `pixel_features` is the baseline to
compare them with. `tsne` lays them on a plane (`vizcore.tsne`), `trustworthiness` says how many neighbours on the map
are real ones (`vizcore.map_quality`), and `neighbour_accuracy` asks the features themselves, without the map
(`vizcore.separability`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore import hooks, images
from vizcore.images import Pictures
from vizcore.map_quality import NEIGHBOURS, trustworthiness
from vizcore.neighbours import name_rows
from vizcore.records import (
    GREY_FROM_RGB,
    BadParameter,
    LayerNotFound,
    Model,
    Progress,
    UnsupportedModel,
    check_whole,
)
from vizcore.separability import chance, neighbour_accuracy
from vizcore.tsne import tsne

__all__ = [
    "NEIGHBOURS",
    "chance",
    "extract_features",
    "extract_features_of_layers",
    "neighbour_accuracy",
    "pixel_features",
    "trustworthiness",
    "tsne",
]


def extract_features(
    model: Model,
    pictures: Pictures,
    layer: str | None = None,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> np.ndarray:
    """What ``layer`` says of each picture: (n, d) float32, one row a picture.

    ``pictures`` are uint8 arrays (H, W, 3) of any sizes, each shown to the net as `images.prepare` cuts it, or a float
    tensor (N, 3, H, W) in [0, 1], shown as it is. ``layer`` is ``model.layers["features"]`` unless named. A layer with
    maps (C, h, w) gives the mean of each map, d = C; a layer with a vector gives the vector. One forward pass for every
    ``batch_size`` pictures (1 to 4096), which bounds the memory and does not change the result; the model's lock is
    held for one such batch at a time. Progress counts pictures. Raises BadParameter for an empty set, LayerNotFound for
    a layer with neither maps nor a vector, UnsupportedModel where the features are NaN or infinite.
    """
    layer = hooks.layer_for(model, "features", layer)
    return extract_features_of_layers(model, pictures, [layer], batch_size=batch_size, progress=progress)[layer]


def extract_features_of_layers(
    model: Model,
    pictures: Pictures,
    layers: Sequence[str],
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """What each of ``layers`` says of each picture, from the same passes: by name, in their order, (n, d) float32.

    Every number is that of `extract_features` for the layer alone, and the passes are as many. Raises as that does, and
    BadParameter where no layer is named, or one twice.
    """
    check_whole("batch_size", batch_size, 1, 4096)
    layers = list(layers)
    if not layers or len(set(layers)) < len(layers):
        raise BadParameter(f"layers is {layers!r}; it must name one layer or more, each once.")
    for layer in layers:
        hooks.find_layer(model, layer)
    widths: list[int] = []

    def features(pixels: Tensor) -> Tensor:
        with hooks.trace(model, layers) as seen:
            model.logits(pixels)
            vectors = [one_vector_each(model, layer, seen[layer]).float() for layer in layers]
            widths[:] = [vector.shape[1] for vector in vectors]
            return torch.cat(vectors, 1)  # (b, all d)

    rows = np.split(_in_batches(model, pictures, features, batch_size, progress), np.cumsum(widths)[:-1], axis=1)
    found = {layer: np.ascontiguousarray(own) for layer, own in zip(layers, rows, strict=True)}
    for layer, own in found.items():
        if not (finite := np.isfinite(own).all(1)).all():
            raise UnsupportedModel(
                f"The layer “{layer}” of {model.title} gave NaN or infinity in {name_rows(~finite)}; "
                "its weights may be damaged."
            )
    return found


def pixel_features(model: Model, pictures: Pictures, *, side: int = 32, progress: Progress | None = None) -> np.ndarray:
    """The baseline, no network: the pixels that ``model`` would see of each picture, (n, d) float32 in [0, 1].

    Cut as for `extract_features`, made grey where the net is grey, and averaged by area down to at most ``side`` ×
    ``side`` pixels (1 to 256; never enlarged): d = 3 · 32 · 32 for a photo net, 28 · 28 for a digit net of that size.
    """
    check_whole("side", side, 1, 256)

    def shrunk(pixels: Tensor) -> Tensor:
        if len(model.mean) == 1:
            pixels = (pixels * pixels.new_tensor(GREY_FROM_RGB).view(1, 3, 1, 1)).sum(1, keepdim=True)  # (b, 1, h, w)
        height, width = pixels.shape[2:]
        return F.adaptive_avg_pool2d(pixels, (min(side, height), min(side, width))).flatten(1)  # (b, d)

    return _in_batches(model, pictures, shrunk, 64, progress)


def _in_batches(
    model: Model,
    pictures: Pictures,
    numbers: Callable[[Tensor], Tensor],
    batch_size: int,
    progress: Progress | None,
) -> np.ndarray:
    """``numbers`` of the pixels of every picture, in batches: (n, d) float32."""
    batches = images.in_batches(pictures, model, batch_size, progress)
    return np.concatenate([numbers(batch).float().cpu().numpy() for batch in batches])


def one_vector_each(model: Model, layer: str, output: Tensor) -> Tensor:
    """(b, C, h, w) to (b, C) by the mean of each map; (b, d) as it is."""
    if output.ndim == 4:
        return output.mean((2, 3))
    if output.ndim == 2:
        return output
    raise LayerNotFound(
        f"The layer “{layer}” of {model.title} gives {' × '.join(map(str, output.shape[1:]))} numbers a picture; "
        f"features come from a layer with maps (C × h × w) or a vector, such as “{model.layers['features']}”."
    )
