"""A 3 × 3 convolution with a quarter of the multiplications: Lavin & Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016.

Their F(4×4, 3×3): a tile of 4 × 4 outputs reads 6 × 6 inputs d. With the matrices B, G and A below it is
Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A, where ⊙ multiplies 36 numbers for what the plain sum takes 144. Over channels ⊙ becomes 36
products of matrices, (tiles, C) by (C, K), and these are what a processor does best. Rounding is about ten times that
of the plain sum, a few 10⁻⁶ of the largest output in float32.

torch's own convolutions on CPUs no longer do this. It pays where channels are many: the transforms cost as much for
few.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vizcore.workspace import Workspace

TILE, READS = 4, 6  # outputs and inputs of a tile along an axis
CHANNELS = 96  # fewer, in or out, and the plain sum is faster

B_T = (  # (6, 6)
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (  # (6, 3)
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A_T = (  # (4, 6)
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class Winograd:
    """A convolution by ``weight`` (K, C, 3, 3), stride 1, without padding, plus ``bias`` (K,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, workspace: Workspace) -> None:
        def twice(rows: tuple[tuple[float, ...], ...]) -> Tensor:
            """The transform of both axes at once, of tiles written as one long row."""
            matrix = torch.tensor(rows, dtype=torch.float64)
            return torch.kron(matrix, matrix).to(weight)

        outputs, channels = weight.shape[:2]
        taps = weight.permute(2, 3, 1, 0).reshape(9, channels * outputs)
        self._kernel = (twice(G) @ taps).view(READS * READS, channels, outputs)
        self._bias = weight.new_zeros(len(weight)) if bias is None else bias
        self._into, self._back = twice(B_T), twice(A_T)  # (36, 36), (16, 36)
        self._workspace = workspace

    @staticmethod
    def pays(weight: Tensor) -> bool:
        """Whether this is the faster way on a CPU."""
        return weight.shape[2:] == (3, 3) and min(weight.shape[:2]) >= CHANNELS

    def __call__(self, maps: Tensor) -> Tensor:
        """(N, C, h, w), channels last in memory, to (N, K, h - 2, w - 2) likewise."""
        count, channels, height, width = maps.shape
        down, across = -(-(height - 2) // TILE), -(-(width - 2) // TILE)
        tiles = count * down * across
        cells = maps.permute(0, 2, 3, 1).reshape(-1, channels)  # (N·h·w, C), no copy
        places, outputs = READS * READS, len(self._bias)
        # Each of these is two or three times as large as the maps, and gives up its room to the next but one.
        tiled = self._workspace.take("tiles", (places * tiles, channels), maps)
        torch.index_select(cells, 0, _cells(count, height, width), out=tiled)
        moved = self._workspace.take("moved tiles", (places, tiles * channels), maps)
        torch.mm(self._into, tiled.view(places, -1), out=moved)
        tiled = self._workspace.take("tiles", (places, tiles, outputs), maps)
        torch.bmm(moved.view(places, tiles, channels), self._kernel, out=tiled)
        moved = self._workspace.take("moved tiles", (TILE * TILE, tiles * outputs), maps)
        torch.addmm(self._bias.repeat(tiles), self._back, tiled.view(places, -1), out=moved)
        moved = moved.view(TILE, TILE, count, down, across, outputs).permute(2, 3, 0, 4, 1, 5)
        result = moved.reshape(count, TILE * down, TILE * across, outputs)[:, : height - 2, : width - 2]
        return result.permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _cells(count: int, height: int, width: int) -> Tensor:
    """Which cell of maps (N, h, w) is read at each place of each tile, (36 · tiles,); beyond the border any will do."""
    rows = TILE * np.arange(-(-(height - 2) // TILE)) + np.arange(READS)[:, None]  # (6, tiles down)
    columns = TILE * np.arange(-(-(width - 2) // TILE)) + np.arange(READS)[:, None]
    rows, columns = np.minimum(rows, height - 1), np.minimum(columns, width - 1)
    maps = np.arange(count)[None, None, :, None, None] * height
    cells = (maps + rows[:, None, None, :, None]) * width + columns[None, :, None, None, :]
    return torch.from_numpy(cells.ravel())
