"""What is written down of a net, what cannot be, and that a net and everyone else do not notice."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from test_contract import unchanged
from torch import Tensor, nn
from torch.nn import functional as F
from variants import answers_of, boxes_everywhere, effect, error, full_passes, region_of

from vizcore.graph import Untraceable, steps_of
from vizcore.incremental import Variants
from vizcore.records import Model

SIZE = (26, 19)
SHAPE = (3, *SIZE)
CORNER = region_of(SIZE, [(0, 2, 0, 2)])


@pytest.fixture(autouse=True)
def one_thread(torch_threads: None) -> None:
    """The operations are small: two threads would do nothing but wait for one another."""
    torch.set_num_threads(1)


Between = Callable[["BetweenNet", Tensor], Tensor]


class BetweenNet(nn.Module):
    """Something between two convolutions; the second is nearly all the work."""

    def __init__(self, between: Between, module: Callable[[], nn.Module] = nn.Identity, channels: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.module, self.between = module(), between
        self.conv2 = nn.Conv2d(channels, 12, 3, padding=1)
        self.classifier = nn.Linear(12, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.between(self, self.conv1(x))).relu()
        return self.classifier(x.mean((2, 3)))


def between(what: Between, module: Callable[[], nn.Module] = nn.Identity, channels: int = 6) -> Model:
    return nets.model_of(lambda: BetweenNet(what, module, channels), {}, torch.float64)


def check_answers(model: Model, size: tuple[int, int] = SIZE, batch_size: int | None = 3) -> Variants:
    """Every variant is answered as by a full pass."""
    pixels, filling = nets.picture(1, size), nets.picture(2, size)
    boxes = boxes_everywhere(size)
    expected = full_passes(model, pixels, boxes, filling)
    variants = Variants(model, pixels)
    assert effect(expected, variants.logits) > 1e-3
    assert error(answers_of(variants, boxes, size, filling, batch_size=batch_size), expected) < 1e-10
    return variants


# What is local


LOCAL: dict[str, tuple[Between, Callable[[], nn.Module]]] = {
    "nothing": (lambda net, x: x, nn.Identity),
    "activation": (lambda net, x: F.hardswish(x), nn.Identity),
    "by channel": (lambda net, x: net.module(x), lambda: nn.PReLU(6)),
    "numbers": (lambda net, x: 3 - 2 * x / 5, nn.Identity),
    "parameters": (lambda net, x: x * net.conv1.bias.view(6, 1, 1).exp(), nn.Identity),
    "sum": (lambda net, x: x + net.module(x), lambda: nn.Conv2d(6, 6, 3, padding=1)),
    "concatenation": (lambda net, x: torch.cat([x, net.module(x)], 1), lambda: nn.MaxPool2d(3, 1, 1)),
    "normalisation": (lambda net, x: net.module(x).relu(), lambda: nn.BatchNorm2d(6)),
    "normalisation by numbers alone": (lambda net, x: net.module(F.relu(x)), lambda: nn.BatchNorm2d(6, affine=False)),
    "padding": (lambda net, x: F.pad(x, (1, 0, 2, 3), value=0.4), nn.Identity),
    "pooling": (lambda net, x: F.avg_pool2d(F.max_pool2d(x, 3, 2, 1, ceil_mode=True), 2, 1), nn.Identity),
    "two": (lambda net, x: torch.maximum(F.relu(x), torch.tanh(x)), nn.Identity),
    "standardised weights": (
        lambda net, x: F.conv2d(x, net.module.weight - net.module.weight.mean((1, 2, 3), keepdim=True)),
        lambda: nn.Conv2d(6, 6, 3),
    ),
    "parametrised weights": (
        lambda net, x: net.module(x),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 6, 3)),
    ),
    "changed in place": (lambda net, x: net.module(F.relu_(x)).mul_(0.5).add_(1), lambda: nn.ReLU(inplace=True)),
    "another name": (lambda net, x: x.clone().detach().contiguous(), nn.Identity),
    "left out in evaluation": (lambda net, x: F.dropout(net.module(x), training=net.training), nn.Dropout2d),
}


@pytest.mark.parametrize("name", LOCAL)
def test_behind_a_local_operation_only_what_changes_is_computed(name: str) -> None:
    what, module = LOCAL[name]
    channels = 12 if name == "concatenation" else 6
    variants = check_answers(between(what, module, channels))
    assert variants.is_traced
    assert variants.work(CORNER) < 0.2 * variants.whole_work


class GroupedAttention(nn.Module):
    """As in several published modules: groups of channels are treated as pictures."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        groups = x.reshape(2 * n, c // 2, h, w)
        gate = torch.sigmoid(groups.mean((2, 3), keepdim=True))
        return (groups * gate).reshape(n, c, h, w)


class ConditionalConvolution(nn.Module):
    """CondConv (Yang et al. 2019): the picture chooses the kernel; pictures are folded into the groups."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = nn.Linear(6, 6 * 6 * 9)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        kernels = self.routes(x.mean((2, 3))).reshape(n * 6, c, 3, 3)
        return F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n).reshape(n, 6, h, w)


def multi_head(net: BetweenNet, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    return x + net.module(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


NOT_LOCAL: dict[str, tuple[Between, Callable[[], nn.Module]]] = {
    "mean over the map": (lambda net, x: x * x.mean((2, 3), keepdim=True).sigmoid(), nn.Identity),
    "the whole by the whole": (lambda net, x: x * x.amax((1, 2, 3), keepdim=True), nn.Identity),
    "interpolation": (lambda net, x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), nn.Identity),
    "reflection": (lambda net, x: net.module(x), lambda: nn.ReflectionPad2d(2)),
    "replication": (lambda net, x: net.module(x), lambda: nn.ReplicationPad2d((1, 2, 0, 1))),
    "cut away": (lambda net, x: F.pad(x, (-1, 0, 1, -2)), nn.Identity),
    "padding of channels": (lambda net, x: F.pad(x[:, 0:4], (0, 0, 0, 0, 1, 1)), nn.Identity),
    "mirror": (lambda net, x: x + x.flip(3), nn.Identity),
    "shift": (lambda net, x: x.roll((3, -2), (2, 3)), nn.Identity),
    "rows and columns swapped": (lambda net, x: x.transpose(2, 3), nn.Identity),
    "stacked by rows": (lambda net, x: torch.cat([x, x.relu()], 2), nn.Identity),
    "stacked by columns": (lambda net, x: torch.cat([x, x.relu()], -1), nn.Identity),
    "gate by columns": (lambda net, x: F.glu(x, 3) if x.shape[3] % 2 == 0 else F.glu(F.pad(x, (0, 1)), 3), nn.Identity),
    "softmax over places": (lambda net, x: x * x.flatten(2).softmax(2).view(x.shape), nn.Identity),
    "softmax over channels": (lambda net, x: x + x.softmax(1), nn.Identity),
    "cumulation": (lambda net, x: x.cumsum(2) / 10, nn.Identity),
    "transposed convolution": (lambda net, x: net.module(x), lambda: nn.ConvTranspose2d(6, 6, 3, stride=2)),
    "local response": (lambda net, x: F.local_response_norm(x, 3, 1.0), nn.Identity),
    "layer norm": (lambda net, x: net.module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), lambda: nn.LayerNorm(6)),
    "pixel shuffle": (lambda net, x: F.pixel_unshuffle(F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2), 2)[:, 0:6],
                      nn.Identity),
    "channel shuffle": (lambda net, x: F.channel_shuffle(x, 2), nn.Identity),
    "patches": (lambda net, x: F.unfold(x, 3, padding=1).reshape(x.shape[0], 54, *x.shape[2:])[:, 0:6], nn.Identity),
    "a parameter of the map's size": (lambda net, x: x * net.module.weight, lambda: nn.LayerNorm((6, *SIZE))),
    "one kernel twice": (lambda net, x: net.module(x) + net.module(x.flip(2)), lambda: nn.Conv2d(6, 6, 1)),
}  # fmt: skip
# What comes apart into several tensors, or has no pictures in front
SEVERAL: dict[str, tuple[Between, Callable[[], nn.Module]]] = {
    "group norm": (lambda net, x: net.module(x), lambda: nn.GroupNorm(2, 6)),
    "group norm beside a branch": (lambda net, x: x + net.module(x), lambda: nn.GroupNorm(2, 6)),
    "layer norm beside a branch": (
        lambda net, x: x + net.module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        lambda: nn.LayerNorm(6),
    ),
    "instance norm": (lambda net, x: net.module(x), lambda: nn.InstanceNorm2d(6)),
    "halves": (lambda net, x: torch.cat([*reversed(x.chunk(2, 1))], 1), nn.Identity),
    "halves beside a branch": (lambda net, x: x.relu() + torch.cat([*reversed(x.chunk(2, 1))], 1), nn.Identity),
    "gate by channels": (lambda net, x: F.glu(torch.cat([x, x.relu()], 1), 1), nn.Identity),
    "largest of several": (lambda net, x: torch.stack([x, 2 * x.relu(), x.tanh()], 1).max(1)[0], nn.Identity),
    "groups as pictures": (lambda net, x: net.module(x), GroupedAttention),
    "conditional convolution": (lambda net, x: net.module(x), ConditionalConvolution),
    "attention of several heads": (multi_head, lambda: nn.MultiheadAttention(6, 2, batch_first=True)),
    "adaptive maxima": (lambda net, x: x + F.interpolate(F.adaptive_max_pool2d(x, (3, 4)), x.shape[2:]), nn.Identity),
    "a number alone": (lambda net, x: x * net.module.num_batches_tracked.add(1), lambda: nn.BatchNorm2d(6)),
}


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_behind_what_is_not_local_the_rest_runs_whole(name: str) -> None:
    what, module = NOT_LOCAL[name]
    variants = check_answers(between(what, module))
    assert variants.is_traced
    assert 0.5 < variants.work(CORNER) / variants.whole_work < 1  # the first convolution is still a corner of one


@pytest.mark.parametrize("name", SEVERAL)
def test_results_of_several_tensors_or_without_pictures_in_front_are_the_nets_own(name: str) -> None:
    what, module = SEVERAL[name]
    for batch_size in (1, 3, 4, None):
        check_answers(between(what, module), batch_size=batch_size)


@pytest.mark.parametrize(
    "what",
    [
        lambda net, x: F.pad(x, (2, 1, 0, 1), mode="circular"),
        lambda net, x: x[:, [4, 0, 1, 1, 2, 5]],
        lambda net, x: F.max_unpool2d(*F.max_pool2d(x[:, :, 0:18, 0:18], 3, return_indices=True), 3),
        lambda net, x: x * net.module(x),
    ],
)
def test_traced_or_not_the_answers_are_the_nets_own(what: Between) -> None:
    check_answers(between(what))


@pytest.mark.parametrize("what", [lambda net, x: x[:, 1:], lambda net, x: x[:, :, 1:, 2:]])
def test_a_slice_without_an_end_is_traced(what: Between) -> None:
    channels = 5 if what(None, torch.zeros(1, 6, 4, 4)).shape[1] == 5 else 6  # type: ignore[arg-type]
    assert check_answers(between(what, channels=channels)).is_traced


@pytest.mark.parametrize(
    "build",
    [nets.gap, nets.in_place, nets.one_logit, nets.deep_head, nets.branching, nets.residual, nets.grey, nets.odd,
     nets.reused],
)  # fmt: skip
def test_nets_of_every_kind_are_traced(build: Callable[[torch.dtype], Model]) -> None:
    assert check_answers(build(torch.float64), nets.SIZE).is_traced


def test_a_net_that_reads_one_pixel_is_traced() -> None:
    model = nets.one_pixel(5, 7)
    boxes = [(5, 6, 7, 8), (0, 5, 0, 19), (4, 26, 7, 9)]
    pixels, white = nets.picture(1, SIZE), torch.ones(1, *SHAPE).double()
    variants = Variants(model, pixels)
    assert variants.is_traced
    found = answers_of(variants, boxes, SIZE, white)
    assert torch.equal(found[1:2], variants.logits)  # that window does not hold it
    assert error(found, full_passes(model, pixels, boxes, white)) < 1e-10


class NoWeights(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 2).square().mean((2, 3))


def test_a_net_without_weights_is_answered_too() -> None:
    model = nets.model_of(NoWeights, {}, classes=3)
    boxes, pixels, filling = boxes_everywhere(SIZE), *(nets.picture(n, SIZE, torch.float32) for n in (1, 2))
    expected = full_passes(model, pixels, boxes, filling)
    for batch_size in (1, 8, None):
        found = answers_of(Variants(model, pixels), boxes, SIZE, filling, batch_size=batch_size)
        assert error(found, expected) < 1e-5


class Decoder(nn.Module):
    """Maps once more, behind a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.dense = nn.Linear(4, 4 * 5 * 4)
        self.deconv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.other = nn.Conv2d(4, 4, 1)
        self.classifier = nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense(self.conv(x).relu().mean((2, 3))).reshape(-1, 4, 5, 4)
        x = F.relu(self.norm(self.deconv(F.pad(x, (1, 0, 0, 1)))))
        return self.classifier((self.other(x) + x).mean((2, 3)))


def test_maps_behind_a_dense_layer_are_what_the_net_makes_of_them() -> None:
    check_answers(nets.model_of(Decoder, {}, torch.float64))


class LateReLU(nn.Module):
    """A convolution and a ReLU behind a dense layer, where the ReLU does nothing for the picture itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 12)
        self.late, self.classifier = nn.Conv2d(2, 4, 1), nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.late(self.dense(self.conv(x).mean((2, 3))).reshape(-1, 2, 2, 3)).relu()
        return self.classifier(x.mean((2, 3)))


def test_an_activation_behind_a_late_convolution_counts_even_where_the_picture_does_not_need_it() -> None:
    model = nets.model_of(LateReLU, {}, torch.float64)
    pixels = nets.picture(1, SIZE)
    with torch.no_grad():  # lift the late maps of the picture just above zero
        seen = model.net.conv(model.normalise(pixels)).mean((2, 3))
        late = model.net.late(model.net.dense(seen).reshape(-1, 2, 2, 3))
        model.net.late.bias.add_(0.01 - late.amin((0, 2, 3)))
    boxes = boxes_everywhere(SIZE)
    filling = 1 - pixels
    expected = full_passes(model, pixels, boxes, filling)
    variants = Variants(model, pixels)
    assert effect(expected, variants.logits) > 1e-3
    assert error(answers_of(variants, boxes, SIZE, filling, batch_size=3), expected) < 1e-10


@pytest.mark.parametrize("module", [nn.Sigmoid, lambda: nn.BatchNorm2d(3), lambda: nn.Hardtanh(-1, 1)])
def test_a_net_may_begin_with_something_done_to_each_pixel(module: Callable[[], nn.Module]) -> None:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, nets.CLASSES))
    model = nets.model_of(lambda: nn.Sequential(module(), nn.Conv2d(3, 6, 3), nn.ReLU(), *head), {}, torch.float64)
    for batch_size in (1, 3):  # windows of nearly the whole picture are among them, alone
        assert check_answers(model, batch_size=batch_size).is_traced


@pytest.mark.parametrize(
    "first",
    [
        lambda: nn.Conv2d(3, 6, 1, padding=2),
        lambda: nn.Conv2d(3, 6, 1, stride=2, padding=1),
        lambda: nn.Conv2d(3, 6, 3, padding=9),
        lambda: nn.Sequential(nn.ZeroPad2d((9, 2, 4, 7)), nn.Conv2d(3, 6, 2)),
        lambda: nn.Conv2d(3, 6, 2, dilation=13, padding=20),
    ],
)
def test_padding_may_be_so_wide_that_some_outputs_read_nothing_else(first: Callable[[], nn.Module]) -> None:
    head = (nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveMaxPool2d((3, 4)), nn.Flatten(), nn.Linear(48, nets.CLASSES))
    model = nets.model_of(lambda: nn.Sequential(first(), *head), {}, torch.float64)
    assert check_answers(model).is_traced


@pytest.mark.parametrize("stride", [3, (4, 2), (1, 5)])
def test_windows_between_the_strides_of_the_first_layer_change_nothing(stride) -> None:
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, nets.CLASSES))
    model = nets.model_of(lambda: nn.Sequential(nn.Conv2d(3, 6, 1, stride=stride), *head), {}, torch.float64)
    check_answers(model)
    high, wide = stride if isinstance(stride, tuple) else (stride, stride)
    unseen = (1, 2, 0, 19) if high > 1 else (0, 26, 1, 2)
    assert max(high, wide) > 1
    variants = Variants(model, nets.picture(1, SIZE))
    found = answers_of(variants, [unseen], SIZE, nets.picture(2, SIZE))
    assert error(found, variants.logits) < 1e-12


# Views and changes in place


def relu_of_a_view(net: nn.Module, x: Tensor) -> Tensor:
    x.detach().relu_()
    return x


def base_changed_behind_a_view(net: nn.Module, x: Tensor) -> Tensor:
    flat = x.flatten(2)
    x.relu_()
    return flat.view(x.shape)


def channels_set(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0:2] = 0.3
    return x


def channels_set_and_read(net: nn.Module, x: Tensor) -> Tensor:
    some = x[:, 0:3]
    some.relu_()
    return torch.cat([some, x[:, 3:6]], 1)


def rows_set(net: nn.Module, x: Tensor) -> Tensor:
    result = torch.zeros_like(x)
    result[:, :, 0:9] = x[:, :, 5:14]
    return result


def permuted_and_changed(net: nn.Module, x: Tensor) -> Tensor:
    swapped = x.permute(0, 2, 3, 1)
    swapped.mul_(2)
    return swapped.permute(0, 3, 1, 2) + x


def one_tensor_by_two_names(net: nn.Module, x: Tensor) -> Tensor:
    y = x
    y += 1
    return x * y


def changed_again_and_again(net: nn.Module, x: Tensor) -> Tensor:
    y = x.clone()
    y += x
    y *= 2
    return y.clamp_(max=1) - x


def halves_changed(net: nn.Module, x: Tensor) -> Tensor:
    one, other = x.clone().chunk(2, 1)
    one.add_(other)
    return torch.cat([one, other], 1)


def into_another(net: nn.Module, x: Tensor) -> Tensor:
    z = torch.empty_like(x)
    torch.add(x, 1, out=z)
    return z


def copied_over(net: nn.Module, x: Tensor) -> Tensor:
    z = torch.empty_like(x)
    z.copy_(2 * x)
    return z


def other_data(net: nn.Module, x: Tensor) -> Tensor:
    x.data = x.relu()
    return x


def data_changed(net: nn.Module, x: Tensor) -> Tensor:
    x.data.relu_()
    return x


def turned_in_place(net: nn.Module, x: Tensor) -> Tensor:
    return x.relu().transpose_(2, 3)


def wrapped_and_changed(net: nn.Module, x: Tensor) -> Tensor:
    y = x.relu()
    z = y.unsqueeze(0)
    y.mul_(2)
    return z.squeeze(0)


def early_value_kept(net: nn.Module, x: Tensor) -> Tensor:
    early = x.clone()
    x.relu_()
    return x - 0.5 * early


@pytest.mark.parametrize(
    "what",
    [relu_of_a_view, base_changed_behind_a_view, channels_set, channels_set_and_read, rows_set, permuted_and_changed,
     one_tensor_by_two_names, changed_again_and_again, halves_changed, into_another, copied_over, other_data,
     data_changed, turned_in_place, wrapped_and_changed, early_value_kept],
)  # fmt: skip
def test_what_is_changed_in_place_is_never_mistaken(what: Between) -> None:
    check_answers(between(what))


# What cannot be written down


class Fickle(nn.Module):
    """Holds a tensor that is no parameter, and a generator of Python's own."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = random.Random(0)
        self.table = np.linspace(0.5, 1, 6)


def each(x: Tensor) -> Iterator[Tensor]:
    return (x[n] for n in range(len(x)))


def by_numbers(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([one if float(one.mean()) > 0.1 else -one for one in each(x)])


def by_any(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([2 * one if (one > 1).any() else one for one in each(x)])


def by_numpy(net: nn.Module, x: Tensor) -> Tensor:
    return x * torch.from_numpy(x.numpy().mean((1, 2, 3), keepdims=True))


def by_list(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([one * min(max(one[0, 0, 0].tolist(), 0.5), 2) for one in each(x)])


def by_places(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([one * len(torch.nonzero(one > 0)) / one.numel() for one in each(x)])


def by_choice(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([one * one[one > 0].mean() for one in each(x)])


def by_a_table(net: Any, x: Tensor) -> Tensor:
    return x * torch.from_numpy(net.module.table).view(6, 1, 1)


def swallowing(net: nn.Module, x: Tensor) -> Tensor:
    """Does something else where it is not answered."""
    try:
        return torch.stack([one * one.mean().item() for one in each(x)])
    except RuntimeError:
        return x


def telling_device(net: nn.Module, x: Tensor) -> Tensor:
    return x if x.device.type == "cpu" else -x


def telling_count(net: nn.Module, x: Tensor) -> Tensor:
    return x if len(x) < 1000 else -x


@pytest.mark.parametrize("what", [by_numbers, by_any, by_numpy, by_list, by_places, by_choice, by_a_table])
def test_what_depends_on_numbers_cannot_be_written_down_and_runs_whole_to_the_same_answers(what: Between) -> None:
    model = between(what, Fickle)
    with pytest.raises(Untraceable):
        steps_of(model, SHAPE)
    variants = check_answers(model)
    assert not variants.is_traced
    assert variants.whole_work == variants.work(CORNER) == 0


@pytest.mark.parametrize("what", [swallowing, telling_device, telling_count])
def test_a_net_that_does_something_else_while_it_is_traced_runs_whole(what: Between) -> None:
    assert not check_answers(between(what)).is_traced


ONE_BY_ONE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
sys.path.insert(0, "tests")
import torch
import test_graph
from vizcore.graph import Untraceable, steps_of
try:
    steps_of(test_graph.between(lambda net, x: WHAT), test_graph.SHAPE)
except Untraceable as reason:
    assert "alloc" not in str(reason), "it ended for want of memory"
"""


@pytest.mark.parametrize(
    "what",
    [
        "torch.stack([one.relu() for one in x])",
        "torch.stack([x[n].relu() for n in range(len(x))])",
        "torch.cat([one.relu() for one in x.split(1)])",
    ],
)
def test_a_net_that_takes_the_pictures_one_by_one_is_given_up_at_once(what: str) -> None:
    """In a process that is stopped before it takes all time and memory."""
    root = Path(__file__).parent.parent
    script = ONE_BY_ONE.replace("WHAT", what)
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "what",
    [
        lambda net, x: x * torch.rand(()),
        lambda net, x: F.dropout(x, 0.5),
        lambda net, x: x + torch.randn_like(x),
        lambda net, x: torch.bernoulli(x.sigmoid()),
        lambda net, x: x * net.module.draws.random(),
    ],
)
def test_what_depends_on_chance_is_not_written_down(what: Between) -> None:
    torch.manual_seed(0)
    assert not Variants(between(what, Fickle), nets.picture(1, SIZE)).is_traced


@pytest.mark.parametrize(
    "wrap", [lambda logits: (logits,), lambda logits: {"out": logits}, lambda logits: logits[0, 0].item()]
)
def test_only_a_tensor_can_be_written_down_as_an_answer(wrap) -> None:
    with pytest.raises(Untraceable):
        steps_of(nets.answering(wrap), SHAPE)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_script_runs_whole() -> None:
    plain = nets.gap(torch.float64)
    scripted = replace(plain, net=torch.jit.script(plain.net))
    assert not check_answers(scripted).is_traced
    assert check_answers(plain).is_traced


CONSTANTS: dict[str, Between] = {
    "range": lambda net, x: x * (1 + torch.arange(6, device=x.device)).view(6, 1, 1),
    "range of the picture's type": lambda net, x: x * (1 + torch.arange(6).to(x)).view(6, 1, 1),
    "ones": lambda net, x: x + torch.ones(6, 1, 1, dtype=x.dtype, device=x.device),
    "zeros of the map": lambda net, x: x + torch.zeros(x.shape[2:], dtype=x.dtype, device=x.device),
    "line": lambda net, x: x * torch.linspace(0, 1, x.shape[3], dtype=x.dtype, device=x.device),
    "full": lambda net, x: torch.maximum(x, torch.full((1,), 0.1, dtype=x.dtype, device=x.device)),
    "new": lambda net, x: x * x.new_ones(6, 1, 1),
    "like": lambda net, x: x * torch.full_like(x, 0.5),
    "written": lambda net, x: x * torch.tensor([1.0, 2, 3, 4, 5, 6], dtype=x.dtype, device=x.device).view(6, 1, 1),
    "one number": lambda net, x: x * torch.tensor(2.0, dtype=x.dtype),
    "by the number of pictures": lambda net, x: x / len(x) * len(x),
    "for each picture": lambda net, x: x + torch.ones(len(x), 1, *x.shape[2:], dtype=x.dtype, device=x.device),
    "truth": lambda net, x: torch.where(x.abs().sum() > 0, x, -x),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_made_on_the_way_are_the_nets_own(name: str) -> None:
    check_answers(between(CONSTANTS[name]))


def test_maps_of_many_numbers_may_be_flattened() -> None:
    """A net of a lecture: a convolution, and all of its maps into a dense layer."""
    size = (120, 110)

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 120 * 110, 3))

    variants = check_answers(nets.model_of(build, {}, torch.float64, classes=3), size)
    assert variants.is_traced


# Nobody notices


@pytest.mark.parametrize("build", [nets.gap, nets.in_place, nets.reused, nets.odd, nets.grey, nets.wide])
@pytest.mark.parametrize("grad", [False, True])
def test_tracing_leaves_the_net_as_it_was(build: Callable[[], Model], grad: bool) -> None:
    model = build()
    model.net.requires_grad_(grad)
    list(model.net.modules())[-1].train()
    with unchanged(model):
        steps_of(model, (len(model.mean), 41, 33))  # of no other test


@pytest.mark.parametrize("what", [by_numbers, lambda net, x: 1 / 0, lambda net, x: x[0]])
def test_a_trace_that_fails_leaves_the_net_as_it_was(what: Between) -> None:
    model = between(what)
    with unchanged(model), pytest.raises(Untraceable):
        steps_of(model, SHAPE)


def test_a_cancelled_trace_leaves_the_net_as_it_was() -> None:
    class Cancelled(BaseException):
        pass

    def cancel(net: nn.Module, x: Tensor) -> Tensor:
        raise Cancelled

    model = between(cancel)
    with unchanged(model), pytest.raises(Cancelled):
        steps_of(model, SHAPE)


def test_an_inference_mode_around_it_changes_nothing() -> None:
    model, pixels, filling = nets.residual(torch.float64), nets.picture(1, SIZE), nets.picture(2, SIZE)
    boxes = boxes_everywhere(SIZE)
    expected = full_passes(model, pixels, boxes, filling)
    with torch.inference_mode(), unchanged(model):
        variants = Variants(model, pixels.clone())
        found = answers_of(variants, boxes, SIZE, filling)
        assert torch.is_inference_mode_enabled()
    assert variants.is_traced
    assert error(found, expected) < 1e-10
    assert not variants.logits.is_inference()


class Remembering(nn.Module):
    """Counts its passes and keeps the last maps, as many nets do for a look at them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(3, 4, 3), nn.Linear(4, nets.CLASSES)
        self.passes, self.last = 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.last = self.conv(x)
        return self.classifier(self.last.mean((2, 3)))


def test_what_a_net_keeps_of_its_passes_is_not_a_trace_of_the_tracing() -> None:
    model = nets.model_of(Remembering, {}, torch.float64)
    model.logits(nets.picture(1, SIZE))
    steps_of(model, SHAPE)
    assert model.net.passes == 1
    assert model.net.last.device.type == "cpu"
    assert len(model.net.last) == 1


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
def test_weights_that_a_hook_sets_before_each_pass_stay_in_memory() -> None:
    model = between(lambda net, x: net.module(x), lambda: nn.Conv2d(6, 6, 3))
    nn.utils.spectral_norm(model.net.module)
    model.net.eval().requires_grad_(False)
    check_answers(model)
    assert model.net.module.weight.device.type == "cpu"


def test_hooks_of_the_user_see_no_pictures_but_real_ones() -> None:
    model, seen = nets.gap(torch.float64), []
    model.net.conv2.register_forward_hook(lambda module, args, output: seen.append(output.device.type))
    check_answers(model)
    assert set(seen) == {"cpu"}


def test_hooks_of_the_user_count_where_they_change_what_the_net_computes() -> None:
    model = nets.gap(torch.float64)
    assert check_answers(model).is_traced
    handle = model.net.conv2.register_forward_hook(lambda module, args, output: output.clamp(max=0.1))
    check_answers(model)
    handle.remove()
    assert check_answers(model).is_traced


# Other threads


def traced_meanwhile(model: Model, *answers: Callable[[], Tensor]) -> None:
    """Trace again and again until each of ``answers`` was asked for, and the same, 20 times in a thread of its own."""
    expected, done, stop = [answer() for answer in answers], [0] * len(answers), threading.Event()

    def ask(n: int) -> None:
        while not stop.is_set():
            assert torch.equal(answers[n](), expected[n])
            done[n] += 1

    with ThreadPoolExecutor(len(answers)) as threads:
        running = [threads.submit(ask, n) for n in range(len(answers))]
        traces, until = 0, time.monotonic() + 60
        while (traces < 20 or min(done) < 20) and time.monotonic() < until and not any(one.done() for one in running):
            assert len(steps_of(model, (3, 20 + traces, 19))) > 5  # a new size is a new trace
            traces += 1
        stop.set()
        for one in running:
            one.result()  # raises what was raised there
    assert min(done) >= 20


def test_passes_of_other_nets_are_undisturbed_while_one_is_traced() -> None:
    other, alone = nets.residual(), nets.branching()
    pixels = nets.picture(1, SIZE, torch.float32)
    seen = alone.normalise(pixels)
    traced_meanwhile(nets.residual(), lambda: other.logits(pixels), lambda: alone.net(seen))


def test_passes_of_the_same_net_are_undisturbed_while_it_is_traced() -> None:
    model, pixels = nets.residual(), nets.picture(1, SIZE, torch.float32)
    traced_meanwhile(model, lambda: model.logits(pixels), lambda: model.logits(pixels))


class Backbone(nn.Module):
    """Lets ``meanwhile`` run in another thread in the middle of a pass on tensors without memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.meanwhile = nn.Conv2d(3, 4, 3), None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.is_meta and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            with ThreadPoolExecutor(1) as other:
                self.seen = other.submit(meanwhile).result(timeout=30)
        return x


def test_two_models_on_one_backbone_are_traced_apart() -> None:
    """Each has a lock of its own, and neither knows of the other."""
    backbone = Backbone()

    def with_head() -> Model:
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, nets.CLASSES))
        return nets.model_of(lambda: nn.Sequential(backbone, *head), {}, torch.float64)

    one, other = with_head(), with_head()
    pixels = nets.picture(1, SIZE)
    expected = other.logits(pixels)
    found: list[Tensor] = []
    backbone.meanwhile = lambda: found.append(other.logits(pixels))
    steps_of(one, SHAPE)
    assert torch.equal(found[0], expected)


def test_traces_of_many_nets_at_once_do_not_mix() -> None:
    built = [between(lambda net, x, n=n: x * n + n) for n in range(1, 9)]
    with ThreadPoolExecutor(8) as threads:
        for variants in threads.map(check_answers, built):
            assert variants.is_traced


# What is kept, and for how long


def test_a_net_is_traced_once_for_each_size() -> None:
    model, other = nets.gap(), nets.gap()
    steps = steps_of(model, SHAPE)
    assert steps_of(model, SHAPE) is steps
    assert steps_of(replace(model, name="another record of it"), SHAPE) is steps
    assert steps_of(model, (3, SIZE[1], SIZE[0])) is not steps
    assert steps_of(other, SHAPE) is not steps


def test_a_net_that_is_done_with_goes_with_all_that_was_kept_of_it() -> None:
    model = nets.gap()
    variants = Variants(model, nets.picture(1, SIZE, torch.float32))
    net, weight, steps = weakref.ref(model.net), weakref.ref(model.net.conv1.weight), steps_of(model, SHAPE)
    step = weakref.ref(steps[-1])
    del model, variants, steps
    gc.collect()
    assert net() is None
    assert weight() is None
    assert step() is None


def test_what_is_kept_of_a_net_holds_none_of_its_numbers() -> None:
    model = between(lambda net, x: x * (net.conv1.bias.view(6, 1, 1) * 2).exp())
    weight = weakref.ref(model.net.conv1.bias)
    steps = steps_of(model, SHAPE)
    del model
    gc.collect()
    assert weight() is None
    assert steps


# A net that is rebuilt after its first trace


def rebuilt(change: Callable[[nn.Module], None]) -> Variants:
    model = between(lambda net, x: net.module(x), lambda: nn.Sequential(nn.BatchNorm2d(6), nn.ReLU6()))
    assert check_answers(model).is_traced
    with torch.no_grad():
        change(model.net)
    return check_answers(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.conv1.weight.neg_(),
        lambda net: net.module[0].running_var.mul_(3),
        lambda net: setattr(net.conv2, "stride", (2, 3)),
        lambda net: setattr(net.conv2, "padding", (0, 2)),
        lambda net: setattr(net, "conv2", nn.Conv2d(6, 12, 5, dtype=torch.float64)),
        lambda net: setattr(net.conv1, "bias", None),
        lambda net: setattr(net, "module", nn.Tanh()),
        lambda net: setattr(net, "between", lambda net, x: x.abs()),
        lambda net: setattr(net, "classifier", nn.Linear(12, 9, dtype=torch.float64)),
        lambda net: setattr(net.module[0], "eps", 0.3),
        lambda net: net.module.insert(1, nn.MaxPool2d(2)),
    ],
)
def test_a_net_rebuilt_after_its_first_trace_answers_as_it_is_now(change: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(0)
    assert rebuilt(change).is_traced


def test_a_net_that_becomes_untraceable_runs_whole_and_one_that_no_longer_is_does_not() -> None:
    assert not rebuilt(lambda net: setattr(net, "between", by_numbers)).is_traced
    model = between(by_numbers)
    assert not check_answers(model).is_traced
    model.net.between = lambda net, x: x.relu()
    assert check_answers(model).is_traced


def test_a_net_of_another_type_of_numbers_is_the_same_net() -> None:
    model = nets.residual(torch.float32)
    assert Variants(model, nets.picture(1, SIZE, torch.float32)).is_traced
    model.net.double()
    assert check_answers(model).is_traced


class Clamp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.options = {"min": -9.0, "max": 50.0}

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(**self.options)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.module, "2", nn.ReLU()),  # differs from ReLU6 on bright variants alone
        lambda net: setattr(net.module[0], "eps", 1.01e-5),
        pytest.param(lambda net: net.module.register_forward_hook(lambda *call: call[2].clamp(max=4))),
        pytest.param(lambda net: net.module[1].options.update(max=4.0)),
    ],
    ids=["another activation", "a small number", "a hook", "an entry of a dictionary"],
)
def test_a_rebuilt_net_answers_as_it_is_now_even_where_the_picture_itself_does_not_show_it(change) -> None:
    model = between(lambda net, x: net.module(x), lambda: nn.Sequential(nn.BatchNorm2d(6), Clamp(), nn.ReLU6()))
    dark, bright = 0.45 + 0.01 * nets.picture(1, SIZE), torch.full((1, *SHAPE), 100.0).double()
    boxes = boxes_everywhere(SIZE)
    before = full_passes(model, dark, boxes, bright)
    Variants(model, dark)
    change(model.net)
    expected = full_passes(model, dark, boxes, bright)
    assert error(before, expected) > 1e-9
    assert error(answers_of(Variants(model, dark), boxes, SIZE, bright), expected) < 1e-10
