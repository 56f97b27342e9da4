"""LeNet-5: LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.

In the form of *Dive into Deep Learning*, section 7.6: sigmoids, average pooling without weights, and a plain linear
output in place of the radial basis functions. Each layer has a name of its own and runs once.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class LeNet5(nn.Sequential):
    """Normalised grey digits (N, 1, 28, 28) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 5, padding=2),  # (N, 6, 28, 28)
                act1=nn.Sigmoid(),
                pool1=nn.AvgPool2d(2),  # (N, 6, 14, 14)
                conv2=nn.Conv2d(6, 16, 5),  # (N, 16, 10, 10)
                act2=nn.Sigmoid(),
                pool2=nn.AvgPool2d(2),  # (N, 16, 5, 5)
                flatten=nn.Flatten(),  # (N, 400)
                fc1=nn.Linear(400, 120),
                act3=nn.Sigmoid(),
                fc2=nn.Linear(120, 84),
                act4=nn.Sigmoid(),
                fc3=nn.Linear(84, 10),
            )
        )
