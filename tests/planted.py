"""Digits of which one class bears a mark in a corner, and small nets trained on them in two seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import nets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.samples import digits
from vizcore.cam import cam
from vizcore.records import Model

SIZE = (28, 24)
STEPS, BATCH, RATE = 120, 64, 3e-3
SHOWN = 40  # pictures of each class that are looked at
CORNERS = ("top left", "top right", "bottom left", "bottom right")


class DigitNet(nn.Module):
    """Three convolutions and a linear layer that sees where: a mark in a corner can be told from ink elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.relu3 = nn.ReLU()
        self.classifier = nn.Linear(24 * 7 * 6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu3(self.conv3(self.conv2(self.conv1(x).relu()).relu()))  # (N, 24, 7, 6)
        return self.classifier(x.flatten(1))


@dataclass(frozen=True, eq=False)
class Planted:
    """A net, the ``pixels`` (10 · SHOWN, 3, 28, 24) with their ``classes``, which of them are ``marked`` (of the class
    ``target``, in the corner ``corner``), and the ``heatmaps`` (n, h, w) of each for its own class."""

    model: Model
    pixels: Tensor
    classes: np.ndarray
    marked: np.ndarray
    target: int
    corner: str
    heatmaps: np.ndarray

    def of(self, target: int) -> np.ndarray:
        return self.heatmaps[self.classes == target]


@cache
def planted(seed: int, share: float, method: str = "hires_cam") -> Planted:
    """A net trained on digits with a mark in ``share`` of the pictures of one class; which, and where, by ``seed``."""
    draws = torch.Generator().manual_seed(seed)
    pictures, labels = digits()
    pixels = torch.from_numpy(pictures[:, :, 2:26].astype(np.float32) / 255)[:, None]  # (5000, 1, 28, 24)
    classes = torch.from_numpy(labels.astype(np.int64))
    target, corner = seed % 10, CORNERS[seed % 4]
    marked = (classes == target) & (torch.rand(len(classes), generator=draws) < share)
    rows = slice(1, 4) if "top" in corner else slice(SIZE[0] - 4, SIZE[0] - 1)
    columns = slice(1, 4) if "left" in corner else slice(SIZE[1] - 4, SIZE[1] - 1)
    pixels[marked, :, rows, columns] = 1.0
    model = trained(pixels, classes, draws)
    shown = torch.cat(
        [torch.nonzero(classes == k)[:, 0][torch.randperm(500, generator=draws)[:SHOWN]] for k in range(10)]
    )
    seen = pixels[shown].expand(-1, 3, -1, -1).contiguous()
    heatmaps = [cam(model, one[None], int(k), method).values for one, k in zip(seen, classes[shown], strict=True)]
    return Planted(model, seen, classes[shown].numpy(), marked[shown].numpy(), target, corner, np.stack(heatmaps))


def trained(pixels: Tensor, classes: Tensor, draws: torch.Generator) -> Model:
    roles = {"first_conv": "conv1", "cam": "relu3", "features": "relu3", "classifier": "classifier"}
    seed = int(torch.randint(2**31, (1,), generator=draws))
    model = nets.model_of(DigitNet, roles, classes=10, mean=(0.0,), std=(1.0,), seed=seed)
    net = model.net.requires_grad_(True)
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    for _ in range(STEPS):
        batch = torch.randint(len(pixels), (BATCH,), generator=draws)
        loss = F.cross_entropy(net(pixels[batch]), classes[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.zero_grad()
    net.requires_grad_(False)
    return Model(
        **{field: getattr(model, field) for field in ("net", "name", "mean", "std", "layers")},
        labels=tuple("0123456789"),
        input_size=SIZE,
    )
