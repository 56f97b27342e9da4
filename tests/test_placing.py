"""A picture on a map that is there: where it belongs, who stays where they are, and which neighbours are true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from vizcore import placing
from vizcore.placing import Placed, place, placeable
from vizcore.records import BadParameter, Embedding
from vizcore.tsne import MapBasis, tsne

RANDOM = np.random.default_rng(0)
CLUSTERS = np.repeat(np.arange(4), 30)
CENTRES = 12 * np.eye(4, 7)
FEATURES = (RANDOM.normal(size=(120, 7)) + CENTRES[CLUSTERS]).astype(np.float32)
NEW = (RANDOM.normal(size=(8, 7)) + CENTRES[[0, 1, 2, 3, 0, 1, 2, 3]]).astype(np.float32)
MAP = tsne(FEATURES, perplexity=10, iterations=500)


@pytest.fixture(params=["tree", "grid"])
def forces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "INTERPOLATED_FROM", {"tree": 10**6, "grid": 0}[request.param])


@pytest.mark.usefixtures("forces")
def test_new_pictures_land_in_their_own_group_and_nobody_else_moves() -> None:
    points, features = MAP.points.copy(), FEATURES.copy()
    onto = placeable(MAP, FEATURES)
    before = onto.points.copy()
    found = place(onto, NEW)
    assert found.points.shape == (8, 2)
    assert (CLUSTERS[cdist(found.points, MAP.points).argmin(1)] == [0, 1, 2, 3, 0, 1, 2, 3]).all()
    np.testing.assert_array_equal(MAP.points, points)
    np.testing.assert_array_equal(onto.points, before)
    np.testing.assert_array_equal(FEATURES, features)


@pytest.mark.usefixtures("forces")
def test_a_picture_of_the_map_placed_again_comes_down_beside_itself() -> None:
    found = place(placeable(MAP, FEATURES), FEATURES[::11], k=5)
    np.testing.assert_array_equal(found.true[:, 0], np.arange(120)[::11])
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    size = np.ptp(MAP.points, axis=0).max()
    assert np.median(np.linalg.norm(found.points - MAP.points[::11], axis=1)) < 0.03 * size


def test_a_place_is_that_of_opentsne_with_its_own_neighbours() -> None:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN

    basis = MapBasis(FEATURES.astype(np.float64), "euclidean", 0)
    shift = 1000.0  # openTSNE moves the whole map to its middle: by how much must not matter
    moved = replace(MAP, points=MAP.points + np.float32(shift))
    theirs = TSNEEmbedding(
        np.array(moved.points, dtype=np.float64),
        PerplexityBasedNN(basis.rows, perplexity=10, method="exact"),
        negative_gradient_method="bh",
    )
    middle = (theirs.max(0) + theirs.min(0)) / 2
    expected = np.asarray(theirs.transform(basis.others(NEW.astype(np.float64)))) + np.asarray(middle)
    np.testing.assert_allclose(place(placeable(moved, FEATURES), NEW).points, expected, atol=2e-3)


def test_each_place_does_not_depend_on_who_else_is_placed() -> None:
    onto = placeable(MAP, FEATURES)
    together = place(onto, NEW)
    for row in range(len(NEW)):
        alone = place(onto, NEW[row : row + 1])
        np.testing.assert_allclose(alone.points[0], together.points[row], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(alone.true[0], together.true[row])


@pytest.mark.parametrize(
    ("metric", "theirs"), [("euclidean", "euclidean"), ("cosine", "cosine"), ("manhattan", "cityblock")]
)
def test_true_neighbours_and_their_distances_are_those_of_the_features(
    metric: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "CHUNK_BYTES", 8 * 7 * 11)  # eleven rows at a time
    features, new = 1e5 + 1e4 * FEATURES.astype(np.float64), 1e5 + 1e4 * NEW.astype(np.float64)
    drawn = tsne(features, metric=metric, iterations=250)
    found = place(placeable(drawn, features), new, k=7)
    distances = cdist(new, features, theirs)
    np.testing.assert_array_equal(found.true, np.argsort(distances, axis=1)[:, :7])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :7], rtol=1e-6)
    np.testing.assert_array_equal(found.on_map[:, 0], cdist(found.points, drawn.points).argmin(1))
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_kept_lost_and_false_neighbours_are_told_apart_in_the_order_of_their_distance() -> None:
    found = Placed(
        points=np.zeros((2, 2), np.float32),
        true=np.array([[4, 1, 7, 2], [0, 1, 2, 3]]),
        distances=np.ones((2, 4)),
        on_map=np.array([[9, 7, 4, 5], [3, 2, 1, 0]]),
    )
    assert found.k == 4
    assert (found.kept().tolist(), found.lost().tolist(), found.false().tolist()) == ([4, 7], [1, 2], [9, 5])
    assert (found.kept(1).tolist(), found.lost(1).tolist(), found.false(1).tolist()) == ([0, 1, 2, 3], [], [])


@pytest.mark.parametrize("k", [1, 10, 120])
def test_kept_and_lost_are_all_true_neighbours_and_kept_and_false_all_on_the_map(k: int) -> None:
    found = place(placeable(MAP, FEATURES), NEW, k=k)
    for picture in range(len(NEW)):
        assert sorted([*found.kept(picture), *found.lost(picture)]) == sorted(found.true[picture])
        assert sorted([*found.kept(picture), *found.false(picture)]) == sorted(found.on_map[picture])
    assert k < 120 or not len(found.lost())


def test_the_smallest_map_takes_a_picture() -> None:
    few = FEATURES[::25]
    found = place(placeable(tsne(few, iterations=250), few), NEW[:1], k=5)
    assert np.isfinite(found.points).all()


def test_the_memory_that_is_stated_is_what_is_held() -> None:
    rows = RANDOM.normal(size=(400, 130))
    onto = placeable(tsne(rows, iterations=250), rows)
    assert onto.features is rows
    assert onto.nbytes == 8 * (400 * (50 + 2 + 2) + 50 * 130 + 130)
    assert place(onto, rows[:1]).true[0, 0] == 0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: placeable(replace(MAP, params={"method": "PCA"}), FEATURES), "The map is by PCA; .* t-SNE's"),
        (lambda: placeable(Embedding(MAP.points, None, 1.0, 5), FEATURES), "by no known method"),
        (lambda: placeable(MAP, FEATURES[1:]), "119 rows of features but 120 points"),
        (lambda: placeable(MAP, FEATURES[:, 1:]), "features has 6 columns; the map was made of 7"),
        (lambda: placeable(MAP, np.full((120, 7), np.nan)), "NaN or infinity"),
        (lambda: place(placeable(MAP, FEATURES), NEW[:, 1:]), "new_features has 6 columns; the map was made of 7"),
        (lambda: place(placeable(MAP, FEATURES), NEW[0]), r"shape \(7,\)"),
        (lambda: place(placeable(MAP, FEATURES), NEW[:0]), "There are 0 pictures"),
        (lambda: place(placeable(MAP, FEATURES), np.full((1, 7), np.inf)), "row 0"),
        (lambda: place(placeable(MAP, FEATURES), NEW, k=0), "k is 0; .* from 1 to 120"),
        (lambda: place(placeable(MAP, FEATURES), NEW, k=121), "k is 121"),
        (lambda: place(placeable(MAP, FEATURES), NEW, seed=-1), "seed is -1"),
    ],
)
def test_what_does_not_belong_together_is_refused(call: Any, sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        call()
