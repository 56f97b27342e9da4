"""PhotoNet: a small net of our own for CIFAR-10, made so that its first filters can be read.

Sixty-four kernels of 7 × 7 at stride 1 see the picture at its full size. What follows has shortcuts, as He et al. 2015
have them, and ends in global average pooling and one linear layer, so that class activation maps in the sense of Zhou
et al. 2016 can be taken of it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions beside a shortcut: maps (N, C, h, w) to maps of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        found = self.act1(self.norm1(self.conv1(maps)))
        return self.act2(self.norm2(self.conv2(found)) + maps)


class PhotoNet(nn.Sequential):
    """Normalised RGB pictures (N, 3, 32, 32) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 7, padding=3, bias=False),  # 32 × 32
                pool1=nn.MaxPool2d(2),  # before the norm: the largest stay the largest, for less
                norm1=nn.BatchNorm2d(64),
                act1=nn.ReLU(),
                conv2=nn.Conv2d(64, 32, 3, padding=1, bias=False),  # 16 × 16
                norm2=nn.BatchNorm2d(32),
                act2=nn.ReLU(),
                block2=Block(32),
                conv3=nn.Conv2d(32, 80, 3, stride=2, padding=1, bias=False),  # 8 × 8
                norm3=nn.BatchNorm2d(80),
                act3=nn.ReLU(),
                block3a=Block(80),
                block3b=Block(80),
                conv4=nn.Conv2d(80, 96, 3, padding=1, bias=False),
                norm4=nn.BatchNorm2d(96),
                act4=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),  # (N, 96)
                classifier=nn.Linear(96, 10),
            )
        )
