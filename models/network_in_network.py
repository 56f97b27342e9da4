"""Network in Network: Lin, Chen & Yan, "Network In Network", ICLR 2014, in its form for CIFAR-10.

A kernel is a linear judge of what it sees; here a small network slides over the picture in its place: a convolution
and two of 1 × 1 behind it ("mlpconv"). The last gives one map for each class, and the mean of that map is the score:
no dense layer, and the map itself says where the class is. Channels and sizes are those that the authors published.

Their last layer ends in a ReLU as well. Ours does not, so that a map can also speak against its class.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

# kernel and channels of the convolution, and channels of the two of 1 × 1 behind it
BLOCKS = ((5, 192, 160, 96), (5, 192, 192, 192), (3, 192, 192, None))


class NetworkInNetwork(nn.Sequential):
    """Normalised RGB pictures (N, 3, H, W), made for 32 × 32, to logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, (kernel, *widths) in enumerate(BLOCKS, 1):
            for part, size, width in zip("abc", (kernel, 1, 1), widths, strict=True):
                layers[f"conv{number}{part}"] = nn.Conv2d(channels, width or classes, size, padding=size // 2)
                if width:
                    layers[f"act{number}{part}"] = nn.ReLU()
                    channels = width
            if number == 1:
                layers["pool1"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (N, 96, 16, 16)
            elif number == 2:
                layers["pool2"] = nn.AvgPool2d(3, stride=2, ceil_mode=True)  # (N, 192, 8, 8)
            if number < len(BLOCKS):
                layers[f"drop{number}"] = nn.Dropout(0.5)
        layers["pool3"] = nn.AdaptiveAvgPool2d(1)  # (N, classes, 1, 1) of maps 8 × 8
        layers["flatten"] = nn.Flatten()
        super().__init__(layers)
