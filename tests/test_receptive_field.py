"""What a unit sees: the arithmetic against pixels changed one by one, the gradient against kernels and differences."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import load_model
from models.efficientnet_lite import SameConv
from vizcore.activations import activation_maps
from vizcore.anatomy import anatomy
from vizcore.fields import Window
from vizcore.hooks import list_layers, map_layers
from vizcore.receptive_field import effective, field_of, theoretical
from vizcore.records import BadParameter, LayerNotFound, Model

SIZE = (27, 22)


def positive(build: Callable[[], nn.Module]) -> Model:
    """A net in which nothing can hide a pixel: all numbers are above zero, so whatever is read shows."""
    model = nets.plain_pixels(nets.model_of(build, {}, torch.float64))
    with torch.no_grad():
        for name, tensor in [*model.net.named_parameters(), *model.net.named_buffers()]:
            if tensor.is_floating_point():
                tensor.abs_().add_(0.1)
            if name.endswith("running_mean"):
                tensor.neg_()
    object.__setattr__(model, "input_size", SIZE)
    return model


def reached(model: Model, layer: str) -> np.ndarray:
    """(H, W, h, w) bool: which pixel changes which unit of a layer, each pixel made brighter alone."""
    h, w = SIZE
    pixels = torch.full((h * w + 1, 3, h, w), 0.5, dtype=torch.float64)
    places = torch.arange(h * w)
    pixels[places, :, places // w, places % w] = 1e3  # above all others, so that it is the maximum where it is read
    found: list[Tensor] = []
    module = model.net.get_submodule(layer)
    handle = module.register_forward_hook(lambda _, args, output: found.append(output.clone()))
    try:
        with torch.no_grad():
            model.net(pixels)
    finally:
        handle.remove()
    changed = (found[0][:-1] - found[0][-1]).abs().amax(1) > 1e-12  # (HW, h, w)
    return changed.view(h, w, *changed.shape[1:]).numpy()


def boxes(model: Model, layer: str) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    field = field_of(model, layer)
    units = itertools.product(range(len(field.rows.first)), range(len(field.columns.first)))
    return {unit: field.box(*unit) for unit in units}


def box_around(pixels: np.ndarray) -> tuple[int, int, int, int] | None:
    """The smallest rectangle that holds all True of (H, W); None where there is none."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


def check_against_pixels(model: Model, layer: str, *, filled: bool = False) -> None:
    seen, expected = boxes(model, layer), reached(model, layer)
    assert len(seen) == expected.shape[2] * expected.shape[3]
    for (row, column), box in seen.items():
        pixels = expected[:, :, row, column]
        around = box_around(pixels)
        if around is None:
            assert box[0] == box[2] or box[1] == box[3], "a unit of padding alone sees nothing"
            continue
        assert box == around, (row, column)
        if filled:
            assert pixels[box[1] : box[3], box[0] : box[2]].all()
            assert pixels.sum() == (box[2] - box[0]) * (box[3] - box[1])


# ---- against pixels changed one by one ------------------------------------------------------------------------


def drawn(seed: int, *, gaps: bool) -> list[nn.Module]:
    """Two to four convolutions and poolings with any settings; without ``gaps`` every cell in between is read."""
    draw = random.Random(seed)
    layers: list[nn.Module] = []
    channels, size = 3, SIZE
    for _ in range(draw.randint(2, 4)):
        kernel = draw.randint(1, 4), draw.randint(1, 4)
        stride = tuple(draw.randint(1, 3 if gaps else min(k, 2)) for k in kernel)
        dilation = (draw.randint(1, 3), draw.randint(1, 3)) if gaps else (1, 1)
        padding = tuple(draw.randint(0, k // 2) for k in kernel)
        kind = draw.choice(["conv", "conv", "max", "average"])
        if kind == "average":
            dilation = (1, 1)
        if any(
            Window(*one).size_of(n) < 3
            for one, n in zip(per_axis(kernel, stride, padding, dilation), size, strict=True)
        ):
            break
        if kind == "conv":
            layer: nn.Module = nn.Conv2d(channels, 6, kernel, stride, padding, dilation, draw.choice([1, 3]))
            channels = 6
        elif kind == "max":
            layer = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw.random() < 0.5)
        else:
            layer = nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw.random() < 0.5)
        layers.append(layer)
        size = layer(torch.empty(1, channels if kind != "conv" else layer.in_channels, *size)).shape[2:]
    assert layers
    return layers


def per_axis(kernel, stride, padding, dilation) -> list[tuple[int, int, int, int, int]]:
    return [(k, s, p, p, d) for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)]


class Chain(nn.Module):
    """Layers one behind the other, the last one called "last", and a head that answers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.last = nn.Sequential(*layers), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x)).flatten(1)


@pytest.mark.parametrize("seed", range(12))
def test_the_rectangle_holds_exactly_the_pixels_that_change_the_unit(seed: int) -> None:
    check_against_pixels(positive(lambda: Chain(*drawn(seed, gaps=False))), "last", filled=True)


@pytest.mark.parametrize("seed", range(100, 116))
def test_with_dilation_and_gaps_each_side_of_the_rectangle_is_read(seed: int) -> None:
    check_against_pixels(positive(lambda: Chain(*drawn(seed, gaps=True))), "last")


class Functional(nn.Module):
    """Padding, sums, concatenation, a slice and pools that are no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.wide = SameConv(3, 6, 3, 2), nn.Conv2d(6, 6, 5, padding=2)
        self.mixed, self.last = nn.Conv2d(12, 4, 3), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.same(x)
        y = self.wide(F.pad(x, (1, 0, 0, 2)))[:, :, 1:, ::2]
        z = F.avg_pool2d(x, (2, 3), (1, 2), (1, 1))[:, :, : y.shape[2], : y.shape[3]]
        z = F.relu(z, inplace=True)
        y = y[..., : z.shape[2], : z.shape[3]]
        y += z.mul(2)
        return self.last(F.max_pool2d(self.mixed(torch.cat([y, z], 1)), 2, ceil_mode=True)).flatten(1)


class Shuffled(nn.Module):
    """Channels taken apart, shuffled and normalised among neighbours: none of it moves a place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.LocalResponseNorm(3, alpha=1e-9)
        self.second, self.last = nn.Conv2d(8, 8, 3, stride=2), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        one, other = self.second(x).chunk(2, 1)
        return self.last(torch.stack([one, other], 2).flatten(1, 2)).flatten(1)


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (nets.BranchNet, "act"),
        (nets.ResidualNet, "block2"),
        (nets.OddNet, "conv3"),
        (lambda: Chain(nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"), nn.MaxPool2d(3, 2, 1)), "last"),
        (lambda: Chain(nn.Conv2d(3, 4, (2, 4), padding="same"), nn.ZeroPad2d((2, 0, 1, 3)), nn.AvgPool2d(3)), "last"),
        (lambda: Chain(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d((5, 4)), nn.Conv2d(4, 3, 2)), "last"),
        (lambda: Chain(SameConv(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), SameConv(6, 6, 5, 2, groups=6)), "last"),
        (Functional, "last"),
        (Shuffled, "last"),
    ],
    ids=["branches", "shortcuts", "odd", "replicate", "same", "adaptive", "efficientnet", "functional", "shuffled"],
)
def test_branches_shortcuts_and_operations_that_are_no_modules_are_read_as_they_are(build, layer: str) -> None:
    check_against_pixels(positive(build), layer)


def test_behind_a_gate_that_averages_the_picture_every_unit_sees_all_of_it() -> None:
    class Gated(Chain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.layers(x)
            return self.last(x * x.mean((2, 3), keepdim=True)).flatten(1)

    model = positive(lambda: Gated(nn.Conv2d(3, 4, 3, stride=2, padding=1)))
    check_against_pixels(model, "last")
    assert field_of(model, "last").is_whole
    assert field_of(model, "last").known


def test_what_averages_rows_alone_is_said_to_see_at_most_the_picture() -> None:
    class Rows(Chain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.layers(x)
            return self.last(x * x.mean(2, keepdim=True)).flatten(1)

    model = positive(lambda: Rows(nn.Conv2d(3, 4, 3, stride=2, padding=1)))
    assert not field_of(model, "last").known
    changed = reached(model, "last")
    for (row, column), (left, top, right, bottom) in boxes(model, "last").items():
        around = box_around(changed[:, :, row, column])
        assert around
        assert left <= around[0]
        assert top <= around[1]
        assert right >= around[2]
        assert bottom >= around[3]


@pytest.mark.parametrize("act", [nn.Hardswish, nn.ReLU6, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Mish])
def test_activations_in_place_and_not_move_nothing(act: Callable[..., nn.Module]) -> None:
    for inplace in (False, True):
        facts = anatomy(positive(lambda inplace=inplace: Chain(nn.Conv2d(3, 4, (3, 5)), act(inplace=inplace)))).layers[
            1
        ]
        assert facts.sees
        assert facts.sees.known
        assert (facts.receptive_field, facts.family, facts.by_formula) == ((3, 5), "activation", facts.shape)


@pytest.mark.parametrize(
    "norm",
    [lambda: nn.GroupNorm(2, 4), lambda: nn.InstanceNorm2d(4, affine=True)],
    ids=["group norm", "instance norm"],
)
def test_behind_a_norm_of_whole_maps_every_unit_sees_the_picture_and_no_window_adds_to_it(norm) -> None:
    model = positive(
        lambda: Chain(nn.Conv2d(3, 4, 3, 2, 1), norm(), nn.Conv2d(4, 4, 3, 2, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2))
    )
    check_against_pixels(model, "last")
    first, *behind = anatomy(model).layers
    assert (first.receptive_field, first.jump) == ((3, 3), (2, 2))
    for layer in behind:
        assert layer.known
        assert layer.receptive_field == SIZE
        assert layer.jump == (0, 0)
        assert layer.centre == (13, 10.5)


def test_behind_a_gate_no_window_adds_to_the_picture_either() -> None:
    class Gated(Chain):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
                x = x * x.mean((2, 3), keepdim=True).sigmoid()
            return self.last(x).flatten(1)

    model = positive(lambda: Gated(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 2, 3)))
    last = next(layer for layer in anatomy(model).layers if layer.name == "last")
    assert last.known
    assert (last.receptive_field, last.jump, last.centre) == (SIZE, (0, 0), (13, 10.5))


def test_on_one_cell_that_sees_the_picture_padding_adds_nothing() -> None:
    field = field_of(positive(lambda: Chain(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 3, padding=1))), "last")
    assert (field.rows.extent, field.columns.extent) == SIZE


def test_what_all_units_read_of_one_place_is_part_of_what_each_of_them_sees() -> None:
    class OnePlace(Chain):
        def forward(self, x: Tensor) -> Tensor:
            first, second = self.layers
            x = first(x)
            return self.last(second(x * x[:, :, 4:5, 3:4])).flatten(1)

    model = positive(lambda: OnePlace(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3)))
    check_against_pixels(model, "last")
    field = field_of(model, "last")
    assert (field.rows.extent, field.columns.extent) == (27, 21)  # the last column is left over
    assert field.rows.jump == field.columns.jump == 0


class Mixed(nn.Module):
    """A block as ConvNeXt has it: channels last for a norm and two dense layers, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, (3, 5), padding=1, groups=channels)
        self.norm, self.act = nn.LayerNorm(channels), nn.GELU()
        self.wider, self.narrower = nn.Linear(channels, 9), nn.Linear(9, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x).permute(0, 2, 3, 1)
        return self.narrower(self.act(self.wider(self.norm(x)))).permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of each place: channels last inside alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2).transpose(2, 3)).permute(0, 3, 1, 2)


def convnext() -> Model:
    """Its maps have as many columns as channels, so that sizes do not tell which are which."""
    return positive(lambda: Chain(nn.Conv2d(3, 11, 3, 2, 1), LayerNorm2d(11), Mixed(11), nn.Conv2d(11, 4, 3, 2)))


def test_channels_that_come_last_and_go_back_move_no_place() -> None:
    model = convnext()
    assert model.net.layers[0](torch.zeros(1, 3, *SIZE, dtype=torch.float64)).shape[1:] == (11, 14, 11)
    check_against_pixels(model, "layers.1")
    check_against_pixels(model, "last")
    assert all(layer.known for layer in anatomy(model).layers)
    assert field_of(model, "layers.1").box(0, 0) == (0, 0, 2, 2)


class Inside(Chain):
    """One layer, and something done to what comes out of it while its channels are last."""

    def __init__(self, done: Callable[[Tensor], Tensor]) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, 2, 1))
        self.done = done

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.done(self.layers(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).flatten(1)


def test_channels_are_split_joined_and_padded_while_they_are_last() -> None:
    def done(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return F.pad(torch.cat([2 * first, second.unsqueeze(1).squeeze(1)], -1), (1, 2))

    model = positive(lambda: Inside(done))
    check_against_pixels(model, "last")
    assert field_of(model, "last").known


@pytest.mark.parametrize(
    "done",
    [
        lambda x: F.pad(x, (0, 0, 1, 0)),
        lambda x: torch.cat([x, x], 2),
        lambda x: x.unsqueeze(2).flatten(2, 3).flip(1),
        lambda x: x.reshape(-1, 4).view(len(x), x.shape[2], x.shape[1], 4),
    ],
    ids=["padded", "joined", "turned", "laid otherwise"],
)
def test_what_moves_places_while_channels_are_last_is_said_to_see_at_most_the_picture(done) -> None:
    field = field_of(positive(lambda: Inside(done)), "last")
    assert field.is_whole
    assert not field.known


def test_rows_that_change_places_with_columns_are_said_to_see_at_most_the_picture() -> None:
    class Turned(Chain):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.layers(x).transpose(2, 3)).flatten(1)

    field = field_of(positive(lambda: Turned(nn.Conv2d(3, 4, 3))), "last")
    assert field.is_whole
    assert not field.known


def test_a_norm_over_columns_alone_is_said_to_see_at_most_the_picture() -> None:
    field = field_of(positive(lambda: Chain(nn.Conv2d(3, 4, 3), nn.LayerNorm(20))), "last")
    assert field.is_whole
    assert not field.known


def test_maps_with_channels_last_pass_for_maps_nowhere() -> None:
    model = convnext()
    inside = {f"layers.2.{name}" for name in ("norm", "wider", "act", "narrower")}
    names = {layer.name for layer in list_layers(model)}
    assert not inside & names
    assert {"layers.0", "layers.1", "layers.2", "layers.2.depthwise", "last"} <= names
    facts = {layer.name: layer for layer in anatomy(model).layers}
    assert {name for name, layer in facts.items() if layer.is_map} & inside == set()
    assert facts["layers.1"].is_map
    assert facts["layers.2.act"].flat()["jump"] == ""
    for name in inside:
        with pytest.raises(LayerNotFound, match="map_layers"):
            theoretical(model, name, (0, 0))
    for name in ("norm", "wider"):
        with pytest.raises(LayerNotFound, match="not maps"):
            activation_maps(model, torch.rand(1, 3, *SIZE, dtype=torch.float64), f"layers.2.{name}")


def test_dense_layers_that_give_maps_are_known_for_it_whatever_was_before_them() -> None:
    class Unknown(Chain):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.layers(x.cumsum(1))).flatten(1)  # of which nobody told where it reads

    model = positive(lambda: Unknown(nn.Linear(22, 5), nn.ReLU(), nn.Linear(5, 4)))
    assert not map_layers(model)


def test_behind_a_learned_warp_every_unit_is_said_to_see_at_most_the_picture() -> None:
    class Warped(Chain):
        def forward(self, x: Tensor) -> Tensor:
            first, *others = self.layers
            turn = torch.tensor([[[0.8, 0.2, 0.1], [-0.3, 0.9, 0.0]]], dtype=x.dtype).to(x.device).expand(len(x), 2, 3)
            x = first(x)
            x = F.grid_sample(x, F.affine_grid(turn, list(x.shape), align_corners=False), align_corners=False)
            for layer in others:
                x = layer(x)
            return self.last(x).flatten(1)

    model = positive(lambda: Warped(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5, 2), nn.Conv2d(4, 2, 3)))
    for layer in anatomy(model).layers[1:]:
        assert not layer.known
        assert (layer.receptive_field, layer.jump) == (SIZE, (0, 0))
        assert layer.sees
        assert layer.sees.is_whole


def test_what_reads_where_nobody_told_is_said_to_see_at_most_the_picture() -> None:
    class Enlarged(Chain):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.interpolate(self.layers(x), scale_factor=2.0, mode="bilinear")).flatten(1)

    field = field_of(positive(lambda: Enlarged(nn.Conv2d(3, 4, 3))), "last")
    assert field.is_whole
    assert not field.known


# ---- the recurrences ------------------------------------------------------------------------------------------


def test_lenets_fields_are_those_found_by_hand() -> None:
    facts = {layer.name: layer for layer in anatomy(load_model("lenet5")).layers}
    by_hand = {"conv1": (5, 1, 0), "pool1": (6, 2, 0.5), "conv2": (14, 2, 4.5), "pool2": (16, 4, 5.5)}
    for name, (extent, jump, centre) in by_hand.items():
        assert facts[name].receptive_field == (extent, extent)
        assert facts[name].jump == (jump, jump)
        assert facts[name].centre == (centre, centre)
    assert facts["fc1"].receptive_field == (28, 28)


def test_in_the_middle_of_a_large_picture_the_rectangle_has_the_size_and_the_centre_of_the_recurrences() -> None:
    model = positive(lambda: Chain(nn.Conv2d(3, 4, (3, 5), (2, 1), 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)))
    object.__setattr__(model, "input_size", (90, 70))
    field = field_of(model, "last")
    assert (field.rows.extent, field.columns.extent) == (13, 10)
    for row, column in [(8, 9), (11, 15)]:
        left, top, right, bottom = theoretical(model, "last", (row, column))
        assert (bottom - top, right - left) == (13, 10)
        assert (top + bottom - 1) / 2 == field.rows.centre + row * field.rows.jump
        assert (left + right - 1) / 2 == field.columns.centre + column * field.columns.jump


def test_a_picture_of_another_shape_changes_the_rectangles_and_not_the_recurrences() -> None:
    model = positive(lambda: Chain(*drawn(3, gaps=False)))
    small = field_of(model, "last")
    object.__setattr__(model, "input_size", (60, 31))
    large = field_of(model, "last")
    assert (small.rows.extent, small.rows.jump, small.rows.start) == (
        large.rows.extent,
        large.rows.jump,
        large.rows.start,
    )
    assert len(large.rows.first) > len(small.rows.first)


# ---- what does count ------------------------------------------------------------------------------------------


def test_of_one_convolution_the_effective_field_is_its_kernel() -> None:
    model = nets.plain_pixels(nets.model_of(lambda: Chain(nn.Conv2d(3, 5, (3, 4), 2, 1)), {}, torch.float64))
    found = effective(model, nets.picture(1), "last", (2, 3, 4))
    kernel = model.net.layers[0].weight[2].abs().sum(0).float().numpy()  # (3, 4)
    expected = np.zeros(nets.SIZE, np.float32)
    expected[5:8, 7:11] = kernel
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert theoretical(model, "last", (3, 4)) == (7, 5, 11, 8)


def test_the_effective_field_is_what_small_changes_of_the_pixels_do() -> None:
    model, pixels = nets.grey(torch.float64), nets.picture(2)
    unit, step = (3, 8, 5), 1e-5

    def answer(changed: Tensor) -> float:
        x = model.normalise(changed)
        net = model.net
        return float(net.act2(net.conv2(net.act1(net.conv1(x))))[(0, *unit)])

    found = effective(model, pixels, "act2", unit)
    assert found.activation == pytest.approx(answer(pixels))
    for row, column in [(18, 12), (20, 11), (14, 9), (0, 0)]:
        moved = 0.0
        for colour in range(3):
            more, less = pixels.clone(), pixels.clone()
            more[0, colour, row, column] += step
            less[0, colour, row, column] -= step
            moved += abs(answer(more) - answer(less)) / (2 * step)
        assert found.values[row, column] == pytest.approx(moved, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_outside_of_the_rectangle_no_pixel_counts(seed: int) -> None:
    model = nets.model_of(lambda: Chain(*drawn(seed, gaps=True)), {}, torch.float64)
    object.__setattr__(model, "input_size", SIZE)
    height, width = next(layer.shape[1:] for layer in map_layers(model) if layer.name == "last")
    for unit in [(0, 0, 0), (1, height // 2, width // 2), (2, height - 1, width - 1)]:
        values = effective(model, nets.picture(seed, SIZE), "last", unit).values.copy()
        assert values.any()
        left, top, right, bottom = theoretical(model, "last", unit[1:])
        values[top:bottom, left:right] = 0
        assert not values.any()


def test_of_a_deep_net_half_of_what_counts_comes_from_a_small_part_of_the_rectangle() -> None:
    """Luo et al.: the influence fades from the middle on."""
    model = load_model("efficientnet_lite0")
    pixels = nets.picture(0, (224, 224)).float()
    found = effective(model, pixels, "blocks.3.0.bn3", (5, 7, 7))
    left, top, right, bottom = theoretical(model, "blocks.3.0.bn3", (7, 7))
    outside = found.values.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()
    assert 0 < found.area(0.5) < 0.25 * (right - left) * (bottom - top)


def test_a_unit_that_is_shut_is_moved_by_no_pixel() -> None:
    model = nets.gap(torch.float64)
    with torch.no_grad():
        model.net.conv3.bias[0] = -1e3
    found = effective(model, nets.picture(0), "relu3", (0, 3, 3))
    assert found.activation == 0
    assert not found.values.any()
    assert found.area() == 0


def test_a_number_of_a_vector_has_an_effective_field_too() -> None:
    found = effective(nets.gap(torch.float64), nets.picture(0), "classifier", (2,))
    assert found.values.shape == nets.SIZE
    assert (found.values > 0).mean() > 0.9


def test_the_fewest_pixels_that_hold_a_share_are_counted() -> None:
    model = nets.plain_pixels(nets.model_of(lambda: Chain(nn.Conv2d(3, 1, (1, 4))), {}, torch.float64))
    with torch.no_grad():
        model.net.layers[0].weight.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0]).expand(1, 3, 1, 4))
    found = effective(model, nets.picture(0), "last", (0, 2, 2))
    assert [found.area(share) for share in (0.1, 0.4, 0.5, 0.8, 1.0)] == [1, 1, 2, 3, 4]
    with pytest.raises(BadParameter, match="share"):
        found.area(0)


def test_looking_leaves_the_net_as_it_was() -> None:
    model = nets.in_place()
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    pixels = nets.picture(0).float()
    effective(model, pixels, "relu1", (1, 2, 3))
    theoretical(model, "relu1", (2, 3))
    with pytest.raises(BadParameter):
        effective(model, pixels, "relu1", (1, 2, 99))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.net.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
    assert not pixels.requires_grad
    assert nets.lock_is_free(model)
    assert torch.is_grad_enabled()


def test_layers_without_units_at_places_and_units_that_are_not_there_are_refused() -> None:
    model = nets.reused()
    for layer in ("classifier", "relu", "unused", "convs"):
        with pytest.raises(LayerNotFound, match="map_layers"):
            theoretical(model, layer, (0, 0))
    with pytest.raises(LayerNotFound, match="conv1"):
        theoretical(model, "conv", (0, 0))
    for unit in [(-1, 0), (0, 27), (3,), (0, 0, 0)]:
        with pytest.raises(BadParameter, match="counted from 0"):
            theoretical(model, "conv1", unit)
