"""A map in words says what the numbers say: every sentence can be counted again cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizcore.records import BadParameter, Heatmap
from vizcore.words import SIDE, describe


def spot(height: int, width: int, row: int, column: int) -> np.ndarray:
    values = np.zeros((height, width), np.float32)
    values[row, column] = 2.0
    return values


@pytest.mark.parametrize(
    ("row", "column", "place"),
    [
        (0, 0, "the upper left ninth"),
        (0, 8, "the upper right ninth"),
        (3, 0, "the middle left ninth"),
        (3, 4, "the middle ninth"),
        (5, 4, "the lower middle ninth"),
    ],
)
def test_a_single_spot_is_named_by_the_ninth_that_it_lies_in(row: int, column: int, place: str) -> None:
    found = describe(spot(6, 9, row, column))
    assert (found.place, found.peak, found.share, found.regions) == (place, place, 1.0, 1)
    assert found.half_on == pytest.approx(0.5 / 54)


def test_rows_and_columns_are_not_swapped() -> None:
    wide = spot(2, 12, 0, 11)
    assert "upper right" in describe(wide).place
    assert "upper right" in describe(wide).peak
    assert "lower left" in describe(wide.T).peak


def test_a_map_that_is_the_same_everywhere_is_spread() -> None:
    found = describe(np.full((7, 5), 3.0, np.float32))
    assert found.place == ""
    assert found.share == pytest.approx(0.5)
    assert found.half_on == pytest.approx(0.5)
    assert str(found) == "The map is the same everywhere: it points nowhere."


def test_an_even_map_with_grain_is_spread_over_all_of_it() -> None:
    grain = np.random.default_rng(0).uniform(0.9, 1.1, (28, 28)).astype(np.float32)
    assert "spread over the whole map: no half holds more than 5" in str(describe(grain))


@pytest.mark.parametrize(("dust", "said"), [(1e-9, False), (0.005, False), (0.02, True)])
def test_dust_speaks_against_nothing(dust: float, said: bool) -> None:
    assert ("speaks against" in str(describe(spot(6, 6, 0, 0) - dust * spot(6, 6, 5, 5)))) is said


def test_only_evidence_speaks_against() -> None:
    values = spot(6, 6, 0, 0) - spot(6, 6, 5, 5)
    assert "speaks against" in str(describe(values))
    assert str(describe(values, "sensitivity")).startswith("100 % of the sensitivity lies in the upper left ninth")
    assert "speaks against" not in str(describe(values, "sensitivity"))


def test_no_evidence_is_said() -> None:
    assert str(describe(np.zeros((3, 4), np.float32))) == "There is no evidence anywhere."
    only_against = describe(-spot(6, 6, 5, 0))
    assert str(only_against) == (
        "There is no positive evidence anywhere. What speaks against is all there is, most of it in the lower left "
        "ninth."
    )


def test_what_speaks_against_is_measured_by_what_speaks_for() -> None:
    values = spot(6, 6, 0, 0) - 0.5 * spot(6, 6, 5, 5)
    found = describe(values)
    assert found.against == pytest.approx(0.5)
    assert "0.5 times as much, most of it in the lower right ninth" in str(found)


def test_places_apart_are_regions_and_places_that_touch_at_a_corner_are_one() -> None:
    apart = spot(9, 9, 0, 0) + spot(9, 9, 4, 4) + spot(9, 9, 8, 0)
    touching = spot(9, 9, 0, 0) + spot(9, 9, 1, 1)
    faint = spot(9, 9, 0, 0) + 0.4 * spot(9, 9, 8, 8)
    assert describe(apart).regions == 3
    assert describe(touching).regions == 1
    assert describe(faint).regions == 1
    assert "Three regions stand out" in str(describe(apart))


def test_specks_of_a_fine_map_are_no_regions() -> None:
    """Two blobs of many pixels, with every second pixel missing."""
    values = np.zeros((8 * SIDE, 4 * SIDE), np.float32)
    values[:40, :20] = values[100:140, 60:80] = 1.0
    values[::2, ::2] = 0.0
    assert describe(values).regions == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_the_named_part_holds_what_a_count_of_its_squares_finds(height: int, width: int, seed: int) -> None:
    """Each cell is cut into 6 × 6 squares: then every edge of a part lies between two of them."""
    values = np.random.default_rng(seed).exponential(size=(height, width)).astype(np.float32) ** 3
    found = describe(values)
    fine = np.kron(values.astype(np.float64), np.ones((6, 6)))
    rows, columns = np.indices(fine.shape)
    down, right = (rows + 0.5) / fine.shape[0], (columns + 0.5) / fine.shape[1]
    inside = {
        "upper half": down < 0.5,
        "lower half": down > 0.5,
        "left half": right < 0.5,
        "right half": right > 0.5,
        "the middle four ninths": (abs(down - 0.5) < 1 / 3) & (abs(right - 0.5) < 1 / 3),
        "the middle ninth": (abs(down - 0.5) < 1 / 6) & (abs(right - 0.5) < 1 / 6),
    }
    mask = next((mask for name, mask in inside.items() if found.place.endswith(name)), None)
    if mask is None and found.place:  # a quarter or a ninth: by its two words
        low, high = (1 / 2, 1 / 2) if "quarter" in found.place else (1 / 3, 2 / 3)
        words = found.place.split()
        across = "right" if "right" in words else "left" if "left" in words else ""
        along = words[1] if words[1] != "middle" else ""
        mask = {"upper": down < low, "lower": down > high, "": (down > low) & (down < high)}[along]
        mask = mask & {"left": right < low, "right": right > high, "": (right > low) & (right < high)}[across]
    if mask is not None:
        assert found.share == pytest.approx(fine[mask].sum() / fine.sum(), rel=1e-5)
    else:
        halves = [fine[inside[name]].sum() for name in inside if name.endswith("half")]
        assert found.share == pytest.approx(max(halves) / fine.sum(), rel=1e-5)
        assert found.share < 0.6


@pytest.mark.parametrize(
    "values",
    [np.zeros((2, 3), np.int64), np.zeros(4, np.float32), np.zeros((0, 3), np.float32), np.full((2, 2), np.nan)],
)
def test_what_is_no_map_is_refused(values: np.ndarray) -> None:
    with pytest.raises(BadParameter, match="finite floats"):
        describe(values)


def test_a_heatmap_is_described_by_its_values() -> None:
    values = spot(6, 6, 0, 0)
    heat = Heatmap(values, "grad_cam", "any", "layer", 0, 1.0)
    assert describe(heat) == describe(values)
