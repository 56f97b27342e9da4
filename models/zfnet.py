"""ZFNet: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2013 (ECCV 2014), figure 3.

AlexNet after a look inside: its first filters, 11 × 11 at stride 4, missed the middle frequencies and left dead
channels and blocky maps, so here they are 7 × 7 at stride 2. Contrast is normalised across channels as in AlexNet
(Krizhevsky et al. 2012). No file with the authors' weights was published.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class ZFNet(nn.Sequential):
    """Normalised RGB (N, 3, H, W) to ImageNet logits (N, classes); made for 224 × 224."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 96, 7, stride=2, padding=1),  # (N, 96, 110, 110)
                act1=nn.ReLU(),
                pool1=nn.MaxPool2d(3, stride=2, padding=1),  # (N, 96, 55, 55)
                norm1=_contrast(),
                conv2=nn.Conv2d(96, 256, 5, stride=2),  # (N, 256, 26, 26)
                act2=nn.ReLU(),
                pool2=nn.MaxPool2d(3, stride=2, padding=1),  # (N, 256, 13, 13)
                norm2=_contrast(),
                conv3=nn.Conv2d(256, 384, 3, padding=1),
                act3=nn.ReLU(),
                conv4=nn.Conv2d(384, 384, 3, padding=1),
                act4=nn.ReLU(),
                conv5=nn.Conv2d(384, 256, 3, padding=1),  # (N, 256, 13, 13)
                act5=nn.ReLU(),
                pool5=nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
                resize=nn.AdaptiveAvgPool2d(6),  # nothing at 224 × 224; lets other sizes through, as torchvision does
                flatten=nn.Flatten(),  # (N, 9216)
                fc6=nn.Linear(256 * 6 * 6, 4096),
                act6=nn.ReLU(),
                drop6=nn.Dropout(0.5),
                fc7=nn.Linear(4096, 4096),
                act7=nn.ReLU(),
                drop7=nn.Dropout(0.5),
                fc8=nn.Linear(4096, classes),
            )
        )


def _contrast() -> nn.LocalResponseNorm:
    """Each value over the root mean square of its five neighbours in channel, with the constants of AlexNet.

    torch divides ``alpha`` by the number of neighbours, the paper of 2012 does not.
    """
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
