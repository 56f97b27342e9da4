"""Agreement of maps: identities of ranks, the slow twin, SciPy, and pictures whose consensus is known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import reference_checks
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vizcore.agreement import agreement, scaled_ranks, shared_part, spread
from vizcore.ranks import rank_correlation, ranks
from vizcore.records import Attribution, BadParameter, Heatmap

SIZE = (13, 9)


def random_map(seed: int, size: tuple[int, int] = SIZE, *, ties: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(size)
    return (np.round(values) if ties else values).astype(np.float32)


# ---- ranks ---------------------------------------------------------------------------------------------------------

NUMBERS = arrays(np.float64, array_shapes(max_dims=2, max_side=9), elements=st.integers(-4, 4).map(float))


@settings(max_examples=80, deadline=None)
@given(NUMBERS)
def test_ranks_are_counted_and_equal_numbers_share_theirs(values: np.ndarray) -> None:
    assert np.array_equal(ranks(values).flatten(), reference_checks.ranks(values.flatten()))
    assert ranks(values).shape == values.shape
    assert np.array_equal(ranks(values), scipy.stats.rankdata(values).reshape(values.shape))
    assert ranks(values).sum() == values.size * (values.size + 1) / 2


@pytest.mark.parametrize(("seed", "ties"), [*product(range(4), [False, True])])
def test_the_rank_correlation_is_spearmans_and_scipys(seed: int, ties: bool) -> None:
    one, other = random_map(seed, ties=ties), random_map(seed + 50, ties=ties) + 0.5 * random_map(seed)
    found = rank_correlation(one, other)
    assert found == pytest.approx(reference_checks.spearman(one, other), abs=1e-12)
    assert found == pytest.approx(scipy.stats.spearmanr(one.flatten(), other.flatten()).statistic, abs=1e-12)
    assert rank_correlation(other, one) == pytest.approx(found, abs=1e-15)
    assert rank_correlation(np.exp(one), other**3) == pytest.approx(rank_correlation(one, other), abs=1e-12)
    assert rank_correlation(-one, other) == pytest.approx(-found, abs=1e-12)
    assert rank_correlation(one, one) == pytest.approx(1)


def test_what_is_the_same_everywhere_has_no_rank_correlation() -> None:
    flat = np.full(SIZE, 0.3)
    for pair in ((flat, random_map(0)), (random_map(0), flat), (flat, flat)):
        assert np.isnan(rank_correlation(*pair))


# ---- agreement -----------------------------------------------------------------------------------------------------


def test_of_one_map_under_three_names_everything_agrees() -> None:
    values = random_map(0)
    found = agreement({"a": values, "b": values.copy(), "c": 7 * values + 3}, SIZE)  # another unit
    np.testing.assert_allclose(found.correlations, 1, atol=1e-6)
    np.testing.assert_allclose(found.consensus, scaled_ranks(values), atol=1e-6)
    assert found.disagreement.max() < 1e-6
    assert found.notes == ()


def test_a_map_and_its_negative_agree_nowhere_but_in_the_middle() -> None:
    values = random_map(1)
    found = agreement({"for": values, "against": -values}, SIZE)
    assert found.correlations[0, 1] == pytest.approx(-1)
    np.testing.assert_allclose(found.consensus, 0.5, atol=1e-6)
    np.testing.assert_allclose(found.disagreement, np.abs(scaled_ranks(values) - 0.5), atol=1e-6)
    assert found.disagreement.max() == pytest.approx(0.5)
    assert found.summary == ("for and against have a rank correlation of −1.00.",)


@pytest.mark.parametrize("ties", [False, True])
def test_maps_of_any_size_are_compared_at_that_of_the_picture(ties: bool) -> None:
    maps = {
        "coarse": random_map(2, (3, 4), ties=ties),
        "fine": random_map(3, SIZE, ties=ties),
        "finer": random_map(4, (17, 20), ties=ties),
    }
    found = agreement(maps, SIZE)
    brought = [reference_checks.resized(values.astype(np.float64), SIZE).astype(np.float32) for values in maps.values()]
    for one, other in product(range(3), repeat=2):
        wanted = reference_checks.spearman(brought[one], brought[other])
        assert found.correlations[one, other] == pytest.approx(wanted, abs=2e-3 if ties else 1e-6)
    places = [(reference_checks.ranks(one.flatten()) - 1) / (one.size - 1) for one in brought]
    for number in range(SIZE[0] * SIZE[1]):
        at = [one[number] for one in places]
        mean = sum(at) / 3
        deviation = (sum((one - mean) ** 2 for one in at) / 3) ** 0.5
        assert found.consensus.flat[number] == pytest.approx(mean, abs=0.01 if ties else 1e-6)
        assert found.disagreement.flat[number] == pytest.approx(deviation, abs=0.01 if ties else 1e-6)
    assert found.consensus.dtype == found.disagreement.dtype == found.correlations.dtype == np.float32


def test_maps_are_brought_to_size_as_an_overlay_is() -> None:
    values = np.zeros((2, 2), np.float32)
    values[0, 0] = 1
    found = agreement({"corner": values}, (8, 4)).consensus
    assert found[:2, :1].min() == found.max()  # up to the middle of the cell it is that cell alone
    assert found[:6, :3].min() > found[6:, :].max()
    assert found[:6, :3].min() > found[:, 3:].max()


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3])
def test_a_map_that_is_the_same_everywhere_is_left_out_and_named(value: float) -> None:
    one, other = random_map(5), random_map(6)
    flat = np.full((3, 5), value, np.float32)
    found = agreement({"one": one, "flat": flat, "other": other}, SIZE)
    without = agreement({"one": one, "other": other}, SIZE)
    assert np.isnan(found.correlations[1]).all()
    assert np.isnan(found.correlations[:, 1]).all()
    assert np.array_equal(found.correlations[::2, ::2], without.correlations)
    assert np.array_equal(found.consensus, without.consensus)
    assert np.array_equal(found.disagreement, without.disagreement)
    assert found.notes == ("flat is the same everywhere: it has no order, and was left out.",)
    assert found.summary == (*without.summary, *found.notes)
    alone = agreement({"flat": flat}, SIZE)
    assert (alone.consensus == 0.5).all()
    assert not alone.disagreement.any()
    assert alone.summary == ("There are no two maps to compare.", *alone.notes)


def test_the_summary_names_the_nearest_pair_and_who_stands_alone() -> None:
    base, other = random_map(7), random_map(8)
    found = agreement({"Odd": other, "First": base, "Second": base + 0.1 * random_map(9)}, SIZE)
    first, second = found.summary
    assert first.startswith("First and Second agree most: their rank correlation is 0.9")
    assert second.startswith("Odd stands most alone: with the others it has ")
    said = float(second.split()[-3].replace("−", "-"))
    assert said == pytest.approx(found.correlations[0, 1:].mean(), abs=0.006)


def test_heatmaps_count_by_their_values_and_attributions_by_their_magnitude() -> None:
    values = random_map(10)
    colours = np.stack([random_map(n) for n in (11, 12, 13)])
    heat = Heatmap(values, "grad_cam", "net", None, 0, 0.0)
    signed = Attribution(colours, "gradient", "net", 0, 0.0)
    found = agreement({"heat": heat, "signed": signed}, SIZE)
    plain = agreement({"heat": values, "signed": np.abs(colours).max(0)}, SIZE)
    assert np.array_equal(found.correlations, plain.correlations)
    assert np.array_equal(found.consensus, plain.consensus)


def test_what_is_handed_in_is_not_changed() -> None:
    values = random_map(14)
    kept = values.copy()
    agreement({"one": values, "other": values}, SIZE)
    spread([values, values])
    assert np.array_equal(values, kept)


# ---- spread over seeds ---------------------------------------------------------------------------------------------


def test_maps_that_are_the_same_for_every_seed_have_no_spread() -> None:
    values = random_map(15)
    found = spread([values] * 3)
    assert not found.deviation.any()
    assert np.array_equal(found.mean, values)
    assert found.agreement == pytest.approx(1)
    assert found.count == 3


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 3.0])
def test_the_share_of_chance_is_the_variance_of_the_noise_over_that_of_a_map(noise: float) -> None:
    draws = np.random.default_rng(7)
    signal = draws.normal(size=(90, 70))
    maps = [signal + noise * draws.normal(size=signal.shape) for _ in range(5)]
    assert spread(maps).chance == pytest.approx(noise**2 / (1 + noise**2), abs=0.03)
    lifted = [values + 10 * number for number, values in enumerate(maps)]  # what is the same everywhere says nothing
    assert spread(lifted).chance == pytest.approx(spread(maps).chance, abs=1e-4)


def test_maps_that_share_nothing_are_all_chance_and_flat_ones_have_no_share() -> None:
    one = np.random.default_rng(0).normal(size=SIZE)
    assert spread([one, -one]).chance == 1
    assert np.isnan(spread([np.ones(SIZE)] * 2).chance)


def test_the_spread_is_that_of_each_place() -> None:
    maps = [random_map(seed) for seed in (16, 17, 18, 19)]
    found = spread(maps)
    for place in np.ndindex(SIZE):
        at = [float(one[place]) for one in maps]
        mean = sum(at) / 4
        assert found.mean[place] == pytest.approx(mean, abs=1e-6)
        assert found.deviation[place] == pytest.approx((sum((one - mean) ** 2 for one in at) / 3) ** 0.5, abs=1e-6)
    pairs = [reference_checks.spearman(maps[a], maps[b]) for a in range(4) for b in range(a)]
    assert found.agreement == pytest.approx(sum(pairs) / 6, abs=1e-12)
    assert np.isnan(spread([maps[0], np.ones(SIZE)]).agreement)


# ---- what is handed in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maps", "size", "words"),
    [
        ({}, SIZE, "maps is empty"),
        ({"cube": np.zeros((3, 4, 5))}, SIZE, r"cube is float64 of the shape \(3, 4, 5\); a map must be finite"),
        ({"none": np.zeros((0, 4))}, SIZE, "none is float64 of the shape"),
        ({"hole": np.full((3, 4), np.nan)}, SIZE, "hole is float64"),
        ({"mask": np.zeros((3, 4), bool)}, SIZE, "mask is bool"),
        ({"one": np.zeros((3, 4))}, (3, 4, 5), r"size is \(3, 4, 5\); it must be \(height, width\)"),
        ({"one": np.zeros((3, 4))}, 7, "size is 7; it must be"),
        ({"one": np.zeros((3, 4))}, (0, 4), "size is 0; it must be a whole number from 1"),
        ({"one": np.zeros((3, 4))}, (4, 2.5), "size is 2.5"),
    ],
)
def test_what_cannot_be_compared_is_refused(maps: Any, size: Any, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        agreement(maps, size)


@pytest.mark.parametrize("shapes", [[], [(3, 4)], [(3, 4), (4, 3)]])
def test_a_spread_of_less_than_two_maps_of_one_shape_is_refused(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(BadParameter, match=r"maps have the shapes .*; there must be two or more"):
        spread([random_map(0, shape) for shape in shapes])


# ---- maps over different parts of one photo ------------------------------------------------------------------------


def ramp(box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) over ``box`` whose number is 3 times the row of the photo less its column."""
    left, top, right, bottom = box
    rows = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0]
    columns = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
    return (3 * rows[:, None] - columns[None]).astype(np.float32)


def test_maps_over_different_boxes_meet_at_the_same_pixels_of_the_photo() -> None:
    boxes = {"wide": (10, 40, 170, 120), "high": (50, 0, 130, 160)}
    found = shared_part({"wide": ramp(boxes["wide"], (8, 20)), "high": ramp(boxes["high"], (32, 16))}, boxes)
    rows, columns = np.arange(40, 120) + 0.5, np.arange(50, 130) + 0.5
    expected = 3 * rows[:, None] - columns[None]
    for values in found.values():
        assert values.shape == (80, 80)
        inner = (slice(6, -6), slice(6, -6))  # beyond the middle of a map's outer cells there is nothing to lean on
        assert values[inner] == pytest.approx(expected[inner], abs=1e-3)


def test_in_one_box_the_shared_part_is_all_of_it_and_agrees_as_much() -> None:
    maps = {"one": random_map(1, (5, 7)), "other": random_map(2, (4, 9))}
    boxes = dict.fromkeys(maps, (3, 2, 24, 42))
    parts = shared_part(maps, boxes)
    assert np.array_equal(agreement(parts, (40, 21)).correlations, agreement(maps, (40, 21)).correlations)


@pytest.mark.parametrize(
    ("maps", "boxes", "words"),
    [
        ({}, {}, "boxes are of nothing"),
        ({"a": random_map(0)}, {"b": (0, 0, 4, 5)}, "they must be of the maps, a"),
        ({"a": random_map(0)}, {"a": (4, 0, 4, 5)}, "The box of a is"),
        ({"a": random_map(0)}, {"a": (-1, 0, 4, 5)}, "The box of a is"),
        ({"a": random_map(0)}, {"a": (0, 6, 4, 5)}, "The box of a is"),
        ({"a": random_map(0)}, {"a": (0, 0, 4, 100_001)}, "The box of a is"),
        ({"a": random_map(0), "b": random_map(0)}, {"a": (0, 0, 4, 5), "b": (4, 0, 9, 5)}, "a part in common"),
        ({"a": random_map(0), "b": random_map(0)}, {"a": (0, 0, 4, 5), "b": (0, 5, 4, 9)}, "a part in common"),
        ({"a": np.full((2, 3), np.nan)}, {"a": (0, 0, 4, 5)}, "a is float64"),
    ],
)
def test_a_shared_part_that_there_is_not_is_refused(maps: Any, boxes: Any, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        shared_part(maps, boxes)
