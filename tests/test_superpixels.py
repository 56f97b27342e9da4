"""Super-pixels and their ablation against the definition, occlusion, Captum, and what must be true of them."""

from __future__ import annotations

import warnings

import nets
import numpy as np
import pytest
import reference_masks
import torch

from models import load_model
from vizcore import superpixels as module
from vizcore.baselines import BASELINES, filling_of
from vizcore.occlusion import occlusion
from vizcore.records import BadParameter, Model
from vizcore.superpixels import superpixel_ablation, superpixel_ablation_of, superpixels

SMALL = (13, 9)
NETS = [nets.gap, nets.deep_head, nets.branching, nets.residual, nets.grey, nets.odd]


def blots(seed: int, count: int = 8, size: tuple[int, int] = nets.SIZE) -> np.ndarray:
    """Labels (h, w) of the nearest of ``count`` random points: cells with slanted sides."""
    draws = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    points = draws.random((count, 2, 1, 1)) * np.array(size)[:, None, None]
    return ((rows - points[:, 0]) ** 2 + (columns - points[:, 1]) ** 2).argmin(0)


# The cut


@pytest.mark.parametrize("count", [1, 4, 20, 80])
@pytest.mark.parametrize("sigma", [0, 1.0, 3])
def test_superpixels_are_connected_patches_numbered_from_0_without_gaps(count: int, sigma: float) -> None:
    for size in ((41, 29), (23, 60)):
        labels = superpixels(nets.picture(1, size), count, sigma=sigma)
        assert labels.shape == size
        assert np.issubdtype(labels.dtype, np.integer)
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
        assert reference_masks.pieces(labels) == labels.max() + 1
        assert 0.3 * count <= labels.max() + 1 <= 2 * count


def test_as_many_superpixels_as_pixels_are_the_pixels() -> None:
    assert len(np.unique(superpixels(nets.picture(2, SMALL), 13 * 9))) == 13 * 9


def test_superpixels_follow_the_edges_of_the_picture() -> None:
    # A red disc on blue, with no other edge: no patch holds pixels of both, but for smoothing at the rim.
    rows, columns = np.indices((40, 56))
    disc = (rows - 17) ** 2 + (columns - 30) ** 2 < 121
    pixels = torch.zeros(1, 3, 40, 56)
    pixels[0, 0][torch.from_numpy(disc)] = 1
    pixels[0, 2][torch.from_numpy(~disc)] = 1
    labels = superpixels(pixels, 20, sigma=0)
    shares = np.bincount(labels.ravel(), disc.ravel()) / np.bincount(labels.ravel())
    assert np.all((shares < 0.02) | (shares > 0.98))
    assert np.any(shares > 0.98)


def test_the_more_compact_the_squarer() -> None:
    def edges(compactness: float) -> int:
        labels = superpixels(nets.picture(3), 20, compactness)
        return int((labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum())

    assert edges(1000) < edges(1)


def test_the_same_picture_is_cut_the_same_and_is_left_alone() -> None:
    pixels = nets.picture(4)
    before = pixels.clone()
    assert np.array_equal(superpixels(pixels), superpixels(pixels.clone().requires_grad_()))
    assert torch.equal(pixels, before)


# Against the definition


@pytest.mark.parametrize("build", NETS)
def test_a_pixel_is_the_drop_of_its_superpixel(build) -> None:
    model, pixels, labels = build(torch.float64), nets.picture(5), blots(6)
    filling = filling_of(pixels, "blur")[0].numpy()
    expected = reference_masks.ablation(model, pixels[0].numpy(), 2, labels, filling)
    heat = superpixel_ablation(model, pixels, 2, labels, baseline="blur")
    assert np.ptp(expected) > 1e-5
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-9)
    assert (heat.method, heat.layer, heat.target, heat.values.dtype) == ("superpixel_ablation", None, 2, np.float32)


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("baseline", [*BASELINES, "given"])
def test_every_baseline_and_score_is_its_definition(baseline: str, score: str) -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture(7)
    given = nets.picture(8) if baseline == "given" else baseline
    filling, labels = filling_of(pixels, given)[0].numpy(), superpixels(pixels, 6)
    expected = reference_masks.ablation(model, pixels[0].numpy(), 1, labels, filling, score)
    heat = superpixel_ablation(model, pixels, 1, 6, baseline=given, score=score)
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    assert heat.params == {"segments": 6, "baseline": baseline, "score": score}
    with torch.no_grad():
        logits = model.logits(pixels)
    assert heat.score == pytest.approx(float((logits if score == "logit" else logits.softmax(1))[0, 1]))


# Against occlusion, and the peer


@pytest.mark.parametrize("build", [nets.gap, nets.branching, nets.grey])
@pytest.mark.parametrize("baseline", ["mean", "white"])
def test_with_one_superpixel_a_pixel_it_is_occlusion_by_windows_of_one_pixel(build, baseline: str) -> None:
    model, pixels = build(torch.float64), nets.picture(9, SMALL)
    expected = occlusion(model, pixels, 3, 1, 1, baseline=baseline).values
    assert np.abs(expected).max() > 1e-6
    each = np.arange(13 * 9).reshape(SMALL)
    for segments in (13 * 9, each, each[::-1].copy()):
        found = superpixel_ablation(model, pixels, 3, segments, baseline=baseline)
        np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-9)


def test_tiles_are_occlusion_without_overlap() -> None:
    model, pixels = nets.residual(torch.float64), nets.picture(10, (20, 15))
    tiles = np.arange(12).reshape(4, 3).repeat(5, 0).repeat(5, 1)
    expected = occlusion(model, pixels, 1, 5, 5, score="probability").values
    found = superpixel_ablation(model, pixels, 1, tiles, score="probability")
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-9)


def captums(model: Model, pixels: torch.Tensor, target: int, labels: np.ndarray, baseline: torch.Tensor) -> np.ndarray:
    from captum.attr import FeatureAblation

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        peer = FeatureAblation(lambda shown: model.net(model.normalise(shown)))
        mask = torch.from_numpy(labels).expand(1, 3, *labels.shape)  # the colours of a pixel go together
        # It divides nothing by default: neither by the area nor by the number of features.
        return peer.attribute(pixels, baselines=baseline, target=target, feature_mask=mask)[0, 0].numpy()


@pytest.mark.parametrize("build", NETS)
def test_values_are_captums_feature_ablation(build) -> None:
    model, pixels = build(torch.float64), nets.picture(11)
    for labels in (blots(12, 15), superpixels(pixels, 12)):
        expected = captums(model, pixels, 1, labels, filling_of(pixels, "mean"))
        heat = superpixel_ablation(model, pixels, 1, labels)
        np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_values_of_an_efficientnet_are_captums() -> None:
    model, pixels = load_model("efficientnet_lite0"), nets.picture(13, (96, 64), torch.float32)
    labels = superpixels(pixels, 20)
    expected = captums(model, pixels, 1, labels, torch.zeros_like(pixels))
    heat = superpixel_ablation(model, pixels, 1, labels, baseline="black")
    np.testing.assert_allclose(heat.values, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


# What must be true


@pytest.mark.parametrize("build", NETS)
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_one_superpixel_over_everything_gives_the_score_minus_that_of_the_baseline(build, score: str) -> None:
    model, pixels, other = build(torch.float64), nets.picture(14), nets.picture(15)
    with torch.no_grad():
        whole, hidden = (model.logits(shown) for shown in (pixels, other))
    if score == "probability":
        whole, hidden = whole.softmax(1), hidden.softmax(1)
    heat = superpixel_ablation(model, pixels, 2, np.zeros(nets.SIZE, int), baseline=other, score=score)
    np.testing.assert_allclose(heat.values, float((whole - hidden)[0, 2]), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("build", NETS)
def test_hiding_a_picture_with_itself_changes_nothing(build) -> None:
    pixels = nets.picture(16)
    heat = superpixel_ablation(build(torch.float64), pixels, 1, blots(17), baseline=pixels.clone())
    np.testing.assert_allclose(heat.values, 0, atol=1e-12)


def test_drops_of_a_linear_net_add_up_to_the_drop_of_the_whole() -> None:
    model, pixels, labels = nets.colours(), nets.picture(18), blots(19)
    heat = superpixel_ablation(model, pixels, 1, labels, baseline="black")
    drops = [heat.values[labels == label][0] for label in np.unique(labels)]
    assert sum(drops) == pytest.approx(heat.score)


def test_heat_lands_on_the_superpixel_with_the_only_pixel_that_the_net_reads() -> None:
    model, pixels, labels = nets.one_pixel(6, 2), nets.picture(20, SMALL), blots(21, 6, SMALL)
    values = superpixel_ablation(model, pixels, 2, labels, baseline="black").values
    assert np.array_equal(values != 0, labels == labels[6, 2])
    assert values[6, 2] == pytest.approx(float(pixels[0, 2, 6, 2]))


def test_what_the_labels_are_called_does_not_matter_and_gaps_are_none() -> None:
    model, pixels, labels = nets.gap(torch.float64), nets.picture(22), blots(23)
    names = np.array([7, -3, 1000, 2, 50, 0, 9, 11])
    expected = superpixel_ablation(model, pixels, 1, labels)
    found = superpixel_ablation(model, pixels, 1, names[labels].astype(np.int16))
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6, atol=1e-12)
    assert "8 super-pixels" in found.notes[0]
    assert found.params["segments"] == "given"


def test_a_label_in_two_places_is_hidden_in_both_together() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(24)
    labels = np.zeros(nets.SIZE, int)
    labels[:9, :9] = labels[-9:, -9:] = 1
    expected = reference_masks.ablation(model, pixels[0].numpy(), 3, labels, np.zeros((3, *nets.SIZE)))
    found = superpixel_ablation(model, pixels, 3, labels, baseline="black").values
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    assert found[0, 0] == found[-1, -1] != found[0, -1]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_does_not_change_the_map(batch_size: int) -> None:
    model, pixels, labels = nets.gap(torch.float64), nets.picture(25), blots(26)
    expected = superpixel_ablation(model, pixels, 2, labels).values
    found = superpixel_ablation(model, pixels, 2, labels, batch_size=batch_size).values
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_how_many_masks_have_room_does_not_change_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels, labels = nets.branching(torch.float64), nets.picture(27), blots(28)
    expected, calls = superpixel_ablation(model, pixels, 2, labels).values, []
    monkeypatch.setattr(module, "MASKS", 3 * labels.size)
    found = superpixel_ablation(model, pixels, 2, labels, progress=lambda *call: calls.append(call)).values
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert calls == [(3, 8), (6, 8), (8, 8)]


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_several_classes_at_once_are_each_alone(score: str) -> None:
    model, pixels = nets.residual(torch.float64), nets.picture(29)
    together = superpixel_ablation_of(model, pixels, [4, 0, 4], 9, score=score)
    for target, heat in zip([4, 0, 4], together, strict=True):
        alone = superpixel_ablation(model, pixels, target, 9, score=score)
        assert (heat.target, heat.score, heat.params, heat.notes) == (target, alone.score, alone.params, alone.notes)
        np.testing.assert_allclose(heat.values, alone.values, rtol=1e-6, atol=1e-12)


def test_what_is_known_so_far_is_final_and_the_rest_shows_zero() -> None:
    model, pixels, labels, seen, calls = nets.gap(torch.float64), nets.picture(30), blots(31), [], []
    heat = superpixel_ablation(
        model,
        pixels,
        1,
        labels,
        batch_size=3,
        partial=seen.append,
        progress=lambda *call: calls.append((len(seen), *call)),
    )
    assert calls == [(1, 3, 8), (2, 6, 8), (3, 8, 8)]
    for part, done in zip(seen, (3, 6, 8), strict=True):
        (so_far,) = part.heatmaps()
        known = ~np.isnan(part.drops[0])[part.labels]
        assert (part.done, part.total, len(np.unique(labels[known]))) == (done, 8, done)
        assert np.array_equal(so_far.values[known], heat.values[known])
        assert not so_far.values[~known].any()
        assert any(f"Stopped early: {done} of 8" in note for note in so_far.notes) == (done < 8)


def test_a_net_that_cannot_be_taken_apart_is_run_whole_and_a_note_says_so() -> None:
    model, pixels, labels = nets.gap(torch.float64), nets.picture(32), blots(33)
    opaque = nets.answering(lambda logits: torch.from_numpy(logits.numpy().copy()))
    heat = superpixel_ablation(opaque, pixels.float(), 2, labels)
    expected = reference_masks.ablation(opaque, pixels[0].numpy(), 2, labels, filling_of(pixels, "mean")[0].numpy())
    np.testing.assert_allclose(heat.values, expected, atol=1e-5)
    assert any("pass of the whole net" in note for note in heat.notes)
    assert not any("pass of the whole net" in note for note in superpixel_ablation(model, pixels, 2, labels).notes)


def test_the_labels_the_picture_and_the_baseline_are_left_alone() -> None:
    pixels, other, labels = nets.picture(34).float(), nets.picture(35).float(), blots(36)
    before = pixels.clone(), other.clone(), labels.copy()
    superpixel_ablation(nets.gap(), pixels, 0, labels, baseline=other)
    assert torch.equal(pixels, before[0])
    assert torch.equal(other, before[1])
    assert np.array_equal(labels, before[2])


# What is refused, in the words of the caller


def refused(words: str, target: object = 0, **options: object) -> None:
    with pytest.raises(BadParameter, match=words):
        superpixel_ablation(nets.gap(), nets.picture(size=SMALL).float(), target, **options)


@pytest.mark.parametrize("count", [0, -1, 118, 2.0, "8", None, True])
def test_counts_out_of_range_are_refused_with_the_range(count: object) -> None:
    refused("segments is .*whole number from 1 to 117", segments=count)
    with pytest.raises(BadParameter, match=r"count is .*whole number from 1 to 117"):
        superpixels(nets.picture(size=SMALL), count)


@pytest.mark.parametrize(
    "labels", [np.zeros((9, 13), int), np.zeros(SMALL), np.zeros(SMALL, bool), np.zeros((1, *SMALL), int), np.array(3)]
)
def test_labels_that_are_none_are_refused_with_what_they_should_be(labels: np.ndarray) -> None:
    refused(r"segments is .* whole numbers of the shape \(13, 9\)", segments=labels)


def test_more_superpixels_than_can_be_waited_for_are_refused_before_the_net_runs() -> None:
    calls = []
    model = nets.answering(lambda logits: calls.append(1) or logits)
    labels = np.arange(400 * 251).reshape(400, 251)
    with pytest.raises(BadParameter, match=r"100,400; at most 100,000.*fewer"):
        superpixel_ablation(model, torch.zeros(1, 3, 400, 251), 0, labels)
    assert not calls


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "10", None, True])
def test_compactness_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(BadParameter, match=r"compactness is .*above 0"):
        superpixels(nets.picture(size=SMALL), compactness=value)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True])
def test_sigma_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(BadParameter, match=r"sigma is .*0 or more"):
        superpixels(nets.picture(size=SMALL), sigma=value)


@pytest.mark.parametrize("score", ["softmax", "", None])
def test_a_score_that_is_none_is_refused_with_the_known_ones(score: object) -> None:
    refused("score is .*logit, probability", segments=4, score=score)


@pytest.mark.parametrize("target", [-1, 5, "cat", None, True, 1.0])
def test_a_class_that_is_none_is_refused_with_the_range(target: object) -> None:
    refused(r"target is .*0 to 4", target, segments=4)


@pytest.mark.parametrize("batch_size", [0, 5000, 2.0])
def test_a_batch_size_out_of_range_is_refused_with_the_range(batch_size: object) -> None:
    refused(r"batch_size is .*1 to 4096", segments=4, batch_size=batch_size)


@pytest.mark.parametrize("baseline", ["grey", None, 0, torch.zeros(3, 13, 9)])
def test_a_baseline_that_is_none_is_refused_with_the_known_ones(baseline: object) -> None:
    refused(r"baseline is .*(mean, black, white, blur|\(1, 3, 13, 9\))", segments=4, baseline=baseline)


@pytest.mark.parametrize("pixels", [torch.zeros(2, 3, 13, 9), torch.zeros(3, 13, 9), "photo"])
def test_pixels_that_are_not_one_picture_are_refused(pixels: object) -> None:
    for call in (superpixels, lambda shown: superpixel_ablation(nets.gap(), shown, 0, 4)):
        with pytest.raises(BadParameter, match="pixels"):
            call(pixels)
