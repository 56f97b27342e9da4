"""A click on a picture: what is passed on of what a browser says."""

from __future__ import annotations

import math

import pytest

from app_pages.clickable import hear


@pytest.mark.parametrize("place", [[0.25, 0.75], [0, 0], [1, 1.0]])
def test_a_place_in_the_picture_is_passed_on_and_is_always_a_cell(place: list[float]) -> None:
    heard: list[tuple[float, float]] = []
    hear(place, lambda *at: heard.append(at))
    assert heard == [pytest.approx(place)]
    assert all(int(share * size) < size for share in heard[0] for size in (1, 7, 4096))


@pytest.mark.parametrize(
    "place",
    [None, [], [0.5], [0.5, 0.5, 0.5], "00", ["0", "0"], {"0": 0.5}, [None, 0.5], [math.nan, 0.5], [0.5, math.inf],
     [-0.1, 0.5], [0.5, 1.1], [[0.5], 0.5], 0.5],
)  # fmt: skip
def test_anything_else_is_not(place: object) -> None:
    hear(place, lambda *at: pytest.fail(f"{at} was passed on"))
