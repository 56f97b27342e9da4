"""Every net of the catalogue: its figures, its roles, and that every method runs on it; and any CNN of timm by name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import torch
from test_app import chosen, no_weights_of_the_loader, visit  # noqa: F401 - a fixture
from test_contract import unchanged
from torch import Tensor, nn
from variants import answers_of, effect, error, full_passes

from models import Card, fetching, list_models, load_model, timm_nets
from models.catalogue import find_card, hub_cache
from models.labels import CIFAR10
from models.loading import structure
from models.torchvision_guard import guarded_import
from vizcore.activations import activation_maps
from vizcore.cam import CAM_METHODS, cam
from vizcore.embedding import extract_features
from vizcore.filters import filters
from vizcore.hooks import map_layers, trace
from vizcore.incremental import Variants
from vizcore.occlusion import occlusion
from vizcore.records import BadParameter, BadWeights, Model, UnsupportedModel

ROOT = Path(__file__).parents[1]
CARDS = {card.name: card for card in list_models()}
# Large, or so much like a neighbour that the whole set is soon enough.
SLOW = {"alexnet", "zfnet", "vgg11", "vgg16", "vgg19", "resnet50", "resnet152", "xception", "efficientnet_lite1"}
PARAMETERS = {  # as their authors, torchvision and timm state them; of those in CIFAR-10's form, counted by hand
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "lenet5": 61_706,
    "photonet": 371_114,
    "alexnet": 61_100_840,
    "zfnet": 62_357_608,
    "network_in_network": 966_986,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "googlenet": 6_624_904,
    "all_conv": 1_369_738,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
    "stn_lenet": 124_588,
    "dilated": 297_866,
    "xception": 22_855_952,
    "mobilenet_v2": 3_504_872,
}
GAP_AND_ONE_LAYER = {  # where CAM as Zhou et al. 2016 have it is defined
    *("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "googlenet", "resnet18", "resnet50"),
    *("resnet152", "dilated", "xception", "mobilenet_v2", "network_in_network", "all_conv", "photonet"),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PARAMETERS],
)
def model(request: pytest.FixtureRequest) -> Model:
    """Each net in turn, trained where its weights come with it; one at a time in memory."""
    card = CARDS[request.param]
    return load_model(card.name, "default" if card.origin in ("package", "shipped") else None)


def size_of(model: Model) -> tuple[int, int]:
    """A small picture, taller than wide where the net allows it."""
    if model.name in ("lenet5", "stn_lenet"):
        return model.input_size  # their dense layers want that size
    if model.input_size[0] < 64:
        return (26, 23)
    return (96, 72) if model.name in ("alexnet", "zfnet") else (72, 56)


def noise(model: Model, n: int = 1) -> Tensor:
    return torch.rand(n, 3, *size_of(model), generator=torch.Generator().manual_seed(1))


# ---- figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    net = structure(CARDS[name])
    assert sum(parameter.numel() for parameter in net.parameters()) == CARDS[name].parameters == PARAMETERS[name]


def test_names_and_titles_are_unique_and_every_card_says_when_and_by_whom() -> None:
    cards = list_models()
    assert set(PARAMETERS) <= set(CARDS)
    assert len({card.name for card in cards}) == len({card.title for card in cards}) == len(cards)
    for card in cards:
        assert 1989 <= (card.year or 0) <= 2026
        assert card.paper
        assert card.summary.endswith(".")
        assert card.licence


def test_the_packages_that_carry_weights_stand_in_requirements_txt() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines if "==" in line}
    packages = [card.package for card in list_models() if card.origin == "package"]
    assert len(packages) == 3
    for package in packages:
        assert re.sub(r"[-_.]+", "-", packages_distributions()[package][0]).lower() in listed


def test_listing_the_cards_and_asking_whether_they_are_ready_takes_milliseconds() -> None:
    start = time.perf_counter()
    for _ in range(10):
        [card.ready() for card in list_models()]
    assert (time.perf_counter() - start) / 10 < 0.05


def test_zfnets_maps_are_as_large_as_in_the_paper() -> None:
    x, sides = torch.empty(1, 3, 224, 224, device="meta"), {}
    for name, layer in structure(CARDS["zfnet"]).named_children():
        x = layer(x)
        sides[name] = x.shape[-1]
    expected = {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6}  # figure 3
    assert expected.items() <= sides.items()
    assert sides["resize"] == sides["pool5"]


def test_what_one_value_of_the_dilated_net_sees_grows_as_in_the_paper_and_maps_stay_large() -> None:
    net = structure(CARDS["dilated"])
    fields = np.cumsum([2 * module.dilation[0] for module in net if isinstance(module, nn.Conv2d)][2:]) + 1
    assert fields.tolist() == [3, 5, 9, 17, 33, 65, 67]  # table 1
    with torch.device("meta"):
        assert nn.Sequential(*list(net)[:-3])(torch.empty(1, 3, 32, 24)).shape == (1, 64, 32, 24)


@pytest.mark.parametrize("name", ["network_in_network", "all_conv"])
def test_a_score_is_the_mean_of_the_map_of_its_class(name: str) -> None:
    model = load_model(name, weights=None)
    with trace(model, [model.layers["classifier"]]) as seen:
        scores = model.logits(noise(model, 2))
        torch.testing.assert_close(scores, seen[model.layers["classifier"]].mean((2, 3)))
    assert scores.min() < 0


def test_the_nets_for_cifar10_name_its_classes() -> None:
    for name in ("network_in_network", "all_conv", "dilated"):
        assert load_model(name, weights=None).labels == CIFAR10
    assert len(set(CIFAR10)) == 10


# ---- structures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PARAMETERS, "timm/resnetblur18"])
def test_a_structure_takes_no_memory_and_another_number_of_classes_changes_its_last_layer_alone(name: str) -> None:
    card = find_card(name)
    whole, other = structure(card).state_dict(), structure(card, 7).state_dict()
    assert list(whole) == list(other)
    assert all(tensor.is_meta for tensor in (whole | other).values())
    head = card.layers["classifier"] + "."
    for key, tensor in whole.items():
        assert other[key].shape == (torch.Size([7, *tensor.shape[1:]]) if key.startswith(head) else tensor.shape)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True, "10"])
def test_a_number_of_classes_that_is_none_is_refused(classes: object) -> None:
    with pytest.raises(BadParameter, match=r"classes is .*whole number from 1"):
        structure(CARDS["lenet5"], classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["network_in_network", "resnet18", "all_conv"])
def test_a_net_with_another_last_layer_runs_and_has_as_many_scores(name: str) -> None:
    net = structure(CARDS[name], 1).eval()
    assert net(torch.empty(2, 3, 64, 48, device="meta")).shape == (2, 1)


# ---- every method on every net ------------------------------------------------------------------------------


def test_every_role_names_a_layer_that_can_play_it(model: Model) -> None:
    modules = dict(model.net.named_modules())
    classifier = modules[model.layers["classifier"]]
    assert set(model.layers) == {"first_conv", "cam", "features", "classifier"}
    assert isinstance(modules[model.layers["first_conv"]], nn.Conv2d)
    assert isinstance(classifier, (nn.Linear, nn.Conv2d))
    assert len(classifier.weight) == len(model.labels) == len(set(model.labels))
    with trace(model, model.layers.values()) as seen:
        scores = model.logits(noise(model, 2))
        h, w = seen[model.layers["cam"]].shape[2:]
        features = seen[model.layers["features"]]
        assert (features.mean((2, 3)) if features.ndim == 4 else features).shape == (2, classifier.weight.shape[1])
        ended = seen[model.layers["classifier"]]
        assert torch.equal(ended if ended.ndim == 2 else ended.mean((2, 3)), scores)
    assert h > 1
    assert w > 1
    assert torch.isfinite(scores).all()
    assert scores.std() > 0


def test_no_convolution_runs_before_first_conv_or_between_the_cam_layer_and_the_classifier(model: Model) -> None:
    convolutions = {known for known, module in model.net.named_modules() if isinstance(module, nn.Conv2d)}
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, known=known: order.append(known))
        for known, module in model.net.named_modules()
    ]
    model.logits(noise(model))
    for handle in handles:
        handle.remove()
    assert next(known for known in order if known in convolutions) == model.layers["first_conv"]
    behind = set(order[order.index(model.layers["cam"]) :]) - {model.layers["classifier"]}
    assert not convolutions & behind


def fewest(model: Model) -> str:
    """The layer with the fewest maps, for methods that take one pass for each."""
    layers = map_layers(replace(model, input_size=size_of(model)))
    return min((layer for layer in layers if layer.shape[1] > 1), key=lambda layer: layer.shape[0]).name


def test_every_method_gives_finite_values_of_its_shape_and_leaves_the_net_unchanged(model: Model) -> None:
    pixels = noise(model)
    shapes = {layer.name: layer.shape for layer in map_layers(replace(model, input_size=size_of(model)))}
    advised, cheap = model.layers["cam"], fewest(model)
    results: dict[str, tuple[Callable[[], np.ndarray], tuple[int, ...]]] = {}
    for method, row in CAM_METHODS.items():
        layer = cheap if row.needs == "passes" else advised
        results[method] = (lambda m=method, at=layer: cam(model, pixels, 3, m, at).values, shapes[layer][1:])
    if model.name not in GAP_AND_ONE_LAYER:
        del results["cam"]  # refused: see below
    kernels = model.net.get_submodule(model.layers["first_conv"]).weight.shape
    width = model.net.get_submodule(model.layers["classifier"]).weight.shape[1]
    window = tuple(side // 2 for side in size_of(model))
    results |= {
        "filters": (lambda: filters(model).values, tuple(kernels)),
        "maps": (lambda: activation_maps(model, pixels, advised).values, shapes[advised]),
        "occlusion": (lambda: occlusion(model, pixels, 3, window, window).values, size_of(model)),
        "features": (lambda: extract_features(model, pixels), (1, width)),
    }
    with unchanged(model):
        values = {name: run() for name, (run, _) in results.items()}
    for name, (_, shape) in results.items():
        assert values[name].shape == shape, name
        assert values[name].dtype == np.float32, name
        assert np.isfinite(values[name]).all(), name
    assert values["occlusion"].any()


def test_hiding_a_part_answers_as_a_full_pass(model: Model) -> None:
    height, width = size_of(model)
    boxes = [(0, height // 4, 0, width // 3), (height // 2, height // 2 + 9, width - 8, width), (5, 6, 7, 8)]
    pixels, filling = noise(model), torch.full((1, 3, height, width), 0.5)
    variants = Variants(model, pixels)
    expected = full_passes(model, pixels, boxes, filling)
    assert error(answers_of(variants, boxes, (height, width), filling), expected) < 1e-4
    assert effect(expected, variants.logits) > 1e-6


def test_cam_of_a_global_average_pooling_net_sums_to_its_scores_and_of_others_is_refused(model: Model) -> None:
    pixels = noise(model)
    if model.name not in GAP_AND_ONE_LAYER:
        with pytest.raises(UnsupportedModel, match="global average pooling"):
            cam(model, pixels, 3, "cam")
        return
    classifier = model.net.get_submodule(model.layers["classifier"])
    heat = cam(model, pixels, 3, "cam")
    bias = float(classifier.bias[3]) if classifier.bias is not None else 0.0
    assert heat.values.mean() + bias == pytest.approx(heat.score, rel=1e-3, abs=1e-4)


# ---- timm by name -------------------------------------------------------------------------------------------

FAMILIES = ("resnet26", "convnext_atto", "mobilenetv3_small_050", "regnetx_002")  # each ends in a way of its own
MORE_FAMILIES = (
    *("densenet121", "vgg11", "dla34", "nf_regnet_b0", "repvgg_a0", "resnetv2_18", "hrnet_w18_small", "ghostnet_050"),
    *("inception_next_atto", "dpn68", "inception_v3", "res2net50_14w_8s", "legacy_senet154", "efficientnetv2_rw_t"),
)


@pytest.mark.parametrize("name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_FAMILIES)])
def test_a_card_of_timm_is_what_timm_says_and_its_roles_run(name: str) -> None:
    card = find_card(f"timm/{name}")
    timm = guarded_import("timm")
    cfg = timm.get_pretrained_cfg(name)
    data = (card.input_size, card.mean, card.std, card.crop_pct, card.interpolation, card.licence)
    assert data == (cfg.input_size[1:], cfg.mean, cfg.std, cfg.crop_pct, cfg.interpolation, cfg.license)
    assert card.layers["classifier"] == cfg.classifier
    assert card.layers["first_conv"] in cfg.first_conv
    assert card.parameters == sum(p.numel() for p in timm.create_model(name, device="meta").parameters())
    model = load_model(card.name, weights=None)
    assert not any(module.training for module in model.net.modules())
    assert not any(parameter.requires_grad for parameter in model.net.parameters())
    width = model.net.get_submodule(card.layers["classifier"]).weight.shape[1]
    with trace(model, card.layers.values()) as seen:
        scores = model.logits(torch.rand(1, 3, 128, 96, generator=torch.Generator().manual_seed(0)))
        c, h, w = seen[card.layers["cam"]].shape[1:]
        assert seen[card.layers["features"]].flatten(1).shape == (1, width)
    assert scores.shape == (1, 1000)
    assert scores.std() > 0
    assert h * w > 1
    assert c >= 64


def test_timms_own_layers_are_found_by_their_roles() -> None:
    assert dict(find_card("resnet26").layers) == {
        "first_conv": "conv1",
        "cam": "layer4",
        "features": "global_pool",
        "classifier": "fc",
    }
    assert find_card("efficientnet_b0").layers["cam"] == "bn2"


def test_a_net_whose_buffers_no_file_holds_has_them() -> None:
    """The blur of an anti-aliased net is part of its code, not of its weights."""
    with torch.random.fork_rng():
        theirs = guarded_import("timm").create_model("resnetblur18").eval()
    ours = load_model("timm/resnetblur18", weights=None)
    theirs.load_state_dict(ours.net.state_dict())
    x = noise(ours)
    with torch.no_grad():
        assert torch.equal(theirs(ours.normalise(x)), ours.logits(x))


def test_a_name_of_the_catalogue_means_the_catalogues_net_and_with_timm_before_it_timms() -> None:
    assert find_card("resnet18") is CARDS["resnet18"]
    card = find_card("timm/resnet18")
    assert (card.name, card.builder) == ("timm/resnet18", "timm.resnet18")
    assert find_card("resnet26").name == find_card("timm/resnet26").name == "timm/resnet26"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tiny_patch16_224", "no convolutional"),
        ("timm/swin_tiny_patch4_window7_224", "no convolutional"),
        ("edgenext_small", "no convolutional"),
        ("mixer_b16_224", "no maps"),
        ("timm/convnext_tiny.dinov3_lvd1689m", "no classifier"),
        ("timm/resnet27", r"no model .timm/resnet27.*nearest are.*“timm/resnet26”"),
        ("resnet26.no_such_tag", r"no model .resnet26\.no_such_tag"),
        ("timm/", "no model"),
        (" ", "no model"),
        (None, "no model None"),
    ],
)
def test_what_is_no_convolutional_net_is_refused_in_a_sentence(name: str, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        find_card(name)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As on a machine where timm has fetched nothing yet."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_offline_a_net_of_timm_says_at_once_what_is_wanted_and_where_it_goes(empty_cache: Path) -> None:
    card = find_card("timm/resnet26")
    assert not card.ready()
    start = time.monotonic()
    with pytest.raises(BadWeights) as refusal:
        load_model("timm/resnet26")
    assert time.monotonic() - start < fetching.CONNECT_SECONDS + 1
    for part in ("resnet26", "timm/resnet26.bt_in1k", "model.safetensors", str(card.folder), "weights=None"):
        assert part in str(refusal.value)


def test_weights_that_timm_has_fetched_are_found_and_loaded_by_timm(empty_cache: Path) -> None:
    """In the layout of the hub's cache: a folder a repository, its states by the name of a commit."""
    from safetensors.torch import save_file

    card = find_card("timm/resnet10t")
    assert card.folder is not None
    assert card.folder.is_relative_to(hub_cache())
    commit = "0" * 40
    (card.folder / "snapshots" / commit).mkdir(parents=True)
    (card.folder / "refs").mkdir()
    (card.folder / "refs" / "main").write_text(commit)
    untrained = load_model("timm/resnet10t", weights=None)
    state = {name: tensor + 0.25 for name, tensor in untrained.net.state_dict().items() if tensor.is_floating_point()}
    counts = {name: tensor for name, tensor in untrained.net.state_dict().items() if name not in state}
    save_file(state | counts, card.folder / "snapshots" / commit / card.file)
    assert card.ready()
    before = torch.get_rng_state()
    model = load_model("timm/resnet10t")
    assert torch.equal(torch.get_rng_state(), before)
    assert model.weights == "model.safetensors (hub)"
    assert model.title == "resnet10t"
    assert not model.net.training
    for name, tensor in model.net.state_dict().items():
        assert torch.equal(tensor, (state | counts)[name])


def test_a_net_that_timm_fetches_by_address_is_looked_for_in_torchs_cache() -> None:
    card = find_card("timm/legacy_xception")
    assert (card.origin, card.file, card.sha256) == ("loader", CARDS["xception"].file, CARDS["xception"].sha256)
    assert fetching._address(card).endswith(f"/{card.file}")


def test_a_card_is_made_once() -> None:
    assert timm_nets.card_of("timm/resnet26") is timm_nets.card_of("timm/resnet26")


def untrained_ones() -> list[Card]:
    return [card for card in list_models() if card.origin == "untrained"]


@pytest.mark.parametrize("card", untrained_ones(), ids=lambda card: card.name)
def test_a_net_that_nobody_has_trained_says_so_and_gives_its_structure(card: Card) -> None:
    assert not card.ready()
    with pytest.raises(
        BadWeights, match=rf"no trained weights of {card.title}.*load_model\(.{card.name}., weights=None"
    ):
        load_model(card.name)


# ---- in the sidebar -----------------------------------------------------------------------------------------


def test_the_sidebar_offers_trained_nets_first_then_those_to_fetch_then_those_that_nobody_has_trained() -> None:
    app = visit(model="Network in Network")
    assert not app.exception
    assert not app.error
    origins = {card.title: card.origin for card in list_models()}
    offered = [origins[title] for title in app.selectbox(key="model").options]
    ranks = [0 if origin in ("package", "shipped") else 1 if origin == "loader" else 2 for origin in offered]
    assert ranks == sorted(ranks)
    assert len(offered) == len(list_models())
    assert app.selectbox(key="model").options[0] == "EfficientNet-Lite0"
    # The chosen one is of the last group: its structure is shown without being asked for, and called what it is.
    assert chosen(app).model.weights is None
    assert [toggle.key for toggle in app.toggle if toggle.key == "untrained"] == []
    assert any("2014 · untrained" in caption.value for caption in app.caption)
    assert "untrained" in app.warning[0].value
