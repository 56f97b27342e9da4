"""EfficientNet-Lite: Tan & Le, "EfficientNet", 2019, in the form that Google published for small devices in 2020.

Inverted residuals without squeeze-and-excitation, ReLU6 throughout; -Lite1 and -Lite2 have more blocks a stage, and the
latter wider ones. Layer and tensor names are those of timm's `tf_efficientnet_lite0` and so on, and so are the answers,
bit for bit. They are written out because timm brings torchvision along: together three seconds of imports before the
first photo, for nets of a hundred lines.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3  # of batch normalisation in TensorFlow, where the weights were trained

# kernel, stride, expansion, channels, blocks: one row a stage
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: output = ceil(size / stride), the odd pixel at the bottom right."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, left = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        if top == left and top % 2 == 0:
            return F.conv2d(x, self.weight, None, self.stride, top // 2, 1, self.groups)
        x = F.pad(x, (left // 2, left - left // 2, top // 2, top - top // 2))
        return F.conv2d(x, self.weight, None, self.stride, 0, 1, self.groups)


class NormAct(nn.BatchNorm2d):
    """Batch normalisation and ReLU6, as one layer."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class DepthwiseSeparable(nn.Module):
    """Filter each channel, then mix the channels; the first stage, where nothing is expanded."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv(channels_in, channels_in, kernel, stride, groups=channels_in)
        self.bn1 = NormAct(channels_in)
        self.conv_pw = SameConv(channels_in, channels_out, 1)
        self.bn2 = nn.BatchNorm2d(channels_out, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))


class InvertedResidual(nn.Module):
    """Expand the channels, filter each, project back; added to what came in where the shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.adds_input = stride == 1 and channels_in == channels_out
        self.conv_pw = SameConv(channels_in, hidden, 1)
        self.bn1 = NormAct(hidden)
        self.conv_dw = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.bn2 = NormAct(hidden)
        self.conv_pwl = SameConv(hidden, channels_out, 1)
        self.bn3 = nn.BatchNorm2d(channels_out, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """Normalised RGB (N, 3, H, W) to logits (N, classes); made for 224 × 224.

    ``width`` multiplies the channels of each stage, and ``depth`` the blocks of all but the first and the last.
    """

    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, 32, 3, 2)
        self.bn1 = NormAct(32)
        channels, stages = 32, []
        for number, (kernel, stride, expansion, plain_width, plain_count) in enumerate(STAGES):
            inner = 0 < number < len(STAGES) - 1
            width = _whole_eights(plain_width * self.width)
            blocks: list[nn.Module] = []
            for i in range(math.ceil(plain_count * self.depth) if inner else plain_count):
                step = stride if i == 0 else 1
                if expansion == 1:
                    blocks.append(DepthwiseSeparable(channels, width, kernel, step))
                else:
                    blocks.append(InvertedResidual(channels, width, kernel, step, expansion))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = SameConv(channels, 1280, 1)
        self.bn2 = NormAct(1280)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv_stem(x))  # (N, 32, H/2, W/2)
        x = self.blocks(x)  # (N, 320, H/32, W/32)
        x = self.bn2(self.conv_head(x))  # (N, 1280, H/32, W/32)
        return self.classifier(self.global_pool(x))


class EfficientNetLite1(EfficientNetLite0):
    """Made for 240 × 240."""

    depth = 1.1


class EfficientNetLite2(EfficientNetLite0):
    """Made for 260 × 260."""

    width, depth = 1.1, 1.2


def _whole_eights(channels: float) -> int:
    """The nearest multiple of eight, but never less than nine tenths of ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
