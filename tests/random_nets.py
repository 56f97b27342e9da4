"""Networks drawn at random, for what must hold of any: convolutions, pools, branches and heads in no sensible order.

A net is told apart by its seed. Each part is tried on a tensor without memory while the net is built, and drawn again
where it does not fit; so every net runs on pictures of the size that it was drawn for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import nets
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vizcore.records import Model

Run = Callable[..., Tensor]


class Part(nn.Module):
    """Something done to one or two maps; ``modules`` are what it holds, handed to ``run`` before the maps."""

    def __init__(self, name: str, run: Run, *modules: nn.Module) -> None:
        super().__init__()
        self.name, self.run, self.held, self.kind = name, run, nn.ModuleList(modules), ""

    def forward(self, *maps: Tensor) -> Tensor:
        return self.run(*self.held, *maps)

    def extra_repr(self) -> str:
        return self.name


def applied(module: nn.Module) -> Part:
    return Part(str(module), lambda held, x: held(x), module)


# What reads a neighbourhood of each cell, or only the cell


def first_convolution(draw: random.Random, x: Tensor) -> Part:
    return applied(nn.Conv2d(3, 6, draw.choice([1, 3]), draw.choice([1, 1, 2]), 1))


def convolution(draw: random.Random, x: Tensor) -> Part:
    groups = draw.choice([1, 1, 2, 3])
    kernel = draw.randint(1, 5), draw.randint(1, 4)
    options = {
        "stride": (draw.choice([1, 1, 1, 2, 3]), draw.choice([1, 1, 1, 2, 3])),
        "padding": (draw.randint(0, kernel[0]), draw.randint(0, kernel[1])),
        "dilation": (draw.choice([1, 1, 2]), draw.choice([1, 1, 3])),
        "bias": draw.random() < 0.7,
    }
    return applied(nn.Conv2d(x.shape[1], 6 * draw.randint(1, 2), kernel, groups=groups, **options))


def depthwise(draw: random.Random, x: Tensor) -> Part:
    kernel, channels = draw.choice([2, 3, 5]), x.shape[1]
    times = draw.choice([1, 2])
    return applied(nn.Conv2d(channels, times * channels, kernel, draw.choice([1, 2]), kernel // 2, groups=channels))


def same_convolution(draw: random.Random, x: Tensor) -> Part:
    return applied(nn.Conv2d(x.shape[1], x.shape[1], draw.choice([1, 3, 5]), padding="same"))


def convolution_and_all(draw: random.Random, x: Tensor) -> Part:
    conv = nn.Conv2d(x.shape[1], 6, 3, padding=1, bias=draw.random() < 0.5)
    return Part("conv, norm, ReLU", lambda block, x: block(x), nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU(True)))


def wide_convolution(draw: random.Random, x: Tensor) -> Part:
    """Many channels, as in the nets that matter, for which there may be another way."""
    block = nn.Sequential(nn.Conv2d(x.shape[1], 96, 1), nn.ReLU(), nn.Conv2d(96, 96, 3, padding=1), nn.Conv2d(96, 6, 1))
    return applied(block)


def normalisation(draw: random.Random, x: Tensor) -> Part:
    return applied(nn.BatchNorm2d(x.shape[1], eps=draw.choice([1e-5, 0.1]), affine=draw.random() < 0.7))


def padding(draw: random.Random, x: Tensor) -> Part:
    sides, value = [draw.randint(0, 3) for _ in range(4)], draw.choice([0.0, 0.0, 0.7, -1.5])
    return Part(f"pad {sides} by {value}", lambda x: F.pad(x, sides, value=value))


def padded_convolution(draw: random.Random, x: Tensor) -> Part:
    """As TensorFlow pads: more behind than in front."""
    conv = nn.Conv2d(x.shape[1], 6, 3, draw.choice([1, 2]), bias=False)
    sides = draw.choice([(0, 1, 0, 1), (1, 0, 2, 0), (0, 2, 1, 0)])
    return Part(f"pad {sides}, {conv}", lambda conv, x: conv(F.pad(x, sides)), conv)


def max_pool(draw: random.Random, x: Tensor) -> Part:
    kernel = draw.randint(2, 4), draw.randint(1, 3)
    pads = draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2)
    stride, dilation = (draw.randint(1, 3), draw.randint(1, 3)), draw.choice([1, 1, 2])
    return applied(nn.MaxPool2d(kernel, stride, pads, dilation, ceil_mode=draw.random() < 0.5))


def average_pool(draw: random.Random, x: Tensor) -> Part:
    kernel = draw.randint(2, 4), draw.randint(1, 3)
    pads = draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2)
    stride = draw.choice([None, (draw.randint(1, 3), draw.randint(1, 3))])
    options = {"ceil_mode": draw.random() < 0.5, "count_include_pad": draw.random() < 0.5}
    return applied(nn.AvgPool2d(kernel, stride, pads, divisor_override=draw.choice([None, None, 5]), **options))


ACTIVATIONS: dict[str, Run] = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "silu in place": lambda x: F.silu(x, inplace=True),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "leaky in place": lambda x: F.leaky_relu_(x, 0.2),
    "elu": F.elu,
    "mish": F.mish,
    "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-0.5, 1.5),
    "tanh": torch.tanh,
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "where": lambda x: torch.where(x > 0.1, x, 0.3 * x),
    "numbers": lambda x: (2 * x - 0.3) / 1.5 + 1,
    "in place by hand": lambda x: x.mul_(0.5).add_(0.1),
    "threshold": lambda x: F.threshold(x, 0.1, 0.1),
}


def activation(draw: random.Random, x: Tensor) -> Part:
    name = draw.choice(sorted(ACTIVATIONS))
    return Part(name, ACTIVATIONS[name])


def parametric_activation(draw: random.Random, x: Tensor) -> Part:
    return applied(nn.PReLU(draw.choice([1, x.shape[1]])))


def gain(draw: random.Random, x: Tensor) -> Part:
    """A number for each channel, as ConvNeXt's layer scale."""
    holder = nn.ParameterDict({"gain": nn.Parameter(torch.empty(1, x.shape[1], 1, 1))})
    return Part("gain", lambda held, x: x * held["gain"] + 0.5 * x, holder)


def residual(draw: random.Random, x: Tensor) -> Part:
    conv = nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1)
    norm = draw.choice([nn.Identity, lambda: nn.BatchNorm2d(x.shape[1])])()

    def forward(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
        y = norm(conv(x))
        y += x
        return F.relu(y)

    return Part("residual in place", forward, conv, norm)


def two_way_sum(draw: random.Random, x: Tensor) -> Part:
    """Both ways end in a convolution, as where a block of ResNet changes the size."""
    stride, norm = draw.choice([1, 2]), nn.BatchNorm2d(6)
    ways = nn.Conv2d(x.shape[1], 6, 3, stride, 1), nn.Conv2d(x.shape[1], 6, 1, stride)
    first = draw.random() < 0.5

    def forward(norm: nn.Module, wide: nn.Module, narrow: nn.Module, x: Tensor) -> Tensor:
        return F.relu(norm(wide(x)) + narrow(x)) if first else narrow(x) + F.relu(norm(wide(x)))

    return Part(f"two ways, stride {stride}", forward, norm, *ways)


def inception(draw: random.Random, x: Tensor) -> Part:
    c = x.shape[1]
    ways = nn.Conv2d(c, 3, 1), nn.Conv2d(c, 4, 5, padding=2), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)
    return Part("inception", lambda *all_: torch.cat([way(all_[-1]) for way in all_[:-1]], 1), *ways)


LOCAL = [
    *[convolution] * 4,
    depthwise,
    same_convolution,
    convolution_and_all,
    wide_convolution,
    *[normalisation] * 2,
    padding,
    padded_convolution,
    max_pool,
    average_pool,
    *[activation] * 3,
    parametric_activation,
    gain,
    residual,
    two_way_sum,
    inception,
]

# What reads more


def squeeze_and_excitation(draw: random.Random, x: Tensor) -> Part:
    down, up = nn.Conv2d(x.shape[1], 2, 1), nn.Conv2d(2, x.shape[1], 1)
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), down, nn.ReLU(), up, nn.Sigmoid())
    return Part("squeeze and excitation", lambda gate, x: x * gate(x), gate)


def channel_shuffle(draw: random.Random, x: Tensor) -> Part:
    return Part("channel shuffle", lambda x: F.channel_shuffle(x, 3))


def layer_norm(draw: random.Random, x: Tensor) -> Part:
    return Part("layer norm", lambda n, x: n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(x.shape[1]))


def interpolation(draw: random.Random, x: Tensor) -> Part:
    mode = draw.choice(["nearest", "bilinear"])
    return Part(
        f"{mode} down and up", lambda x: x + F.interpolate(F.interpolate(x, (3, 4), mode=mode), x.shape[2:], mode=mode)
    )


def adaptive_pool(draw: random.Random, x: Tensor) -> Part:
    kind = draw.choice([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
    return applied(kind((min(x.shape[2], 7), min(x.shape[3], 9))))


def attention(draw: random.Random, x: Tensor) -> Part:
    def forward(x: Tensor) -> Tensor:
        tokens = F.adaptive_avg_pool2d(x, (4, 5)).flatten(2).transpose(1, 2)  # (N, 20, C)
        mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return x + F.interpolate(mixed.transpose(1, 2).reshape(-1, x.shape[1], 4, 5), x.shape[2:])

    return Part("attention", forward)


def reflection(draw: random.Random, x: Tensor) -> Part:
    return Part("reflection", lambda x: F.pad(x, (1, 1, 2, 0), mode="reflect"))


def spatial_gate(draw: random.Random, x: Tensor) -> Part:
    return Part("spatial gate", lambda x: x * torch.sigmoid(x.mean(1, keepdim=True) + x.amax(1, keepdim=True)))


def position(draw: random.Random, x: Tensor) -> Part:
    holder = nn.ParameterDict({"position": nn.Parameter(torch.empty(1, *x.shape[1:]))})
    return Part("position", lambda held, x: x + held["position"], holder)


def mirror(draw: random.Random, x: Tensor) -> Part:
    axis = draw.choice([2, 3])
    return Part(f"mirror axis {axis}", lambda x: x + 0.5 * x.flip(axis))


def transposed_convolution(draw: random.Random, x: Tensor) -> Part:
    return applied(nn.Sequential(nn.MaxPool2d(2), nn.ConvTranspose2d(x.shape[1], 6, 3, 2, 1)))


NOT_LOCAL = [
    squeeze_and_excitation,
    channel_shuffle,
    layer_norm,
    interpolation,
    adaptive_pool,
    attention,
    reflection,
    spatial_gate,
    position,
    mirror,
    transposed_convolution,
]


# What torch answers as several tensors at once, or folds pictures into the channels for


def group_norm(draw: random.Random, x: Tensor) -> Part:
    return Part("group norm beside", lambda norm, x: x + norm(x), nn.GroupNorm(3, x.shape[1]))


def instance_norm(draw: random.Random, x: Tensor) -> Part:
    return Part("instance norm beside", lambda norm, x: x + norm(x), nn.InstanceNorm2d(x.shape[1]))


def halves(draw: random.Random, x: Tensor) -> Part:
    def forward(x: Tensor) -> Tensor:
        one, other = x.chunk(2, 1)
        return torch.cat([other.relu(), x, one * other], 1)

    return Part("halves", forward)


def groups_as_pictures(draw: random.Random, x: Tensor) -> Part:
    def forward(x: Tensor) -> Tensor:
        groups = x.reshape(3 * len(x), -1, *x.shape[2:])
        return x + (groups * groups.mean((2, 3), keepdim=True)).reshape(x.shape)

    return Part("groups as pictures", forward)


SEVERAL_AT_ONCE = [group_norm, instance_norm, halves, groups_as_pictures]

# Two maps of one size


def joined(draw: random.Random, x: Tensor, y: Tensor) -> Part:
    ways: dict[str, Run] = {
        "add": lambda x, y: x + y,
        "add in place": lambda x, y: x.add_(y),
        "weighted add": lambda x, y: torch.add(x, y, alpha=0.5),
        "multiply": lambda x, y: x * torch.tanh(y),
        "maximum": torch.maximum,
        "subtract": lambda x, y: x - y,
    }
    if x.shape != y.shape or draw.random() < 0.3:
        axis = draw.choice([1, -3])
        return Part(f"concatenate along {axis}", lambda x, y: torch.cat([x, y], axis))
    name = draw.choice(sorted(ways))
    return Part(name, ways[name])


class RandomNet(nn.Module):
    """Some parts behind one another, now and then two joined, and a head or two."""

    def __init__(self, seed: int, size: tuple[int, int], kinds: Sequence[Callable[..., Part]], count: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.parts, self.sources = nn.ModuleList(), []
        maps = [torch.empty(1, 3, *size, device="meta")]
        self._add(first_convolution, draw, [0], maps)
        while len(self.parts) < count:
            last = len(maps) - 1
            partners = [n for n, other in enumerate(maps[1:-1], 1) if other.shape[2:] == maps[-1].shape[2:]]
            if partners and draw.random() < 0.25:
                self._add(joined, draw, [last, draw.choice(partners)], maps)
            else:
                self._add(draw.choice(kinds), draw, [last if draw.random() < 0.8 else draw.randint(1, last)], maps)
        self.heads = [len(maps) - 1] if draw.random() < 0.7 else [len(maps) - 1, draw.randint(1, len(maps) - 1)]
        self.kind = draw.choice(["mean", "flat", "maximum"])
        self.classifiers = nn.ModuleList(nn.Linear(self._flat(maps[n]).shape[1], nets.CLASSES) for n in self.heads)

    def _add(self, kind: Callable[..., Part], draw: random.Random, sources: list[int], maps: list[Tensor]) -> None:
        """A part of this kind, if it fits."""
        try:
            part = kind(draw, *(maps[n] for n in sources))
            result = part(*(maps[n].clone() for n in sources))
        except (RuntimeError, ValueError):
            return
        if min(result.shape[2:]) >= 3 and result.shape[1] <= 96:
            part.kind = kind.__name__
            maps.append(result)
            self.parts.append(part)
            self.sources.append(sources)

    def _flat(self, x: Tensor) -> Tensor:
        if self.kind == "mean":
            return x.mean((2, 3))
        return x.flatten(1) if self.kind == "flat" else F.adaptive_max_pool2d(x, (2, 3)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for part, sources in zip(self.parts, self.sources, strict=True):
            maps.append(part(*(maps[n] for n in sources)))
        answers = [head(self._flat(maps[n])) for head, n in zip(self.classifiers, self.heads, strict=True)]
        return answers[0] if len(answers) == 1 else answers[0] - torch.tanh(answers[1])

    def __str__(self) -> str:
        numbered = enumerate(zip(self.parts, self.sources, strict=True), 1)
        lines = [f"{n} = {part.name} of {sources}" for n, (part, sources) in numbered]
        return "\n".join([*lines, f"heads ({self.kind}) of {self.heads}"])


def random_model(
    seed: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    kinds: Sequence[Callable[..., Part]] = LOCAL,
    count: int | None = None,
) -> Model:
    count = count or 3 + seed % 8
    return nets.model_of(lambda: RandomNet(seed, size, kinds, count), {}, dtype, seed=seed)
