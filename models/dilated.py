"""A net of dilated convolutions, after Yu & Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", 2016.

Their context module is seven 3 × 3 convolutions whose gaps grow: 1, 1, 2, 4, 8, 16, 1. What one value sees grows to
67 × 67 pixels without a pooling or a stride, so maps stay as large as the picture. In our form for CIFAR-10 two plain
convolutions stand before it, for the large net that fed theirs; and its closing 1 × 1 layer is the linear one behind
global average pooling, with which it commutes, so that class activation maps in the sense of Zhou et al. 2016 can be
taken at full size.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

CHANNELS = 64
PLAIN = (1, 1)
CONTEXT = (1, 1, 2, 4, 8, 16, 1)  # table 1 of the paper, the basic module


class DilatedNet(nn.Sequential):
    """Normalised RGB pictures (N, 3, H, W), made for 32 × 32, to logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, dilation in enumerate(PLAIN + CONTEXT, 1):
            channels = CHANNELS if number > 1 else 3
            layers[f"conv{number}"] = nn.Conv2d(channels, CHANNELS, 3, padding=dilation, dilation=dilation)
            layers[f"act{number}"] = nn.ReLU()  # (N, 64, H, W)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()  # (N, 64)
        layers["fc"] = nn.Linear(CHANNELS, classes)
        super().__init__(layers)
