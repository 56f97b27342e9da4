"""Answers of a net to many variants of one picture, each changed in one rectangle, without computing the rest again.

Outside the receptive field of the change every map is what it is for the picture itself. So the picture's own maps are
computed once and kept; for a variant only the part of each map that can change is computed, from a crop of the kept map
with the changed part of the map before set in (Nakandala, Kumar & Papakonstantinou, "Incremental and Approximate
Inference for Faster Occlusion-Based Deep CNN Explanations", SIGMOD 2019). Nothing is approximated. Where a part nears
the whole map, or an operation is not local, the rest runs on whole maps; where the net cannot be traced, all of it
does.

Several variants go through together, their parts at one size. Sums are taken in another order than the net itself
would, and so rounded differently: answers agree to about 1e-5 of the largest logit in float32, or closer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from vizcore.graph import Untraceable
from vizcore.program import Program, Undefined
from vizcore.records import Model
from vizcore.regions import Region

AGREES = 1e-4  # of the largest logit: how far the graph's answer to the picture may be from the net's own
# Variants at once, the first that fits: of 4 to 48 these were the fastest on the nets of the catalogue, by 5 to 20 %.
# Not chosen anew on each machine: sums are rounded differently in batches of another size, and a map should come out
# the same twice.
BATCHES = (32, 16, 8)
# Bytes: of a net's numbers and maps, and of a batch. The allocator holds back several times what the largest
# step of a batch takes, as measured on the nets of the catalogue.
MEMORY = 520 * 2**20
HELD_BACK = 5.5
# More weights than this of dense layers are read from memory once for many batches: for so many variants, or fewer
# where whole passes of them would be so many multiplications.
HEAVY = 2**22
HEAD_BATCH, HEAD_WORK = 128, 10**12

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _plain(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Neither differentiable nor marked as inference, whatever the caller's mode."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with torch.inference_mode(False), torch.no_grad():
            return function(*args, **kwargs)

    return run


class Variants:
    """One picture, ``pixels`` (1, 3, H, W) in [0, 1], and what the net answers when a rectangle of it is changed.

    ``logits`` (1, K) are the answer to the picture as it is. Making one costs two forward passes: the net's own, and
    the graph's, whose maps are kept; memory for these, and for the kernels, up to four times as large in the form in
    which they are fast. Where the net could be traced (``is_traced``) it is not run again, and ``model.lock`` not held
    any more; who changes the net's numbers makes a new one.
    """

    @_plain
    def __init__(self, model: Model, pixels: Tensor) -> None:
        self.model, self._pixels = model, pixels.detach().clone()
        self.why_whole: str | None = None
        self.logits = model.logits(pixels)
        self._program = self._traced()

    def _traced(self) -> Program | None:
        """The net's program, or None where the net itself has to run."""
        try:
            program = Program(self.model, self.model.normalise(self._pixels))
        except Untraceable as reason:
            self.why_whole = str(reason)
            return None
        except Exception as reason:  # whatever no one thought of: the net itself answers
            self.why_whole = f"{type(reason).__name__}: {reason}"
            return None
        # Whatever a net may do that its operations do not show is seen here.
        if (program.logits - self.logits).abs().max() <= AGREES * self.logits.abs().max():
            return program
        self.why_whole = "its operations, taken one by one, give another answer than the net"
        return None

    def are_of(self, model: Model, pixels: Tensor) -> bool:
        """Whether these are variants of that picture, for that model."""
        return self.model is model and self._pixels.shape == pixels.shape and bool((self._pixels == pixels).all())

    @property
    def nbytes(self) -> int:
        """The memory that is held, beside the net's own."""
        return self._program.nbytes if self._program else 0

    @property
    def is_traced(self) -> bool:
        return self._program is not None

    @property
    def whole_work(self) -> int:
        """Multiplications by weights in a forward pass of the whole picture; 0 where the net is not traced."""
        return self._program.whole_work if self._program else 0

    def work(self, region: Region) -> int:
        """The same for the variants that change in ``region``, all of them together."""
        return self._program.work(region) if self._program else 0

    def least_work(self, region: Region) -> int:
        """What cannot be avoided without approximating: the same, of the cells alone that can change."""
        return self._program.least_work(region) if self._program else 0

    def answers(
        self, region: Region, filling: Tensor, masks: Tensor | None = None, batch_size: int | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Logits of the variants that show ``filling`` (1, 3, H, W) in ``region``, as they come, in an order that pays.

        Yields the numbers of some variants (m,) and their logits (m, K). ``masks`` (n, H, W), where given, say how far
        each pixel of the region shows the filling, 0 to 1. ``batch_size`` variants go through together; None chooses by
        the memory that they take.
        """
        order = region.order()
        held: list[tuple[np.ndarray, Tensor]] = []
        done = 0
        size = batch_size or self._batch_size(region[order])
        while done < len(order):
            some = order[done : done + size]
            done += len(some)
            given = None if masks is None else masks[some]
            try:
                held.append((some, self._body(region[some], filling, given)))
            except Undefined:
                yield some, self._whole(region[some], filling, given)
            if done < len(order) and self._waits(sum(len(numbers) for numbers, _ in held)):
                continue
            if not held:
                continue
            logits = self._head(torch.cat([values for _, values in held]))
            yield np.concatenate([numbers for numbers, _ in held]), logits
            held = []

    def _waits(self, count: int) -> bool:
        """Whether the dense layers should wait for more than ``count`` variants."""
        if self._program is None or self._program.head_weights <= HEAVY:
            return False
        return count < HEAD_BATCH and count * self.whole_work < HEAD_WORK

    @_plain
    def _body(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """What goes into the dense layers; of a net that is run itself, the logits."""
        if self._program is None:
            return self._whole(region, filling, masks)
        return self._program.body(self.model.normalise(self._patches(region, filling, masks)), region)

    @_plain
    def _whole(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """The logits, by the net itself."""
        return self.model.logits(self._set_in(self._patches(region, filling, masks), region))

    @_plain
    def _head(self, values: Tensor) -> Tensor:
        return self.model.checked(self._program.head(values), len(values)) if self._program else values

    def _batch_size(self, ahead: Region) -> int:
        """The first of BATCHES that fits, for the variants ``ahead``, of which the first change most."""
        if self._program is None:
            height, width = self._pixels.shape[2:]
            return max(1, BATCHES[-1] * 224 * 224 // (height * width))
        room = (MEMORY - self._program.bytes) / HELD_BACK
        sizes = (size for size in BATCHES if self._program.most_bytes(ahead[:size]) <= room)
        return next(sizes, None) or max(1, int(room / self._program.most_bytes(ahead[:1])))

    def _patches(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """RGB pixels (n, 3, h, w) of the cells that are computed: the filling in the region, the picture beside it."""
        rows, columns = region.rows.cells, region.columns.cells  # (n, h), (n, w)
        inside = region.rows.holds(rows)[:, :, None] & region.columns.holds(columns)[:, None, :]
        share = torch.from_numpy(inside).to(self._pixels)  # (n, h, w)
        at = torch.from_numpy(rows)[:, :, None], torch.from_numpy(columns)[:, None, :]
        if masks is not None:
            share = share * masks[torch.arange(len(region))[:, None, None], *at].to(share)
        share = share[:, None]
        own, other = (tensor[0][:, *at].transpose(0, 1) for tensor in (self._pixels, filling))
        return torch.where(share == 1, other, own + share * (other - own))  # 0 and 1 are not rounded

    def _set_in(self, patches: Tensor, region: Region) -> Tensor:
        """Whole pictures (n, 3, H, W)."""
        pictures = self._pixels.repeat(len(patches), 1, 1, 1)
        (height, width), tops, lefts = region.size, region.rows.start, region.columns.start
        for picture, patch, top, left in zip(pictures, patches, tops, lefts, strict=True):
            picture[:, top : top + height, left : left + width] = patch
        return pictures
