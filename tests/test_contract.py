"""One contract for every method on every model: the result, and the model as it was before.

A result has the promised shape, is finite, comes out the same again, in any batch size and from eight threads. The
model comes back bit for bit: hooks, modes, flags, buffers, parameters, ``.grad``, random states and the lock, after
success, after an error in the middle, and after a cancel.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import load_model
from vizcore.activations import activation_maps
from vizcore.attribution import ATTRIBUTION_METHODS, attribution
from vizcore.cam import CAM_METHODS, cam, cam_of_layers
from vizcore.embedding import extract_features
from vizcore.filters import filters
from vizcore.hooks import list_layers, trace
from vizcore.occlusion import occlusion
from vizcore.projection import projection
from vizcore.records import BadParameter, Heatmap, LensError, Model, UnsupportedModel
from vizcore.rise import rise
from vizcore.strongest import strongest_patches
from vizcore.superpixels import superpixel_ablation


@dataclass(frozen=True)
class Case:
    """A model, its pictures, and layers that suit it; ``cheap`` is one with few maps, for one pass a channel."""

    model: Model
    size: tuple[int, int] = nets.SIZE
    cheap: str = ""

    @property
    def pixels(self) -> Tensor:
        return nets.picture(0, self.size, torch.float32)

    def layer(self, method: str) -> str:
        return self.cheap or self.model.layers["cam"] if CAM_METHODS[method].needs == "passes" else ""


SMALL_NETS: dict[str, Callable[[], Case]] = {
    "gap": lambda: Case(nets.gap()),
    "in_place": lambda: Case(nets.in_place()),
    "one_logit": lambda: Case(nets.one_logit()),
    "deep_head": lambda: Case(nets.deep_head()),
    "branching": lambda: Case(nets.branching()),
    "residual": lambda: Case(nets.residual()),
    "grey": lambda: Case(nets.grey()),
    "odd": lambda: Case(nets.odd()),
    "float64": lambda: Case(nets.gap(torch.float64)),
}
CATALOGUE: dict[str, Callable[[], Case]] = {
    "lenet5": lambda: Case(load_model("lenet5"), size=(28, 28)),  # its dense layers want that size
    "stn_lenet": lambda: Case(load_model("stn_lenet"), size=(42, 42)),
    "photonet": lambda: Case(load_model("photonet"), size=(30, 26)),
    "efficientnet_lite0": lambda: Case(load_model("efficientnet_lite0"), size=(96, 64), cheap="blocks.1"),
}
CASES = {**SMALL_NETS, **CATALOGUE}
QUICK = ("gap", "in_place", "branching", "grey")  # the rest takes its turn in the whole set

Run = Callable[..., np.ndarray]


def run_cam(method: str) -> Run:
    def run(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
        return cam(case.model, pixels, 0, method, case.layer(method) or None, **options).values

    return run


def run_attribution(method: str) -> Run:
    def run(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
        return attribution(case.model, pixels, 0, method, steps=3, samples=3, **options).values

    return run


def run_occlusion(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
    return occlusion(case.model, pixels, 0, (17, 11), (13, 9), **options).values


def run_rise(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
    return rise(case.model, pixels, 0, masks=6, **options).values


def run_superpixels(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
    rows, columns = np.indices(case.size)
    stairs = (rows + columns // 7 * 5) // 12
    return superpixel_ablation(case.model, pixels, 0, stairs, **options).values


def run_features(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
    return extract_features(case.model, torch.cat([pixels, pixels.flip(2), pixels.flip(3)]), **options)


def run_maps(case: Case, pixels: Tensor) -> np.ndarray:
    return activation_maps(case.model, pixels, case.model.layers["cam"]).values


def run_projection(case: Case, pixels: Tensor) -> np.ndarray:
    return projection(case.model, pixels, case.model.layers["cam"], 1, 0, 0).values


def run_strongest(case: Case, pixels: Tensor, **options: Any) -> np.ndarray:
    pictures = torch.cat([pixels, pixels.flip(2), pixels.flip(3)])
    return strongest_patches(case.model, pictures, case.model.layers["cam"], **options).activations


def run_cam_of_layers(case: Case, pixels: Tensor) -> np.ndarray:
    first, last = case.model.layers["first_conv"], case.model.layers["cam"]
    found = cam_of_layers(case.model, pixels, 0, [first, last])[last]
    assert isinstance(found, Heatmap)
    return found.values


def run_filters(case: Case, pixels: Tensor) -> np.ndarray:
    return filters(case.model).values


IN_BATCHES: dict[str, Run] = {
    **{method: run_cam(method) for method in CAM_METHODS},
    **{method: run_attribution(method) for method in ATTRIBUTION_METHODS},
    "occlusion": run_occlusion,
    "rise": run_rise,
    "superpixel_ablation": run_superpixels,
    "extract_features": run_features,
    "strongest_patches": run_strongest,
}
METHODS: dict[str, Run] = {
    "activation_maps": run_maps,
    "cam_of_layers": run_cam_of_layers,
    "filters": run_filters,
    "projection": run_projection,
    **IN_BATCHES,
}
OF_PICTURES = {"filters", "extract_features", "strongest_patches"}  # of none, or of many


@cache
def from_catalogue(name: str) -> Case:
    return CATALOGUE[name]()


def fresh(name: str) -> Case:
    """Nets of the catalogue are shared by all tests: the contract says that none of them changes one."""
    return from_catalogue(name) if name in CATALOGUE else CASES[name]()


def allowed(name: str, method: str) -> bool:
    """Whether the method is defined on the model: CAM needs global average pooling behind the layer, and what changes
    the way back through ReLUs needs some."""
    without = {
        "cam": ("deep_head", "branching", "grey", "lenet5", "stn_lenet"),
        "guided_backpropagation": ("grey", "odd", "lenet5"),
        "deconvnet": ("grey", "odd", "lenet5"),
        "projection": ("grey", "odd", "lenet5"),
    }
    return name not in without.get(method, ())


def quick_or_slow(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if name in QUICK else (pytest.mark.slow,)


MODELS = [pytest.param(name, marks=quick_or_slow(name)) for name in CASES]
PAIRS = [
    pytest.param(name, method, marks=quick_or_slow(name), id=f"{method}-{name}")
    for name in CASES
    for method in METHODS
    if allowed(name, method)
]
BATCHED = [pair for pair in PAIRS if pair.values[1] in IN_BATCHES]
# Receptive fields are recorded on a copy, and where that raises on the net itself: an error in it is not the last word.
RUNNING = [pair for pair in PAIRS if pair.values[1] not in ("filters", "strongest_patches")]


# What must come back as it was


def state_of(model: Model) -> dict[str, Any]:
    """Everything about a model and its process that a method might change, as values that can be compared."""
    modules = dict(model.net.named_modules())
    tensors = {
        f"{name}.{kind}.{key}": tensor
        for name, module in modules.items()
        for kind in ("_parameters", "_buffers")
        for key, tensor in getattr(module, kind).items()
        if tensor is not None
    }
    return {
        "hooks": {
            f"{name}.{key}": list(hooks.items())
            for name, module in modules.items()
            for key, hooks in vars(module).items()
            if key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
        },
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "modes": {name: module.training for name, module in modules.items()},
        "flags": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "gradients": {name: tensor.grad is None for name, tensor in tensors.items()},
        "identities": {name: (id(tensor), tensor.data_ptr()) for name, tensor in tensors.items()},
        "bits": {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()},
        "torch random": torch.get_rng_state().numpy().tobytes(),
        "numpy random": str(np.random.get_state()),  # noqa: NPY002 that is the state to look at
        "python random": random.getstate(),
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "lock is free": nets.lock_is_free(model),
    }


@contextmanager
def unchanged(model: Model) -> Iterator[None]:
    before = state_of(model)
    assert before["lock is free"]
    yield
    after = state_of(model)
    for what, value in before.items():
        assert after[what] == value, f"{what} changed"


class Cancelled(BaseException):
    """As Streamlit's rerun exception: not an Exception."""


def mixed_modes(net: nn.Module) -> None:
    """Train mode, but for every second module."""
    net.train()
    for module in list(net.modules())[1::2]:
        module.training = False


# The contract


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_results_are_finite_the_same_again_and_leave_the_model_unchanged(name: str, method: str) -> None:
    case = fresh(name)
    pixels = case.pixels
    before = pixels.clone()
    with unchanged(case.model):
        first = METHODS[method](case, pixels)
    again = METHODS[method](case, pixels)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert torch.equal(pixels, before)
    shapes = {layer.name: layer.shape for layer in list_layers(replace(case.model, input_size=case.size))}
    if method == "activation_maps":
        assert first.shape == shapes[case.model.layers["cam"]]
    elif method == "cam_of_layers":
        assert first.shape == shapes[case.model.layers["cam"]][1:]
    elif method == "filters":
        assert first.shape == tuple(case.model.net.get_submodule(case.model.layers["first_conv"]).weight.shape)
    elif method in ("occlusion", "rise", "superpixel_ablation"):
        assert first.shape == case.size
    elif method in ATTRIBUTION_METHODS or method == "projection":
        assert first.shape == (3, *case.size)
    elif method == "extract_features":
        assert first.shape == (3, shapes[case.model.layers["features"]][0])
    elif method == "strongest_patches":
        assert first.shape == (shapes[case.model.layers["cam"]][0], 3)
    else:
        assert first.shape == shapes[case.layer(method) or case.model.layers["cam"]][1:]


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_a_net_handed_over_in_train_mode_answers_as_in_eval_mode_and_comes_back_in_train_mode(  # P12
    name: str, method: str
) -> None:
    case = fresh(name)
    expected = METHODS[method](case, case.pixels)
    for set_modes in (nn.Module.train, mixed_modes):
        try:
            set_modes(case.model.net)
            with unchanged(case.model):
                values = METHODS[method](case, case.pixels)
        finally:
            case.model.net.eval()
        assert np.array_equal(values, expected)


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_parameters_that_are_not_frozen_stay_so_and_get_no_gradient(name: str, method: str) -> None:  # P12
    case = fresh(name)
    expected = METHODS[method](case, case.pixels)
    case.model.net.requires_grad_()
    try:
        with unchanged(case.model):
            values = METHODS[method](case, case.pixels)
    finally:
        case.model.net.requires_grad_(False)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "method"), RUNNING)
def test_an_error_in_the_middle_of_a_pass_leaves_the_model_unchanged(name: str, method: str) -> None:  # F17
    case, calls = fresh(name), 0

    def trip(module: nn.Module, args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError("tripped")

    handle = case.model.net.get_submodule(case.model.layers["classifier"]).register_forward_pre_hook(trip)
    try:
        for at in (1, 2, 3):
            calls = 0
            with unchanged(case.model):
                try:
                    METHODS[method](case, case.pixels)
                except OSError:
                    assert calls == at
                else:
                    assert calls < at, "the error was swallowed"
    finally:
        handle.remove()
    assert np.isfinite(METHODS[method](case, case.pixels)).all()


@pytest.mark.parametrize(("name", "method"), BATCHED)
def test_a_cancel_passes_through_and_leaves_the_model_unchanged(name: str, method: str) -> None:  # F18
    case = fresh(name)

    def at_once(done: int, total: int) -> None:
        raise Cancelled

    def at_the_end(done: int, total: int) -> None:
        if done == total:
            raise Cancelled

    case.model.net.train()
    try:
        for cancel in (at_once, at_the_end):
            with unchanged(case.model), pytest.raises(Cancelled):
                METHODS[method](case, case.pixels, progress=cancel, batch_size=2)
    finally:
        case.model.net.eval()


@pytest.mark.parametrize(("name", "method"), BATCHED)
def test_batch_size_does_not_change_the_result(name: str, method: str) -> None:
    case = fresh(name)
    one, many = (METHODS[method](case, case.pixels, batch_size=size) for size in (1, 64))
    np.testing.assert_allclose(many, one, rtol=1e-3, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("name", MODELS)
def test_eight_threads_on_one_model_give_the_results_of_one(name: str) -> None:  # P15
    case = fresh(name)
    jobs = [
        (method, nets.picture(seed, case.size, torch.float32))
        for seed, method in enumerate(method for method in METHODS if allowed(name, method))
        for _ in range(2)
    ]
    expected = [METHODS[method](case, pixels) for method, pixels in jobs]
    with unchanged(case.model), ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda job: METHODS[job[0]](case, job[1]), jobs * 2))
    for (method, _), result, wanted in zip(jobs * 2, results, expected * 2, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-6, err_msg=method)


def test_a_thread_without_lens_work_sees_no_hook_while_others_trace() -> None:
    # Each thread has a colour of its own, and an identity convolution must give it back.
    model = nets.colours(torch.float32)

    def own_colour(n: int) -> bool:
        pixels = torch.full((1, 3, 9, 5), n / 100)
        with trace(model, ["conv1"]) as seen:
            model.logits(pixels)
            return torch.equal(seen["conv1"], pixels)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(own_colour, range(100)))


@pytest.mark.parametrize("name", MODELS)
def test_a_twin_answers_the_same_from_the_same_memory_while_the_first_is_held(name: str) -> None:
    model = fresh(name).model
    pixels = fresh(name).pixels
    with unchanged(model):
        with torch.no_grad():
            expected = model.logits(pixels)
        twin = model.twin()
        assert [one.data_ptr() for one in twin.net.parameters()] == [one.data_ptr() for one in model.net.parameters()]
        assert [one.data_ptr() for one in twin.net.buffers()] == [one.data_ptr() for one in model.net.buffers()]
        layer = next(iter(dict(twin.net.named_children())))
        with (
            trace(model, []),
            ThreadPoolExecutor(1) as other,
            torch.no_grad(),
        ):  # the first is held
            assert torch.equal(other.submit(twin.logits, pixels).result(timeout=60), expected)
        with trace(twin, []):
            twin.net.get_submodule(layer).training = True
            assert not model.net.get_submodule(layer).training


# What is handed in


def test_a_compiled_net_is_refused_with_the_way_out_and_still_occluded() -> None:  # P12
    plain, pixels = nets.gap(), nets.picture().float()
    model = replace(plain, net=torch.compile(plain.net, backend="eager"))
    for method in ("grad_cam", "eigen_cam", "score_cam"):
        with pytest.raises(UnsupportedModel, match=r"compiled.*net\._orig_mod"):
            cam(model, pixels, 0, method)
    with pytest.raises(UnsupportedModel, match="compiled"):
        activation_maps(model, pixels, "conv1")
    expected = occlusion(plain, pixels, 1, 20, 20).values
    np.testing.assert_allclose(occlusion(model, pixels, 1, 20, 20).values, expected, rtol=1e-4, atol=1e-6)
    opened = replace(model, net=model.net._orig_mod)
    assert np.array_equal(cam(opened, pixels, 1).values, cam(plain, pixels, 1).values)


@pytest.mark.parametrize("method", METHODS)
def test_a_net_without_memory_is_refused(method: str) -> None:  # P12
    model = replace(nets.gap(), net=nets.gap().net.to("meta"))
    with pytest.raises(UnsupportedModel, match="no weights in memory"):
        METHODS[method](Case(model), nets.picture().float())


@pytest.mark.parametrize("method", METHODS)
def test_pictures_of_any_float_type_are_taken(method: str) -> None:
    case = fresh("gap")
    for dtype in (torch.float16, torch.float64):
        pixels = case.pixels.to(dtype)
        expected = METHODS[method](case, pixels.float())  # of the same numbers: a gradient may jump between two
        values = METHODS[method](case, pixels)
        np.testing.assert_allclose(values, expected, rtol=0.1, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"filters"}))
@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda logits: (logits,), "answers with a tuple"),
        (lambda logits: {"out": logits}, "answers with a dict"),
        (lambda logits: logits[0], r"answers with the shape \(5,\)"),
        (lambda logits: logits[:, :, None, None], r"shape \(1, 5, 1, 1\)|shape \(3, 5, 1, 1\)"),
        (lambda logits: logits * torch.nan, "NaN or infinity"),
        (lambda logits: logits / 0, "NaN or infinity"),
    ],
    ids=["tuple", "dict", "one axis", "four axes", "nan", "infinity"],
)
def test_an_answer_that_is_no_table_of_scores_is_refused(method: str, wrap, words: str) -> None:  # P13, P14
    case = Case(nets.answering(wrap))
    with unchanged(case.model), pytest.raises(UnsupportedModel, match=words):
        METHODS[method](case, case.pixels)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"filters"}))
def test_a_net_with_nan_in_its_weights_is_refused(method: str) -> None:  # P14, C15
    case = fresh("gap")
    case.model.net.conv2.weight[0, 0, 0, 0] = torch.nan
    with unchanged(case.model), pytest.raises(UnsupportedModel, match="NaN or infinity"):
        METHODS[method](case, case.pixels)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"filters"}))
def test_a_net_that_raises_passes_its_error_on_and_works_the_next_time(method: str) -> None:  # P14
    case = Case(nets.tripping(1))
    with pytest.raises(RuntimeError, match="tripped"):
        METHODS[method](case, case.pixels)
    assert nets.lock_is_free(case.model)
    assert np.isfinite(METHODS[method](case, case.pixels)).all()


@pytest.mark.parametrize("method", sorted(set(CAM_METHODS) - {"cam"}))
def test_a_net_with_a_reused_module_is_seen_at_its_other_layers(method: str) -> None:  # P13
    case = Case(nets.reused())
    assert IN_BATCHES[method](case, case.pixels).shape == (19, 13)
    with pytest.raises(UnsupportedModel, match="“relu” runs more than once"):
        cam(case.model, case.pixels, 0, method, "relu")


@pytest.mark.parametrize("method", CAM_METHODS)
def test_a_net_without_maps_is_refused_by_name(method: str) -> None:  # P13
    model = nets.no_conv()
    with pytest.raises(LensError, match="names no layer for “cam”"):
        cam(model, nets.picture().float(), 0, method)
    with pytest.raises(LensError, match="“hidden” of NoConvNet gives 7 numbers, not maps"):
        cam(model, nets.picture().float(), 0, method, "hidden")


def test_a_net_without_maps_is_still_occluded_and_embedded() -> None:  # P13
    case = Case(nets.no_conv())
    assert run_occlusion(case, case.pixels).shape == nets.SIZE
    assert run_features(case, case.pixels).shape == (3, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pixels: (255 * pixels).to(torch.uint8), r"pixels is torch\.uint8; it must be a floating-point tensor"),
        (lambda pixels: pixels.numpy(), r"pixels is float32; it must be a floating-point tensor"),
        (lambda pixels: "a photo", "pixels is str; it must be a floating-point tensor"),
        (lambda pixels: pixels[0], r"shape \(3, 41, 29\); it must be \(N, 3, H, W\)"),
        (lambda pixels: pixels.permute(0, 2, 3, 1), r"shape \(1, 41, 29, 3\); it must be \(N, 3, H, W\)"),
        (lambda pixels: pixels[:, :2], r"shape \(1, 2, 41, 29\); it must be"),
        (lambda pixels: pixels[:0], r"shape \(0, 3, 41, 29\); it must be"),
        (lambda pixels: pixels * torch.nan, "pixels holds NaN or infinity"),
        (lambda pixels: pixels.repeat(2, 1, 1, 1), "pixels holds 2 pictures; this takes one"),
    ],
)
@pytest.mark.parametrize("method", sorted(set(METHODS) - OF_PICTURES))
def test_pixels_that_are_none_are_refused_with_what_they_should_be(  # I45, I46
    method: str, change: Callable[[Tensor], object], words: str
) -> None:
    case = fresh("gap")
    with unchanged(case.model), pytest.raises(BadParameter, match=words):
        METHODS[method](case, change(case.pixels))


@pytest.mark.parametrize("target", [-1, 5, 1000, "cat", None, True, 2.0])
def test_a_class_that_is_none_is_refused_with_the_range(target: object) -> None:  # P4
    for method in CAM_METHODS:
        with pytest.raises(BadParameter, match=r"target is .*GapNet, 0 to 4"):
            cam(nets.gap(), nets.picture().float(), target, method)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_numpy_whole_numbers_are_classes_too(method: str) -> None:
    case = fresh("gap")
    heat = cam(case.model, case.pixels, np.int64(3), method)
    assert type(heat.target) is int
    assert np.array_equal(heat.values, cam(case.model, case.pixels, 3, method).values)


@pytest.mark.parametrize("layer", ["relu4", "", 7, "net.relu3"])
@pytest.mark.parametrize(
    "method",
    ["activation_maps", "filters", "grad_cam", "score_cam", "extract_features", "strongest_patches", "projection"],
)
def test_a_layer_that_is_none_is_refused_with_names_that_exist(method: str, layer: object) -> None:  # P5
    model, pixels = nets.gap(), nets.picture().float()
    calls: dict[str, Callable[[], object]] = {
        "activation_maps": lambda: activation_maps(model, pixels, layer),
        "filters": lambda: filters(model, layer),
        "grad_cam": lambda: cam(model, pixels, 0, "grad_cam", layer),
        "score_cam": lambda: cam(model, pixels, 0, "score_cam", layer),
        "extract_features": lambda: extract_features(model, pixels, layer),
        "strongest_patches": lambda: strongest_patches(model, pixels, layer),
        "projection": lambda: projection(model, pixels, layer, 0, 0, 0),
    }
    with unchanged(model), pytest.raises(LensError, match=r"GapNet has no layer .*“(relu3|conv1)”"):
        calls[method]()


@pytest.mark.parametrize("method", IN_BATCHES)
def test_a_batch_size_out_of_range_is_refused_with_the_range(method: str) -> None:  # P9
    case = fresh("gap")
    unset = () if method in ("occlusion", "superpixel_ablation") else (None,)  # there None means to choose by measuring
    for batch_size in (0, -1, 10**9, 2.0, "8", True, float("nan"), *unset):
        with pytest.raises(BadParameter, match=r"batch_size is .*1 to 4096"):
            IN_BATCHES[method](case, case.pixels, batch_size=batch_size)
