"""How far a map may be trusted, by the papers' sums; what maps have in common; and the sentence made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference_embedding as reference
from sklearn import manifold

from vizcore import map_quality as module
from vizcore import neighbours
from vizcore.map_quality import (
    MapAgreement,
    MapQuality,
    kept_neighbours,
    map_agreement,
    map_quality,
    reading,
    trustworthiness,
)
from vizcore.records import BadParameter

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(41, 6))
POINTS = FEATURES[:, :2] + 0.3 * RANDOM.normal(size=(41, 2))
KS = (1, 3, 5, 14, 20)


def test_trustworthiness_and_continuity_of_many_k_are_those_of_the_paper_at_each() -> None:
    found = map_quality(FEATURES, POINTS, KS)
    assert found.ks == KS
    for place, k in enumerate(KS):
        truth = reference.trustworthiness(FEATURES, POINTS, k), reference.continuity(FEATURES, POINTS, k)
        assert (found.trustworthiness[place], found.continuity[place]) == pytest.approx(truth, abs=1e-12)
        assert found.trustworthiness[place] == pytest.approx(
            manifold.trustworthiness(FEATURES, POINTS, n_neighbors=k), abs=1e-12
        )
        assert trustworthiness(FEATURES, POINTS, k) == pytest.approx(truth[0], abs=1e-12)


@pytest.mark.parametrize(("metric", "theirs"), [("cosine", "cosine"), ("manhattan", "manhattan")])
def test_another_metric_judges_by_its_own_neighbours(metric: str, theirs: str) -> None:
    expected = manifold.trustworthiness(FEATURES, POINTS, n_neighbors=5, metric=theirs)
    assert trustworthiness(FEATURES, POINTS, metric=metric) == pytest.approx(expected, abs=1e-12)
    assert map_quality(FEATURES, POINTS, metric=metric).trustworthiness[0] == pytest.approx(expected, abs=1e-12)
    assert trustworthiness(FEATURES, POINTS) != pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("k", [1, 4, 20])
def test_each_pictures_share_is_that_of_the_slow_twin_and_its_faults_add_up_to_the_whole(k: int) -> None:
    found = map_quality(FEATURES, POINTS, [k, 7], k=k)
    np.testing.assert_allclose(found.kept, reference.kept(FEATURES, POINTS, k))
    np.testing.assert_allclose(kept_neighbours(FEATURES, POINTS, k), found.kept)
    place = found.ks.index(k)
    assert 1 - found.compressed.mean() == pytest.approx(found.trustworthiness[place])
    assert 1 - found.stretched.mean() == pytest.approx(found.continuity[place])
    assert found.chance == k / 40


def test_a_turned_and_enlarged_copy_keeps_all() -> None:
    turn = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
    found = map_quality(FEATURES, 5 * FEATURES @ turn - 100, KS)
    for values in (found.trustworthiness, found.continuity, found.kept, 1 - found.stretched, 1 - found.compressed):
        np.testing.assert_array_equal(values, 1)


def test_a_fold_costs_trustworthiness_and_a_tear_costs_continuity() -> None:
    line = np.linspace(-1, 1, 60)[:, None]
    folded = np.c_[np.abs(line), 1e-3 * line]
    torn = line + 5 * (line > 0) * np.array([[-1.0]]) - 10 * (line > 0) * line
    fold, tear = map_quality(line, folded, [5]), map_quality(line, torn, [5])
    assert fold.trustworthiness[0] < 0.8 < 0.95 < fold.continuity[0]
    assert tear.continuity[0] < tear.trustworthiness[0]
    middle = np.abs(line[:, 0]) < 0.1
    assert tear.stretched[middle].mean() > 5 * tear.stretched[~middle].mean()


def test_the_picture_that_the_map_sends_away_is_the_one_that_is_stretched() -> None:
    points = FEATURES.copy()
    points[17] += 100
    found = map_quality(FEATURES, points, [5])
    assert found.stretched.argmax() == 17
    assert found.stretched[17] <= 1
    assert found.kept[17] < found.kept.mean()


def test_a_map_by_chance_has_a_half_and_keeps_what_chance_keeps() -> None:
    features = RANDOM.normal(size=(500, 5))
    found = map_quality(features, RANDOM.permutation(features), [5, 50])
    np.testing.assert_allclose([*found.trustworthiness, *found.continuity], 0.5, atol=0.03)
    assert found.kept.mean() == pytest.approx(found.chance, abs=0.01)


def test_a_sample_of_the_pictures_has_the_numbers_that_these_have_among_all() -> None:
    whole, some = map_quality(FEATURES, POINTS, KS), map_quality(FEATURES, POINTS, KS, most_rows=13, seed=4)
    assert len(some.rows) == 13
    for name in ("kept", "stretched", "compressed"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[some.rows])
    assert some.trustworthiness != pytest.approx(whole.trustworthiness)
    assert map_quality(FEATURES, POINTS, KS, most_rows=13, seed=5).rows.tolist() != some.rows.tolist()
    assert map_quality(FEATURES, POINTS, KS, most_rows=41).rows.tolist() == list(range(41))


def test_of_many_pictures_a_sample_is_asked_that_is_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    features = RANDOM.normal(size=(600, 5))
    whole = trustworthiness(features, features[:, :2])
    monkeypatch.setattr(module, "ALL_OF", 500)
    monkeypatch.setattr(module, "MOST_ROWS", 300)
    sampled = trustworthiness(features, features[:, :2])
    assert sampled != whole
    assert sampled == pytest.approx(whole, abs=0.02)
    assert len(map_quality(features, features[:, :2]).rows) == 300


def test_copies_of_a_picture_are_neighbours_of_each_other_also_in_a_sample() -> None:
    features = np.repeat(FEATURES[:8], 9, axis=0)
    found = map_quality(features, features + 1e-9 * RANDOM.normal(size=features.shape), [3, 8], most_rows=40)
    np.testing.assert_array_equal(found.trustworthiness, 1)
    assert not (found.rows[:, None] == module._nearest_of(features, "euclidean", found.rows, 8)).any()


def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = map_quality(FEATURES, POINTS, KS)
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 41 * 8 * 7)
    again = map_quality(FEATURES, POINTS, KS)
    np.testing.assert_allclose(again.trustworthiness, whole.trustworthiness, atol=1e-12)
    np.testing.assert_allclose(again.stretched, whole.stretched, atol=1e-12)


def test_unasked_the_curves_go_as_far_as_the_set_allows() -> None:
    assert map_quality(FEATURES, POINTS).ks == (5, 10, 20)
    assert map_quality(FEATURES[:7], POINTS[:7]).ks == (3,)
    steps: list[tuple[int, int]] = []
    map_quality(FEATURES, POINTS, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]


# ---- agreement ------------------------------------------------------------------------------------------------------


def test_a_map_agrees_with_its_turned_self_wholly_and_with_chance_by_chance() -> None:
    points = RANDOM.normal(size=(400, 2))
    turned = 3 * points @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 7
    found = map_agreement([points, turned, RANDOM.normal(size=(400, 2))], 10)
    np.testing.assert_array_equal(found.shared, found.shared.T)
    np.testing.assert_array_equal(np.diag(found.shared), 1)
    assert found.shared[0, 1] == 1
    assert found.shared[0, 2] == pytest.approx(found.chance, abs=0.01)
    assert found.chance == 10 / 399
    assert found.mean == pytest.approx((1 + 2 * found.shared[0, 2]) / 3, abs=1e-2)


def test_agreement_is_the_mean_share_of_the_slow_twin() -> None:
    found = map_agreement([FEATURES[:, :2], POINTS], 6)
    assert found.shared[0, 1] == pytest.approx(np.mean(reference.kept(FEATURES[:, :2], POINTS, 6)))


# ---- in words -------------------------------------------------------------------------------------------------------

QUALITY = MapQuality(
    ks=(5, 10),
    trustworthiness=np.array([0.97, 0.9]),
    continuity=np.array([0.96, 0.9]),
    rows=np.arange(4),
    kept=np.array([0.5, 0.5, 0.7, 0.7]),
    stretched=np.zeros(4),
    compressed=np.zeros(4),
    k=5,
    count=101,
)


@pytest.mark.parametrize(
    ("trust", "whole", "sentence"),
    [
        (0.97, 0.96, "may be read: trustworthiness 0.97, continuity 0.96 at 5 neighbours"),
        (0.95, 0.95, "may be read: "),
        (0.9, 0.96, "may be read with care"),
        (0.96, 0.9, "may be read with care"),
        (0.84, 0.99, r"may not be read: many are strangers \(trustworthiness 0.84"),
        (0.99, 0.84, r"gaps may not: the map tears many apart \(continuity 0.84"),
    ],
)
def test_the_sentence_follows_from_the_numbers(trust: float, whole: float, sentence: str) -> None:
    quality = replace(QUALITY, trustworthiness=np.array([trust, 0.5]), continuity=np.array([whole, 0.5]))
    said = reading(quality)
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(said)
    assert "keeps 60 % (a map by chance 5 %)" in said
    assert said.endswith("The axes, the sizes of groups and the distances between them may not be read.")


def test_the_sentence_says_whether_other_maps_agree_and_what_pca_allows() -> None:
    shared = np.array([[1, 0.7], [0.7, 1]])
    assert "Other maps agree: they share 70 %" in reading(QUALITY, MapAgreement(shared, 5, 0.05))
    shared = np.array([[1, 0.3], [0.3, 1]])
    assert "gives another map: they share 30 % of their neighbours (by chance 5 %)" in reading(
        QUALITY, MapAgreement(shared, 5, 0.05)
    )
    assert reading(QUALITY, method="PCA").endswith("what the other axes hold is not shown.")


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: map_quality(FEATURES, POINTS[1:]), "41 rows of features but 40 points"),
        (lambda: map_quality(FEATURES, POINTS, [21]), "ks is 21; it must be a whole number from 1 to 20"),
        (lambda: map_quality(FEATURES, POINTS, []), "ks is .*; it must name at least one"),
        (lambda: map_quality(FEATURES, POINTS, k=21), "k is 21"),
        (lambda: map_quality(FEATURES, POINTS, most_rows=0), "most_rows is 0"),
        (lambda: map_quality(FEATURES, POINTS, seed=-1), "seed is -1"),
        (lambda: map_quality(FEATURES, POINTS, metric="hamming"), "metric is 'hamming'"),
        (lambda: map_quality(FEATURES, np.full((41, 2), np.nan)), "NaN or infinity"),
        (lambda: kept_neighbours(FEATURES, POINTS[1:]), "41 rows of features but 40 points"),
        (lambda: kept_neighbours(FEATURES, POINTS, 41), "k is 41; it must be a whole number from 1 to 40"),
        (lambda: map_agreement([POINTS]), "There are 1 maps; agreement needs two or more"),
        (lambda: map_agreement([POINTS, POINTS[1:]]), "The maps hold 41 and 40 pictures"),
        (lambda: map_agreement([POINTS, POINTS], 41), "k is 41"),
    ],
)
def test_what_cannot_be_judged_is_refused(call: Any, sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        call()
