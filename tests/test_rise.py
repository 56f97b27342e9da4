"""RISE against its definition, against what is known of its mean, and what must be true of it."""

from __future__ import annotations

import re
from itertools import islice

import nets
import numpy as np
import pytest
import reference_masks
import torch

from vizcore.baselines import BASELINES, filling_of
from vizcore.records import BadParameter, Model, UnsupportedModel
from vizcore.rise import MAX_MASKS, random_masks, rise, rise_of

SMALL = (13, 9)


def first_masks(count: int, *args: object, **options: object) -> np.ndarray:
    """(count, H, W)"""
    return np.stack(list(islice(random_masks(*args, **options), count)))


# Against the definition


@pytest.mark.parametrize(
    ("size", "cells", "share"),
    [
        (SMALL, (7, 7), 0.5),
        (SMALL, (3, 4), 0.3),
        ((20, 15), (4, 5), 0.7),
        ((5, 31), (1, 6), 0.5),
        ((6, 4), (6, 4), 0.1),
    ],
)
def test_masks_are_enlarged_grids_cut_out_at_random_places(size, cells, share) -> None:
    found = first_masks(9, size, cells, share, 3)
    np.testing.assert_allclose(found, reference_masks.masks(size, cells, share, 3, 9), atol=1e-12)
    assert found.shape == (9, *size)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


@pytest.mark.parametrize("build", [nets.gap, nets.grey, nets.branching])
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_a_pixel_is_the_mean_score_weighted_by_how_far_it_is_seen(build, score: str) -> None:
    model, pixels = build(torch.float64), nets.picture(1, SMALL)
    series = reference_masks.masks(SMALL, (4, 3), 0.4, 5, 11)
    expected, errors = reference_masks.rise(model, pixels[0].numpy(), 2, series, 0.4, np.zeros((3, *SMALL)), score)
    seen = []
    heat = rise(model, pixels, 2, masks=11, cells=(4, 3), share=0.4, seed=5, score=score, partial=seen.append)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(heat.values, expected, rtol=1e-6)
    np.testing.assert_allclose(seen[-1].standard_errors[0], errors, rtol=1e-6)
    assert heat.params == {
        "masks": 11,
        "cells": (4, 3),
        "share": 0.4,
        "seed": 5,
        "score": score,
        "baseline": "black",
    }
    assert (heat.method, heat.layer, heat.target, heat.values.dtype) == ("rise", None, 2, np.float32)


@pytest.mark.parametrize("baseline", [*BASELINES, "given"])
def test_every_baseline_is_what_shows_through_a_mask(baseline: str) -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture(2, (29, 23))
    given = nets.picture(3, (29, 23)) if baseline == "given" else baseline
    filling = filling_of(pixels, given)[0].numpy()
    series = reference_masks.masks((29, 23), (7, 7), 0.5, 0, 5)
    expected, _ = reference_masks.rise(model, pixels[0].numpy(), 1, series, 0.5, filling)
    heat = rise(model, pixels, 1, masks=5, baseline=given)
    np.testing.assert_allclose(heat.values, expected, rtol=1e-6)
    assert heat.params["baseline"] == baseline


def test_float32_nets_give_the_numbers_of_float64_nets() -> None:
    pixels = nets.picture(4)
    wide = rise(nets.gap(torch.float64), pixels, 3, masks=20).values
    np.testing.assert_allclose(rise(nets.gap(), pixels.float(), 3, masks=20).values, wide, rtol=1e-4)


def test_the_probability_of_a_single_logit_is_its_sigmoid() -> None:
    model, pixels = nets.one_logit(torch.float64), nets.picture(5)
    heat = rise(model, pixels, 0, masks=2, share=1)
    with torch.no_grad():
        expected = float(torch.sigmoid(model.logits(pixels))[0, 0])
    assert heat.score == pytest.approx(expected)
    np.testing.assert_allclose(heat.values, expected, rtol=1e-6)


# What is known of the mean


@pytest.mark.parametrize("place", [(6, 2), (0, 8)])
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_the_map_of_a_net_that_reads_one_pixel_nears_how_often_others_are_seen_with_it(place, share: float) -> None:
    model, pixels = nets.one_pixel(*place), nets.picture(6, SMALL)
    together = reference_masks.seen_together(SMALL, (4, 3), share, place)
    expected = float(pixels[0, 1, *place]) * together / share
    seen = []
    options = {"masks": 4000, "cells": (4, 3), "share": share, "batch_size": 500, "seed": 1}
    heat = rise(model, pixels, 1, score="logit", partial=seen.append, **options)
    away = np.abs(heat.values - expected) / seen[-1].standard_errors[0]
    assert away.max() < 4.5
    assert (away < 2).mean() > 0.7
    assert np.abs(heat.values - expected).max() < 0.1 * np.ptp(expected)


def test_the_map_of_a_linear_net_nears_the_sum_of_the_maps_of_its_pixels() -> None:
    # Class 2 of the net is the mean of the blue; by itself each pixel gives what it gives in the test above.
    model, pixels = nets.colours(), nets.picture(7, (5, 4))
    expected = sum(
        float(pixels[0, 2, *place]) / 20 * reference_masks.seen_together((5, 4), (3, 2), 0.5, place) / 0.5
        for place in np.ndindex(5, 4)
    )
    seen = []
    rise(model, pixels, 2, masks=4000, cells=(3, 2), score="logit", batch_size=500, partial=seen.append)
    assert np.ptp(expected) > 0.01
    assert (np.abs(seen[-1].values[0] - expected) / seen[-1].standard_errors[0]).max() < 4


def test_every_pixel_is_seen_as_often_as_the_share_says() -> None:
    for share in (0.2, 0.5, 0.9):
        found = first_masks(3000, SMALL, (4, 3), share)
        errors = found.std(0, ddof=1) / np.sqrt(len(found))
        assert (np.abs(found.mean(0) - share) / errors).max() < 4.5


def test_the_standard_error_is_the_spread_of_maps_of_other_seeds() -> None:
    model, pixels, seen = nets.colours(), nets.picture(8, SMALL), []
    options = {"masks": 25, "cells": 3, "batch_size": 25}
    values = [rise(model, pixels, 1, seed=seed, partial=seen.append, **options).values for seed in range(60)]
    said = np.mean([part.standard_errors[0].mean() for part in seen])
    assert np.std(values, axis=0, ddof=1).mean() == pytest.approx(said, rel=0.15)
    # And what is called noise is the part in which the maps of other seeds differ, but for their means.
    shapes = np.array(values) - np.mean(values, axis=(1, 2), keepdims=True)
    noise = np.mean([part.noise[0] for part in seen])
    assert np.var(shapes, axis=0, ddof=1).mean() == pytest.approx(noise, rel=0.15)


def test_four_times_the_masks_halve_the_standard_error() -> None:
    model, pixels, seen = nets.gap(), nets.picture(9, SMALL, torch.float32), []
    rise(model, pixels, 1, masks=1600, cells=3, batch_size=400, partial=seen.append)
    few, many = seen[0], seen[3]
    assert few.standard_errors.mean() / many.standard_errors.mean() == pytest.approx(2, rel=0.1)
    assert 0 < many.chance < few.chance < 1


def test_the_map_of_a_net_that_sees_nothing_is_chance_alone() -> None:
    model, pixels, seen = nets.gap(), nets.picture(9, SMALL, torch.float32), []
    rise(model, pixels, 1, masks=300, cells=3, baseline=pixels.clone(), batch_size=100, partial=seen.append)
    for part in seen:  # the true map is constant, and the shown one has about nine independent cells
        assert part.chance > 0.5


# What must be true


@pytest.mark.parametrize("build", [nets.gap, nets.residual, nets.grey])
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_where_masks_hide_nothing_the_map_is_the_score(build, score: str) -> None:
    seen = []
    heat = rise(build(torch.float64), nets.picture(10), 1, masks=4, share=1.0, score=score, partial=seen.append)
    np.testing.assert_allclose(heat.values, heat.score, rtol=1e-6)
    np.testing.assert_allclose(seen[-1].standard_errors, 0, atol=1e-7)
    assert seen[-1].chance == 0


def test_with_the_picture_itself_as_the_baseline_the_map_is_the_score_times_how_often_pixels_were_seen() -> None:
    pixels = nets.picture(11, SMALL)
    heat = rise(nets.gap(torch.float64), pixels, 3, masks=30, baseline=pixels.clone())
    often = first_masks(30, SMALL).mean(0) / 0.5
    np.testing.assert_allclose(heat.values, heat.score * often, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_does_not_change_the_map(batch_size: int) -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(12)
    expected = rise(model, pixels, 2, masks=20, batch_size=20)
    found = rise(model, pixels, 2, masks=20, batch_size=batch_size)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
    assert found.notes == expected.notes


def test_more_masks_go_on_with_the_same_series() -> None:
    model, pixels, seen = nets.gap(torch.float64), nets.picture(13), []
    many = rise(model, pixels, 2, masks=20, batch_size=6, partial=seen.append)
    assert [part.done for part in seen] == [6, 12, 18, 20]
    assert {part.total for part in seen} == {20}
    for part in seen:
        (so_far,) = part.heatmaps()
        alone = rise(model, pixels, 2, masks=part.done)
        np.testing.assert_allclose(so_far.values, alone.values, rtol=1e-6)
        assert any("Stopped early" in note for note in so_far.notes) == (part.done < 20)
    assert np.array_equal(seen[-1].heatmaps()[0].values, many.values)
    assert "Stopped early: 6 of 20 masks were drawn." in seen[0].heatmaps()[0].notes


def test_another_seed_gives_other_masks_and_the_same_seed_the_same() -> None:
    model, pixels = nets.gap(), nets.picture(14, dtype=torch.float32)
    one, same, other = (rise(model, pixels, 0, masks=10, seed=seed).values for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_several_classes_at_once_are_each_alone(score: str) -> None:
    model, pixels = nets.residual(torch.float64), nets.picture(15)
    together = rise_of(model, pixels, [4, 0, 4], masks=12, score=score)
    for target, heat in zip([4, 0, 4], together, strict=True):
        alone = rise(model, pixels, target, masks=12, score=score)
        assert (heat.target, heat.score, heat.params, heat.notes) == (target, alone.score, alone.params, alone.notes)
        np.testing.assert_allclose(heat.values, alone.values, rtol=1e-6)


def test_the_probabilities_of_all_classes_add_up_to_how_often_pixels_were_seen() -> None:
    heats = rise_of(nets.gap(torch.float64), nets.picture(16, SMALL), range(nets.CLASSES), masks=15)
    often = first_masks(15, SMALL).mean(0) / 0.5
    np.testing.assert_allclose(sum(heat.values for heat in heats), often, rtol=1e-5)


def test_one_cell_shows_all_of_the_picture_or_nothing() -> None:
    for mask in first_masks(20, SMALL, 1):
        assert len(np.unique(mask)) == 1
    assert set(first_masks(20, SMALL, 1).ravel()) == {0.0, 1.0}


def test_the_notes_say_the_standard_error_and_what_a_pixel_shows_that_does_not_matter() -> None:
    model, pixels, seen = nets.gap(torch.float64), nets.picture(17, SMALL), []
    heat = rise(model, pixels, 1, masks=40, score="logit", partial=seen.append)
    words = r"40 random masks: .* is (\S+) on average, and chance makes about (\d+)\xa0% .*pictures, (\S+), not 0"
    error, chance, mean = (float(number) for number in re.search(words, " ".join(heat.notes)).groups())
    assert error == pytest.approx(seen[-1].standard_errors[0].mean(), rel=0.05)
    assert chance == pytest.approx(100 * seen[-1].chance[0], abs=0.51)
    masks = torch.from_numpy(first_masks(40, SMALL))[:, None]
    with torch.no_grad():
        assert mean == pytest.approx(float(model.logits(masks * pixels)[:, 1].mean()), rel=0.05)


def test_after_one_mask_the_standard_error_is_not_known() -> None:
    seen = []
    heat = rise(nets.gap(), nets.picture(18, dtype=torch.float32), 0, masks=1, partial=seen.append)
    assert np.isinf(seen[0].standard_errors).all()
    assert seen[0].chance == 1
    assert "standard error of a value is inf on average, and chance makes about 100" in heat.notes[0]
    assert np.isfinite(heat.values).all()


def test_what_is_counted_is_the_masks_and_the_map_so_far_comes_first() -> None:
    seen, calls = [], []
    rise(
        nets.gap(),
        nets.picture(19, dtype=torch.float32),
        0,
        masks=5,
        batch_size=2,
        partial=seen.append,
        progress=lambda *call: calls.append((len(seen), *call)),
    )
    assert calls == [(1, 2, 5), (2, 4, 5), (3, 5, 5)]


def test_what_was_given_so_far_does_not_change_any_more() -> None:
    seen, copies = [], []
    rise(
        nets.gap(),
        nets.picture(20, dtype=torch.float32),
        0,
        masks=6,
        batch_size=2,
        partial=lambda part: (seen.append(part), copies.append(part.sums.copy())),
    )
    for part, copy in zip(seen, copies, strict=True):
        assert np.array_equal(part.sums, copy)


def test_height_comes_before_width() -> None:
    masks = first_masks(50, (12, 12), (6, 1))
    assert np.ptp(masks, axis=2).max() == 0
    assert np.ptp(masks, axis=1).max() == pytest.approx(1)


def test_neither_the_picture_nor_global_random_numbers_are_touched() -> None:
    pixels, other = (nets.picture(seed, SMALL, torch.float32) for seed in (21, 22))
    before, other_before, state = pixels.clone(), other.clone(), torch.get_rng_state()
    rise(nets.gap(), pixels.requires_grad_(), 0, masks=3, baseline=other)
    assert torch.equal(pixels, before)
    assert torch.equal(other, other_before)
    assert torch.equal(torch.get_rng_state(), state)


# What is refused, in the words of the caller


def refused(words: str, target: object = 0, **options: object) -> None:
    with pytest.raises(BadParameter, match=words):
        rise(nets.gap(), nets.picture(size=SMALL).float(), target, **options)


@pytest.mark.parametrize("masks", [0, -1, MAX_MASKS + 1, 2.0, "8", None, True])
def test_numbers_of_masks_out_of_range_are_refused_with_the_range(masks: object) -> None:
    refused(r"masks is .*1 to 100000", masks=masks)


@pytest.mark.parametrize("cells", [0, -1, 10, 2.0, "7", None, True, (4,), (4, 4, 4), (4, 10), (14, 4), (0, 4)])
def test_cells_out_of_range_are_refused_with_the_range(cells: object) -> None:
    refused(r"cells.*(whole number from 1 to (13|9)|\(rows, columns\))", cells=cells)
    with pytest.raises(BadParameter, match="cells"):
        random_masks(SMALL, cells)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), float("inf"), "0.5", None, True])
def test_shares_out_of_range_are_refused_with_the_range(share: object) -> None:
    refused(r"share is .*above 0 and up to 1", share=share)


@pytest.mark.parametrize("seed", [-1, 0.5, None, "0", 2**63])
def test_seeds_that_are_none_are_refused_with_the_range(seed: object) -> None:
    refused("seed is .*whole number from 0", seed=seed)


@pytest.mark.parametrize("score", ["softmax", "", None])
def test_a_score_that_is_none_is_refused_with_the_known_ones(score: object) -> None:
    refused("score is .*logit, probability", score=score)


@pytest.mark.parametrize("target", [-1, 5, "cat", None, True, 1.0])
def test_a_class_that_is_none_is_refused_with_the_range(target: object) -> None:
    refused(r"target is .*0 to 4", target)


@pytest.mark.parametrize("batch_size", [0, 5000, None, 2.0])
def test_a_batch_size_out_of_range_is_refused_with_the_range(batch_size: object) -> None:
    refused(r"batch_size is .*1 to 4096", batch_size=batch_size)


@pytest.mark.parametrize("baseline", ["grey", None, 0, torch.zeros(3, 13, 9)])
def test_a_baseline_that_is_none_is_refused_with_the_known_ones(baseline: object) -> None:
    refused(r"baseline is .*(mean, black, white, blur|\(1, 3, 13, 9\))", baseline=baseline)


@pytest.mark.parametrize("pixels", [torch.zeros(2, 3, 13, 9), torch.zeros(3, 13, 9), "photo"])
def test_pixels_that_are_not_one_picture_are_refused(pixels: object) -> None:
    with pytest.raises(BadParameter, match="pixels"):
        rise(nets.gap(), pixels, 0)


def test_a_class_that_has_a_label_and_no_score_is_refused() -> None:
    model = nets.gap()
    more = Model("more labels", model.net, tuple("abcdefgh"), SMALL, model.mean, model.std, model.layers)
    with pytest.raises(BadParameter, match="0 to 4"):
        rise(more, nets.picture(size=SMALL).float(), 7, masks=1)


def test_an_answer_that_is_not_finite_behind_a_mask_is_refused() -> None:
    # The whole picture is answered; a masked one is not.
    model = nets.answering(lambda logits: logits if len(logits) == 1 else logits / 0)
    with pytest.raises(UnsupportedModel, match="NaN or infinity"):
        rise(model, nets.picture().float(), 0, masks=2)
