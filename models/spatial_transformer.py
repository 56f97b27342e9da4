"""A LeNet that chooses where to look before it reads, with a spatial transformer in front.

Jaderberg, Simonyan, Zisserman & Kavukcuoglu, "Spatial Transformer Networks", NeurIPS 2015. A small net, the
localisation net, looks at the whole picture and answers with six numbers: an affine map from places in a new picture to
places in the old one. The old one is read there, between its pixels bilinearly, and the new one is what the rest of the
net sees. All of it is differentiable, so that where to look is learnt from the classes alone. Each layer has a name of
its own and runs once.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialTransformer(nn.Module):
    """Pictures (N, C, H, W), each read through an affine map of its own: (N, C, h, w), ``size`` being (h, w).

    ``locate`` answers to the pictures with (N, 6), the rows of a matrix (2, 3). It takes (x, y, 1) in the new picture
    to (x, y) in the old one, both from -1 to 1 between the outer edges. Outside the old picture everything is 0.
    """

    warps_by = "locate"  # for `vizcore.warp`: a layer with this attribute warps, and the layer inside gives the matrix

    def __init__(self, locate: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.locate, self.size = locate, size

    def forward(self, pictures: Tensor) -> Tensor:
        matrices = self.locate(pictures).view(-1, 2, 3)
        grid = F.affine_grid(matrices, [len(pictures), 1, *self.size], align_corners=False)  # (N, h, w, 2)
        return F.grid_sample(pictures, grid, align_corners=False)


class ToMatrix(nn.Linear):
    """The last layer of a localisation net: the matrix, which leaves the picture as it is until something is learnt."""

    def __init__(self, features: int) -> None:
        super().__init__(features, 6)

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.zero_()
            self.bias.copy_(torch.eye(2, 3).flatten())


class SpatialTransformerLeNet(nn.Sequential):
    """Grey pictures (N, 1, 42, 42) in [0, 1] to logits (N, 10)."""

    def __init__(self) -> None:
        locate = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 8, 5, stride=2),  # (N, 8, 19, 19)
                act1=nn.ReLU(),
                conv2=nn.Conv2d(8, 16, 5, stride=2),  # (N, 16, 8, 8)
                act2=nn.ReLU(),
                flatten=nn.Flatten(),  # (N, 1024)
                fc1=nn.Linear(1024, 32),
                act3=nn.ReLU(),
                fc2=ToMatrix(32),
            )
        )
        super().__init__(
            OrderedDict(
                transformer=SpatialTransformer(locate, (28, 28)),  # (N, 1, 28, 28)
                conv1=nn.Conv2d(1, 8, 5, padding=2),  # (N, 8, 28, 28)
                act1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),  # (N, 8, 14, 14)
                conv2=nn.Conv2d(8, 24, 5),  # (N, 24, 10, 10)
                act2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),  # (N, 24, 5, 5)
                flatten=nn.Flatten(),  # (N, 600)
                fc1=nn.Linear(600, 120),
                act3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                act4=nn.ReLU(),
                fc3=nn.Linear(84, 10),
            )
        )
