"""All-CNN-C: Springenberg, Dosovitskiy, Brox & Riedmiller, "Striving for Simplicity", ICLR 2015 (workshop), table 1.

Whether pooling is needed is asked by leaving it out: convolutions at stride 2 take its place, and the dense layers give
way to 1 × 1 convolutions and a mean over each class's map. Guided backpropagation comes from the same paper.

Their last layer ends in a ReLU as well. Ours does not, so that a map can also speak against its class.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

# kernel, stride, padding, channels; the seventh is the one without padding: 8 × 8 becomes 6 × 6
LAYERS = (
    (3, 1, 1, 96),
    (3, 1, 1, 96),
    (3, 2, 1, 96),
    (3, 1, 1, 192),
    (3, 1, 1, 192),
    (3, 2, 1, 192),
    (3, 1, 0, 192),
    (1, 1, 0, 192),
)


class AllConv(nn.Sequential):
    """Normalised RGB pictures (N, 3, H, W), made for 32 × 32, to logits (N, classes)."""

    def __init__(self, classes: int = 10) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(drop0=nn.Dropout(0.2))
        channels = 3
        for number, (kernel, stride, padding, width) in enumerate(LAYERS, 1):
            layers[f"conv{number}"] = nn.Conv2d(channels, width, kernel, stride, padding)
            layers[f"act{number}"] = nn.ReLU()
            if stride == 2:  # where others pool
                layers[f"drop{number}"] = nn.Dropout(0.5)
            channels = width
        layers["conv9"] = nn.Conv2d(channels, classes, 1)  # (N, classes, 6, 6)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        super().__init__(layers)
