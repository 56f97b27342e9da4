"""Hiding by a mask and the smallest hiding, against plain loops over full passes, and what must be true of them."""

from __future__ import annotations

import io
import json

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vizcore.baselines import BASELINES, filling_of
from vizcore.export import to_npz
from vizcore.hiding import CellGrid, SmallestHiding, covered, hide, region_of, smallest_hiding
from vizcore.incremental import Variants
from vizcore.records import BadParameter, Model, UnsupportedModel

SMALL = (13, 9)
NETS = [nets.gap, nets.deep_head, nets.branching, nets.residual, nets.grey, nets.odd, nets.reused]


def blots(seed: int, n: int = 4, size: tuple[int, int] = nets.SIZE) -> np.ndarray:
    """Masks (n, h, w) as a brush leaves them: round, at any place, some in two pieces, some over the border."""
    draws = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks = np.zeros((n, *size), bool)
    for mask in masks:
        for _ in range(draws.integers(1, 3)):
            at, radius = draws.random(2) * size, 1 + draws.random() * min(size) / 4
            mask |= (rows - at[0]) ** 2 + (columns - at[1]) ** 2 < radius**2
    assert masks.any((1, 2)).all()
    return masks


def full_pass(model: Model, pixels: Tensor, mask: np.ndarray, filling: Tensor) -> np.ndarray:
    """(K,) logits of the picture with its hidden pixels replaced, by the net itself."""
    shown = pixels.clone()
    shown[0, :, mask] = filling[0, :, mask]
    with torch.no_grad():
        return model.logits(shown)[0].numpy()


# A free mask, against the definition


@pytest.mark.parametrize("build", NETS)
def test_hiding_is_a_pass_over_the_picture_with_the_hidden_pixels_replaced(build) -> None:
    model, pixels = build(torch.float64), nets.picture(1)
    masks, filling = blots(2), filling_of(pixels, "blur")
    found = hide(model, pixels, masks, baseline="blur")
    for logits, mask in zip(found.logits, masks, strict=True):
        np.testing.assert_allclose(logits, full_pass(model, pixels, mask, filling), rtol=1e-9, atol=1e-11)
    assert np.abs(found.logits - found.whole).max() > 1e-4  # sigmoids twice over leave the grey net little


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_is_what_is_shown_where_the_picture_is_hidden(baseline: str) -> None:
    model, pixels, masks = nets.gap(torch.float64), nets.picture(3), blots(4, n=1)
    found = hide(model, pixels, masks[0], baseline=baseline)
    expected = full_pass(model, pixels, masks[0], filling_of(pixels, baseline))
    np.testing.assert_allclose(found.logits[0], expected, rtol=1e-9, atol=1e-11)
    assert found.params == {"baseline": baseline}
    assert found.shares[0] == pytest.approx(masks.mean())


@pytest.mark.parametrize("build", NETS)
def test_an_empty_mask_changes_nothing(build) -> None:
    model, pixels = build(), nets.picture(5, dtype=torch.float32)
    found = hide(model, pixels, np.zeros(nets.SIZE, bool))
    np.testing.assert_array_equal(found.logits[0], found.whole)
    with torch.no_grad():
        np.testing.assert_array_equal(found.whole, model.logits(pixels)[0])


@pytest.mark.parametrize("build", NETS)
def test_hiding_everything_leaves_the_answer_to_the_baseline(build) -> None:
    model, pixels, other = build(torch.float64), nets.picture(6), nets.picture(7)
    found = hide(model, pixels, np.ones(nets.SIZE, bool), baseline=other)
    with torch.no_grad():
        np.testing.assert_allclose(found.logits, model.logits(other), rtol=1e-9, atol=1e-11)
    assert found.shares.tolist() == [1.0]


@pytest.mark.parametrize("build", NETS)
def test_hiding_with_the_picture_itself_changes_nothing(build) -> None:
    model, pixels = build(torch.float64), nets.picture(8)
    found = hide(model, pixels, blots(9), baseline=pixels)
    np.testing.assert_allclose(found.logits, np.tile(found.whole, (4, 1)), rtol=1e-11, atol=1e-12)


def test_masks_together_give_what_each_gives_alone_and_those_that_hide_nothing_the_whole() -> None:
    model, pixels = nets.branching(torch.float64), nets.picture(10)
    masks = np.insert(blots(11, n=5), 2, False, axis=0)
    together = hide(model, pixels, masks).logits
    np.testing.assert_array_equal(together[2], hide(model, pixels, masks[2]).whole)
    for logits, mask in zip(together, masks, strict=True):
        np.testing.assert_allclose(logits, hide(model, pixels, torch.from_numpy(mask)).logits[0], rtol=1e-10)


def test_variants_that_were_kept_give_the_same_answers() -> None:
    model, pixels, masks = nets.gap(torch.float64), nets.picture(12), blots(13)
    kept = Variants(model, pixels)
    for baseline in ("black", "white"):
        fresh = hide(model, pixels, masks, baseline=baseline).logits
        np.testing.assert_allclose(
            hide(model, pixels, masks, baseline=baseline, variants=kept).logits, fresh, rtol=1e-10
        )


def test_hiding_the_only_pixel_that_the_net_reads_changes_all_and_any_other_nothing() -> None:
    model, pixels = nets.one_pixel(6, 2), nets.picture(14, SMALL)
    mask = np.ones(SMALL, bool)
    mask[6, 2] = False
    without, only = hide(model, pixels, np.stack([mask, ~mask]), baseline="black").logits
    np.testing.assert_array_equal(without, pixels[0, :, 6, 2])
    np.testing.assert_array_equal(only, np.zeros(3))


def test_what_is_covered_is_the_baseline_and_the_rest_is_the_picture() -> None:
    pixels, masks = nets.picture(15, dtype=torch.float32), blots(16)
    shown = covered(pixels, masks, "white").numpy()
    assert shown.shape == (4, 3, *nets.SIZE)
    inside = np.broadcast_to(masks[:, None], shown.shape)
    assert (shown[inside] == 1).all()
    np.testing.assert_array_equal(shown[~inside], np.broadcast_to(pixels.numpy(), shown.shape)[~inside])


def test_the_region_of_a_mask_is_the_smallest_rectangle_that_holds_it() -> None:
    masks = np.zeros((2, 11, 7), bool)
    masks[0, 3, 2] = masks[0, 8, 5] = masks[1, 10, 6] = True
    region = region_of(masks)
    assert (region.rows.first.tolist(), region.rows.last.tolist()) == ([3, 10], [9, 11])
    assert (region.columns.first.tolist(), region.columns.last.tolist()) == ([2, 6], [6, 7])


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros(nets.SIZE),
        np.zeros(nets.SIZE[::-1], bool),
        np.zeros((1, 1, *nets.SIZE), bool),
        None,
        torch.zeros(nets.SIZE),
    ],
)
def test_what_is_no_mask_of_the_picture_is_refused(mask) -> None:
    with pytest.raises(BadParameter, match=r"bool.*\(41, 29\)"):
        hide(nets.gap(), nets.picture(dtype=torch.float32), mask)


# The grid


@pytest.mark.parametrize(("size", "count"), [((224, 224), 7), ((28, 28), 7), ((41, 29), 7), ((9, 13), 9), ((7, 8), 3)])
def test_every_pixel_lies_in_one_cell_and_cells_differ_by_a_pixel_at_most(size: tuple[int, int], count: int) -> None:
    grid = CellGrid(size, count)
    covers = np.zeros(size, int)
    for number in range(count**2):
        mask = grid.mask([grid.place(number)])
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        assert (rows[0], rows[-1] + 1) == (grid.region.rows.first[number], grid.region.rows.last[number])
        assert (columns[0], columns[-1] + 1) == (grid.region.columns.first[number], grid.region.columns.last[number])
        assert (
            grid.cell_at(rows[0], columns[0]) == grid.cell_at(rows[-1] + 0.9, columns[-1] + 0.9) == grid.place(number)
        )
        covers += mask
    assert (covers == 1).all()
    for edges in grid.edges:
        assert np.ptp(np.diff(edges)) <= 1


def test_a_point_outside_of_the_picture_lies_in_no_cell() -> None:
    grid = CellGrid((41, 29))
    assert [grid.cell_at(y, x) for y, x in ((-1, 3), (3, -0.1), (41, 3), (3, 29))] == [None] * 4
    assert grid.cell_at(40.9, 28.9) == (6, 6)


@pytest.mark.parametrize("cell", [(7, 0), (0, 7), (-1, 0)])
def test_a_cell_that_the_grid_lacks_is_refused(cell: tuple[int, int]) -> None:
    with pytest.raises(BadParameter, match="0 to 6"):
        CellGrid((41, 29)).mask([cell])


# The smallest hiding, against the definition


def plain_search(model: Model, pixels: Tensor, cells: int, filling: Tensor) -> tuple[list[tuple[int, int]], list[bool]]:
    """The moves of the greedy search by plain loops over full passes, and whether each hides."""
    size = (pixels.shape[2], pixels.shape[3])
    places = [(row, column) for row in range(cells) for column in range(cells)]

    def margin(hidden: list[tuple[int, int]]) -> float:
        mask = np.zeros(size, bool)
        for row, column in hidden:
            top, bottom = row * size[0] // cells, (row + 1) * size[0] // cells
            left, right = column * size[1] // cells, (column + 1) * size[1] // cells
            mask[top:bottom, left:right] = True
        logits = full_pass(model, pixels, mask, filling)
        return float(logits[target] - max(np.delete(logits, target)))

    target = int(full_pass(model, pixels, np.zeros(size, bool), filling).argmax())
    hidden: list[tuple[int, int]] = []
    moves, hides = [], []
    while margin(hidden) >= 0 and len(hidden) < len(places):
        place = min((p for p in places if p not in hidden), key=lambda p: margin([*hidden, p]))
        hidden.append(place)
        moves.append(place)
        hides.append(True)
    while margin(hidden) < 0 and len(hidden) > 1:
        place = min(sorted(hidden), key=lambda p: margin([q for q in hidden if q != p]))
        if margin([p for p in hidden if p != place]) >= 0:
            break
        hidden.remove(place)
        moves.append(place)
        hides.append(False)
    return moves, hides


@pytest.mark.parametrize("baseline", ["black", "blur"])
@pytest.mark.parametrize("build", NETS)
def test_every_step_is_that_of_plain_loops_over_full_passes(build, baseline: str) -> None:
    model, pixels = build(torch.float64), nets.picture(20)
    moves, hides = plain_search(model, pixels, 4, filling_of(pixels, baseline))
    found = smallest_hiding(model, pixels, cells=4, baseline=baseline)
    assert [tuple(move) for move in found.moves.tolist()] == moves
    assert found.hides.tolist() == hides
    assert found.params == {"cells": 4, "baseline": baseline}


@pytest.mark.parametrize("build", NETS)
def test_the_numbers_of_a_step_are_those_of_the_net_with_the_cells_hidden(build) -> None:
    model, pixels = build(torch.float64), nets.picture(21)
    found = smallest_hiding(model, pixels, cells=5)
    for step in range(found.steps + 1):
        expected = full_pass(model, pixels, found.mask(step), filling_of(pixels, "mean"))
        np.testing.assert_allclose(found.logits[step], expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.chances.sum(1), 1)


@pytest.fixture(scope="module")
def searches() -> list[tuple[Model, Tensor, SmallestHiding]]:
    """Searches that change the answer, by many nets and pictures."""
    found = []
    for build in NETS:
        model = build(torch.float64)
        for seed in range(30, 36):
            pixels = nets.picture(seed)
            result = smallest_hiding(model, pixels, cells=4, baseline="white")
            if result.changed:
                found.append((model, pixels, result))
    return found


def test_of_the_cells_in_the_end_none_can_be_shown_again(searches) -> None:
    assert sum(len(result.cells()) > 1 for _, _, result in searches) >= 5
    for model, pixels, result in searches:
        cells, white = result.cells(), torch.ones_like(pixels)
        assert full_pass(model, pixels, result.mask(), white).argmax() == result.answers[-1] != result.target
        for cell in cells:
            without = result.grid.mask([other for other in cells if other != cell])
            assert full_pass(model, pixels, without, white).argmax() == result.target


def test_until_the_last_hiding_the_answer_stands_and_from_then_on_it_is_changed(searches) -> None:
    for _, _, result in searches:
        last = int(np.flatnonzero(result.hides)[-1]) + 1
        assert (result.answers[:last] == result.target).all()
        assert (result.answers[last:] != result.target).all()
        assert result.hides[:last].all()
        assert not result.hides[last:].any()


# Nets whose answer is known


def test_hiding_the_cell_of_the_only_pixel_that_the_net_reads_is_enough() -> None:
    pixels = torch.zeros(1, 3, 41, 29, dtype=torch.float64)
    pixels[:, 0] = 1.0
    blue = torch.zeros_like(pixels)
    blue[:, 2] = 1.0
    found = smallest_hiding(nets.one_pixel(30, 9), pixels, baseline=blue)
    assert found.cells() == [(30 * 7 // 41, 2)]  # rows of 41 / 7 pixels, columns of 29 / 7
    assert found.answers.tolist() == [0, 2]
    assert found.params["baseline"] == "given"


def test_as_many_red_cells_are_hidden_as_it_takes_until_green_is_more_and_the_reddest_first() -> None:
    reds = {(0, 1): 0.9, (2, 6): 0.5, (4, 0): 1.0, (6, 3): 0.7}
    grid, pixels = CellGrid((21, 14)), torch.zeros(1, 3, 21, 14, dtype=torch.float64)
    for cell, red in reds.items():
        pixels[0, 0][torch.from_numpy(grid.mask([cell]))] = red
    pixels[0, 1][torch.from_numpy(grid.mask([(3, 3)]))] = 0.8
    found = smallest_hiding(nets.colours(), pixels, baseline="black")
    # 3.1 cells of red against 0.8 of green; then 2.1, 1.2 and 0.5.
    assert found.cells() == [(4, 0), (0, 1), (6, 3)]
    assert found.answers.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(found.logits[:, 0] * 49, [3.1, 2.1, 1.2, 0.5])
    assert found.mask().mean() == pytest.approx(3 / 49)


class ThreePixels(nn.Module):
    """a · (b or c) + 0.6 b + 0.5 c - 0.1 against 0, of the red of three pixels: hiding a pays first, and not at all
    once b and c are hidden."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = x[:, 0, 0, 0], x[:, 0, 5, 7], x[:, 0, 11, 3]
        either = torch.relu(b + c) - torch.relu(b + c - 1)
        return torch.stack([a * either + 0.6 * b + 0.5 * c - 0.1, torch.zeros_like(a)], 1)


def test_a_cell_that_proves_not_to_be_needed_is_shown_again() -> None:
    model = nets.plain_pixels(nets.model_of(ThreePixels, {}, torch.float64, classes=2))
    found = smallest_hiding(model, torch.ones(1, 3, 12, 8, dtype=torch.float64), cells=4, baseline="black")
    assert found.moves.tolist() == [[0, 0], [1, 3], [3, 1], [0, 0]]
    assert found.hides.tolist() == [True, True, True, False]
    assert found.cells() == [(1, 3), (3, 1)]
    np.testing.assert_allclose(found.logits[:, 0], [2.0, 1.0, 0.4, -0.1, -0.1])
    assert [len(found.cells(step)) for step in range(5)] == [0, 1, 2, 3, 2]


def test_where_nothing_changes_the_answer_all_is_hidden_in_the_end() -> None:
    pixels = torch.zeros(1, 3, 10, 6, dtype=torch.float64)
    pixels[:, 0] = 0.5
    found = smallest_hiding(nets.colours(), pixels, cells=3, baseline="black")
    assert not found.changed
    assert found.mask().all()
    assert found.answers.tolist() == [0] * 10  # all black, the three colours tie, and at a tie the answer stands
    assert found.hides.all()


def test_hiding_with_the_picture_itself_never_changes_the_answer() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(22)
    found = smallest_hiding(model, pixels, cells=2, baseline=pixels)
    assert not found.changed
    np.testing.assert_allclose(found.logits, np.tile(found.logits[:1], (5, 1)), rtol=1e-11)


def test_one_cell_is_all_or_nothing() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(23)
    found = smallest_hiding(model, pixels, cells=1)
    assert found.cells() == [(0, 0)]
    assert found.mask().all()


# Its arguments, its progress, and what it leaves behind


def test_the_answer_named_is_the_answer_taken() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(24)
    free = smallest_hiding(model, pixels, cells=3)
    named = smallest_hiding(model, pixels, free.target, 3, variants=Variants(model, pixels))
    np.testing.assert_array_equal(named.moves, free.moves)


def test_what_is_not_the_answer_cannot_be_overturned() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(24)
    answer = int(model.logits(pixels).argmax())
    with pytest.raises(BadParameter, match=f"answers class {answer}"):
        smallest_hiding(model, pixels, (answer + 1) % nets.CLASSES)
    with pytest.raises(BadParameter, match="0 to 4"):
        smallest_hiding(model, pixels, nets.CLASSES)


def test_a_net_with_one_score_has_no_other_answer() -> None:
    with pytest.raises(UnsupportedModel, match="no other answer"):
        smallest_hiding(nets.one_logit(), nets.picture(dtype=torch.float32))


@pytest.mark.parametrize("cells", [0, 10, 2.0, True])
def test_more_cells_than_pixels_and_what_is_no_number_are_refused(cells) -> None:
    with pytest.raises(BadParameter, match="1 to 9"):
        smallest_hiding(nets.gap(), nets.picture(size=SMALL, dtype=torch.float32), cells=cells)


def test_it_is_the_same_each_time() -> None:
    model, pixels = nets.residual(), nets.picture(25, dtype=torch.float32)
    first, second = (smallest_hiding(model, pixels, cells=6, baseline="white") for _ in range(2))
    np.testing.assert_array_equal(first.moves, second.moves)
    np.testing.assert_array_equal(first.logits, second.logits)


def test_progress_rises_to_its_total_and_each_step_is_shown_as_it_is_known() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture(26)
    calls, steps = [], []
    found = smallest_hiding(
        model, pixels, cells=4, baseline="black", progress=lambda *call: calls.append(call), partial=steps.append
    )
    done, total = np.array(calls).T
    assert (np.diff(done) > 0).all()
    assert (done <= total).all()
    assert (np.diff(total) <= 0).all(), "never more to do than was said"
    assert [known.steps for known in steps] == list(range(1, found.steps + 1))
    for known in steps:
        np.testing.assert_array_equal(known.moves, found.moves[: known.steps])
        np.testing.assert_array_equal(known.logits, found.logits[: known.steps + 1])


class Stop(BaseException):
    """As Streamlit's own: no Exception."""


def test_a_search_that_is_stopped_leaves_the_net_as_it_was() -> None:
    model, pixels = nets.gap(), nets.picture(27, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    given = pixels.clone()
    whole = model.logits(pixels)
    stops = iter([False, False, True])

    def progress(done: int, total: int) -> None:
        if next(stops):
            raise Stop

    with pytest.raises(Stop):
        smallest_hiding(model, pixels, progress=progress)
    assert nets.lock_is_free(model)
    assert torch.equal(pixels, given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())
    assert not any(module._forward_hooks or module.training for module in model.net.modules())
    assert torch.equal(model.logits(pixels), whole)


def test_numbers_are_taken_away_with_what_made_them() -> None:
    model, pixels = nets.gap(), nets.picture(28, dtype=torch.float32)
    found = smallest_hiding(model, pixels, cells=3)
    with np.load(io.BytesIO(to_npz(found)), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["moves"], found.moves)
        np.testing.assert_array_equal(file["logits"], found.logits)
        facts = json.loads(str(file["facts"]))
    assert facts["params"] == {"cells": 3, "baseline": "mean"}
    assert facts["size"] == list(nets.SIZE)
    mask = blots(29, n=1)
    with np.load(io.BytesIO(to_npz(hide(model, pixels, mask))), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["mask"], mask)


def test_variants_of_another_picture_or_model_are_refused() -> None:
    model, pixels = nets.gap(), nets.picture(1)
    others = Variants(model, nets.picture(2)), Variants(nets.gap(), pixels)
    for other in others:
        with pytest.raises(BadParameter, match="another picture or model"):
            hide(model, pixels, np.ones(nets.SIZE, bool), variants=other)
        with pytest.raises(BadParameter, match="another picture or model"):
            smallest_hiding(model, pixels, variants=other)
