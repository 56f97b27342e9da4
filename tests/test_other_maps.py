"""Maps by PCA and UMAP: what they are, in the same record as t-SNE's."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from vizcore import other_maps
from vizcore.embedding import neighbour_accuracy, trustworthiness
from vizcore.other_maps import MAP_METHODS, pca_map, umap_map
from vizcore.records import BadParameter
from vizcore.tsne import tsne

RANDOM = np.random.default_rng(0)
CLUSTERS = np.repeat(np.arange(4), 15)
CLUSTERED = RANDOM.normal(size=(60, 7)) + 10 * np.eye(4, 7)[CLUSTERS]


def test_the_plane_of_a_plane_in_space_keeps_every_distance_in_the_features_own_unit() -> None:
    plane = 1e4 * RANDOM.normal(size=(30, 2)) @ np.linalg.qr(RANDOM.normal(size=(9, 9)))[0][:2] + 1e5
    found = pca_map(plane)
    np.testing.assert_allclose(pdist(found.points), pdist(plane), rtol=1e-4)
    assert found.trustworthiness == 1
    assert sum(found.params["variance_explained"]) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(60, 7), (30, 200), (150, 140)], ids=["tall", "wide", "large"])
def test_pca_is_the_singular_value_decomposition(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_maps, "MOST_COLUMNS", 100)
    monkeypatch.setattr(other_maps, "MOST_ROWS_OR_COLUMNS", 100)
    features = RANDOM.normal(size=shape)
    features[:, 0] *= 40
    features[:, 1] *= 20
    centred = features - features.mean(0)
    found = pca_map(features)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * values[:2] * np.sign(right[[0, 1], np.abs(right[:2]).argmax(1)])
    np.testing.assert_allclose(found.points, expected, atol=0.02 * np.abs(expected).max())
    shares = values[:2] ** 2 / (values**2).sum()
    np.testing.assert_allclose(found.params["variance_explained"], shares, rtol=1e-3)
    assert f"{100 * shares[0]:.0f} % and {100 * shares[1]:.0f} %" in found.notes[0]
    np.testing.assert_array_equal(pca_map(features).points, found.points)


def test_one_column_makes_a_line() -> None:
    found = pca_map(CLUSTERED[:, :1])
    assert not found.points[:, 1].any()
    assert found.params["variance_explained"] == pytest.approx([1, 0])


SLOW = pytest.mark.slow  # umap-learn compiles itself for half a minute


@pytest.mark.parametrize("draw", [pca_map, pytest.param(umap_map, marks=SLOW), tsne])
def test_every_map_has_the_same_record(draw: Any) -> None:
    found = draw(CLUSTERED)
    assert found.points.shape == (60, 2)
    assert found.points.dtype == np.float32
    assert found.trustworthiness == trustworthiness(CLUSTERED, found.points)
    assert found.neighbours == 5
    assert (found.kl_divergence is None) == (draw is not tsne)
    params = json.loads(json.dumps(dict(found.params)))
    assert (params["dimensions"], params["pictures"]) == (7, 60)
    assert params["method"] in {method.title for method in MAP_METHODS.values()}


@SLOW
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_umap_tells_groups_apart_and_the_seed_decides_it(metric: str) -> None:
    wide = np.c_[CLUSTERED, 0.1 * RANDOM.normal(size=(60, 60))]
    first, again, other = (umap_map(wide, neighbours=8, metric=metric, seed=seed) for seed in (3, 3, 4))
    assert neighbour_accuracy(first.points, CLUSTERS) == 1
    np.testing.assert_array_equal(first.points, again.points)
    assert not np.array_equal(first.points, other.points)
    assert (first.params["neighbours"], first.params["metric"], first.params["seed"]) == (8, metric, 3)


@SLOW
def test_umap_brings_a_group_nearer_together_where_it_may() -> None:
    rows = RANDOM.normal(size=(80, 5))

    def gap(min_distance: float) -> float:
        points = umap_map(rows, min_distance=min_distance).points
        distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(80)
        return float(np.median(distances.min(1)))

    assert gap(0.0) < 0.5 * gap(0.9)


@SLOW
@pytest.mark.parametrize("n", [5, 6, 11])
def test_a_small_set_gets_the_neighbours_that_it_allows_and_a_note(n: int) -> None:
    found = umap_map(CLUSTERED[::5][:n])
    assert np.isfinite(found.points).all()
    assert found.params["neighbours"] == n - 1
    assert f"15 neighbours are too many for {n} pictures" in found.notes[0]
    assert not umap_map(CLUSTERED[:17]).notes


def test_of_many_pictures_the_note_says_that_a_sample_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(pca_map(CLUSTERED).notes) == 1
    monkeypatch.setattr(other_maps, "ALL_OF", 50)
    assert "Trustworthiness is that of 2,000 of the 60" in pca_map(CLUSTERED).notes[-1]


def test_without_umap_learn_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(BadParameter, match=r"umap-learn, which is not installed: `pip install -r requirements-umap"):
        umap_map(CLUSTERED)


@pytest.mark.parametrize("draw", [pca_map, umap_map])
@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (CLUSTERED[:4], "There are 4 pictures"),
        (np.zeros((100_001, 1)), "There are 100001 pictures; a map takes 100000 at most"),
        (np.full((9, 3), 2.5), "All 9 rows of features are equal"),
        (np.full((9, 3), np.nan), "NaN or infinity"),
    ],
)
def test_features_that_make_no_map_are_refused(draw: Any, features: np.ndarray, sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        draw(features)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"neighbours": 1}, "neighbours is 1; it must be a whole number from 2 to 200"),
        ({"min_distance": 1.0}, "min_distance is 1.0; it must be a number from 0 to 0.99"),
        ({"metric": "hamming"}, "metric is 'hamming'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_of_umap_out_of_range_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        umap_map(CLUSTERED, **options)
