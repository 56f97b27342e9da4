"""Answers to a set of pictures in folders: against counts by hand, SciPy and scikit-learn, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nets
import numpy as np
import pytest
import torch
from reference import scores
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score
from test_contract import Cancelled, unchanged

from models.labels import imagenet_labels
from vizcore.calibration import reliability
from vizcore.images import prepare
from vizcore.predictions import Evaluation, Predictions, Share, class_mapping, evaluate, predict
from vizcore.records import BadParameter, UnsupportedModel

PHOTOS = [
    np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for seed, (height, width) in enumerate([(60, 45), (41, 29), (30, 80), (90, 31), (52, 52)])
]
LABELS = ("ant", "bee, honey bee", "cat", "dog")


def drawn(n: int = 60, seed: int = 0, labels: tuple[str, ...] = LABELS) -> tuple[Predictions, list[str]]:
    """Random answers to ``n`` pictures in folders of the labels' names, and one that is no class."""
    draws = np.random.default_rng(seed)
    rows = draws.dirichlet(np.full(len(labels), 0.7), n).astype(np.float32)
    names = ["cat", "honey_bee", "no such thing", "ant", "DOG"]
    return Predictions(rows, "Drawn", labels), [names[k] for k in draws.integers(0, 5, n)]


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [nets.gap, nets.deep_head, nets.grey])
def test_probabilities_are_the_exponentials_of_the_logits_over_their_sum(make: Callable[..., Any]) -> None:
    model, pictures = make(torch.float64), nets.picture(3, n=5)
    found = predict(model, pictures, batch_size=2)
    for row, picture in zip(found.probabilities, pictures.numpy(), strict=True):
        powers = np.exp(scores(model, picture))
        np.testing.assert_allclose(row, powers / powers.sum(), rtol=1e-6)
    assert found.probabilities.dtype == np.float32
    assert (found.model_name, found.labels) == (model.name, model.labels)


def test_photos_are_shown_as_prepare_cuts_them_and_batch_size_does_not_change_the_result() -> None:
    model = nets.gap(torch.float64)
    cut = torch.cat([prepare(photo, model).pixels for photo in PHOTOS])
    wanted = predict(model, cut, batch_size=5).probabilities
    for batch_size in (1, 3, 64):
        np.testing.assert_allclose(predict(model, PHOTOS, batch_size=batch_size).probabilities, wanted, rtol=1e-6)


def test_of_equal_probabilities_the_first_class_comes_first() -> None:
    tied = Predictions(np.array([[0.3, 0.4, 0.3, 0.0], [0.25] * 4], np.float32), "Tied", LABELS)
    assert tied.top(4).tolist() == [[1, 0, 2, 3], [0, 1, 2, 3]]
    assert tied.answers.tolist() == tied.top(1)[:, 0].tolist() == [1, 0]
    np.testing.assert_allclose(tied.confidence, [0.4, 0.25])


def test_a_cancel_passes_through_and_leaves_the_model_as_it_was() -> None:
    model, calls = nets.in_place(), []

    def cancel(done: int, total: int) -> None:
        calls.append((done, total))
        if done >= 4:
            raise Cancelled

    with unchanged(model), pytest.raises(Cancelled):
        predict(model, PHOTOS, batch_size=2, progress=cancel)
    assert calls == [(2, 5), (4, 5)]


# ---- folders and classes ---------------------------------------------------------------------------------------------


def test_names_match_whatever_their_case_their_spaces_underscores_and_hyphens() -> None:
    labels = ("great white shark, white shark", "T-shirt", "7")
    folders = ["Great_White-shark", "white  shark", "t shirt", " t_shirt ", "7", "tshirt"]
    mapping = class_mapping(folders, labels)
    assert mapping.classes.tolist() == [0, 0, 1, 1, 2, -1]
    assert mapping.unmatched == ("tshirt",)
    assert not mapping.ambiguous


def test_a_name_of_two_classes_is_reported_and_not_guessed() -> None:
    mapping = class_mapping(["crane", "heron"], ("crane, bird", "crane", "heron", "Crane"))
    assert mapping.ambiguous == {}, "one label is spelled so"
    mapping = class_mapping(["CRANE", "heron"], ("crane, bird", "crane", "heron"))
    assert mapping.classes.tolist() == [-1, 2]
    assert mapping.ambiguous == {"CRANE": ("crane, bird", "crane")}
    assert not mapping.unmatched


def test_part_of_a_name_a_number_and_a_synset_are_no_match() -> None:
    assert (
        class_mapping(["shark", "n01440764", "0", "tench fish"], ("tench", "tiger shark")).classes.tolist() == [-1] * 4
    )


def test_every_imagenet_label_is_the_name_of_its_own_class() -> None:
    labels = imagenet_labels()
    np.testing.assert_array_equal(class_mapping(labels, labels).classes, np.arange(1000))
    assert list(class_mapping(["CARDIGAN"], labels).ambiguous) == ["CARDIGAN"], "a dog and a jacket"


def test_a_folder_stands_once_in_the_order_of_its_first_picture() -> None:
    assert class_mapping(["dog", "cat", "dog", "ant"], LABELS).folders == ("dog", "cat", "ant")


# ---- how far they agree ----------------------------------------------------------------------------------------------


def test_accuracies_are_those_counted_one_by_one_over_matched_folders_only() -> None:
    predictions, folders = drawn()
    found = evaluate(predictions, folders)
    class_of = {"ant": 0, "honey_bee": 1, "cat": 2, "DOG": 3}
    for k in (1, 2, 4):
        hits = count = 0
        for row, folder in zip(predictions.probabilities.tolist(), folders, strict=True):
            if folder in class_of:
                count += 1
                hits += sum(other > row[class_of[folder]] for other in row) < k
        assert found.accuracy_in(k) == Share(hits, count)
        assert count < len(folders)
    assert found.accuracy == found.accuracy_in(1)
    assert found.accuracy_in(4).value == 1


def test_all_agrees_with_scikit_learn_where_every_folder_is_a_class() -> None:
    predictions, folders = drawn(200, 1)
    rows = [row for row, folder in enumerate(folders) if folder != "no such thing"]
    predictions = Predictions(predictions.probabilities[rows], "Drawn", LABELS)
    found = evaluate(predictions, [folders[row] for row in rows])
    order = found.mapping.classes.tolist()
    answers = predictions.answers
    np.testing.assert_array_equal(found.confusion.counts, confusion_matrix(found.truth, answers, labels=order))
    assert found.confusion.classes.tolist() == order
    precision, recall, _, count = precision_recall_fscore_support(found.truth, answers, labels=order)
    np.testing.assert_allclose([score.recall.value for score in found.by_class], recall)
    np.testing.assert_allclose([score.precision.value for score in found.by_class], precision)
    assert [score.recall.count for score in found.by_class] == count.tolist()
    wanted = top_k_accuracy_score(found.truth, predictions.probabilities, k=2, labels=range(4))
    assert found.accuracy_in(2).value == pytest.approx(wanted)


def test_the_table_holds_every_picture_once_and_its_cells_are_these_pictures() -> None:
    predictions, folders = drawn()
    found = evaluate(predictions, folders)
    table = found.confusion
    assert table.folders == tuple(dict.fromkeys(folders)), "unmatched folders keep a row"
    everywhere = []
    for row, folder in enumerate(table.folders):
        for column, answer in enumerate(table.classes):
            cell = found.cell(folder, int(answer))
            assert len(cell) == table.counts[row, column]
            assert all(folders[n] == folder and predictions.answers[n] == answer for n in cell)
            assert (np.diff(predictions.confidence[cell]) <= 0).all()
            everywhere += cell.tolist()
    assert sorted(everywhere) == list(range(len(folders)))


def test_the_columns_are_the_folders_own_classes_then_other_answers_the_commonest_first() -> None:
    rows = np.eye(4, dtype=np.float32)[[0, 3, 3, 1, 0]]
    table = evaluate(Predictions(rows, "Sure", LABELS), ["cat", "cat", "cat", "cat", "cat"]).confusion
    assert table.classes.tolist() == [2, 0, 3, 1]
    assert table.counts.tolist() == [[0, 2, 2, 1]]


def test_the_mistakes_are_all_wrong_answers_of_matched_folders_the_surest_first() -> None:
    predictions, folders = drawn()
    found = evaluate(predictions, folders)
    wanted = [
        n
        for n, folder in enumerate(folders)
        if folder != "no such thing" and predictions.labels[predictions.answers[n]].split(", ")[-1] != plain(folder)
    ]
    assert sorted(found.mistakes) == wanted
    assert (np.diff(predictions.confidence[found.mistakes]) <= 0).all()
    assert len(wanted) + found.accuracy.hits == found.accuracy.count


def plain(folder: str) -> str:
    return folder.lower().replace("_", " ")


def test_two_folders_of_one_class_are_right_with_the_same_answer() -> None:
    rows = np.eye(4, dtype=np.float32)[[1, 1, 0]]
    found = evaluate(Predictions(rows, "Sure", LABELS), ["bee", "Honey bee", "bee"])
    assert found.right.tolist() == [True, True, False]
    assert [(score.recall, score.precision) for score in found.by_class] == [
        (Share(1, 2), Share(2, 2)),
        (Share(1, 1), Share(2, 2)),
    ]


def test_a_mapping_of_ones_own_names_the_class_of_a_folder_that_was_not_found() -> None:
    predictions, folders = drawn()
    mapping = class_mapping(folders, LABELS)
    found = evaluate(predictions, folders, mapping.with_class("no such thing", 3))
    assert found.accuracy.count == len(folders)
    known = mapping.classes >= 0
    np.testing.assert_array_equal(found.mapping.classes[known], mapping.classes[known])
    assert found.mapping.classes[~known].tolist() == [3]


def test_the_interval_is_where_the_standard_error_of_p_reaches_to_the_share() -> None:
    z = 1.959963984540054
    for hits, count in ((0, 7), (3, 10), (97, 100), (5, 5)):
        share = Share(hits, count)
        for end in share.interval:  # Wilson: |p̂ − p| = z √(p (1 − p) / n)
            assert abs(share.value - end) == pytest.approx(z * np.sqrt(end * (1 - end) / count), abs=1e-9)
        assert 0 <= share.interval[0] <= share.value <= share.interval[1] <= 1
        assert share.interval[0] < share.interval[1]


def test_of_no_pictures_nothing_is_known() -> None:
    predictions, _ = drawn()
    found = evaluate(predictions, ["thing"] * 60)
    assert np.isnan(found.accuracy.value)
    assert found.accuracy.interval == (0, 1)
    assert not found.by_class
    assert not len(found.mistakes)


# ---- how sure it may be ----------------------------------------------------------------------------------------------


def test_the_calibration_error_is_that_counted_bin_by_bin() -> None:
    draws = np.random.default_rng(0)
    confidence, right = np.append(draws.random(300), [0.0, 1.0, 0.2]), draws.random(303) < 0.6
    found = reliability(confidence, right, bins=5)
    wanted = 0.0
    for number in range(5):
        low, high = number / 5, (number + 1) / 5
        inside = [n for n, c in enumerate(confidence) if low < c <= high or (number == 0 and c == 0)]
        accuracy = sum(bool(right[n]) for n in inside) / len(inside)
        mean = sum(confidence[n] for n in inside) / len(inside)
        wanted += len(inside) / len(confidence) * abs(accuracy - mean)
        assert found.counts[number] == len(inside)
        assert found.accuracy[number] == pytest.approx(accuracy)
        assert found.confidence[number] == pytest.approx(mean)
    assert found.error == pytest.approx(wanted)


def test_answers_as_often_right_as_the_net_says_are_within_chance_and_overconfident_ones_are_not() -> None:
    above = 0
    for seed in range(100):
        draws = np.random.default_rng(seed)
        confidence = 0.5 + 0.5 * draws.random(200)
        calibrated = reliability(confidence, draws.random(200) < confidence)
        above += calibrated.error > calibrated.rarely
        assert calibrated.by_chance < calibrated.rarely
        sure = reliability(confidence, draws.random(200) < 0.5 * confidence)
        assert sure.error > sure.rarely
    assert above <= 12, "one set in twenty, of which a hundred were drawn"


def test_an_empty_bin_has_no_accuracy_and_the_same_seed_gives_the_same_chance() -> None:
    found, again = (reliability(np.full(9, 0.95), np.arange(9) > 2, seed=4) for _ in range(2))
    assert found.counts.tolist() == [0] * 9 + [9]
    assert np.isnan(found.accuracy[:9]).all()
    assert (found.by_chance, found.rarely) == (again.by_chance, again.rarely)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda: predict(nets.gap(), PHOTOS, batch_size=0),
            "batch_size is 0; it must be a whole number from 1 to 4096",
        ),
        (lambda: predict(nets.gap(), []), "pictures is empty"),
        (lambda: drawn()[0].top(5), "k is 5; it must be a whole number from 1 to 4"),
        (lambda: Predictions(np.zeros((3, 2)), "", ("a",)), r"shape \(3, 2\) beside 1 labels; it must be \(n, K\)"),
        (lambda: Predictions(np.zeros(2), "", ("a", "b")), r"shape \(2,\) beside 2 labels"),
        (lambda: Predictions(np.zeros((3, 1)), "", ("a",)), "two at least"),
        (lambda: Predictions(np.full((1, 2), np.nan), "", ("a", "b")), "probabilities holds NaN"),
        (lambda: class_mapping([], LABELS), r"folders is \[\]; it must be a list"),
        (lambda: class_mapping("cat", LABELS), "folders is 'cat'"),
        (lambda: evaluate(drawn()[0], ["cat"] * 3), "folder of 3 pictures; predictions are of 60"),
        (lambda: evaluate(*drawn(), class_mapping(["cat"], ("cat", "dog"))), "2 classes that are not the 4"),
        (
            lambda: evaluate(*drawn(), class_mapping(["cat"], LABELS)),
            "mapping lacks the folder '.*'; it must hold every",
        ),
        (lambda: class_mapping(["cat"], LABELS).with_class("bird", 0), "folder is 'bird'; it must be one of cat"),
        (lambda: class_mapping(["cat"], LABELS).with_class("cat", 4), "answer is 4; it must be a whole number from 0"),
        (lambda: evaluated().cell("bird", 0), "folder is 'bird'; it must be one of"),
        (lambda: evaluated().cell("cat", 4), "answer is 4; it must be a whole number from 0 to 3"),
        (lambda: reliability(np.ones(3), np.ones(3, bool), bins=1), "bins is 1"),
        (lambda: reliability(np.ones(3), np.ones(3, bool), seed=-1), "seed is -1"),
        (lambda: reliability(np.full(3, 1.5), np.ones(3, bool)), "confidence has the shape"),
        (lambda: reliability(np.full(3, np.nan), np.ones(3, bool)), "confidence has the shape"),
        (lambda: reliability(np.ones(3), np.ones(3)), r"right is float64 of the shape \(3,\); it must be bool"),
        (lambda: reliability(np.ones(3), np.ones(2, bool)), "right is bool of the shape"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        ask()


def evaluated() -> Evaluation:
    return evaluate(*drawn())


def test_a_net_with_one_score_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="has one score: there are no classes to choose from"):
        predict(nets.one_logit(), PHOTOS)
