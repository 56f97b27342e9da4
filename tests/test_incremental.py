"""Only what a window can change is computed, and the answers are those of full passes: on nets drawn at random, and on
those that people use.

The largest difference stays under 1e-10 of the largest logit in float64, and under 1e-4 in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import nets
import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_nets import LOCAL, NOT_LOCAL, SEVERAL_AT_ONCE, Part, random_model
from test_contract import unchanged
from torch import Tensor, nn
from variants import Box, answers_of, boxes_everywhere, effect, error, full_passes, region_of

from models import load_model
from models.torchvision_guard import guarded_import
from vizcore.incremental import Variants
from vizcore.occlusion import BASELINES, occlusion
from vizcore.records import Model, UnsupportedModel

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
SIZES = ((23, 17), (31, 40), (37, 29))
BATCH_SIZES = (1, 3, None)


@pytest.fixture(autouse=True)
def one_thread(torch_threads: None) -> None:
    """The operations are small: two threads would do nothing but wait for one another."""
    torch.set_num_threads(1)


def check(
    model: Model,
    size: tuple[int, int],
    boxes: Sequence[Box],
    *,
    seed: int = 0,
    batch_size: int | None = None,
    masks: Tensor | None = None,
    least_effect: float = 1e-3,
) -> Variants:
    """Every variant is answered as by a full pass, and hiding shows."""
    pixels, filling = (nets.picture(n, size, model.dtype) for n in (seed, seed + 1000))
    variants = Variants(model, pixels)
    expected = full_passes(model, pixels, boxes, filling, masks)
    found = answers_of(variants, boxes, size, filling, masks, batch_size)
    assert error(variants.logits, model.logits(pixels)) < TOLERANCE[model.dtype]
    assert error(found, expected) < TOLERANCE[model.dtype], model.net
    assert effect(expected, variants.logits) > least_effect, model.net
    return variants


# Nets drawn at random


def check_drawn(seed: int, kinds: Sequence[Callable[..., Part]]) -> Iterator[tuple[Variants, tuple[int, int]]]:
    size = SIZES[seed % 3]
    for dtype in TOLERANCE:
        model = random_model(seed, size, dtype, kinds)
        boxes = boxes_everywhere(size, seed)
        yield check(model, size, boxes, seed=seed, batch_size=BATCH_SIZES[seed // 3 % 3]), size


def seeds(fast: int, slow: int, without: tuple[int, ...] = ()) -> list[object]:
    """Numbers from 0 on, those from ``fast`` on marked slow; ``without`` nets whose activations are all dead."""
    marks = pytest.mark.slow
    return [pytest.param(n, marks=marks if n >= fast else ()) for n in range(slow) if n not in without]


@pytest.mark.parametrize("seed", seeds(24, 150, without=(128,)))
def test_a_net_of_local_parts_answers_as_full_passes_for_less_work(seed: int) -> None:
    for variants, size in check_drawn(seed, LOCAL):
        assert variants.is_traced
        pixel = region_of(size, [(size[0] // 2, size[0] // 2 + 1, 0, 1)])
        assert variants.work(pixel) < 0.99 * variants.whole_work
        everything = region_of(size, [(0, *size[:1], 0, size[1])] * 2)
        assert variants.work(everything) == 2 * variants.whole_work


@pytest.mark.parametrize("seed", seeds(16, 80))
def test_a_net_with_parts_that_are_not_local_answers_as_full_passes(seed: int) -> None:
    for variants, size in check_drawn(seed, [*LOCAL, *NOT_LOCAL]):
        assert variants.is_traced
        everything = region_of(size, [(0, size[0], 0, size[1])])
        assert variants.work(region_of(size, [(0, 1, 0, 1)])) <= variants.work(everything) == variants.whole_work


@pytest.mark.parametrize("seed", seeds(8, 40))
def test_a_net_with_parts_of_several_tensors_answers_as_full_passes(seed: int) -> None:
    for _ in check_drawn(seed, [*LOCAL, *SEVERAL_AT_ONCE]):
        pass


def test_the_drawn_nets_hold_every_part() -> None:
    """Else a kind that never fits would never be tested."""
    kinds = [*LOCAL, *NOT_LOCAL, *SEVERAL_AT_ONCE]
    drawn = [random_model(seed, SIZES[seed % 3], torch.float32, kinds, count=12).net for seed in range(40)]
    assert {part.kind for net in drawn for part in net.parts} >= {kind.__name__ for kind in kinds}


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kernel", [2, 3, (4, 2)])
@pytest.mark.parametrize("stride", [1, (2, 3), 5])
def test_a_pool_divides_at_the_border_by_what_torch_divides_by(ceil_mode: bool, kernel, stride) -> None:
    """Behind it the places count one by one: what is wrong at the border alone is not lost in a mean."""
    size, pads = (21, 17), (0, 1, (2, 1)) if kernel == (4, 2) else (0, 1)
    for padding in pads:
        pools: list[nn.Module] = [nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)]
        for counts, divisor in ((True, None), (False, None), (True, 7)):
            pools.append(nn.AvgPool2d(kernel, stride, padding, ceil_mode, counts, divisor))
        for pool in pools:
            rows, columns = pool(torch.empty(1, 1, *size)).shape[2:]

            def build(pool: nn.Module = pool, inputs: int = 3 * rows * columns) -> nn.Module:
                return nn.Sequential(pool, nn.Flatten(), nn.Linear(inputs, nets.CLASSES))

            model = nets.model_of(build, {}, torch.float64)
            assert check(model, size, boxes_everywhere(size), batch_size=1).is_traced


# Windows, masks and batches


def grid(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[Box]:
    """Clipped at the border, as occlusion hides them."""
    tops, lefts = (reference.starts(*axis) for axis in zip(size, window, stride, strict=True))
    return [
        (top, min(top + window[0], size[0]), left, min(left + window[1], size[1])) for top in tops for left in lefts
    ]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_windows_and_strides_of_any_size_are_answered_as_full_passes(data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(12, 34), st.integers(12, 34)))
    window, stride = (data.draw(st.tuples(*(st.integers(1, n) for n in size))) for _ in range(2))
    model = data.draw(st.sampled_from([nets.residual, nets.branching, nets.odd, nets.grey]))(torch.float64)
    boxes = grid(size, window, stride)
    boxes = boxes if len(boxes) < 40 else boxes[:: len(boxes) // 40]
    batch_size = data.draw(st.sampled_from([1, 2, 3, 7, 64, None]))
    check(model, size, boxes, batch_size=batch_size, least_effect=0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_an_occlusion_of_any_geometry_and_baseline_is_its_definition(data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(9, 22), st.integers(9, 22)))
    window, stride = (data.draw(st.tuples(*(st.integers(2, n) for n in size))) for _ in range(2))
    baseline = data.draw(st.sampled_from([*BASELINES, "a picture"]))
    model, pixels = nets.residual(torch.float64), nets.picture(4, size)
    photo, other = pixels[0].numpy(), nets.picture(5, size)
    shown = {
        "mean": np.broadcast_to(photo.mean((1, 2), keepdims=True), photo.shape),
        "black": np.zeros_like(photo),
        "white": np.ones_like(photo),
        "blur": reference.blurred(photo, min(size) / 16),
        "a picture": other[0].numpy(),
    }[baseline]
    given_baseline = other if baseline == "a picture" else baseline
    heat = occlusion(model, pixels, 2, window, stride, baseline=given_baseline)
    expected = reference.occlusion(model, photo, 2, window, stride, shown)
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("build", [nets.residual, nets.no_conv, nets.odd])
@pytest.mark.parametrize("hard", [True, False])
def test_masks_hide_as_far_as_they_say(build: Callable[[torch.dtype], Model], hard: bool) -> None:
    model, size = build(torch.float64), nets.SIZE
    boxes = boxes_everywhere(size)
    draws = np.random.default_rng(0)
    shares = draws.random((len(boxes), *size))
    masks = torch.from_numpy(shares > 0.6 if hard else shares)
    for batch_size in BATCH_SIZES:
        check(model, size, boxes, batch_size=batch_size, masks=masks)


def test_a_mask_of_nothing_answers_as_the_picture_and_a_mask_of_all_as_the_window() -> None:
    model, size = nets.branching(torch.float64), nets.SIZE
    pixels, filling = nets.picture(1, size), nets.picture(2, size)
    boxes = boxes_everywhere(size)
    variants = Variants(model, pixels)
    nothing = answers_of(variants, boxes, size, filling, torch.zeros(len(boxes), *size))
    assert error(nothing, variants.logits.expand_as(nothing)) < 1e-10
    everything = answers_of(variants, boxes, size, filling, torch.ones(len(boxes), *size))
    assert error(everything, answers_of(variants, boxes, size, filling)) < 1e-10


def test_a_mask_outside_its_region_does_not_count() -> None:
    """All parts of a batch are computed at one size: that of the largest is no leave to hide there."""
    model, size = nets.branching(torch.float64), nets.SIZE
    boxes = [(2, 4, 3, 5), (0, 30, 0, 20), (39, 41, 27, 29)]
    check(model, size, boxes, batch_size=3, masks=torch.ones(3, *size, dtype=torch.float64))


@pytest.mark.parametrize("build", [nets.gap, nets.residual, nets.no_conv])
def test_neither_batch_size_nor_company_nor_order_changes_an_answer(build: Callable[[torch.dtype], Model]) -> None:
    model, size = build(torch.float64), nets.SIZE
    boxes, filling = boxes_everywhere(size), nets.picture(2, size)
    variants = Variants(model, nets.picture(1, size))
    alone = torch.cat([answers_of(variants, [box], size, filling) for box in boxes])
    draws = np.random.default_rng(0)
    for batch_size in (1, 2, 3, 5, 8, 100, None):
        assert error(answers_of(variants, boxes, size, filling, batch_size=batch_size), alone) < 1e-10
        order = draws.permutation(len(boxes))
        mixed = answers_of(variants, [boxes[n] for n in order], size, filling, batch_size=batch_size)
        assert error(mixed, alone[torch.from_numpy(order)]) < 1e-10
    twice = answers_of(variants, boxes * 2, size, filling, batch_size=4)
    assert error(twice, torch.cat([alone, alone])) < 1e-10


def test_a_window_shown_as_it_is_changes_nothing() -> None:
    for model in (nets.residual(torch.float64), nets.deep_head(torch.float64)):
        pixels, boxes = nets.picture(1), boxes_everywhere(nets.SIZE)
        variants = Variants(model, pixels)
        found = answers_of(variants, boxes, nets.SIZE, pixels)
        assert error(found, variants.logits.expand_as(found)) < 1e-12


def test_variants_may_be_asked_again_and_for_other_fillings() -> None:
    model, boxes = nets.residual(torch.float64), boxes_everywhere(nets.SIZE)
    pixels = nets.picture(1)
    variants = Variants(model, pixels)
    for seed in (2, 3, 2):
        filling = nets.picture(seed)
        found = answers_of(variants, boxes, nets.SIZE, filling, batch_size=3)
        assert error(found, full_passes(model, pixels, boxes, filling)) < 1e-10


def test_one_number_a_channel_may_fill_a_window() -> None:
    model, boxes, pixels = nets.residual(torch.float64), boxes_everywhere(nets.SIZE), nets.picture(1)
    filling = pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    found = answers_of(Variants(model, pixels), boxes, nets.SIZE, filling)
    assert error(found, full_passes(model, pixels, boxes, filling)) < 1e-10


@pytest.mark.parametrize("layout", ["channels last", "every second column", "stretched"])
def test_the_layout_of_the_picture_in_memory_does_not_matter(layout: str) -> None:
    model, boxes, plain = nets.branching(torch.float64), boxes_everywhere(nets.SIZE), nets.picture(1)
    if layout == "channels last":
        pixels = plain.contiguous(memory_format=torch.channels_last)
    elif layout == "every second column":
        pixels = plain.repeat_interleave(2, 3)[..., ::2]
    else:
        plain = plain[:, :, :1].expand(-1, -1, nets.SIZE[0], -1).contiguous()
        pixels = plain[:, :, :1].expand_as(plain)
    found = answers_of(Variants(model, pixels), boxes, nets.SIZE, nets.picture(2))
    assert error(found, full_passes(model, plain, boxes, nets.picture(2))) < 1e-10


def test_work_counts_multiplications_of_what_is_computed() -> None:
    """One convolution of 1 × 1 and one dense layer: by hand."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5, bias=False)
        )

    variants = Variants(nets.model_of(build, {}, torch.float64), nets.picture(1))
    height, width = nets.SIZE
    assert variants.whole_work == height * width * 12 + 20
    assert variants.work(region_of(nets.SIZE, [(3, 5, 7, 10)])) == 6 * 12 + 20
    assert variants.work(region_of(nets.SIZE, [(3, 5, 7, 10), (0, 1, 0, 1)])) == 2 * (6 * 12 + 20)  # at one size


# Nets that people use


@cache
def from_catalogue(name: str) -> Model:
    """Trained where the weights are at hand: random ones may hide nothing, or everything, behind dead activations."""
    return load_model(name) if name in ("efficientnet_lite0", "lenet5") else load_model(name, weights=None)


def mobilenet_v2() -> Model:
    return nets.model_of(lambda: guarded_import("torchvision.models").mobilenet_v2(weights=None), {}, classes=1000)


def timm_lite0() -> Model:
    return nets.model_of(lambda: guarded_import("timm").create_model("tf_efficientnet_lite0"), {}, classes=1000)


def a_few_windows(size: tuple[int, int], count: int) -> list[Box]:
    """A corner, an edge, and some at random, none as large as a quarter of the picture."""
    (height, width), draws = size, np.random.default_rng(0)
    boxes = [(0, height // 5, 0, width // 4), (height // 2, height // 2 + height // 6, width - width // 7, width)]
    while len(boxes) < count:
        high, wide = (int(draws.integers(3, n // 2)) for n in size)
        top, left = int(draws.integers(height - high + 1)), int(draws.integers(width - wide + 1))
        boxes.append((top, top + high, left, left + wide))
    return boxes[:count]


def check_in_both_types(model: Model, size: tuple[int, int], count: int, share: float) -> None:
    """``share``: what the windows may take of the work at most, of full passes."""
    boxes = a_few_windows(size, count)
    for dtype in (torch.float32, torch.float64):
        model.net.to(dtype)
        try:
            variants = check(model, size, boxes, batch_size=3 if dtype == torch.float64 else None)
        finally:
            model.net.float()
        assert variants.is_traced
        one_by_one = sum(variants.work(region_of(size, [box])) for box in boxes)
        assert one_by_one < share * len(boxes) * variants.whole_work


NON_SQUARE = [
    ("efficientnet_lite0", 0.8),
    ("resnet18", 0.9),
    ("googlenet", 0.9),
    pytest.param("alexnet", 0.95, marks=pytest.mark.slow),  # 61 million weights
    pytest.param("resnet50", 0.9, marks=pytest.mark.slow),
    pytest.param("vgg16", 0.9, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "share"), NON_SQUARE)
def test_a_net_of_the_catalogue_answers_as_full_passes_on_a_picture_that_is_not_square(name: str, share: float) -> None:
    model = from_catalogue(name) if name != "vgg16" else load_model(name, weights=None)
    check_in_both_types(model, (160, 128), 5, share)


@pytest.mark.parametrize(
    ("name", "share"),
    [("lenet5", 0.9), *(pytest.param(*(getattr(one, "values", one)), marks=pytest.mark.slow) for one in NON_SQUARE)],
)
def test_a_net_of_the_catalogue_answers_as_full_passes_on_a_picture_of_its_size(name: str, share: float) -> None:
    model = from_catalogue(name) if name != "vgg16" else load_model(name, weights=None)
    check_in_both_types(model, model.input_size, 20 if name == "lenet5" else 3, share)


@pytest.mark.parametrize("build", [mobilenet_v2, pytest.param(timm_lite0, marks=pytest.mark.slow)])
def test_nets_from_elsewhere_answer_as_full_passes(build: Callable[[], Model]) -> None:
    check_in_both_types(build(), (160, 128), 5, 0.8)


# The model, before and behind


@pytest.mark.parametrize("build", [nets.gap, nets.in_place, nets.residual, nets.reused, nets.no_conv])
def test_variants_leave_the_model_and_what_they_are_given_unchanged(build: Callable[[], Model]) -> None:
    model, boxes = build(), boxes_everywhere(nets.SIZE)
    model.net.requires_grad_()
    list(model.net.modules())[-1].train()
    pixels, filling = nets.picture(1, dtype=torch.float32), nets.picture(2, dtype=torch.float32)
    masks = torch.rand(len(boxes), *nets.SIZE, generator=torch.Generator().manual_seed(0))
    before = [tensor.clone() for tensor in (pixels, filling, masks)]
    with unchanged(model):
        variants = Variants(model, pixels)
    with unchanged(model):
        found = answers_of(variants, boxes, nets.SIZE, filling, masks)
    assert all(torch.equal(*pair) for pair in zip((pixels, filling, masks), before, strict=True))
    assert not found.requires_grad
    assert not variants.logits.requires_grad


def test_the_callers_modes_are_its_own_between_two_answers() -> None:
    model, region = nets.gap(), region_of(nets.SIZE, boxes_everywhere(nets.SIZE))
    variants = Variants(model, nets.picture(1, dtype=torch.float32))
    for _ in variants.answers(region, nets.picture(2, dtype=torch.float32), batch_size=2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert nets.lock_is_free(model)
    with torch.inference_mode():
        for _ in variants.answers(region, nets.picture(2, dtype=torch.float32), batch_size=2):
            assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_net_that_raises_in_the_middle_is_left_unchanged_and_works_the_next_time(at: int) -> None:
    """Calls of the net: the picture, the trace, and, where that failed, each batch."""
    model, boxes = nets.tripping(at), boxes_everywhere(nets.SIZE)
    pixels, filling = nets.picture(1, dtype=torch.float32), nets.picture(2, dtype=torch.float32)
    with unchanged(model):
        try:
            answers_of(Variants(model, pixels), boxes, nets.SIZE, filling, batch_size=2)
        except RuntimeError as raised:
            assert str(raised) == "tripped"  # noqa: PT017 which calls there are is not what is tested
    assert nets.lock_is_free(model)
    model.net.classifier[0].at = 0
    found = answers_of(Variants(model, pixels), boxes, nets.SIZE, filling)
    assert error(found, full_passes(model, pixels, boxes, filling)) < 1e-4


def test_answers_given_up_in_the_middle_leave_the_model_unchanged_and_can_be_asked_again() -> None:
    model, boxes = nets.residual(torch.float64), boxes_everywhere(nets.SIZE)
    pixels, filling = nets.picture(1), nets.picture(2)
    variants = Variants(model, pixels)
    with unchanged(model):
        started = variants.answers(region_of(nets.SIZE, boxes), filling, batch_size=2)
        next(started)
        started.close()
    assert error(answers_of(variants, boxes, nets.SIZE, filling), full_passes(model, pixels, boxes, filling)) < 1e-10


class Logarithm(nn.Module):
    """Of numbers that are positive where pixels are above 0.1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x + 1.5)


@pytest.mark.parametrize("behind", [nn.Tanh, nn.ReLU])
def test_an_answer_that_is_not_finite_is_refused_as_a_full_pass_refuses_it(behind: Callable[[], nn.Module]) -> None:
    head = (nn.Conv2d(3, 4, 3), behind(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, nets.CLASSES))
    model, box = nets.model_of(lambda: nn.Sequential(Logarithm(), *head), {}), (3, 9, 2, 20)
    pixels = 0.5 + 0.2 * nets.picture(1, dtype=torch.float32)
    variants, black = Variants(model, pixels), torch.zeros_like(pixels)
    assert variants.is_traced
    with pytest.raises(UnsupportedModel, match="NaN or infinity"):
        full_passes(model, pixels, [box], black)
    with pytest.raises(UnsupportedModel, match="NaN or infinity"):
        answers_of(variants, [box], nets.SIZE, black)


@pytest.mark.parametrize("build", [nets.residual, nets.no_conv])
def test_eight_threads_with_pictures_of_their_own_get_answers_of_their_own(build: Callable[..., Model]) -> None:
    model, boxes = build(torch.float64), boxes_everywhere(nets.SIZE)

    def wrong_by(seed: int) -> float:
        pixels, filling = nets.picture(seed), nets.picture(seed + 100)
        found = answers_of(Variants(model, pixels), boxes, nets.SIZE, filling, batch_size=1 + seed % 4)
        return error(found, full_passes(model, pixels, boxes, filling))

    with unchanged(model), ThreadPoolExecutor(8) as threads:
        assert max(threads.map(wrong_by, range(32))) < 1e-10


class Folded(nn.Module):
    """Convolutions behind dense layers: what comes out of these is taken for a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.spread = nn.Conv2d(3, 8, 3), nn.Linear(8, 96 * 64)
        self.wide, self.head = nn.Conv2d(96, 96, 3), nn.Linear(96, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spread(self.conv(x).mean((2, 3))).view(-1, 96, 8, 8)
        return self.head(self.wide(x).mean((2, 3)))


def test_eight_threads_share_the_variants_of_one_picture() -> None:
    model = nets.model_of(Folded, {})
    pixels, boxes = nets.picture(1, dtype=torch.float32), boxes_everywhere(nets.SIZE)[:6]
    variants = Variants(model, pixels)
    assert variants.is_traced

    def wrong_by(seed: int) -> float:
        filling = nets.picture(seed, dtype=torch.float32)
        found = answers_of(variants, boxes, nets.SIZE, filling, batch_size=1 + seed % 4)
        return error(found, full_passes(model, pixels, boxes, filling))

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(wrong_by, range(2, 34))) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (-2.0, 1.0), (0.0, 6.0)])
def test_bounds_that_torch_leaves_out_are_known(bounds: tuple[float, float]) -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.Hardtanh(*bounds), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = nets.model_of(lambda: nn.Sequential(*layers), {})
    model.net.get_submodule("0").weight.mul_(20)  # past the bounds
    assert check(model, nets.SIZE, boxes_everywhere(nets.SIZE)[:4], least_effect=1e-4).is_traced


class Looped(nn.Module):
    """Holds a dictionary that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, nets.CLASSES)
        self.own: dict[str, object] = {}
        self.own["own"] = self.own

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_what_goes_wrong_in_the_tracing_does_not_go_wrong_in_the_answer() -> None:
    variants = check(nets.model_of(Looped, {}), nets.SIZE, boxes_everywhere(nets.SIZE)[:3])
    assert not variants.is_traced
    assert "RecursionError" in str(variants.why_whole)


def test_maps_that_would_take_too_much_memory_are_not_kept() -> None:
    model = nets.model_of(
        lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), {}
    )
    small, large = (Variants(model, nets.picture(1, size, torch.float32)) for size in ((60, 70), (900, 1000)))
    assert small.is_traced
    assert not large.is_traced
    assert "MB" in str(large.why_whole)


def test_a_picture_changed_after_its_variants_were_made_does_not_change_them() -> None:
    model, pixels, filling = nets.residual(), nets.picture(1), nets.picture(2)
    variants, boxes = Variants(model, pixels), boxes_everywhere(nets.SIZE)[:3]
    before = answers_of(variants, boxes, nets.SIZE, filling)
    assert variants.are_of(model, pixels)
    pixels += 0.1
    assert torch.equal(answers_of(variants, boxes, nets.SIZE, filling), before)
    assert not variants.are_of(model, pixels)


def test_what_is_held_is_counted() -> None:
    model = nets.residual()
    assert 0 < Variants(model, nets.picture(1)).nbytes < Variants(model, nets.picture(1, (75, 94))).nbytes
