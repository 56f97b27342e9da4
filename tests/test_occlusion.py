"""Occlusion sensitivity against its definition, its peers, and what must be true of it."""

from __future__ import annotations

import warnings

import nets
import numpy as np
import pytest
import reference
import torch
from torch import nn

from vizcore.occlusion import (
    BASELINES,
    MAX_WINDOWS,
    Grid,
    count_windows,
    estimate_occlusion,
    mean_drops,
    occlusion,
    occlusion_of,
    starts,
)
from vizcore.records import BadParameter, LensError, Model

SMALL = (13, 9)
GEOMETRIES = [
    ((4, 3), (2, 2)),  # overlapping
    ((3, 4), (3, 4)),  # side by side, clipped at the border
    ((2, 3), (5, 4)),  # gaps
    ((13, 2), (1, 7)),  # a stripe from top to bottom
    ((1, 9), (13, 9)),  # one window
    ((5, 5), (5, 1)),
]


def filling(pixels: np.ndarray, baseline: str) -> np.ndarray:
    if baseline == "mean":
        return np.broadcast_to(pixels.mean((1, 2), keepdims=True), pixels.shape)
    if baseline == "blur":
        return reference.blurred(pixels, min(pixels.shape[1:]) / 16)
    return np.full_like(pixels, {"black": 0.0, "white": 1.0}[baseline])


# Against the definition


@pytest.mark.parametrize("build", [nets.gap, nets.grey, nets.branching])
@pytest.mark.parametrize(("window", "stride"), GEOMETRIES)
def test_a_pixel_is_the_mean_drop_of_the_windows_that_cover_it(build, window, stride) -> None:
    model, pixels = build(torch.float64), nets.picture(1, SMALL)
    black = np.zeros((3, *SMALL))
    expected = reference.occlusion(model, pixels[0].numpy(), 2, window, stride, black)
    heat = occlusion(model, pixels, 2, window, stride, baseline="black")
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_and_score_is_its_definition(baseline: str, score: str) -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture(2, (29, 23))
    photo = pixels[0].numpy()
    expected = reference.occlusion(model, photo, 1, (9, 7), (6, 5), filling(photo, baseline), score)
    heat = occlusion(model, pixels, 1, (9, 7), (6, 5), baseline=baseline, score=score)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    assert heat.params == {"window": (9, 7), "stride": (6, 5), "baseline": baseline, "score": score}


def test_a_picture_of_ones_own_as_the_baseline_is_shown_in_the_windows() -> None:
    model, pixels, other = nets.gap(torch.float64), nets.picture(3, SMALL), nets.picture(4, SMALL)
    expected = reference.occlusion(model, pixels[0].numpy(), 0, (4, 3), (3, 2), other[0].numpy())
    heat = occlusion(model, pixels, 0, (4, 3), (3, 2), baseline=other)
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-9)
    assert heat.params["baseline"] == "given"


def test_float32_nets_give_the_numbers_of_float64_nets() -> None:
    pixels = nets.picture(5, SMALL)
    wide = occlusion(nets.gap(torch.float64), pixels, 3, 4, 2).values
    np.testing.assert_allclose(occlusion(nets.gap(), pixels.float(), 3, 4, 2).values, wide, atol=1e-4)
    assert np.abs(wide).max() > 0.01


def test_the_probability_of_a_single_logit_is_its_sigmoid() -> None:
    model, pixels = nets.one_logit(torch.float64), nets.picture(6, SMALL)
    heat = occlusion(model, pixels, 0, SMALL, SMALL, baseline="black", score="probability")
    whole, hidden = (torch.sigmoid(model.logits(shown))[0, 0] for shown in (pixels, torch.zeros_like(pixels)))
    assert heat.score == pytest.approx(float(whole))
    np.testing.assert_allclose(heat.values, float(whole - hidden), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7, 13, 20])
def test_windows_start_at_every_stride_up_to_the_first_that_reaches_the_border(size: int) -> None:
    for window in range(1, size + 1):
        for stride in range(1, size + 1):
            found = starts(size, window, stride)
            assert found == reference.starts(size, window, stride), (size, window, stride)
            if stride <= window:
                covered = {pixel for start in found for pixel in range(start, start + window)}
                assert covered >= set(range(size)), (size, window, stride)


def test_the_price_is_the_number_of_windows_that_run() -> None:
    totals = []
    occlusion(
        nets.gap(), nets.picture(size=SMALL).float(), 0, (4, 3), (3, 2), progress=lambda *call: totals.append(call)
    )
    assert totals[-1] == (count_windows(SMALL, (4, 3), (3, 2)),) * 2 == (16, 16)


# Against the peers, in pixel space with the same baseline


def captum_occlusion(model: Model, pixels: torch.Tensor, target: int, window, stride, baseline: float) -> np.ndarray:
    from captum.attr import Occlusion

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = Occlusion(lambda shown: model.net(model.normalise(shown)))
        return peer.attribute(
            pixels, target=target, sliding_window_shapes=(3, *window), strides=(3, *stride), baselines=baseline
        )[0, 0].numpy()


@pytest.mark.parametrize(
    ("window", "stride"),
    [((5, 5), (5, 5)), ((10, 5), (5, 5)), ((4, 6), (2, 3))],  # these divide 20 × 15, or step evenly to its border
)
def test_captum_agrees_where_windows_end_at_the_border(window, stride) -> None:
    # Elsewhere its last window lies differently; and its overlaps are averages as here.
    size = (20, 15)
    model, pixels = nets.gap(torch.float64), nets.picture(7, size)
    expected = captum_occlusion(model, pixels, 1, window, stride, 0.5)
    heat = occlusion(model, pixels, 1, window, stride, baseline=torch.full_like(pixels, 0.5))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-9)


def test_captums_feature_ablation_of_tiles_is_occlusion_without_overlap() -> None:
    from captum.attr import FeatureAblation

    size = (20, 15)
    model, pixels = nets.branching(torch.float64), nets.picture(8, size)
    tiles = torch.arange(12).view(4, 3).repeat_interleave(5, 0).repeat_interleave(5, 1).expand(1, 3, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = FeatureAblation(lambda shown: model.net(model.normalise(shown)))
        expected = peer.attribute(pixels, baselines=0.0, target=2, feature_mask=tiles)[0, 0].numpy()
    heat = occlusion(model, pixels, 2, 5, 5, baseline="black")
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-9)


# What must be true


@pytest.mark.parametrize("build", [nets.gap, nets.residual, nets.grey])
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_hiding_a_picture_with_itself_changes_nothing(build, score: str) -> None:
    pixels = nets.picture(9)
    heat = occlusion(build(torch.float64), pixels, 1, 11, 7, baseline=pixels.clone(), score=score)
    np.testing.assert_allclose(heat.values, 0, atol=1e-12)


def test_hiding_a_grey_area_with_the_mean_of_a_uniform_picture_changes_nothing() -> None:
    heat = occlusion(nets.gap(torch.float64), torch.full((1, 3, *SMALL), 0.3), 1, 4, 2)
    np.testing.assert_allclose(heat.values, 0, atol=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (6, 2), (12, 8)])
def test_heat_lands_on_the_only_pixel_the_net_reads(place: tuple[int, int]) -> None:
    model, pixels = nets.one_pixel(*place), nets.picture(10, SMALL)
    values = occlusion(model, pixels, 2, 1, 1, baseline="black").values
    assert np.argwhere(values).tolist() == [list(place)]
    assert values[place] == pytest.approx(float(pixels[0, 2, *place]))
    hidden = occlusion(model, pixels, 2, (3, 5), (3, 5), baseline="white").values
    assert hidden[place] == pytest.approx(float(pixels[0, 2, *place]) - 1)


def test_side_by_side_drops_of_a_linear_net_add_up_to_the_whole_drop() -> None:
    model, pixels = nets.colours(), nets.picture(11, (12, 8))
    heat = occlusion(model, pixels, 1, (3, 4), (3, 4), baseline="black")
    assert heat.values[::3, ::4].sum() == pytest.approx(heat.score)


@pytest.mark.parametrize("stride", [1, 4, (13, 9)])
def test_a_window_as_large_as_the_picture_gives_its_single_drop_everywhere(stride) -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(12, SMALL)
    heat = occlusion(model, pixels, 3, SMALL, stride, baseline="white")
    drop = heat.score - float(model.logits(torch.ones_like(pixels))[0, 3])
    np.testing.assert_allclose(heat.values, drop, rtol=1e-5)


def test_pixels_between_windows_show_zero_and_a_note_says_so() -> None:  # P3
    pixels = nets.picture(13, SMALL)
    heat = occlusion(nets.gap(torch.float64), pixels, 0, (2, 2), (5, 4), baseline="black")
    rows, columns = np.array([0, 1, 5, 6, 10, 11]), np.array([0, 1, 4, 5, 8])
    reached = np.zeros(SMALL, bool)
    reached[np.ix_(rows, columns)] = True
    assert np.array_equal(heat.values != 0, reached)
    assert any("larger than the window" in note for note in heat.notes)
    assert not occlusion(nets.gap(), pixels.float(), 0, 4, 4).notes


def test_batch_size_does_not_change_the_map() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(14, SMALL)
    one, five, many = (occlusion(model, pixels, 2, 4, 2, batch_size=size).values for size in (1, 5, 1000))
    np.testing.assert_allclose(five, one, rtol=1e-6)
    np.testing.assert_allclose(many, one, rtol=1e-6)


@pytest.mark.parametrize("axis", [2, 3])
def test_flipping_the_picture_flips_the_map_of_a_net_that_knows_no_direction(axis: int) -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(15, (17, 13))
    for conv in (model.net.conv1, model.net.conv2, model.net.conv3):
        conv.weight.copy_((conv.weight + conv.weight.flip(axis)) / 2)
    # Windows of 5 at every 4 end at the border of 17 and of 13, and so lie the same from either side.
    upright = occlusion(model, pixels, 2, 5, 4).values
    flipped = occlusion(model, pixels.flip(axis), 2, 5, 4).values
    assert not np.allclose(upright, np.flip(upright, axis - 2))
    np.testing.assert_allclose(np.flip(flipped, axis - 2), upright, rtol=1e-5, atol=1e-9)


def test_height_comes_before_width() -> None:
    tall = occlusion(nets.gap(torch.float64), nets.picture(16, SMALL), 1, (6, 1), (6, 1)).values
    assert np.array_equal(tall[:6], np.tile(tall[0], (6, 1)))
    assert len(np.unique(tall[0])) == 9


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_the_score_is_that_of_the_whole_picture(score: str) -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(17, SMALL)
    logits = model.logits(pixels)
    expected = logits if score == "logit" else logits.softmax(1)
    assert occlusion(model, pixels, 4, 9, 9, score=score).score == pytest.approx(float(expected[0, 4]))


def test_windows_come_coarse_to_fine_and_the_map_so_far_holds_the_mean_of_those_known() -> None:
    pixels, seen, calls = nets.picture(18, SMALL), [], []
    model = nets.gap(torch.float64)
    heat = occlusion(
        model,
        pixels,
        1,
        3,
        3,
        batch_size=4,
        partial=seen.append,
        progress=lambda *call: calls.append((len(seen), *call)),
    )
    # Five rows of three tiles: every fourth of both axes (2), then every second (6 in all), then the rest.
    assert calls == [(1, 2, 15), (2, 6, 15), (3, 10, 15), (4, 14, 15), (5, 15, 15)]
    assert [part.done for part in seen] == [2, 6, 10, 14, 15]
    assert {part.total for part in seen} == {15}
    assert np.array_equal(seen[-1].heatmaps()[0].values, heat.values)
    for part in seen:
        (so_far,) = part.heatmaps()
        assert np.array_equal(so_far.values[part.known == 1], heat.values[part.known == 1])
        assert not so_far.values[part.known == 0].any()
        assert part.exact == pytest.approx((part.known == 1).mean())
        assert bool(so_far.notes) == (part.done < 15)
    assert np.argwhere(seen[0].known).tolist() == [[r, c] for r in (0, 1, 2, 12) for c in (0, 1, 2)]
    assert "6 of 15 windows were hidden" in seen[1].heatmaps()[0].notes[0]
    assert all(part.windows_a_second > 0 and part.saved < 1 for part in seen)


def test_an_estimate_stands_only_where_no_window_was_hidden_yet() -> None:
    model, pixels, seen = nets.gap(torch.float64), nets.picture(18, SMALL), []
    heats = occlusion_of(model, pixels, [1, 3], 3, 3, batch_size=4, partial=seen.append)
    estimates = estimate_occlusion(model, pixels, [1, 3], 3, 3)
    for shown, heat, estimate in zip(seen[1].over(estimates), heats, estimates, strict=True):
        hidden = seen[1].known > 0
        assert np.array_equal(shown.values[hidden], heat.values[hidden])
        assert np.array_equal(shown.values[~hidden], estimate.values[~hidden])
        assert not np.allclose(heat.values, estimate.values)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_several_classes_at_once_are_each_alone(score: str) -> None:
    model, pixels = nets.residual(torch.float64), nets.picture(23)
    together = occlusion_of(model, pixels, [4, 0, 4], (9, 7), (6, 5), score=score)
    for target, heat in zip([4, 0, 4], together, strict=True):
        alone = occlusion(model, pixels, target, (9, 7), (6, 5), score=score)
        assert (heat.target, heat.score, heat.params) == (target, alone.score, alone.params)
        np.testing.assert_allclose(heat.values, alone.values, rtol=1e-6, atol=1e-12)


def test_the_estimate_of_a_linear_net_is_its_occlusion() -> None:
    model, pixels = nets.colours(), nets.picture(24, (12, 9))
    for window, stride in [((3, 4), (2, 3)), ((2, 2), (5, 4))]:
        exact = occlusion_of(model, pixels, [0, 2], window, stride, baseline="black")
        estimates = estimate_occlusion(model, pixels, [0, 2], window, stride, baseline="black")
        for one, other in zip(exact, estimates, strict=True):
            assert np.abs(one.values).max() > 1e-3
            np.testing.assert_allclose(other.values, one.values, rtol=1e-5, atol=1e-9)
            assert "estimate" in other.notes[0].lower()
            assert other.score == pytest.approx(one.score)


def test_the_estimate_is_the_gradient_times_the_change_summed_over_each_window() -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture(25, (29, 23))
    shown = pixels.clone().requires_grad_()
    model.logits(shown).softmax(1)[0, 2].backward()
    change = ((pixels - 1) * shown.grad)[0].sum(0).numpy()
    sums, covers = np.zeros((29, 23)), np.zeros((29, 23))
    for top in starts(29, 9, 6):
        for left in starts(23, 7, 5):
            area = np.s_[top : top + 9, left : left + 7]
            sums[area] += change[area].sum()
            covers[area] += 1
    (heat,) = estimate_occlusion(model, pixels, [2], (9, 7), (6, 5), baseline="white", score="probability")
    np.testing.assert_allclose(heat.values, sums / covers, rtol=1e-5, atol=1e-9)


def test_windows_that_are_not_known_yet_do_not_count_in_the_mean() -> None:
    drops = np.array([[4.0, np.nan, 2.0]])
    values = mean_drops(drops, Grid((1, 4), (1, 2), (1, 1)))
    assert values.tolist() == [[4.0, 4.0, 2.0, 2.0]]


def test_the_picture_and_the_baseline_are_left_alone() -> None:
    pixels, other = nets.picture(19, SMALL).float(), nets.picture(20, SMALL).float()
    before, other_before = pixels.clone(), other.clone()
    occlusion(nets.gap(), pixels, 0, 4, 4, baseline=other)
    assert torch.equal(pixels, before)
    assert torch.equal(other, other_before)


def test_pixels_that_ask_for_gradients_are_taken_as_they_are() -> None:
    pixels = nets.picture(21, SMALL).float()
    expected = occlusion(nets.gap(), pixels, 0, 4, 4).values
    assert np.array_equal(occlusion(nets.gap(), pixels.clone().requires_grad_(), 0, 4, 4).values, expected)


def test_a_net_without_parameters_can_be_asked() -> None:
    class MeanNet(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    model = Model("means", MeanNet().eval(), ("r", "g", "b"), SMALL, (0.0,) * 3, (1.0,) * 3, {})
    heat = occlusion(model, nets.picture(22, SMALL).float(), 0, SMALL, SMALL, baseline="black")
    np.testing.assert_allclose(heat.values, heat.score, rtol=1e-5)


# What is refused, in the words of the caller


@pytest.mark.parametrize("name", ["window", "stride"])
@pytest.mark.parametrize(
    "value", [0, -1, 14, 10**9, 2.0, float("nan"), "8", None, True, (4,), (4, 4, 4), (4, 10), (0, 4)]
)
def test_sizes_out_of_range_are_refused_with_the_range(name: str, value: object) -> None:  # P1
    sizes = {"window": 4, "stride": 4, name: value}
    with pytest.raises(BadParameter, match=rf"{name}.*(whole number|height, width)"):
        occlusion(nets.gap(), nets.picture(size=SMALL).float(), 0, **sizes)


def test_more_windows_than_can_be_waited_for_are_refused_before_the_first_runs() -> None:  # P2
    calls = []
    model = nets.answering(lambda logits: calls.append(1) or logits)
    with pytest.raises(BadParameter, match=r"2,512,225 windows on 1600 × 1600.*at most 100,000.*larger stride"):
        occlusion(model, torch.zeros(1, 3, 1600, 1600), 0, 16, 1)
    assert not calls
    assert count_windows((1600, 1600), 16, 1) == 1585**2 > MAX_WINDOWS


@pytest.mark.parametrize("target", [-1, 5, 1000, "cat", None, True, 1.0])
def test_a_class_that_is_none_is_refused_with_the_range(target: object) -> None:  # P4
    with pytest.raises(BadParameter, match=r"target is .*0 to 4"):
        occlusion(nets.gap(), nets.picture(size=SMALL).float(), target, 4, 4)


@pytest.mark.parametrize(
    "baseline",
    ["grey", "", None, 0, np.zeros((1, 3, 13, 9)), torch.zeros(3, 13, 9), torch.full((1, 3, 13, 9), torch.nan)],
)
def test_a_baseline_that_is_none_is_refused_with_the_known_ones(baseline: object) -> None:
    with pytest.raises(BadParameter, match=r"baseline.*(mean, black, white, blur|\(1, 3, 13, 9\))"):
        occlusion(nets.gap(), nets.picture(size=SMALL).float(), 0, 4, 4, baseline=baseline)


@pytest.mark.parametrize("score", ["softmax", "", None])
def test_a_score_that_is_none_is_refused_with_the_known_ones(score: object) -> None:
    with pytest.raises(BadParameter, match=r"score is .*logit, probability"):
        occlusion(nets.gap(), nets.picture(size=SMALL).float(), 0, 4, 4, score=score)


def test_a_class_that_has_a_label_and_no_score_is_refused() -> None:
    model = nets.gap()
    more = Model("more labels", model.net, tuple("abcdefgh"), SMALL, model.mean, model.std, model.layers)
    with pytest.raises(LensError, match="0 to 4"):
        occlusion(more, nets.picture(size=SMALL).float(), 7, 4, 4)
