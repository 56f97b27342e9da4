"""Shortcuts: planted ones are found, in maps made by hand and in nets trained on marked digits; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nets
import numpy as np
import pytest
import torch
from planted import SHOWN, Planted, planted
from reference import scores
from reference_shortcuts import chance_of, share_inside
from test_contract import Cancelled, unchanged

from vizcore.baselines import filling_of
from vizcore.heat_clusters import cluster_heatmaps
from vizcore.records import BadParameter, UnsupportedModel
from vizcore.replaced import Replaced, replace_part
from vizcore.shares import areas, shares_of, shrunk
from vizcore.shortcuts import ClassEvidence, Suspected, Suspicion, class_evidence, suspected


def test_the_surest_suspicion_of_each_class_comes_first() -> None:
    (area, *_) = areas()
    sure, doubtful, again = (
        Suspicion(label, area, 0.5, 0.1, 0.1, p) for label, p in (("a", 1e-6), ("b", 0.02), ("a", 0.04))
    )
    found = Suspected((sure, doubtful, again), tuple("abcdefg"), (), 63)
    assert list(found.of_class) == ["a", "b"]
    assert found.of_class["a"] is sure
    assert "Of 7 classes, “a”, “b” have evidence" in found.sentence


SIZES = [(7, 6), (1, 1), (3, 8), (41, 29), (6, 24)]


def bumps(seed: int, n: int = 30, size: tuple[int, int] = (7, 6)) -> np.ndarray:
    """Heatmaps (n, h, w) with a bump somewhere about the middle, each of another strength, and noise of both signs."""
    draws = np.random.default_rng(seed)
    down, across = np.mgrid[: size[0], : size[1]]
    row, column = (draws.normal((length - 1) / 2, length / 10, (n, 1, 1)) for length in size)
    bump = np.exp(-((down - row) ** 2 + (across - column) ** 2) / 2)
    return ((bump + draws.normal(0, 0.1, (n, *size))) * 10 ** draws.normal(0, 1, (n, 1, 1))).astype(np.float32)


def marked(heatmaps: np.ndarray, which: slice = slice(None)) -> np.ndarray:
    """The same with as much evidence in the first cell as in all others, in ``which`` of the maps."""
    heatmaps = heatmaps.copy()
    heatmaps[which, 0, 0] = np.maximum(heatmaps[which], 0).sum((1, 2))
    return heatmaps


def ten(mark: int | None = None, seed: int = 0, **options: Any) -> list[ClassEvidence]:
    """Ten classes of bumps, one of them with a mark."""
    maps = [bumps(100 * seed + k) for k in range(10)]
    return [class_evidence(f"class {k}", marked(m) if k == mark else m, **options) for k, m in enumerate(maps)]


def test_labels_of_one_class_are_not_compared_with_one_another_and_are_one_to_the_others() -> None:
    maps = [bumps(k, n=40) for k in range(10)]
    maps[3] = marked(maps[3])
    whole = [class_evidence(f"class {k}", m) for k, m in enumerate(maps)]
    parts = [class_evidence("class 3 again", maps[3][:15]), class_evidence("class 3", maps[3][15:])]
    split = [*whole[:3], *parts, *whole[4:]]
    targets = {one.label: 3 if one.label == "class 3 again" else int(one.label[-1]) for one in split}
    together, apart, split_by_class = suspected(whole), suspected(split), suspected(split, targets)
    assert list(together.of_class) == ["class 3"]
    assert not apart.suspicions, "each hides the other"
    assert set(split_by_class.of_class) == {"class 3", "class 3 again"}
    assert (split_by_class.classes, split_by_class.questions) == (10, 11 * 9)
    # What a label is compared with is the same, whether another class is one folder or two.
    marked_two = [class_evidence("class 7", marked(maps[7])) if one.label == "class 7" else one for one in split]
    marked_one = [class_evidence("class 7", marked(maps[7])) if one.label == "class 7" else one for one in whole]
    one, two = suspected(marked_one), suspected(marked_two, targets)
    for first in one.suspicions:
        if first.label == "class 7":
            (again,) = [s for s in two.suspicions if (s.label, s.area) == (first.label, first.area)]
            assert again.p / two.questions == pytest.approx(first.p / one.questions, rel=1e-9)
            assert again.others == pytest.approx(first.others)
    own = suspected(whole, {one.label: k for k, one in enumerate(whole)})
    assert [(one.label, one.area) for one in own.suspicions] == [(one.label, one.area) for one in together.suspicions]
    few = suspected([whole[0], whole[1], *parts], targets)
    assert few.sentence.startswith("3 classes with 10 pictures or more are too few")


# ---- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_an_even_map_has_in_every_area_the_areas_share_of_the_picture(size: tuple[int, int]) -> None:
    even = class_evidence("even", np.full((2, *size), 0.3, np.float32))
    np.testing.assert_allclose(even.shares, np.stack([even.even] * 2, 1), rtol=1e-12)
    assert even.even[:4] == pytest.approx([1 / 36] * 4)
    assert even.even[4:] == pytest.approx([1 / 8] * 4 + [1 - 9 / 16])


@pytest.mark.parametrize("size", [(7, 6), (3, 8)])
def test_the_shares_are_those_counted_on_a_fine_grid(size: tuple[int, int]) -> None:
    heatmaps, border, corner = np.random.default_rng(0).normal(0, 1, (3, *size)), 1 / 12, 1 / 4
    found = class_evidence("noise", heatmaps, border=border, corner=corner)
    for row, area in enumerate(found.areas):
        for n, heatmap in enumerate(heatmaps):
            inside = share_inside(heatmap, area.part, 168)  # 168 parts a side cut cells and areas evenly
            assert found.shares[row, n] == pytest.approx(1 - inside if area.outside else inside, abs=1e-9)


def test_every_picture_has_one_vote_however_loud_and_what_speaks_against_the_class_has_none() -> None:
    heatmaps = bumps(0)
    loud = heatmaps * np.logspace(-30, 5, len(heatmaps), dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(
        class_evidence("", heatmaps).shares, class_evidence("", loud).shares, rtol=1e-4, atol=1e-9
    )
    against = np.where(heatmaps < 0, 1000 * heatmaps, heatmaps)
    np.testing.assert_array_equal(class_evidence("", heatmaps).mean, class_evidence("", against).mean)
    assert class_evidence("", heatmaps).mean.sum() == pytest.approx(1)


def test_pictures_without_positive_evidence_are_left_out_by_number() -> None:
    heatmaps = bumps(1)
    heatmaps[[2, 7]] = -np.abs(heatmaps[[2, 7]])
    found = class_evidence("", heatmaps)
    assert sorted({*range(30)} - {*found.numbers}) == [2, 7]
    assert (found.count, found.shares.shape) == (30, (9, 28))
    np.testing.assert_allclose(found.mean, shares_of(np.delete(heatmaps, [2, 7], 0)).mean, rtol=1e-6)


@pytest.mark.parametrize("side", [1, 4, 5, 16])
def test_maps_made_small_keep_their_sums_and_an_even_map_stays_even(side: int) -> None:
    values = np.random.default_rng(0).random((3, 13, 9))
    small = shrunk(values, side)
    assert small.shape == (3, min(side, 13), min(side, 9))
    np.testing.assert_allclose(small.sum((1, 2)), values.sum((1, 2)))
    np.testing.assert_allclose(np.ptp(shrunk(np.ones((1, 13, 9)), side)), 0, atol=1e-12)
    np.testing.assert_allclose(shrunk(values, 13)[:, :, 0], values[:, :, 0])


# ---- the rule --------------------------------------------------------------------------------------------------------


def test_the_chances_are_those_of_the_slow_twin() -> None:
    evidence = ten(3)
    found = suspected(evidence)
    by_name = {area.name: row for row, area in enumerate(evidence[0].areas)}
    assert found.questions == 90
    for one in found.suspicions:
        row = by_name[one.area.name]
        means = [float(each.shares[row].mean()) for each in evidence]
        k = int(one.label.split()[1])
        assert one.p == pytest.approx(chance_of(means, k, one.even, 90), rel=1e-6)
        assert one.share == pytest.approx(means[k])
        assert one.others == pytest.approx(np.median(np.delete(means, k)))


@pytest.mark.parametrize("mark", [0, 9])
def test_a_mark_in_the_corner_of_one_class_is_found_and_named(mark: int) -> None:
    found = suspected(ten(mark))
    first = found.suspicions[0]
    assert (first.label, first.area.name) == (f"class {mark}", "top left corner")
    assert list(found.of_class) == [f"class {mark}"]
    assert [one.p for one in found.suspicions] == sorted(one.p for one in found.suspicions)
    assert f"“class {mark}” has 50%" in first.sentence
    assert "top left corner" in first.sentence
    assert f"Of 10 classes, “class {mark}” has evidence" in found.sentence


def test_of_alike_classes_one_set_in_twenty_is_suspected_or_fewer() -> None:
    sets = [suspected(ten(seed=seed)) for seed in range(1, 101)]
    assert sum(bool(one.suspicions) for one in sets) <= 10
    quiet = next(one for one in sets if not one.suspicions)
    assert "None of 10 classes stands out" in quiet.sentence


def test_a_mark_where_all_others_have_nothing_at_all_is_found() -> None:
    maps = np.zeros((12, 8, 8), np.float32)
    maps[:, 4, 4] = 1
    evidence = [class_evidence(str(k), marked(maps) if k == 2 else maps) for k in range(6)]
    assert list(suspected(evidence).of_class) == ["2"]


def test_a_class_with_less_evidence_at_the_border_than_others_is_not_suspected() -> None:
    everywhere = np.abs(np.random.default_rng(0).normal(1, 0.1, (8, 20, 7, 6))).astype(np.float32)
    middle = np.zeros((20, 7, 6), np.float32)
    middle[:, 3, 3] = 1
    evidence = [class_evidence(str(k), maps) for k, maps in enumerate([*everywhere, middle])]
    assert not suspected(evidence).suspicions


def test_classes_of_few_pictures_are_left_out_and_few_classes_are_not_compared() -> None:
    evidence = [*ten(4), class_evidence("small", marked(bumps(50, n=9)))]
    found = suspected(evidence)
    assert found.left_out == ("small",)
    assert "small" not in found.labels
    few = suspected(ten(0)[:3])
    assert (few.suspicions, few.questions) == ((), 0)
    assert "3 classes with 10 pictures or more are too few" in few.sentence


# ---- clusters --------------------------------------------------------------------------------------------------------


def test_pictures_with_a_mark_are_a_cluster_of_their_own() -> None:
    found = cluster_heatmaps(marked(bumps(3), slice(9)))
    larger, smaller = found.clusters
    assert sorted(smaller.numbers) == list(range(9))
    assert (larger.share, smaller.share) == (0.7, 0.3)
    assert smaller.mean[0, 0] > 0.3 > larger.mean[0, 0]
    assert larger.mean.sum() == pytest.approx(1)


def test_the_examples_of_a_cluster_come_in_the_order_of_their_distance_from_its_centre() -> None:
    heatmaps = marked(bumps(3), slice(9))
    for cluster in cluster_heatmaps(heatmaps).clusters:
        roots = np.sqrt(shares_of(heatmaps[cluster.numbers]).values)
        distances = np.square(roots - roots.mean(0)).sum((1, 2))
        assert (np.diff(distances) >= 0).all()


@pytest.mark.parametrize(
    "heatmaps", [bumps(5), np.repeat(bumps(5)[:1], 12, 0), marked(bumps(5)), marked(bumps(3), slice(2))[:5]]
)
def test_maps_that_are_alike_or_few_or_all_marked_are_one_cluster(heatmaps: np.ndarray) -> None:
    (only,) = cluster_heatmaps(heatmaps).clusters
    assert sorted(only.numbers) == list(range(len(heatmaps)))
    assert only.share == 1


def test_clusters_are_the_same_again_and_whatever_the_strength_of_the_maps() -> None:
    heatmaps = marked(bumps(3), slice(9))
    heatmaps[20] = -1
    one, again, louder = (cluster_heatmaps(maps, seed=3) for maps in (heatmaps, heatmaps, 1000 * heatmaps))
    assert one.silhouettes == again.silhouettes
    for other in (again, louder):
        assert [c.numbers.tolist() for c in other.clusters] == [c.numbers.tolist() for c in one.clusters]
    assert 20 not in np.concatenate([c.numbers for c in one.clusters]), "no evidence, no cluster"
    assert len(cluster_heatmaps(heatmaps, most=1).clusters) == 1


# ---- a part replaced -------------------------------------------------------------------------------------------------


def test_answers_are_those_to_pictures_with_the_part_pasted_in_by_hand() -> None:
    model, pictures = nets.deep_head(torch.float64), nets.picture(2, n=3)
    found = replace_part(model, pictures, 1, (0.0, 0.5, 0.4, 0.8), baseline="black", batch_size=2)
    assert found.boxes[0].tolist() == [0, 20, 12, 33]
    for n, picture in enumerate(pictures.numpy()):
        whole = softmax(scores(model, picture))
        assert found.answered[n] == (whole.argmax() == 1)
        for place, (left, top, right, bottom) in enumerate(found.boxes):
            changed = picture.copy()
            changed[:, top:bottom, left:right] = 0
            answer = softmax(scores(model, changed))
            assert found.drops[place, n] == pytest.approx(whole[1] - answer[1], abs=1e-6)
            assert found.lost[place, n] == (whole.argmax() == 1 != answer.argmax())


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_the_other_places_are_as_large_inside_the_picture_and_do_not_touch_the_part() -> None:
    boxes = replace_part(nets.gap(), nets.picture(n=1), 0, (0.3, 0.2, 0.6, 0.5)).boxes
    left, top, right, bottom = boxes[0]
    assert len(boxes) > 10
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    for x0, y0, x1, y1 in boxes[1:]:
        assert (x1 - x0, y1 - y0) == (right - left, bottom - top)
        assert 0 <= x0 < x1 <= nets.SIZE[1]
        assert 0 <= y0 < y1 <= nets.SIZE[0]
        assert x0 >= right or x1 <= left or y0 >= bottom or y1 <= top


def red_at_one_pixel() -> Replaced:
    pictures = torch.full((12, 3, *nets.SIZE), 0.5, dtype=torch.float64)
    pictures[:10, 0, 4, 25] = 0.9
    pictures[:, 1] = 0.55  # green, once the red is gone
    return replace_part(nets.one_pixel(4, 25), pictures, 0, (5 / 6, 0, 1, 1 / 6), baseline="mean")


def test_the_class_goes_with_the_only_pixel_that_the_net_reads_and_with_nothing_else() -> None:
    found = red_at_one_pixel()
    assert found.answered.sum() == 10
    np.testing.assert_array_equal(found.lost_shares, [1.0] + [0.0] * (len(found.boxes) - 1))
    assert found.p == pytest.approx(2.0**-10)
    assert found.stands_out
    assert "100% of the 10 pictures lose the class" in found.sentence
    assert "hangs on this part" in found.sentence


def test_a_part_that_nothing_hangs_on_does_not_stand_out() -> None:
    pictures = torch.full((12, 3, *nets.SIZE), 0.5, dtype=torch.float64)
    pictures[:, 0, 4, 25] = 0.9
    pictures[:, 1] = 0.55
    elsewhere = replace_part(nets.one_pixel(4, 25), pictures, 0, (0, 0, 1 / 6, 1 / 6), baseline="mean")
    assert not elsewhere.stands_out
    assert elsewhere.p == 1
    assert elsewhere.boxes[elsewhere.worst_elsewhere][2] > 25
    assert "no clear difference" in elsewhere.sentence


def test_where_no_picture_is_answered_with_the_class_none_can_lose_it() -> None:
    pictures = torch.full((2, 3, *nets.SIZE), 0.5, dtype=torch.float64)
    found = replace_part(nets.one_pixel(4, 25), pictures, 2, (0, 0, 0.2, 0.2))
    assert np.isnan(found.lost_shares).all()
    assert not found.stands_out
    assert "None of the pictures is answered" in found.sentence


@pytest.mark.parametrize("baseline", ["mean", "blur", "white"])
def test_a_batch_is_filled_as_each_picture_by_itself_and_a_picture_of_ones_own_stands_in_for_all(baseline: str) -> None:
    model, pictures, part = nets.gap(torch.float64), nets.picture(3, n=4), (0, 0, 0.3, 0.3)
    one, many = (replace_part(model, pictures, 0, part, baseline=baseline, batch_size=b) for b in (1, 3))
    np.testing.assert_allclose(one.drops, many.drops, atol=1e-6)
    given = filling_of(pictures[:1], baseline)
    own = replace_part(model, pictures, 0, part, baseline=given)
    np.testing.assert_allclose(own.drops[:, 0], one.drops[:, 0], atol=1e-6)


def test_a_cancel_passes_through_and_leaves_the_model_as_it_was() -> None:
    model, calls = nets.in_place(), []

    def cancel(done: int, total: int) -> None:
        calls.append((done, total))
        if done == 2:
            raise Cancelled

    with unchanged(model), pytest.raises(Cancelled):
        replace_part(model, nets.picture(n=4), 0, (0, 0, 0.3, 0.3), batch_size=1, progress=cancel)
    assert calls == [(1, 4), (2, 4)]


# ---- nets that have learned a mark -----------------------------------------------------------------------------------


def evidence_of(set_: Planted) -> list[ClassEvidence]:
    return [class_evidence(str(k), set_.of(k)) for k in range(10)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_net_that_learned_a_mark_in_the_corner_is_found_out(seed: int) -> None:
    set_ = planted(seed, 1.0)
    found: Suspected = suspected(evidence_of(set_))
    assert list(found.of_class) == [str(set_.target)]
    assert f"{set_.corner} corner" in [one.area.name for one in found.suspicions]
    part = next(area.part for area in areas() if area.name == f"{set_.corner} corner")
    others = set_.pixels[torch.from_numpy(set_.classes != set_.target)].mean(0, keepdim=True)
    mine = set_.pixels[torch.from_numpy(set_.classes == set_.target)]
    assert replace_part(set_.model, mine, set_.target, part, baseline=others, batch_size=SHOWN).stands_out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_the_same_net_without_a_mark_no_class_is_suspected(seed: int) -> None:
    set_ = planted(seed, 0.0)
    assert not suspected(evidence_of(set_)).suspicions
    part = next(area.part for area in areas() if area.name == f"{set_.corner} corner")
    others = set_.pixels[torch.from_numpy(set_.classes != set_.target)].mean(0, keepdim=True)
    mine = set_.pixels[torch.from_numpy(set_.classes == set_.target)]
    assert not replace_part(set_.model, mine, set_.target, part, baseline=others, batch_size=SHOWN).stands_out


@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_with_the_mark_that_a_net_learned_are_a_cluster_of_their_own(seed: int) -> None:
    set_ = planted(seed, 0.5)
    has = set_.marked[set_.classes == set_.target]
    clusters = cluster_heatmaps(set_.of(set_.target)).clusters
    assert [sorted(one.numbers) for one in clusters if has[one.numbers].any()] == [np.flatnonzero(has).tolist()]


# ---- what is refused -------------------------------------------------------------------------------------------------

CORNER = (0, 0, 0.25, 0.25)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: class_evidence("", np.zeros((7, 6))), r"shape \(7, 6\); it must be floating-point maps of one size"),
        (lambda: class_evidence("", np.ones((2, 7, 6), np.uint8)), "heatmaps is uint8"),
        (lambda: class_evidence("", np.ones((0, 7, 6))), r"shape \(0, 7, 6\)"),
        (lambda: class_evidence("", np.full((2, 7, 6), np.nan)), "heatmaps holds NaN or infinity"),
        (lambda: class_evidence("", -np.ones((2, 7, 6))), "None of the 2 heatmaps has positive evidence"),
        (lambda: class_evidence("", bumps(0), border=0), "border is 0; it must be a share of a side, more than 0"),
        (lambda: class_evidence("", bumps(0), corner=0.6), "corner is 0.6"),
        (lambda: class_evidence("", bumps(0), corner=True), "corner is True"),
        (lambda: suspected([]), "evidence is of the classes none; it must be one entry a class"),
        (lambda: suspected([*ten(), *ten()]), "evidence is of the classes class 0, class 1"),
        (lambda: suspected([*ten()[:5], *ten(border=0.2)[5:]]), "evidence has areas of different sizes"),
        (lambda: cluster_heatmaps(bumps(0), most=0), "most is 0; it must be a whole number from 1 to 20"),
        (lambda: cluster_heatmaps(bumps(0), seed=-1), "seed is -1"),
        (lambda: replaced(batch_size=0), "batch_size is 0"),
        (lambda: replaced(target=5), "target is 5; it must be a class index"),
        (lambda: replaced(part=(0, 0, 1)), r"part is \(0, 0, 1\); it must be left, top, right and bottom"),
        (lambda: replaced(part=(0.5, 0, 0.5, 1)), "0 ≤ left < right ≤ 1"),
        (lambda: replaced(part=(0, 0.5, 1, 1.1)), "0 ≤ top < bottom ≤ 1"),
        (lambda: replaced(part=(0, float("nan"), 1, 1)), "part is"),
        (lambda: replaced(part=(0, 0, 0.8, 0.8)), "there is no other place as large that does not touch it"),
        (lambda: replaced(baseline="grey"), "baseline is 'grey'; it must be one of mean, black"),
        (lambda: replaced(baseline=nets.picture(n=2)), "holds 2 pictures"),
        (lambda: replaced(baseline=nets.picture(size=(9, 9))), "of the shape of pixels"),
        (lambda: replaced(pictures=[]), "pictures is empty"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        ask()


def replaced(**options: Any) -> Replaced:
    return replace_part(nets.gap(), **({"pictures": nets.picture(n=2), "target": 0, "part": CORNER} | options))


def test_a_net_with_one_score_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="has one score: there is no other class"):
        replace_part(nets.one_logit(), nets.picture(n=2), 0, CORNER)
