"""A map that is being made: step by step as at once, with the metric, the start and the number of points asked for."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
import reference_embedding as reference
from scipy.spatial.distance import cdist

from vizcore import tsne as tsne_module
from vizcore.embedding import neighbour_accuracy
from vizcore.records import BadParameter
from vizcore.tsne import METRICS, STARTS, TsneRun, tsne

RANDOM = np.random.default_rng(0)
CLUSTERS = np.repeat(np.arange(4), 15)
CLUSTERED = RANDOM.normal(size=(60, 7)) + 4 * np.eye(4, 7)[CLUSTERS]
APART = RANDOM.normal(size=(60, 7)) + 300 * np.eye(4, 7)[CLUSTERS]


class Cancelled(BaseException):
    """As Streamlit's rerun: not an Exception."""


@pytest.fixture
def interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that many points get, for few."""
    monkeypatch.setattr(tsne_module, "INTERPOLATED_FROM", 10)
    monkeypatch.setattr(tsne_module, "EXACT_UP_TO", 10)
    monkeypatch.setattr(tsne_module, "ALL_OF", 10)


# ---- in pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [(300,), (250, 50), (1, 9, 100, 143, 7, 40), (247, 10, 43)])
def test_iterations_in_pieces_give_the_very_points_of_one_long_run(pieces: tuple[int, ...]) -> None:
    run = TsneRun(CLUSTERED, seed=3)
    for count in pieces:
        run.advance(count)
    assert run.iteration == 300
    found, whole = run.finish(), tsne(CLUSTERED, seed=3, iterations=300)
    np.testing.assert_array_equal(found.points, whole.points)
    assert found.kl_divergence == whole.kl_divergence
    assert found.params == whole.params


@pytest.mark.usefixtures("interpolated")
def test_iterations_in_pieces_give_the_same_with_interpolated_forces() -> None:
    run = TsneRun(CLUSTERED, perplexity=5)
    for count in (249, 2, 9):
        run.advance(count)
    np.testing.assert_array_equal(run.points, tsne(CLUSTERED, perplexity=5, iterations=260).points)


@pytest.mark.parametrize("at", [10, 120, 250, 260])
def test_a_run_that_was_cancelled_goes_on_to_the_same_points(at: int) -> None:
    def cancel(done: int, total: int) -> None:
        if done == at:
            raise Cancelled

    run = TsneRun(CLUSTERED)
    with pytest.raises(Cancelled):
        run.advance(300, cancel)
    assert run.iteration == at - 1, "the step that was reported is not made yet"
    run.advance(300 - run.iteration)
    np.testing.assert_array_equal(run.points, tsne(CLUSTERED, iterations=300).points)


def test_looking_at_a_run_and_finishing_it_changes_nothing() -> None:
    seen = []
    run = TsneRun(CLUSTERED)
    run.advance(260, lambda done, total: seen.append((done, run.kl_divergence, run.points)))
    run.points[:] = 0
    run.finish()
    run.advance(40)
    np.testing.assert_array_equal(run.points, tsne(CLUSTERED, iterations=300).points)
    assert [done for done, _, _ in seen] == list(range(10, 261, 10))
    assert len({points.tobytes() for _, _, points in seen}) == len(seen)


def test_the_divergence_while_it_runs_is_that_of_the_paper_also_under_exaggeration() -> None:
    p = reference.affinities(CLUSTERED, 59 / 3)
    run = TsneRun(CLUSTERED, perplexity=59 / 3)
    assert run.kl_divergence == pytest.approx(reference.kl_divergence(p, run.points), rel=1e-3)
    for count in (60, 200, 300):
        run.advance(count)
        assert run.kl_divergence == pytest.approx(reference.kl_divergence(p, run.points), rel=0.02)


def test_a_run_keeps_no_copy_of_its_features() -> None:
    features = np.random.default_rng(0).normal(size=(200, 20_000)).astype(np.float32)  # 16 MB, 32 MB in float64
    gc.collect()
    tracemalloc.start()
    run = TsneRun(features, perplexity=5)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < features.nbytes / 4
    run.advance(250)
    assert run.finish().trustworthiness > 0


def test_progress_counts_the_iterations_of_its_own_call() -> None:
    run, steps = TsneRun(CLUSTERED), []
    run.advance(7, lambda done, total: steps.append((done, total)))
    assert steps == [(7, 7)]
    steps.clear()
    run.advance(500, lambda done, total: steps.append((done, total)))
    done = [done for done, _ in steps]
    assert done == sorted(set(done))
    assert max(np.diff([0, *done])) < 20
    assert steps[-1] == (500, 500)
    assert {total for _, total in steps} == {500}


def test_a_map_that_is_stopped_early_says_so() -> None:
    run = TsneRun(CLUSTERED)
    assert run.exaggerated
    run.advance(40)
    early = run.finish()
    assert early.params["iterations"] == 40
    assert "Stopped at iteration 40" in early.notes[-1]
    run.advance(210)
    assert not run.exaggerated
    assert run.finish().params["iterations"] == 250
    assert not [note for note in run.finish().notes if "Stopped" in note]


# ---- what can be asked for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_and_start_tells_the_groups_apart_again_and_again(metric: str, start: str) -> None:
    one, again = (tsne(CLUSTERED, metric=metric, start=start, iterations=400, perplexity=9) for _ in range(2))
    np.testing.assert_array_equal(one.points, again.points)
    assert neighbour_accuracy(one.points, CLUSTERS) > 0.9
    assert (one.params["metric"], one.params["start"]) == (metric, start)
    assert not one.notes


def test_starts_and_metrics_differ() -> None:
    maps = [tsne(CLUSTERED, start=start, iterations=250).points for start in STARTS]
    maps += [tsne(CLUSTERED, metric=metric, iterations=250).points for metric in METRICS if metric != "euclidean"]
    assert len({points.tobytes() for points in maps}) == len(maps)


def test_the_cosine_knows_no_lengths_and_the_euclidean_metric_does() -> None:
    lengths = 2.0 ** RANDOM.integers(-3, 4, (60, 1))
    one, other = (tsne(rows, metric="cosine", iterations=300) for rows in (CLUSTERED, CLUSTERED * lengths))
    np.testing.assert_array_equal(one.points, other.points)
    assert one.trustworthiness == other.trustworthiness
    assert not np.allclose(tsne(CLUSTERED * lengths, iterations=300).points, tsne(CLUSTERED, iterations=300).points)


@pytest.mark.parametrize(
    ("metric", "distances"),
    [
        ("euclidean", cdist(CLUSTERED, CLUSTERED)),
        ("cosine", np.sqrt(2 * cdist(CLUSTERED, CLUSTERED, "cosine").clip(0))),
        ("manhattan", cdist(CLUSTERED, CLUSTERED, "cityblock")),
    ],
)
def test_the_divergence_is_that_of_the_metrics_own_distances(metric: str, distances: np.ndarray) -> None:
    # At perplexity (n - 1) / 3 the affinities leave no neighbour out.
    found = tsne(CLUSTERED, metric=metric, perplexity=59 / 3, iterations=300)
    p = reference.affinities_of(distances, 59 / 3)
    assert found.kl_divergence == pytest.approx(reference.kl_divergence(p, found.points), rel=1e-3)


def test_stronger_exaggeration_draws_the_groups_tighter_while_it_lasts() -> None:
    sizes = []
    for strength in (1.0, 4.0, 12.0):
        run = TsneRun(CLUSTERED, early_exaggeration=strength)
        run.advance(240)
        sizes.append(float(run.points.std()))
        run.advance(60)
        assert run.finish().params["early_exaggeration"] == strength
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_spectral_start_on_groups_that_nothing_joins_is_replaced_and_said() -> None:
    found = tsne(APART, perplexity=3, start="spectral", iterations=250)
    assert "4 groups that no chain of neighbours joins" in found.notes[-1]
    assert found.params["start"] == "pca"
    np.testing.assert_array_equal(found.points, tsne(APART, perplexity=3, iterations=250).points)


def test_a_spectral_start_whose_eigenvectors_are_not_found_is_replaced_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from openTSNE import initialization
    from scipy.sparse.linalg import ArpackNoConvergence

    def stuck(*_: Any, **__: Any) -> None:
        raise ArpackNoConvergence("stuck", np.zeros(0), np.zeros((0, 0)))

    monkeypatch.setattr(initialization, "spectral", stuck)
    assert "could not be found" in TsneRun(CLUSTERED, start="spectral").notes[-1]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("n", [5, 6, 9])
def test_the_smallest_sets_have_maps_from_every_start(n: int, start: str) -> None:
    found = tsne(CLUSTERED[::7][:n], start=start, iterations=250)
    assert np.isfinite(found.points).all()
    assert f"too large for {n} pictures" in found.notes[0]


# ---- many points ----------------------------------------------------------------------------------------------------


def test_interpolated_forces_and_approximate_neighbours_make_as_good_a_map(
    request: pytest.FixtureRequest,
) -> None:
    rows = RANDOM.normal(size=(500, 20)) + 4 * np.eye(6, 20)[RANDOM.integers(0, 6, 500)]
    exact = tsne(rows, iterations=400)
    request.getfixturevalue("interpolated")
    found = tsne(rows, iterations=400)
    assert not np.array_equal(found.points, exact.points)
    assert found.trustworthiness > exact.trustworthiness - 0.01
    assert found.kl_divergence == pytest.approx(exact.kl_divergence, rel=0.03)
    assert "Trustworthiness is that of 2,000 of the 500 pictures" in found.notes[-1]


@pytest.mark.usefixtures("interpolated")
def test_an_interpolated_divergence_is_near_that_of_the_paper() -> None:
    found = tsne(CLUSTERED, perplexity=59 / 3, iterations=300)
    divergence = reference.kl_divergence(reference.affinities(CLUSTERED, 59 / 3), found.points)
    assert found.kl_divergence == pytest.approx(divergence, rel=0.05)


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metric": "hamming"}, "metric is 'hamming'; it must be one of euclidean, cosine, manhattan"),
        ({"start": "umap"}, "start is 'umap'; it must be one of pca, spectral, random"),
        ({"early_exaggeration": 0.5}, "early_exaggeration is 0.5; it must be a number from 1 to 100"),
        ({"early_exaggeration": True}, "early_exaggeration is True"),
        ({"early_exaggeration": "12"}, "early_exaggeration is '12'"),
        ({"perplexity": float("nan")}, "perplexity is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_a_run_cannot_be_asked_for_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        TsneRun(CLUSTERED, **options)


@pytest.mark.parametrize("count", [0, -1, 10_001, 2.0, True, None])
def test_iterations_that_are_no_number_of_steps_are_refused(count: Any) -> None:
    with pytest.raises(BadParameter, match=r"iterations is .*; it must be a whole number from 1 to 10000"):
        TsneRun(CLUSTERED).advance(count)


def test_rows_without_a_direction_are_refused_for_the_cosine_alone() -> None:
    rows = CLUSTERED.copy()
    rows[[4, 9]] = 0
    with pytest.raises(BadParameter, match=r"nothing but zeros in 2 rows \(4, 9\).*another metric"):
        TsneRun(rows, metric="cosine")
    with pytest.raises(BadParameter, match="All 20 rows of features point in one direction"):
        TsneRun(np.arange(1.0, 21)[:, None] * np.ones(4), metric="cosine")
    assert np.isfinite(tsne(rows, iterations=250).points).all()
