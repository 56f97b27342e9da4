"""Small networks for the tests, each a `Model` whose numbers come from a generator of its own.

Global random state is never touched: nets are built without memory and filled afterwards. A net has the same
numbers in float32 and float64. Pictures are 41 × 29 unless a test says otherwise, never square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vizcore.records import Model

SIZE = (41, 29)
CLASSES = 5
ROLES = {"first_conv": "conv1", "cam": "relu3", "features": "pool", "classifier": "classifier"}


class PixelNet(nn.Module):
    """What Captum is handed: the net with its normalisation, from pixels on."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net, self._normalise = model.net, model.normalise

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(self._normalise(pixels))


class GapNet(nn.Module):
    """Three convolutions, global average pooling, one linear layer: where CAM is defined."""

    def __init__(self, *, inplace: bool = False, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu1 = nn.ReLU(inplace)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.relu2 = nn.ReLU(inplace)
        self.conv3 = nn.Conv2d(8, 10, 3, stride=2, padding=1)
        self.relu3 = nn.ReLU(inplace)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.classifier = nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.conv3(x))  # (N, 10, h/4, w/4)
        return self.classifier(self.pool(x))


class DeepHeadNet(nn.Module):
    """Behind the last maps comes more than one layer, so gradients differ from place to place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5, stride=2, padding=1)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 7, 3, padding=1)
        self.act2 = nn.ReLU()
        self.conv3 = nn.Conv2d(7, 4, 3, stride=2)
        self.act3 = nn.Tanh()
        self.pool = nn.AdaptiveMaxPool2d((3, 2))
        self.hidden = nn.Linear(24, 11)
        self.classifier = nn.Linear(11, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act2(self.conv2(self.act1(self.conv1(x))))
        x = self.pool(self.act3(self.conv3(x)))  # (N, 4, 3, 2)
        return self.classifier(torch.sigmoid(self.hidden(x.flatten(1))))


class BranchNet(nn.Module):
    """An Inception block: three branches of the same maps, joined by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2)
        self.narrow = nn.Conv2d(6, 4, 1)
        self.wide = nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 5, 3, padding=1))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(6, 2, 1))
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(11, 8, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d((2, 3))
        self.classifier = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x), inplace=True)
        x = torch.cat([self.narrow(x), self.wide(x), self.pooled(x)], 1)
        x = self.conv2(self.act(x)).relu_()
        return self.classifier(self.pool(x).flatten(1))


class ResidualNet(nn.Module):
    """Two blocks with shortcuts, added in place as torchvision's ResNets do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.block1, self.block2 = ResidualBlock(6), ResidualBlock(6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(self.relu(self.bn1(self.conv1(x)))))
        return self.classifier(self.pool(x).flatten(1))


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)  # runs twice a pass
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x
        return self.relu(y)


class GreyNet(nn.Module):
    """LeNet's shape: one input channel, sigmoids, dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5, padding=2)
        self.act1 = nn.Sigmoid()
        self.conv2 = nn.Conv2d(4, 6, 5, stride=2)
        self.act2 = nn.Sigmoid()
        self.pool = nn.AdaptiveAvgPool2d((3, 4))
        self.hidden = nn.Linear(72, 9)
        self.classifier = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act2(self.conv2(self.act1(self.conv1(x)))))
        return self.classifier(self.hidden(x.flatten(1)).sigmoid())


class OddNet(nn.Module):
    """Strides that differ by axis, dilation, groups, even kernels, padding by reflection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0), padding_mode="reflect")
        self.conv2 = nn.Conv2d(6, 8, 3, dilation=(1, 3), padding=(0, 3), groups=2)
        self.act = nn.GELU()
        self.conv3 = nn.Conv2d(8, 8, (1, 4), stride=(1, 3), groups=8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(self.act(self.conv2(self.conv1(x))))
        return self.classifier(self.pool(x).flatten(1))


class ReusedNet(nn.Module):
    """One ReLU in two places, a module that is never run, and a list that only holds others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.relu = nn.ReLU(inplace=True)
        self.convs = nn.ModuleList([nn.Conv2d(5, 6, 3, stride=2)])
        self.unused = nn.Conv2d(6, 6, 1)
        self.classifier = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.relu(self.convs[0](x))
        return self.classifier(x.mean((2, 3)))


class NoConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * SIZE[0] * SIZE[1], 7)
        self.classifier = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.hidden(x.flatten(1)).relu())


class WideNet(nn.Module):
    """As many maps as EfficientNet-Lite0 ends with, at a hundredth of its cost: patches of 4 in every 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 1280, 4, stride=32)
        self.relu3 = nn.ReLU(inplace=True)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.classifier = nn.Linear(1280, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.relu3(self.conv1(x))))


class AnswerNet(nn.Module):
    """A `GapNet` whose answer is wrapped: in a tuple, a dict, with NaN, too few axes."""

    def __init__(self, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.body = GapNet()
        self.wrap = wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.body(x))


class Tripwire(nn.Module):
    """Passes everything on until call number ``at``, which raises."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("tripped")
        return x


class ColourNet(nn.Module):
    """Class k is the mean of colour k: identity convolution, global average pooling, identity linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 1, bias=False)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.classifier = nn.Linear(3, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.conv1(x)))


class OnePixelNet(nn.Module):
    """Class 0 reads the red of one pixel, class 1 the green, class 2 the blue; nothing else counts."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 1, bias=False)
        self.row, self.column = row, column

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(x)[:, :, self.row, self.column]


def gap(dtype: torch.dtype = torch.float32, *, inplace: bool = False, classes: int = CLASSES) -> Model:
    return model_of(lambda: GapNet(inplace=inplace, classes=classes), ROLES, dtype, classes=classes)


def in_place(dtype: torch.dtype = torch.float32) -> Model:
    return gap(dtype, inplace=True)


def one_logit(dtype: torch.dtype = torch.float32) -> Model:
    return gap(dtype, classes=1)


def deep_head(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(DeepHeadNet, {**ROLES, "cam": "act2", "features": "hidden"}, dtype)


def branching(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(BranchNet, {**ROLES, "cam": "act"}, dtype)


def residual(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(ResidualNet, {**ROLES, "cam": "block2"}, dtype)


def grey(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(GreyNet, {**ROLES, "cam": "act2", "features": "hidden"}, dtype, mean=(0.13,), std=(0.31,))


def odd(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(OddNet, {**ROLES, "cam": "conv3"}, dtype)


def reused(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(ReusedNet, {**ROLES, "cam": "convs.0"}, dtype)


def wide() -> Model:
    return model_of(WideNet, ROLES)


def no_conv(dtype: torch.dtype = torch.float32) -> Model:
    return model_of(NoConvNet, {"features": "hidden", "classifier": "classifier"}, dtype)


def answering(wrap: Callable[[Tensor], object]) -> Model:
    """A GAP net whose logits go through ``wrap`` before they are handed out."""
    roles = {role: f"body.{layer}" for role, layer in ROLES.items()}
    return model_of(lambda: AnswerNet(wrap), roles)


def tripping(at: int) -> Model:
    """A GAP net that raises RuntimeError("tripped") in its forward pass number ``at``."""
    model = gap()
    model.net.classifier = nn.Sequential(Tripwire(at), model.net.classifier)
    return Model(
        **{field: getattr(model, field) for field in ("net", "labels", "input_size", "mean", "std")},
        name="tripping",
        layers={**ROLES, "classifier": "classifier.1"},
    )


def colours(dtype: torch.dtype = torch.float64) -> Model:
    model = model_of(ColourNet, {**ROLES, "cam": "conv1"}, dtype, classes=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    model.net.conv1.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    model.net.classifier.weight.copy_(torch.eye(3))
    return model


def one_pixel(row: int, column: int, dtype: torch.dtype = torch.float64) -> Model:
    roles = {"first_conv": "conv1", "cam": "conv1"}
    model = model_of(lambda: OnePixelNet(row, column), roles, dtype, classes=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    model.net.conv1.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    return model


def plain_pixels(model: Model) -> Model:
    """``model`` with the normalisation taken off: its net sees pixels in [0, 1] as they are."""
    fields = ("net", "name", "labels", "input_size", "layers")
    return Model(**{f: getattr(model, f) for f in fields}, mean=(0.0,) * 3, std=(1.0,) * 3)


def model_of(
    build: Callable[[], nn.Module],
    layers: Mapping[str, str],
    dtype: torch.dtype = torch.float32,
    *,
    classes: int = CLASSES,
    mean: tuple[float, ...] = (0.45, 0.5, 0.4),
    std: tuple[float, ...] = (0.22, 0.25, 0.3),
    seed: int = 0,
) -> Model:
    with torch.device("meta"):  # draws no random numbers
        net = build()
    fill(net.to_empty(device="cpu").to(dtype), seed)
    return Model(
        name=type(net).__name__,
        net=net.eval().requires_grad_(False),
        labels=tuple(f"class {k}" for k in range(classes)),
        input_size=SIZE,
        mean=mean,
        std=std,
        layers=layers,
    )


def fill(net: nn.Module, seed: int) -> None:
    """He's scale for kernels; biases, batch norms and running statistics that are none of them neutral."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for module in net.modules():
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if name == "num_batches_tracked":
                    tensor.zero_()
                elif tensor.ndim > 1:
                    tensor.copy_(normal(tensor.shape) * (2 / tensor[0].numel()) ** 0.5)
                elif name in ("weight", "running_var"):
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
                else:
                    tensor.copy_(0.2 * normal(tensor.shape))


def lock_is_free(model: Model) -> bool:
    """Whether another thread could take the lock now; the thread that holds it always can."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(lambda: model.lock.acquire(blocking=False) and not model.lock.release()).result()


def picture(seed: int = 0, size: tuple[int, int] = SIZE, dtype: torch.dtype = torch.float64, n: int = 1) -> Tensor:
    """Smooth random colours with grain, (n, 3, h, w) in [0, 1]."""
    draws = np.random.default_rng(seed)
    coarse = torch.from_numpy(draws.random((n, 3, 5, 4)))
    smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=True)
    grain = torch.from_numpy(draws.random((n, 3, *size)))
    return (0.8 * smooth + 0.2 * grain).clamp(0, 1).to(dtype)
