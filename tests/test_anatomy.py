"""A net taken apart: shapes, parameters, multiply-adds against counters that others wrote, and what textbooks say."""

from __future__ import annotations

import csv
import io
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable

import nets
import pytest
import torch
import torchinfo
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from app_pages.layer_table import table_of
from models import list_models
from models.catalogue import find_card
from models.efficientnet_lite import SameConv
from models.loading import structure
from vizcore.anatomy import Anatomy, anatomy, to_csv
from vizcore.hooks import list_layers
from vizcore.records import Model


@pytest.fixture(scope="module", params=[card.name for card in list_models()])
def giant(request: pytest.FixtureRequest) -> Model:
    return without_memory(request.param)


@pytest.fixture(scope="module")
def apart(giant: Model) -> Anatomy:
    return anatomy(giant)


@pytest.fixture(scope="module")
def vgg() -> Anatomy:
    return anatomy(without_memory("vgg16"))


def without_memory(name: str) -> Model:
    """A net of the catalogue whose tensors have shapes and no numbers: 138 million parameters cost nothing."""
    card = find_card(name)
    net = structure(card).to("meta").eval().requires_grad_(False)
    return Model(name, net, ("one", "two"), card.input_size, card.mean, card.std, dict(card.layers), device="meta")


def of(*layers: nn.Module, size: tuple[int, int] = nets.SIZE) -> Model:
    model = nets.model_of(lambda: nn.Sequential(*layers, nn.Flatten()), {})
    object.__setattr__(model, "input_size", size)
    return model


# ---- counters that others wrote -------------------------------------------------------------------------------


def test_shapes_parameters_and_multiply_adds_of_every_layer_are_those_of_torchinfo(
    giant: Model, apart: Anatomy
) -> None:
    size = (1, len(giant.mean), *giant.input_size)
    summary = torchinfo.summary(giant.net, input_size=size, device="meta", mode="eval", verbose=0)
    names = {id(module): name for name, module in giant.net.named_modules()}
    expected: dict[str, list[int]] = defaultdict(list)
    shapes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for info in summary.summary_list:
        shapes[names[id(info.module)]].append(tuple(info.output_size[1:]))
        own = dict(info.module.named_parameters(recurse=False))
        if not isinstance(info.module, (nn.Conv2d, nn.Linear)):
            continue
        places = math.prod(info.output_size[2:])
        biases = own["bias"].numel() * places if own.get("bias") is not None else 0  # which torchinfo counts as well
        expected[names[id(info.module)]] += [sum(p.numel() for p in own.values()), info.macs - biases]
    found = {
        layer.name: [layer.parameters, layer.multiply_adds]
        for layer in apart.layers
        if layer.family in ("convolution", "dense")
    }
    assert found == expected
    assert len(found) > 4
    modules = [layer for layer in apart.layers if layer.is_module]
    assert [(one.title, one.shape) for one in modules] == [(m.title, shapes[m.name][m.run - 1]) for m in modules]
    assert apart.parameters == summary.total_params


def test_multiply_adds_are_half_of_the_operations_that_torch_counts(giant: Model, apart: Anatomy) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        giant.net(torch.empty(1, len(giant.mean), *giant.input_size, device="meta"))
    assert 2 * apart.multiply_adds == counter.get_total_flops()


def test_every_parameter_is_in_exactly_one_layer(giant: Model, apart: Anatomy) -> None:
    assert (
        sum(layer.parameters for layer in apart.layers)
        == apart.parameters
        == sum(p.numel() for p in giant.net.parameters())
    )
    assert apart.idle == 0


def test_the_formula_gives_every_shape_of_every_net_and_only_behind_a_warp_is_a_field_not_known(
    apart: Anatomy,
) -> None:
    warps = ("affine_grid_generator", "grid_sampler_2d")
    kinds = [layer.kind for layer in apart.layers]
    warped = kinds.index(warps[0]) if apart.model_name == "stn_lenet" else len(kinds)
    for number, layer in enumerate(apart.layers):
        assert layer.by_formula == (() if layer.kind in warps else layer.shape), layer.title
        assert layer.known == (number < warped), layer.title


# ---- formula and run ------------------------------------------------------------------------------------------


def drawn(seed: int) -> nn.Module:
    draw = random.Random(seed)
    kernel = draw.randint(1, 5), draw.randint(1, 6)
    stride, dilation = (draw.randint(1, 4), draw.randint(1, 3)), (draw.randint(1, 3), draw.randint(1, 3))
    padding = draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2)
    ceil = draw.random() < 0.6
    return draw.choice(
        [
            lambda: nn.Conv2d(3, 6, kernel, stride, padding, dilation, draw.choice([1, 3])),
            lambda: nn.Conv2d(3, 6, kernel, stride, (padding[0] + 3, padding[1]), padding_mode="reflect"),
            lambda: SameConv(3, 9, kernel[0], stride[0], draw.choice([1, 3])),
            lambda: nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil),
            lambda: nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil),
            lambda: nn.LPPool2d(2, kernel, stride, ceil_mode=ceil),
            lambda: nn.ZeroPad2d((1, 0, 4, 2)),
            lambda: nn.AdaptiveMaxPool2d(kernel),
        ]
    )()


@pytest.mark.parametrize("seed", range(40))
def test_the_formula_is_what_runs_whatever_the_settings(seed: int) -> None:
    model = of(drawn(seed), size=(23 + seed % 5, 31 - seed % 7))
    with torch.no_grad():
        output = model.net[0](torch.zeros(1, 3, *model.input_size))
    layer = anatomy(model).layers[0]
    assert layer.by_formula == layer.shape == tuple(output.shape[1:])
    for size, text in zip(layer.shape[1:], layer.formulas, strict=False):
        assert value_of(text) == size
        assert text.endswith(f" = {size}")


def value_of(text: str) -> int:
    """The formula on the page, calculated as it stands there."""
    term = re.sub(r"\s*\(it .*?\)", "", text.split(" = ")[0])
    for sign, word in {"⌊": "math.floor(", "⌉": ")", "⌈": "math.ceil(", "⌋": ")", "·": "*", "−": "-"}.items():
        term = term.replace(sign, word)
    return eval(term, {"math": math})


def test_the_formula_stands_there_with_its_numbers() -> None:
    first = anatomy(of(nn.Conv2d(3, 64, (7, 5), (2, 1), (3, 0), (1, 2)), size=(224, 100))).layers[0]
    assert first.formulas == (
        "⌊(224 + 2·3 − 1·(7 − 1) − 1) / 2⌋ + 1 = 112",
        "⌊(100 + 2·0 − 2·(5 − 1) − 1) / 1⌋ + 1 = 92",
    )
    hanging = anatomy(of(nn.MaxPool2d(2, 3, ceil_mode=True), size=(9, 6))).layers[0]
    assert hanging.formulas[0] == "⌈(9 + 2·0 − 1·(2 − 1) − 1) / 3⌉ + 1 − 1 (it would begin behind the end) = 3"


def test_padding_inside_of_a_module_is_padding_of_that_layer() -> None:
    stem = anatomy(without_memory("efficientnet_lite0")).layers[0]
    assert stem.flat()["padding"] == "0+1 × 0+1"  # the odd pixel at the bottom right
    assert stem.formulas[0] == "⌊(224 + 0 + 1 − 1·(3 − 1) − 1) / 2⌋ + 1 = 112"
    assert stem.receptive_field == (3, 3)
    assert stem.centre == (1, 1)


@pytest.mark.parametrize("build", [nets.gap, nets.branching, nets.residual, nets.odd, nets.grey, nets.deep_head])
def test_shapes_and_order_are_those_of_a_pass_with_numbers(build: Callable[[], Model]) -> None:
    model = build()
    ran = {layer.name: layer.shape for layer in list_layers(model)}
    found = {layer.name: layer.shape for layer in anatomy(model).layers if layer.is_module and layer.name in ran}
    assert found == {name: shape for name, shape in ran.items() if name in found}
    assert list(found) == [name for name in ran if name in found]
    assert {name for name, module in model.net.named_modules() if not [*module.children()]} & set(ran) <= set(found)


def test_a_layer_around_another_comes_first() -> None:
    titles = [layer.title for layer in anatomy(without_memory("efficientnet_lite0")).layers]
    assert titles[:4] == ["conv_stem", "bn1", "bn1.act", "blocks.0.0.conv_dw"]


def test_sums_and_concatenations_and_pools_that_are_no_modules_are_layers() -> None:
    blocks = [layer for layer in anatomy(without_memory("resnet18")).layers if not layer.is_module]
    assert [layer.title for layer in blocks[:3]] == ["layer1.0: add", "layer1.1: add", "layer2.0: add"]
    assert {layer.family for layer in blocks} == {"join"}
    facts = anatomy(without_memory("googlenet"))
    joined = next(layer for layer in facts.layers if layer.kind == "cat")
    assert (joined.name, joined.shape) == ("inception3a", (256, 28, 28))


def test_a_module_that_runs_twice_is_there_twice_and_costs_its_parameters_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.unused = nn.Conv2d(3, 3, 3), nn.Linear(7, 5)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.conv(self.relu(self.conv(x)))).mean((2, 3))

    facts = anatomy(nets.model_of(Twice, {}))
    assert [layer.title for layer in facts.layers] == ["conv", "relu", "conv (run 2)", "relu (run 2)", "the net: mean"]
    assert [layer.parameters for layer in facts.layers] == [84, 0, 0, 0, 0]
    assert facts.layers[2].multiply_adds == 81 * 37 * 25
    assert (facts.parameters, facts.idle) == (84 + 40, 40)
    assert facts.layers[-1].family == "pooling"


def test_a_net_that_asks_for_numbers_is_taken_apart_all_the_same() -> None:
    class Asks(nets.GapNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1.0 if float(x.sum()) > 1e9 else 2.0)

    plain, asks = anatomy(nets.gap()), anatomy(nets.model_of(Asks, nets.ROLES))
    lines = [layer.flat() for layer in asks.layers if layer.is_module]
    assert lines == [layer.flat() for layer in plain.layers]
    assert asks.layers[-1].kind == "mul"


@pytest.mark.parametrize("build", [nets.branching, nets.residual, nets.odd, nets.reused, nets.no_conv])
def test_a_pass_with_numbers_finds_the_same(build: Callable[[], Model], monkeypatch: pytest.MonkeyPatch) -> None:
    found = to_csv(anatomy(build()))

    def refuse(net: nn.Module) -> nn.Module:
        raise RuntimeError

    monkeypatch.setattr("vizcore.runs.replica", refuse)
    assert to_csv(anatomy(build())) == found


def test_taking_apart_leaves_the_net_as_it_was() -> None:
    model = nets.reused()
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    anatomy(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
    assert nets.lock_is_free(model)


def test_what_one_counts_on_a_small_net() -> None:
    """All numbers by hand: 3 × 4 kernels of 2 channels, one group each, then ten numbers to five classes."""
    net = [nn.Conv2d(3, 6, (3, 4), (2, 1), groups=3), nn.ReLU(), nn.MaxPool2d((5, 4), (1, 1)), nn.Flatten()]
    facts = anatomy(of(*net, nn.Linear(36, 5), size=(13, 9)))
    conv, relu, pool, flatten, dense = facts.layers[:5]
    assert conv.shape == (6, 6, 6)
    assert conv.parameters == 6 * (1 * 3 * 4) + 6
    assert conv.multiply_adds == 6 * 6 * 6 * (1 * 3 * 4)
    assert conv.groups == 3
    assert conv.tensors == {"weight": (6, 1, 3, 4), "bias": (6,)}
    assert pool.shape == (6, 2, 3)
    assert (relu.parameters, relu.multiply_adds, relu.activations, relu.memory) == (0, 0, 216, 864)
    assert (flatten.shape, dense.shape, dense.parameters, dense.multiply_adds) == ((36,), (5,), 185, 180)
    assert facts.activations_of_slides == 3 * 13 * 9 + 216 + 36 + 5
    assert facts.activations == facts.activations_of_slides + 216 + 36 + 5  # ReLU, flatten, and one more flatten


# ---- what the textbooks say -----------------------------------------------------------------------------------


def test_of_vggs_parameters_most_are_in_one_layer(vgg: Anatomy) -> None:
    assert vgg.parameters == 138_357_544
    assert vgg.largest.name == "classifier.0"
    assert vgg.largest.parameters == 102_764_544 == 7 * 7 * 512 * 4096 + 4096
    assert vgg.multiply_adds == 15_470_264_320
    assert vgg.widest.name == "features.0"
    assert vgg.busiest.name == "features.2"


def test_vggs_activations_are_15_million_as_the_slides_lines_add_up_and_not_their_24() -> None:
    """CS231n's table of VGG-16, line by line; below it they write 24M · 4 bytes = 93 MB, which is not its sum."""
    table = [(224, 3), *2 * [(224, 64)], (112, 64), *2 * [(112, 128)], (56, 128), *3 * [(56, 256)], (28, 256)]
    table += [*3 * [(28, 512)], (14, 512), *3 * [(14, 512)], (7, 512), (1, 4096), (1, 4096), (1, 1000)]
    lines = [side * side * channels for side, channels in table]
    facts = anatomy(without_memory("vgg16"))
    counted = [layer.activations for layer in facts.layers if layer.family in ("convolution", "pooling", "dense")]
    assert [3 * 224 * 224, *counted] == lines
    assert facts.activations_of_slides == sum(lines) == 15_237_608
    assert round(4 * sum(lines) / 1e6) == 61
    assert round(4 * sum(lines) / 2**20) == 58
    assert facts.activations == 28_826_600  # what comes out of ReLU, dropout and reshaping as well: 115 MB
    assert 4 * sum(lines) < 93e6 < 4 * facts.activations


def test_receptive_fields_are_those_that_are_published() -> None:
    """Araujo, Norris & Sim 2019, table 1: AlexNet 195, VGG-16 212, both with a stride of 32, at the last pooling."""
    for name, layer, extent in [("alexnet", "features.12", 195), ("vgg16", "features.30", 212)]:
        last = next(facts for facts in anatomy(without_memory(name)).layers if facts.name == layer)
        assert last.receptive_field == (extent, extent)
        assert last.jump == (32, 32)


def test_behind_a_dense_layer_or_a_global_average_all_of_the_picture_is_seen(giant: Model, apart: Anatomy) -> None:
    last = apart.layers[-1]
    assert {"dense", "pooling"} & {layer.family for layer in apart.layers[-3:]}
    assert last.receptive_field == giant.input_size
    assert last.sees
    assert last.sees.is_whole


# ---- the file -------------------------------------------------------------------------------------------------


def test_the_file_has_every_layer_in_order_with_its_numbers(vgg: Anatomy) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(vgg))))
    assert [line["layer"] for line in lines] == [layer.title for layer in vgg.layers]
    assert sum(int(line["parameters"]) for line in lines) == 138_357_544
    assert lines[2]["shape by formula"] == lines[2]["shape as run"] == "64 × 224 × 224"
    assert all(len(line) == 18 and None not in line for line in lines)


def test_where_a_field_is_not_known_the_file_and_the_table_are_empty_there() -> None:
    facts = anatomy(without_memory("stn_lenet"))
    line = next(line for line in csv.DictReader(io.StringIO(to_csv(facts))) if line["layer"] == "conv1")
    assert [line[name] for name in ("receptive field", "jump", "centre")] == ["", "", ""]
    assert line["sees the whole picture"] == "at most"
    table = table_of(facts).set_index("layer")
    columns = [name for name in table.columns if name.startswith(("sees", "jump", "centre"))]
    assert table.loc["conv1", columns].isna().all()
    assert table.loc["transformer.locate.conv2", columns].tolist() == [13, 4, 6]


def test_titles_are_there_once(apart: Anatomy) -> None:
    titles = [layer.title for layer in apart.layers]
    assert len(set(titles)) == len(titles)


def test_functional_activations_between_layers_are_seen() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.flatten(F.adaptive_avg_pool2d(F.relu_(self.conv(x)), 1), 1))

    layers = anatomy(nets.model_of(Between, {})).layers
    assert [(layer.title, layer.family) for layer in layers] == [
        ("conv", "convolution"),
        ("the net: relu", "activation"),
        ("the net: mean", "pooling"),
        ("fc", "dense"),
    ]
