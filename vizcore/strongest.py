"""The pictures of a set that excite a channel most, and the patch of each that did it.

What a channel looks for, asked of real pictures: of every picture the strongest place of the channel's map, and of all
pictures the nine where it is strongest (Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV
2014, Figure 2; Yosinski et al., *Understanding Neural Networks Through Deep Visualization*, 2015, put them beside the
picture of `vizcore.maximisation`). The patch is the receptive field of that place, as far as it lies in the picture.
`vizcore.projection` shows what of the patch the unit answered to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vizcore.fields import Field
from vizcore.hooks import find_layer, trace
from vizcore.images import Pictures, in_batches
from vizcore.receptive_field import field_of
from vizcore.records import BadParameter, Model, Progress, UnsupportedModel, check_whole

MOST = 100  # pictures a channel


@dataclass(frozen=True, eq=False)
class StrongestPatches:
    """The k pictures that excite each of C ``channels`` (C,) of ``layer`` most, the strongest first.

    ``pictures`` (C, k) are indices into the set of ``count`` pictures, ``activations`` (C, k) float32 the largest of
    each map, ``places`` (C, k, 2) the row and the column where it stands in the map of ``size`` (h, w). ``boxes``
    (C, k, 4) are left, top, right and bottom of what that place sees, in pixels of what the net sees, right and bottom
    outside; where left is right or top is bottom, it sees nothing but padding. Not ``exact``: at most that box.
    ``lowest`` (C,) float32 is the smallest activation at any place of any picture.
    """

    channels: np.ndarray
    pictures: np.ndarray
    activations: np.ndarray
    places: np.ndarray
    boxes: np.ndarray
    lowest: np.ndarray
    model_name: str
    layer: str
    size: tuple[int, int]
    count: int
    exact: bool

    @property
    def dead(self) -> np.ndarray:
        """The channels that answer the same to every place of every picture: behind a ReLU 0. One number alone, that
        of one picture at one place, tells so only where it is 0."""
        highest = self.activations[:, 0]
        alone = self.count * self.size[0] * self.size[1] == 1
        return self.channels[(self.lowest == highest) & ((highest == 0) | (not alone))]

    def of(self, channel: int) -> StrongestPatches:
        """The same of one channel, C = 1."""
        rows = np.flatnonzero(self.channels == channel)
        if not len(rows):
            raise BadParameter(f"channel is {channel!r}; it must be one of “{self.layer}” that was asked for.")
        arrays = ("channels", "pictures", "activations", "places", "boxes", "lowest")
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})


def strongest_patches(
    model: Model,
    pictures: Pictures,
    layer: str,
    *,
    channels: Sequence[int] | None = None,
    k: int = 9,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> StrongestPatches:
    """The ``k`` (1 to 100) of ``pictures`` that excite ``channels`` of ``layer`` most; all channels if None.

    ``pictures`` are uint8 arrays (H, W, 3) of any sizes, each shown to the net as `images.prepare` cuts it, or a float
    tensor (N, 3, H, W) in [0, 1], shown as it is. A picture counts once a channel, with its strongest place; of equal
    ones the first picture comes first, and the first place, row by row. Where there are fewer pictures, k is as many.
    One forward pass for every ``batch_size`` pictures (1 to 4096), which bounds the memory and does not change the
    result; the model's lock is held for one such batch at a time. Progress counts pictures. Raises BadParameter,
    LayerNotFound for a layer without maps, UnsupportedModel where the maps hold NaN or infinity.
    """
    check_whole("k", k, 1, MOST)
    check_whole("batch_size", batch_size, 1, 4096)
    find_layer(model, layer)
    ranking: _Ranking | None = None
    for batch in in_batches(pictures, model, batch_size, progress):
        if ranking is None:  # before any pass: it refuses layers
            field = field_of(replace(model, input_size=(batch.shape[2], batch.shape[3])), layer)
        with trace(model, [layer]) as seen:
            model.logits(batch)
            if not torch.isfinite(seen[layer]).all():
                raise UnsupportedModel(f"The layer “{layer}” of {model.title} gave NaN or infinity for some picture.")
            ranking = ranking or _Ranking(_checked(channels, seen[layer].shape[1]), k)
            ranking.add(seen[layer])
    assert ranking is not None
    return ranking.finished(model.name, layer, field)


class _Ranking:
    """The strongest so far of each of C ``channels``, picture by picture."""

    def __init__(self, channels: np.ndarray, k: int) -> None:
        self._channels, self._k, self._count = channels, k, 0
        none: tuple[int, int] = len(channels), 0
        self._values = np.empty(none)
        self._pictures = np.empty(none, np.int64)
        self._cells = np.empty(none, np.int64)  # of the map, row by row
        self._lowest = np.full(len(channels), np.inf)
        self._size = 0, 0

    def add(self, maps: Tensor) -> None:
        """The maps (b, all channels, h, w) of the next pictures."""
        self._size = maps.shape[2], maps.shape[3]
        flat = maps.flatten(2)  # (b, all, h · w)
        highest, cells = (each[:, self._channels].T.cpu() for each in flat.max(2))  # (C, b)
        values = np.concatenate([self._values, highest.double().numpy()], 1)
        numbers = np.broadcast_to(np.arange(self._count, self._count + len(maps)), highest.shape)
        # Stable: of equal ones the first picture stays first.
        order = np.argsort(-values, axis=1, kind="stable")[:, : self._k]
        self._values = np.take_along_axis(values, order, 1)
        self._pictures = np.take_along_axis(np.concatenate([self._pictures, numbers], 1), order, 1)
        self._cells = np.take_along_axis(np.concatenate([self._cells, cells.numpy()], 1), order, 1)
        lowest = flat.amin((0, 2))[self._channels].double().cpu().numpy()
        self._lowest = np.minimum(self._lowest, lowest)
        self._count += len(maps)

    def finished(self, model_name: str, layer: str, field: Field) -> StrongestPatches:
        places = np.stack(np.unravel_index(self._cells, self._size), -1)  # (C, k, 2)
        boxes = [field.box(int(row), int(column)) for row, column in places.reshape(-1, 2)]
        return StrongestPatches(
            channels=self._channels,
            pictures=self._pictures,
            activations=self._values.astype(np.float32),
            places=places,
            boxes=np.array(boxes).reshape(*places.shape[:2], 4),
            lowest=self._lowest.astype(np.float32),
            model_name=model_name,
            layer=layer,
            size=self._size,
            count=self._count,
            exact=field.known,
        )


def _checked(channels: Sequence[int] | None, count: int) -> np.ndarray:
    """Channel numbers (C,), each below ``count``, or BadParameter."""
    if channels is None:
        return np.arange(count)
    if not len(channels):
        raise BadParameter(f"channels is {channels!r}; it must name at least one, or be None for all {count}.")
    return np.array([check_whole("channels", channel, 0, count - 1) for channel in channels])
