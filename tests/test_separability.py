"""How well features tell classes apart: probes whose answer is known, and layers in one pass."""

from __future__ import annotations

from typing import Any

import nets
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from test_embedding import Tokens

from vizcore import separability as module
from vizcore.embedding import chance, extract_features, extract_features_of_layers, neighbour_accuracy
from vizcore.records import BadParameter, LayerNotFound, UnsupportedModel
from vizcore.separability import separability, separability_of_layers

RANDOM = np.random.default_rng(0)
CODES = np.repeat([0, 1, 2], [30, 20, 10])
LABELS = [f"class {code}" for code in CODES]
APART = RANDOM.normal(size=(60, 5)) + 8 * np.eye(3, 5)[CODES]


def test_classes_far_apart_are_told_apart_by_both() -> None:
    found = separability(APART, LABELS)
    assert (found.neighbour, found.linear, found.lowest, found.highest) == (1, 1, 1, 1)
    assert (found.chance, found.pictures, found.classes) == (0.5, 60, 3)


def test_labels_by_chance_are_named_about_as_often_as_chance() -> None:
    features, labels = RANDOM.normal(size=(400, 5)), RANDOM.integers(0, 4, 400)
    found = separability(features, labels)
    assert found.neighbour == pytest.approx(0.25, abs=0.08)
    assert found.linear == pytest.approx(0.25, abs=0.08)


def test_neighbours_see_rings_that_no_plane_divides_and_a_plane_sees_a_sum_that_neighbours_miss() -> None:
    angle = RANDOM.uniform(0, 2 * np.pi, 300)
    ring = np.repeat([1.0, 3.0], 150)
    rings = ring[:, None] * np.c_[np.cos(angle), np.sin(angle)]
    found = separability(rings, ring)
    assert found.neighbour == 1
    assert found.linear < 0.65
    noisy = 5 * RANDOM.normal(size=(300, 40))
    noisy[:, 0] = 0.5 * (ring - 2) + 0.1 * RANDOM.normal(size=300)
    found = separability(noisy, ring)
    assert found.linear > 0.9 > 0.75 > found.neighbour


def test_the_probe_is_logistic_regression_on_what_each_training_part_standardises() -> None:
    features = RANDOM.normal(size=(60, 4)) * [1, 10, 100, 0.1] + np.eye(3, 4)[CODES]
    right = []
    for train, test in StratifiedKFold(4, shuffle=True, random_state=7).split(features, CODES):
        middle, spread = features[train].mean(0), features[train].std(0)
        probe = LogisticRegression(max_iter=2000).fit((features[train] - middle) / spread, CODES[train])
        right.append((probe.predict((features[test] - middle) / spread) == CODES[test]).sum())
    found = separability(features, LABELS, folds=4, seed=7, k=3)
    assert found.linear == pytest.approx(sum(right) / 60)
    assert (found.lowest, found.highest) == pytest.approx((min(right) / 15, max(right) / 15))
    assert found.neighbour == neighbour_accuracy(features, LABELS, 3)
    assert (found.folds, found.k, found.chance) == (4, 3, chance(LABELS))


def test_the_unit_of_the_features_and_the_names_of_the_classes_change_nothing() -> None:
    features = RANDOM.normal(size=(60, 4)) + np.eye(3, 4)[CODES]
    found = separability(features, LABELS)
    assert separability(features * 2.0**40, CODES) == found
    assert separability(features, LABELS, seed=1) != found


def test_more_columns_than_a_probe_takes_are_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = RANDOM.normal(size=(60, 1)) + 0.01 * RANDOM.normal(size=(60, 200))  # the first component, of no class
    features = np.c_[idle, APART @ RANDOM.normal(size=(5, 90))]
    features[:, 7] = 3  # a column that never changes
    assert separability(features, LABELS).linear == 1
    monkeypatch.setattr(module, "PROBE_DIMENSIONS", 1)
    assert separability(features, LABELS).linear < 0.8


def test_layers_have_the_numbers_of_each_alone_and_progress_counts_them() -> None:
    layers = {"one": APART, "two": RANDOM.normal(size=(60, 9))}
    steps: list[tuple[int, int]] = []
    found = separability_of_layers(layers, LABELS, k=3, progress=lambda done, total: steps.append((done, total)))
    assert found == {name: separability(rows, LABELS, k=3) for name, rows in layers.items()}
    assert steps == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        (["one"] * 60, {}, "All pictures are of one class"),
        (["b"] * 4 + ["a"] * 56, {}, r"The class 'b' has 4 pictures; a probe in 5 folds needs 5 of each"),
        (LABELS[1:], {}, "59 labels for 60 pictures"),
        (LABELS, {"folds": 1}, "folds is 1; it must be a whole number from 2 to 20"),
        (LABELS, {"folds": 21}, "folds is 21"),
        (LABELS, {"k": 60}, "k is 60"),
        (LABELS, {"seed": -1}, "seed is -1"),
    ],
)
def test_classes_that_cannot_be_probed_are_refused(labels: Any, options: dict[str, int], sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        separability(APART, labels, **options)
    if len(labels) == 60:
        with pytest.raises(BadParameter, match=sentence):
            separability_of_layers({"one": APART}, labels, **options)


# ---- layers from one pass -------------------------------------------------------------------------------------------

LAYERS = ["pool", "relu1", "relu3"]
PICTURES = [
    np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for seed, (height, width) in enumerate([(60, 45), (41, 29), (30, 80), (90, 31), (52, 52)])
]


def test_features_of_several_layers_are_those_of_each_alone_from_one_pass_a_batch() -> None:
    model, passes = nets.gap(), []
    model.net.register_forward_hook(lambda *_: passes.append(1))
    together = extract_features_of_layers(model, PICTURES, LAYERS, batch_size=2)
    assert len(passes) == 3
    assert list(together) == LAYERS
    for layer, rows in together.items():
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(rows, extract_features(model, PICTURES, layer, batch_size=2))


def test_progress_over_several_layers_counts_pictures() -> None:
    steps: list[tuple[int, int]] = []
    extract_features_of_layers(
        nets.gap(), PICTURES, LAYERS, batch_size=2, progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("layers", "error", "sentence"),
    [
        ([], BadParameter, r"layers is \[\]; it must name one layer or more"),
        (["pool", "pool"], BadParameter, "each once"),
        (["pool", "relu_1"], LayerNotFound, "“relu1”"),
    ],
)
def test_layers_that_cannot_be_asked_together_are_refused(layers: list[str], error: Any, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        extract_features_of_layers(nets.tripping(at=1), PICTURES, layers)


def test_the_layer_whose_numbers_are_not_finite_is_named() -> None:
    model = nets.model_of(Tokens, {"features": "classifier"})
    with pytest.raises(UnsupportedModel, match=r"“spoilt” of .* gave NaN or infinity in 5 rows"):
        extract_features_of_layers(model, PICTURES, ["classifier", "spoilt"])
