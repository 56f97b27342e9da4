"""PhotoNet: a small net of our own for CIFAR-10, made so that its first filters can be read.

Sixty-four kernels of 7 × 7 at stride 1 see the picture at its full size; then four more convolutions, global average
pooling and one linear layer, so that class activation maps in the sense of Zhou et al. 2016 can be taken of it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class PhotoNet(nn.Sequential):
    """Normalised RGB pictures (N, 3, 32, 32) to logits (N, 10)."""

    def __init__(self) -> None:
        layers: list[tuple[str, nn.Module]] = []
        channels = 3
        # kernel, channels, halved behind it
        for number, (kernel, width, halved) in enumerate(
            ((7, 64, True), (3, 64, True), (3, 128, False), (3, 128, False), (1, 256, False)), 1
        ):
            layers.append((f"conv{number}", nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)))
            if halved:  # before the norm: the largest of the normalised are the normalised of the largest, for less
                layers.append((f"pool{number}", nn.MaxPool2d(2)))
            layers += [(f"norm{number}", nn.BatchNorm2d(width)), (f"act{number}", nn.ReLU())]
            channels = width
        layers += [
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),  # (N, 256)
            ("classifier", nn.Linear(channels, 10)),
        ]
        super().__init__(OrderedDict(layers))
