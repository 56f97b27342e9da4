"""Advice which layer's map to believe: on a net that looks at one rectangle, and where there is nothing to choose."""

from __future__ import annotations

from statistics import mean
from typing import Any

import nets
import numpy as np
import pytest
import torch
from test_contract import Cancelled, unchanged
from test_faithfulness import BOTTOM, LEFT, RIGHT, TOP, rectangle

from models import load_model
from models.samples import read_sample
from vizcore.advice import LEAST, Advice, LayerMerit, advise, passes_of
from vizcore.cam import cam_of_layers
from vizcore.faithfulness import curves
from vizcore.images import prepare, read_image
from vizcore.records import BadParameter, Heatmap

STILL = (0.0, 0.01, 0.0)  # merits in random places


def of(*layers: tuple[str, float, tuple[float, ...]]) -> Advice:
    """Advice about layers of a merit, and of these merits in random places."""
    found = tuple(LayerMerit(name, (3, 2), 0.1, 0.1 + merit, moved) for name, merit, moved in layers)
    return Advice(found, "net", 0, {})


def on_the_rectangle(**options: Any) -> Advice:
    model, pixels, marked = rectangle()
    there, aside = np.zeros_like(marked), np.zeros_like(marked)
    there[TOP:BOTTOM, LEFT + 4 : RIGHT] = 1  # a part of it
    aside[25:, :12] = 1
    maps = {"aside": aside, "all": marked, "part": there, "flat": np.ones((4, 3), np.float32)}
    return advise(model, pixels, 0, maps, steps=12, moves=15, **options)


def test_the_layer_is_advised_whose_map_points_at_what_the_net_looks_at() -> None:
    found = on_the_rectangle()
    assert [one.layer for one in found.ranking] == ["all", "part", "aside"]
    assert found.layers[0].lead < 0 < found.layers[1].lead
    assert found.layers[1].points
    assert not found.layers[0].points
    assert not found.layers[3].points


def test_a_merit_is_insertion_less_deletion_and_its_chance_that_of_the_same_map_in_random_places() -> None:
    model, pixels, marked = rectangle()
    (one,) = advise(model, pixels, 0, {"all": marked}, steps=6, moves=4, filling="mean", seed=3).layers
    down, up = (
        curves(
            model, pixels, 0, marked, kind=kind, steps=6, filling="mean", controls=("moved",), random_orders=4, seed=3
        )
        for kind in ("deletion", "insertion")
    )
    assert (one.deletion, one.insertion) == (down.curve.area, up.curve.area)
    assert one.merit == up.curve.area - down.curve.area
    moved = [rise.area - fall.area for fall, rise in zip(down.controls["moved"], up.controls["moved"], strict=True)]
    assert one.moved == pytest.approx(moved)
    assert one.lead == pytest.approx(one.merit - mean(moved))
    assert one.size == nets.SIZE


def test_layers_are_told_apart_beyond_what_they_differ_by_in_any_of_the_same_random_places() -> None:
    found = of(("a", 0.9, (0.5, 0.1)), ("b", 0.1, (0.4, 0.12)), ("c", 0.0, (0.5, 0.1)))
    assert found.chance(found.layers[1]) == pytest.approx(0.1)
    assert found.chance(found.layers[2]) == LEAST
    for merit, close in ((0.81, ["b"]), (0.79, [])):
        assert [one.layer for one in of(("a", 0.9, (0.5, 0.1)), ("b", merit, (0.4, 0.12))).close] == close


def test_all_maps_are_pushed_by_the_same_rows_and_columns() -> None:
    model, pixels, marked = rectangle()
    maps = {"one": marked, "ten times": 10 * marked, "upside down": marked[::-1].copy()}
    one, tenfold, other = advise(model, pixels, 0, maps, steps=6).layers
    assert one.moved == tenfold.moved
    assert one.moved != other.moved


@pytest.mark.parametrize(("merit", "points"), [(0.32, True), (0.305, False), (0.29, False)])
def test_a_map_points_somewhere_where_it_does_better_than_in_any_random_place(merit: float, points: bool) -> None:
    assert of(("a", merit, (0.1, 0.2, 0.3, 0.2, -0.9))).layers[0].points is points


def test_chance_tells_a_random_map_from_itself_once_in_so_many_times_and_one() -> None:
    draws = np.random.default_rng(0)
    told = [of(("a", float(one[0]), tuple(map(float, one[1:])))).layers[0].points for one in draws.random((2000, 9))]
    assert np.mean(told) == pytest.approx(1 / 9, abs=0.025)  # LEAST keeps it a little below


def test_a_layer_ahead_by_more_than_chance_is_advised_with_the_numbers() -> None:
    found = of(("a", 0.2, (0.0, 0.01, 0.0)), ("b", 0.6, (0.0, -0.01, 0.0)), ("c", 0.3, (0.01, 0.0, 0.0)))
    assert found.advised is found.layers[1]
    assert found.sentence == (
        "We advise b: there insertion less deletion is 0.60. At c, the next, it is 0.30; in 3 random places the "
        "two never differ by more than 0.01."
    )


def test_layers_that_cannot_be_told_from_the_best_beyond_chance_are_named_with_it() -> None:
    wide, other = (0.0, 0.1, 0.0), (0.1, 0.0, 0.1)
    found = of(("a", 0.79, other), ("b", 0.8, wide), ("c", 0.72, other), ("d", -0.3, wide))
    assert found.advised is found.layers[1]
    assert [one.layer for one in found.close] == ["a", "c"]
    assert found.sentence == (
        "We advise b: there insertion less deletion is 0.80, and in 3 random places 0.10 at most. a and c cannot be "
        "told from it."
    )


def test_a_difference_too_small_to_matter_is_none_beyond_chance_however_sure() -> None:
    assert of(("a", 0.505, STILL), ("b", 0.5, STILL)).close
    assert not of(("a", 0.515, STILL), ("b", 0.5, STILL)).close
    assert not of(("a", 0.009, (0.0, 0.0, 0.0))).layers[0].points


@pytest.mark.parametrize(("count", "words"), [(2, "b and c"), (5, "b, c, d, e and f"), (7, "b, c, d, e and 3 more")])
def test_of_many_layers_that_are_close_the_first_are_named(count: int, words: str) -> None:
    found = of(("a", 0.5, STILL), *((name, 0.5, STILL) for name in "bcdefgh"[:count]))
    assert f"at most. {words} cannot be told" in found.sentence


def test_two_layers_with_one_map_are_never_told_apart() -> None:
    model, pixels, marked = rectangle()
    found = advise(model, pixels, 0, {"one": marked, "same": marked.copy()}, steps=6, moves=9)
    assert found.layers[0].merit == found.layers[1].merit
    assert found.close == (found.layers[1],)
    assert found.sentence.endswith("same cannot be told from it.")


def test_a_best_layer_that_does_no_better_than_its_map_in_random_places_is_not_advised_beyond_chance() -> None:
    found = of(("a", 0.3, (0.2, 0.3)), ("b", -0.6, (-0.5, -0.7)))
    assert found.advised is None
    assert found.sentence == (
        "No layer is advised: even at a, the best, where insertion less deletion is 0.30, the map does as well in one "
        "of 2 random places: 0.30."
    )


def test_the_only_layer_is_advised_where_its_map_points_somewhere_beyond_chance() -> None:
    found = of(("a", 0.6, (0.0, 0.03, 0.0)))
    assert found.sentence == (
        "We advise a, the only one: there insertion less deletion is 0.60, and in 3 random places 0.03 at most."
    )


def test_maps_that_are_the_same_everywhere_point_nowhere_and_cost_nothing() -> None:
    model, pixels, _ = rectangle()
    calls: list[tuple[int, int]] = []
    found = advise(model, pixels, 0, {"flat": np.zeros((3, 2))}, progress=lambda *call: calls.append(call))
    assert not calls
    assert found.ranking == ()
    assert found.advised is None
    assert np.isnan([found.layers[0].merit, found.layers[0].lead]).all()
    assert found.sentence == "No layer is advised: each map is the same everywhere, and points nowhere."
    assert passes_of(0) == 0


def test_passes_are_counted_beforehand_and_progress_counts_them() -> None:
    model, pixels, marked = rectangle()
    passes: list[int] = []
    handle = model.net.register_forward_hook(lambda net, given, answer: passes.append(len(answer)))
    calls: list[tuple[int, int]] = []
    try:
        advise(
            model,
            pixels,
            0,
            {"a": marked, "flat": 0 * marked, "b": marked.T.copy()},
            steps=5,
            moves=2,
            progress=lambda *call: calls.append(call),
        )
    finally:
        handle.remove()
    assert sum(passes) == passes_of(2, steps=5, moves=2) == calls[-1][0] == calls[-1][1]
    done, totals = zip(*calls, strict=True)
    assert list(done) == sorted(set(done))
    assert len(set(totals)) == 1


def test_heatmaps_and_their_numbers_get_the_same_advice_and_again_and_in_any_batch() -> None:
    model, pixels, marked = rectangle()
    heat = Heatmap(marked, "grad_cam", "net", "all", 0, 1.0)
    one = advise(model, pixels, 0, {"all": heat}, steps=6)
    for other in (
        advise(model, pixels, 0, {"all": marked}, steps=6),
        advise(model, pixels, 0, {"all": marked}, steps=6, batch_size=3),
    ):
        assert one.layers[0].moved == pytest.approx(other.layers[0].moved, abs=1e-9)
        assert one.sentence == other.sentence
    assert advise(model, pixels, 0, {"all": marked}, steps=6, seed=1).layers[0].moved != one.layers[0].moved


def test_the_model_comes_back_as_it_was_after_a_cancel_too() -> None:
    model, pixels, marked = rectangle()

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with unchanged(model):
        advise(model, pixels, 0, {"all": marked}, steps=4)
    with unchanged(model), pytest.raises(Cancelled):
        advise(model, pixels, 0, {"all": marked}, steps=4, progress=cancel)


def test_of_a_trained_net_late_layers_point_better_than_the_first() -> None:
    model = load_model("photonet")
    view = prepare(read_image(read_sample("coffee")), model)
    target = int(model.logits(view.pixels)[0].argmax())
    maps = cam_of_layers(model, view.pixels, target, ["conv1", "conv3", "act4"])
    first, middle, last = advise(model, view.pixels, target, maps).layers
    assert first.merit < 0.2 < min(middle.merit, last.merit)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"maps": {}}, "maps is empty"),
        ({"maps": {"a": np.zeros((3, 2, 1))}}, "values is float64"),
        ({"maps": {"a": np.full((3, 2), np.nan)}}, "values holds NaN or infinity"),
        ({"moves": 1}, "random_orders is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"target": 2}, "target is 2"),
        ({"filling": "pink"}, "filling is 'pink'"),
        ({"pixels": torch.zeros(2, 3, 9, 5)}, "pixels holds 2 pictures"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong: dict[str, Any], words: str) -> None:
    model, pixels, marked = rectangle()
    options = {"pixels": pixels, "target": 0, "maps": {"a": marked}, **wrong}
    with pytest.raises(BadParameter, match=words):
        advise(model, options.pop("pixels"), options.pop("target"), options.pop("maps"), **options)


@pytest.mark.parametrize("layers", [-1, 1.5, True])
def test_a_number_of_layers_that_is_none_is_refused(layers: Any) -> None:
    with pytest.raises(BadParameter, match="layers is"):
        passes_of(layers)


def test_the_options_are_handed_back() -> None:
    found = on_the_rectangle(seed=4)
    assert dict(found.params) == {"steps": 12, "filling": "blur", "seed": 4, "moves": 15}
    assert (found.model_name, found.target) == ("RectangleNet", 0)
