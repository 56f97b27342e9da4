"""A number computed by hand is the network's, whatever kind of layer it comes from; and the window is the one read."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import nets
import numpy as np
import pytest
import random_nets
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import Card, list_models, load_model
from vizcore.arithmetic import TOLERANCE, UnitArithmetic, explain_unit
from vizcore.export import to_npz
from vizcore.formulas import POINTWISE
from vizcore.hooks import list_layers
from vizcore.recording import Recording
from vizcore.records import BadParameter, Layer, LayerNotFound, UnsupportedModel

HAND_MADE = [
    *(nets.gap, nets.in_place, nets.deep_head, nets.branching, nets.residual),
    *(nets.grey, nets.odd, nets.reused, nets.no_conv),
]


def units_of(layer: Layer, seed: int, count: int = 2) -> list[tuple[int, int, int]]:
    """The first and the last place of a layer, and others drawn by chance."""
    shape = (*layer.shape, 1, 1)[:3]
    draw = np.random.default_rng(seed)
    drawn = [tuple(int(draw.integers(size)) for size in shape) for _ in range(count)]
    return [(0, 0, 0), tuple(size - 1 for size in shape), *drawn]


def assert_by_hand_is_the_network(unit: UnitArithmetic) -> None:
    where = f"{unit.layer} {unit.unit} {unit.kind} {[stage.title for stage in unit.stages]}"
    assert abs(unit.by_hand - unit.network) <= TOLERANCE * unit.scale, where
    for stage in unit.stages:
        if stage.network is not None:
            assert stage.value == pytest.approx(stage.network, rel=1e-4, abs=1e-4 * max(unit.scale, 1e-3)), where


# Every kind of layer


@pytest.mark.parametrize("build", HAND_MADE)
def test_by_hand_is_the_network_at_every_layer_of_nets_made_by_hand(build) -> None:
    model = build()
    pixels = nets.picture(dtype=torch.float32)
    for layer in list_layers(model):
        for unit in units_of(layer, 1, 1):
            assert_by_hand_is_the_network(explain_unit(model, pixels, layer.name, *unit))


@pytest.mark.parametrize("seed", range(5))
def test_by_hand_is_the_network_in_nets_drawn_at_random(seed: int) -> None:
    """Strides, dilation, groups, padding of all kinds, pooling with and without it, branches, in place or not."""
    model = random_nets.random_model(seed, nets.SIZE, torch.float32)
    pixels = nets.picture(seed, dtype=torch.float32)
    explained = 0
    for layer in list_layers(model):
        for unit in units_of(layer, seed, 1)[1:]:
            with suppress(UnsupportedModel):  # such as torch.where
                assert_by_hand_is_the_network(explain_unit(model, pixels, layer.name, *unit))
                explained += 1
    assert explained > 5


LARGE = {"alexnet", "zfnet", "vgg11", "vgg16", "vgg19", "resnet50", "resnet152", "xception", "efficientnet_lite1"}


@pytest.mark.parametrize(
    "card", [pytest.param(c, marks=[pytest.mark.slow] * (c.name in LARGE), id=c.name) for c in list_models()]
)
def test_by_hand_is_the_network_at_every_kind_of_layer_of_the_catalogue(card: Card) -> None:
    """With random weights where none come with the app, and small pictures where the net takes them."""
    model = load_model(card.name, "default" if card.origin in ("package", "shipped") else None)
    if card.name not in ("lenet5", "stn_lenet"):  # whose dense layers want maps of one size
        model = replace(model, input_size=(64, 80))
    pixels = nets.picture(4, model.input_size, dtype=torch.float32)
    layers = list_layers(model)
    kinds = {layer.kind: layer for layer in layers}  # the last of each: the numbers come a long way
    assert len(kinds) > 4
    for layer in dict.fromkeys((*kinds.values(), *layers[1 :: -(-len(layers) // 4)])):
        found = explain_unit(model, pixels, layer.name, *units_of(layer, 3, 1)[-1])
        assert found.kind != "given"
        assert_by_hand_is_the_network(found)


class PoolNet(nn.Module):
    """Every pooling, each on the same maps; and norms that look at the picture at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=(0, 1), stride=(1, 2))
        self.pools = nn.ModuleDict(
            {
                "max": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
                "max_dilated": nn.MaxPool2d((3, 2), 1, (1, 0), dilation=(2, 1)),
                "mean_with": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
                "mean_without": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
                "mean_divided": nn.AvgPool2d((2, 3), divisor_override=7),
                "l2": nn.LPPool2d(2, (3, 2), 2),
                "l3": nn.LPPool2d(4, 3, ceil_mode=True),
                "adaptive_mean": nn.AdaptiveAvgPool2d((4, 5)),
                "adaptive_max": nn.AdaptiveMaxPool2d((3, 4)),
                "global": nn.AdaptiveAvgPool2d(1),
                "group": nn.GroupNorm(3, 6),
                "instance": nn.InstanceNorm2d(6, affine=True),
                "response": nn.LocalResponseNorm(3, alpha=0.5),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return torch.stack([pool(x).mean((1, 2, 3)) for pool in self.pools.values()], 1)


@pytest.mark.parametrize("name", list(PoolNet().pools))
def test_by_hand_is_the_network_for_every_pooling_and_norm(name: str) -> None:
    model = nets.model_of(PoolNet, {}, classes=13)
    layer = next(layer for layer in list_layers(model) if layer.name == f"pools.{name}")
    for unit in units_of(layer, 5, 4):
        assert_by_hand_is_the_network(explain_unit(model, nets.picture(5, dtype=torch.float32), layer.name, *unit))


class WarpNet(nn.Module):
    def __init__(self, *, align: bool) -> None:
        super().__init__()
        self.conv, self.warp = nn.Conv2d(3, 4, 3), Warp(align=align)

    def forward(self, x: Tensor) -> Tensor:
        return self.warp(self.conv(x)).mean((2, 3))


class Warp(nn.Module):
    """A turn that the maps themselves decide on, as in a spatial transformer."""

    def __init__(self, *, align: bool) -> None:
        super().__init__()
        self.align = align

    def forward(self, x: Tensor) -> Tensor:
        turn = x.mean((1, 2, 3)).view(-1, 1, 1) * 0.2 + torch.tensor([[[0.9, 0.3, 0.1], [-0.4, 1.1, -0.2]]])
        grid = F.affine_grid(turn, [len(x), 4, 20, 17], align_corners=self.align)
        return F.grid_sample(x, grid, align_corners=self.align)


@pytest.mark.parametrize("align", [False, True])
def test_by_hand_is_the_network_where_maps_are_warped(align: bool) -> None:
    model = nets.model_of(lambda: WarpNet(align=align), {}, classes=4)
    for unit in ((0, 0, 0), (1, 9, 8), (3, 19, 16), (2, 4, 12), (2, 15, 3)):
        found = explain_unit(model, nets.picture(6, dtype=torch.float32), "warp", *unit)
        assert found.kind == "sampled"
        assert found.kernel.sum() == pytest.approx(1)
        assert_by_hand_is_the_network(found)


class ActNet(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 5, 3), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(4 * self.conv(x)).mean((2, 3))


ACTIVATIONS = [
    *(nn.ReLU(), nn.ReLU(True), nn.ReLU6(), nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.GELU(), nn.GELU("tanh")),
    *(nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(-0.5, 0.7), nn.LeakyReLU(0.2), nn.PReLU(5), nn.ELU(0.7), nn.SELU()),
    *(
        nn.Softplus(2),
        nn.Mish(),
        nn.Threshold(0.1, 0.3),
        nn.Dropout(),
        nn.BatchNorm2d(5),
        nn.BatchNorm2d(5, affine=False),
    ),
]


@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
def test_by_hand_is_the_network_behind_every_activation(act: nn.Module) -> None:
    model = nets.model_of(lambda: ActNet(act), {})
    for unit in ((0, 3, 4), (1, 20, 8), (4, 38, 26), (2, 0, 0)):
        found = explain_unit(model, nets.picture(6, dtype=torch.float32), "act", *unit)
        assert found.kind == "convolution"
        assert_by_hand_is_the_network(found)


def test_a_formula_with_its_numbers_filled_in_says_what_comes_out() -> None:
    """What is written is what is computed: the text itself, as Python."""
    for name in ("relu", "relu6", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu", "mish", "softplus", "tanh"):
        for x in (-3.7, -0.2, 0.0, 0.9, 4.1):
            row = POINTWISE[name](x)
            text = row.text.format(**{key: f"({value!r})" for key, value in row.numbers})
            for words, python in (("−", "-"), ("·", "*"), ("½", "0.5"), ("√2", "2**0.5"), ("ln", "log")):
                text = text.replace(words, python)
            assert eval(text, {**vars(math), "max": max, "min": min}) == (pytest.approx(row.value)), text


# What is read


def test_the_window_holds_what_the_layer_before_gave_there() -> None:
    """Of a dilated, grouped convolution of other strides by axis, number by number."""
    model = nets.odd()
    pixels = nets.picture(dtype=torch.float32)
    before = model.net.conv1(model.normalise(pixels))[0].numpy()
    unit = explain_unit(model, pixels, "conv2", 6, 4, 5)
    assert unit.channels.tolist() == [3, 4, 5]  # the second of two groups
    assert unit.rows.tolist() == [4, 5, 6]
    assert unit.columns.tolist() == [2, 5, 8]  # 5 − 3 + 3 · (0, 1, 2)
    assert unit.inside.all()
    np.testing.assert_allclose(unit.patch, before[3:, 4:7][:, :, [2, 5, 8]], rtol=1e-5)
    np.testing.assert_array_equal(unit.kernel, model.net.conv2.weight[6].numpy().astype(np.float64))
    assert unit.reader == "conv2"
    np.testing.assert_allclose(unit.read_map, before[unit.channels[unit.strongest]], rtol=1e-5)
    assert unit.read_size == before.shape[1:]


def test_padding_is_marked_whether_the_convolution_or_the_module_around_it_pads() -> None:
    model = load_model("efficientnet_lite0", weights=None)  # pads the odd pixel at the bottom right by itself
    pixels = torch.full((1, 3, 224, 224), 0.5)
    corner = explain_unit(model, pixels, "conv_stem", 0, 111, 111)
    assert corner.inside.tolist() == [[True, True, False], [True, True, False], [False, False, False]]
    assert corner.rows.tolist() == [222, 223, 224]
    assert corner.from_picture
    assert corner.read_size == (224, 224)  # without what was laid around it
    assert (corner.patch[:, ~corner.inside] == 0).all()
    first = explain_unit(model, pixels, "conv_stem", 0, 0, 0)
    assert first.inside.all()
    same = explain_unit(nets.gap(), nets.picture(dtype=torch.float32), "conv1", 2, 0, 28)
    assert same.inside.tolist() == [[False] * 3, [True, True, False], [True, True, False]]


def test_padding_by_reflection_is_marked_and_has_its_numbers() -> None:
    model = nets.odd()
    pixels = nets.picture(dtype=torch.float32)
    unit = explain_unit(model, pixels, "conv1", 1, 0, 7)
    assert unit.rows.tolist() == [-1, 0, 1]
    assert unit.inside.tolist() == [[False, False], [True, True], [True, True]]
    np.testing.assert_allclose(unit.patch[:, 0], model.normalise(pixels)[0, :, 1, 7:9].numpy(), rtol=1e-6)


def test_a_maximum_is_found_where_it_is() -> None:
    values = torch.zeros(1, 3, 9, 7)
    values[0, :, 5, 4] = 1.0

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x).mean((2, 3))

    model = nets.plain_pixels(nets.model_of(Net, {}, classes=3))
    unit = explain_unit(model, values, "pool", 1, 2, 1)
    assert unit.kind == "maximum"
    row, column = np.argwhere(unit.kernel[0])[0]
    assert (unit.rows[row], unit.columns[column]) == (5, 4)
    assert unit.by_hand == unit.network == 1.0


def test_a_dense_layer_reads_the_maps_before_it_as_a_kernel_of_their_size() -> None:
    model = load_model("lenet5")
    unit = explain_unit(model, torch.rand(1, 3, 28, 28), "fc1", 17)
    assert unit.kind == "dense"
    assert unit.patch.shape == (16, 5, 5)
    np.testing.assert_array_equal(unit.kernel.ravel(), model.net.fc1.weight[17].numpy().astype(np.float64))


def test_the_stages_name_what_happens_and_where_and_go_on_behind_the_layer() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    unit = explain_unit(model, pixels, "conv1", 3, 8, 9)
    assert [(stage.title, stage.layer) for stage in unit.stages] == [
        ("Sum of the products", "conv1"),
        ("Bias", "conv1"),
        ("Batch norm", "bn1"),
        ("ReLU", ""),
    ]
    assert unit.own == 2
    behind = explain_unit(model, pixels, "relu1", 3, 8, 9)
    assert behind.own == 4
    assert behind.by_hand == unit.stages[-1].value
    assert unit.stages[0].value == pytest.approx(unit.products.sum())
    assert unit.stages[0].network is None  # torch adds the bias at once


def test_a_shortcut_is_a_number_of_the_sum() -> None:
    model, pixels = nets.residual(), nets.picture(dtype=torch.float32)
    titles = [stage.title for stage in explain_unit(model, pixels, "block2", 1, 2, 3).stages]
    assert "Sum with another branch" in titles


def test_a_number_of_joined_branches_is_followed_into_its_own_branch() -> None:
    model, pixels = nets.branching(), nets.picture(dtype=torch.float32)
    readers = [explain_unit(model, pixels, "act", channel, 5, 6).reader for channel in (0, 4, 9)]
    assert readers == ["narrow", "wide.2", "pooled.1"]


# Manners


def test_the_model_is_as_before_and_so_is_the_picture() -> None:
    model, pixels = nets.in_place(), nets.picture(dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    given = pixels.clone()
    explain_unit(model, pixels, "relu2", 1, 2, 3)
    assert torch.equal(pixels, given)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
    assert nets.lock_is_free(model)


def test_eight_threads_get_the_same_numbers() -> None:
    model = nets.in_place()
    wanted = [(seed, layer) for seed in range(4) for layer in ("conv1", "relu2", "conv3")]

    def ask(question: tuple[int, str]) -> tuple[float, float]:
        unit = explain_unit(model, nets.picture(question[0], dtype=torch.float32), question[1], 2, 3, 4)
        return unit.by_hand, unit.network

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, wanted)) == [ask(question) for question in wanted]


def test_a_tensor_changed_in_place_behind_a_view_is_not_mistaken_for_what_it_was() -> None:
    recording = Recording()
    x = torch.ones(1, 4)
    first = recording.begin(x)
    with recording:
        y = x * 2
        view = y.view(2, 2)
        view.add_(1)
        z = F.relu(y)
    assert z.tolist() == [[3.0] * 4]
    (source,) = recording.results[recording.value_of(z).number].operation.sources
    assert source.number > first.number
    assert recording.results[source.number].operation is None  # not known any more, and said so


def test_it_can_be_taken_away_as_numbers() -> None:
    unit = explain_unit(nets.gap(), nets.picture(dtype=torch.float32), "bn1", 3, 8, 9)
    file = np.load(BytesIO(to_npz(unit)))
    np.testing.assert_array_equal(file["patch"], unit.patch)
    facts = json.loads(str(file["facts"]))
    assert facts["unit"] == [3, 8, 9]
    assert facts["stages"][2][0] == "Batch norm"


@pytest.mark.parametrize(("place", "words"), [((6, 0, 0), "channel"), ((0, 41, 0), "row"), ((0, 0, -1), "column")])
def test_a_place_outside_of_the_layer_is_refused(place: tuple[int, int, int], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        explain_unit(nets.gap(), nets.picture(dtype=torch.float32), "conv1", *place)


def test_a_batch_norm_without_statistics_is_refused_in_words() -> None:
    model = nets.gap()
    model.net.bn1 = nn.BatchNorm2d(model.net.bn1.num_features, track_running_stats=False).eval().requires_grad_(False)
    with pytest.raises(UnsupportedModel, match="keeps no statistics"):
        explain_unit(model, nets.picture(dtype=torch.float32), "bn1", 3, 8, 9)


def test_an_unknown_layer_and_one_that_is_not_written_out_are_refused_in_words() -> None:
    with pytest.raises(LayerNotFound, match="conv1"):
        explain_unit(nets.gap(), nets.picture(dtype=torch.float32), "conv11", 0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Upsample(scale_factor=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x).mean((2, 3))

    with pytest.raises(UnsupportedModel, match="interpolate"):
        explain_unit(nets.model_of(Net, {}, classes=3), nets.picture(dtype=torch.float32), "up", 0, 1, 2)
