"""A survey of a folder: its tables say what the methods say, it finds what was planted, and nothing half is left."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from nets import one_logit
from PIL import Image
from planted import Planted, planted
from test_commands import run

from models import load_model
from vizcore import survey as survey_file
from vizcore import whole_files
from vizcore.alike import Likeness, alike_channels, alike_kernels
from vizcore.cam import cam
from vizcore.class_channels import ablate_channels, class_channels
from vizcore.embedding import extract_features
from vizcore.filters import filters
from vizcore.findings import NAMES
from vizcore.folders import pictures_in
from vizcore.heat_clusters import HeatClusters, cluster_heatmaps
from vizcore.images import prepare, to_png
from vizcore.photos import open_photo
from vizcore.predictions import Predictions, class_mapping, evaluate, predict
from vizcore.records import BadParameter, Filters, LayerNotFound, Model, UnsupportedModel
from vizcore.set_figures import confusion_figure, means_figure
from vizcore.shortcuts import class_evidence, suspected
from vizcore.strongest import strongest_patches
from vizcore.survey import QUESTIONS, Asked, Survey, survey
from vizcore.weights import digest_of_weights

SEED = 30  # of the planted mark


@pytest.fixture(scope="module")
def marked() -> Planted:
    return planted(SEED, 1.0)


@pytest.fixture(scope="module")
def folder(marked: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted set as files, and one that is no picture."""
    root = tmp_path_factory.mktemp("set")
    for number, (pixels, k) in enumerate(zip(marked.pixels, marked.classes, strict=True)):
        place = root / str(k)
        place.mkdir(exist_ok=True)
        picture = np.rint(255 * pixels.permute(1, 2, 0).numpy()).astype(np.uint8)
        (place / f"{number:03d}.png").write_bytes(to_png(picture))
    (root / "3" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "out"


@pytest.fixture(scope="module")
def done(marked: Planted, folder: Path, out: Path) -> Survey:
    return survey(marked.model, folder, out, Asked(without=2, ablated_over=5, png=True, batch_size=40))


@pytest.fixture
def few(folder: Path, tmp_path: Path) -> Path:
    """Two pictures of each of two classes."""
    root = tmp_path / "few"
    for k in ("0", "1"):
        (root / k).mkdir(parents=True)
        for path in sorted((folder / k).iterdir())[:2]:
            (root / k / path.name).write_bytes(path.read_bytes())
    return root


def read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(out / f"{name}.parquet")


def manifest(out: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((out / "survey.json").read_bytes())
    return facts


def readable(folder: Path) -> list[str]:
    return [name for name in pictures_in(folder) if "broken" not in name]


def pictures_of(folder: Path) -> list[np.ndarray]:
    return [open_photo((folder / name).read_bytes()).pixels for name in readable(folder)]


# ---- it finds what was planted ---------------------------------------------------------------------------------------


def test_the_planted_mark_is_found_and_the_counter_test_says_that_the_class_hangs_on_it(
    marked: Planted, done: Survey, out: Path
) -> None:
    suspicions = read(out, "suspicions")
    assert set(suspicions["folder"]) == {str(marked.target)}
    assert suspicions["area"][0] == f"{marked.corner} corner"
    tested = read(out, "replaced")
    assert tested["suspected"].sum() == 1
    assert tested["lost"][tested["suspected"]].item() > tested["lost"][~tested["suspected"]].max()
    said = " ".join(done.sentences)
    assert f"“{marked.target}” has evidence at the border or in a corner as no other class has." in said
    assert "the answer hangs on this part more than on any other" in said


# ---- its tables say what the methods say -----------------------------------------------------------------------------


def test_answers_and_confusions_are_those_of_evaluate(marked: Planted, done: Survey, folder: Path, out: Path) -> None:
    names, pictures = readable(folder), pictures_of(folder)
    found = evaluate(predict(marked.model, pictures), [name.split("/")[0] for name in names])
    table = read(out, "answers")
    assert list(table["picture"]) == names
    assert list(table["answer"]) == list(found.predictions.answers)
    assert list(table["right"]) == list(found.right)
    np.testing.assert_allclose(table["confidence"], found.predictions.confidence, rtol=1e-5)
    np.testing.assert_array_equal(np.stack(list(table["top_classes"]))[:, 0], found.predictions.answers)
    cells = read(out, "confusions").pivot_table("pictures", "folder", "answer", aggfunc="sum", fill_value=0)
    wanted = pd.DataFrame(found.confusion.counts, found.confusion.folders, found.confusion.classes)
    wanted = wanted.loc[:, wanted.any()]
    assert (cells.loc[wanted.index, wanted.columns].to_numpy() == wanted.to_numpy()).all()
    classes = read(out, "classes").set_index("folder")
    for score in found.by_class:
        row = classes.loc[score.folder]
        assert (row["right"], row["pictures"]) == (score.recall.hits, score.recall.count)
        assert (row["precision"], row["answered"]) == (score.precision.value, score.precision.count)
        assert (row["recall_low"], row["recall_high"]) == score.recall.interval
    assert read(out, "calibration")["pictures"].sum() == len(names)
    assert f"{found.accuracy.hits} of {found.accuracy.count} pictures are right" in done.sentences[0]


def test_features_are_those_before_the_last_layer(marked: Planted, done: Survey, folder: Path, out: Path) -> None:
    table = read(out, "features")
    assert list(table["picture"]) == readable(folder)
    wanted = extract_features(marked.model, pictures_of(folder))
    np.testing.assert_allclose(np.stack(list(table["features"])), wanted, rtol=1e-5, atol=1e-6)


def test_channels_are_those_of_their_methods(marked: Planted, done: Survey, folder: Path, out: Path) -> None:
    model, pictures, names = marked.model, pictures_of(folder), readable(folder)
    ranked = strongest_patches(model, pictures, "relu3")
    table = read(out, "strongest")
    assert list(table["picture"]) == [names[n] for n in ranked.pictures.ravel()]
    assert list(table["rank"][:9]) == list(range(1, 10))
    np.testing.assert_array_equal(table[["row", "column"]], ranked.places.reshape(-1, 2))
    np.testing.assert_array_equal(table[["left", "top", "right", "bottom"]], ranked.boxes.reshape(-1, 4))
    np.testing.assert_allclose(table["activation"], ranked.activations.ravel(), rtol=1e-5)
    channels = read(out, "channels")
    assert list(channels["channel"][channels["dead"]]) == list(ranked.dead)
    np.testing.assert_array_equal(channels["highest"], ranked.activations[:, 0])


def test_pairs_that_are_alike_are_those_of_kernels_and_of_outputs_with_the_level_of_chance(
    marked: Planted, few: Path, tmp_path: Path
) -> None:
    with torch.no_grad():
        twin = replace(marked.model, net=copy.deepcopy(marked.model.net))
        twin.net.conv2.weight[1] = 2 * twin.net.conv2.weight[0]
        twin.net.conv2.bias[1] = 2 * twin.net.conv2.bias[0]
        twin.net.conv2.weight[2] = -twin.net.conv2.weight[0]
    done = survey(twin, few, tmp_path / "out", Asked(("channels",), layers=("conv2",), without=0))
    kernels, outputs = alike_kernels(filters(twin, "conv2")), alike_channels(twin, pictures_of(few), "conv2")
    table = read(tmp_path / "out", "alike")
    wanted = [
        ("conv2", by, one, other, likeness.values[one, other])
        for by, likeness in (("kernels", kernels), ("outputs", outputs))
        for one, other in likeness.pairs()
    ]
    assert {(0, 1), (0, 2), (1, 2)} <= set(map(tuple, kernels.pairs()))
    assert [tuple(row) for row in table[["layer", "by", "one", "other"]].itertuples(index=False)] == [
        row[:4] for row in wanted
    ]
    np.testing.assert_allclose(table["likeness"], [row[4] for row in wanted], rtol=1e-5)
    assert set(table["by_chance"][table["by"] == "kernels"]) == {kernels.by_chance}
    assert table["by_chance"][table["by"] == "outputs"].isna().all()
    pairs = len(kernels.pairs())
    words = f"conv2: {pairs} pairs of kernels have a cosine of 0.90 or more, of either sign; shuffled weights reach"
    assert any(sentence.startswith(words) for sentence in done.sentences)
    assert not (tmp_path / "out" / "ablated.parquet").exists()


def test_what_carries_a_class_and_what_is_lost_without_it(
    marked: Planted, done: Survey, folder: Path, out: Path
) -> None:
    inside = [one for one, name in zip(pictures_of(folder), readable(folder), strict=True) if name.startswith("7/")]
    carried = class_channels(marked.model, inside, 7)
    table = read(out, "carriers").query("folder == '7'")
    assert list(table["channel"]) == list(carried.order)
    np.testing.assert_allclose(table["mean"], carried.means[carried.order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table["error"], carried.errors[carried.order], rtol=1e-4, atol=1e-5)
    assert set(table["class"]) == {7}
    some = inside[:: -(-len(inside) // 5)]
    without = ablate_channels(marked.model, some, 7, [int(one) for one in carried.order[:2]])
    rows = read(out, "ablated").query("folder == '7'")
    assert list(rows["channel"]) == [one for (one,) in without.channels]
    assert list(rows["lost"]) == list(without.lost)
    assert list(rows["changed"]) == list(without.changed)
    assert set(rows["pictures"]) == {len(some)}
    np.testing.assert_allclose(rows["logit_drop"], without.logit_drops.mean(1), rtol=1e-4, atol=1e-5)


def test_heatmaps_are_of_the_class_of_their_folder_and_means_areas_and_groups_follow_of_them(
    marked: Planted, done: Survey, folder: Path, out: Path
) -> None:
    names, pictures = readable(folder), pictures_of(folder)
    table = read(out, "heatmaps")
    assert list(table["picture"]) == names
    for number in (0, 57, len(names) - 1):
        target = int(names[number].split("/")[0])
        heat = cam(marked.model, prepare(pictures[number], marked.model).pixels, target, "hires_cam").values
        row = table.loc[number]
        assert (row["class"], row["height"], row["width"]) == (target, *heat.shape)
        np.testing.assert_allclose(row["values"].reshape(heat.shape), heat, rtol=1e-5, atol=1e-6)
    heats = np.stack([row["values"].reshape(row["height"], row["width"]) for _, row in table.iterrows()])
    evidence = [class_evidence(k, heats[(table["folder"] == k).to_numpy()]) for k in sorted(set(table["folder"]))]
    means = read(out, "class_means")
    assert list(means["with_evidence"]) == [len(one.numbers) for one in evidence]
    np.testing.assert_array_equal(np.stack(list(means["values"])), [one.mean.ravel() for one in evidence])
    np.testing.assert_allclose(read(out, "areas")["share"], np.concatenate([one.means for one in evidence]))
    assert list(read(out, "suspicions")["p"]) == [one.p for one in suspected(evidence).suspicions]
    groups, silhouettes = read(out, "groups"), read(out, "silhouettes")
    for label in ("0", "3"):
        inside = np.flatnonzero(table["folder"] == label)
        wanted = cluster_heatmaps(heats[inside])
        rows = groups[groups["folder"] == label]
        listed = [
            (number, rank, names[inside[place]])
            for number, group in enumerate(wanted.clusters, 1)
            for rank, place in enumerate(group.numbers, 1)
        ]
        assert [tuple(row) for row in rows[["group", "rank", "picture"]].itertuples(index=False)] == listed
        mine = silhouettes[silhouettes["folder"] == label]
        assert dict(zip(mine["groups"], mine["silhouette"], strict=True)) == dict(enumerate(wanted.silhouettes, 2))
    assert groups["picture"].is_unique


def test_the_seed_decides_what_is_random(
    marked: Planted, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def clusters(heats: np.ndarray, **options: Any) -> HeatClusters:
        seeds.append(options["seed"])
        return cluster_heatmaps(heats, **options)

    def kernels(bank: Filters, *, seed: int = 0) -> Likeness:
        seeds.append(seed)
        return alike_kernels(bank, seed=seed)

    monkeypatch.setattr(survey_file, "cluster_heatmaps", clusters)
    monkeypatch.setattr(survey_file, "alike_kernels", kernels)
    survey(marked.model, few, tmp_path / "out", Asked(layers=("conv2",), without=0, seed=np.int64(5)))
    assert len(seeds) >= 2
    assert set(seeds) == {5}
    assert manifest(tmp_path / "out")["asked"]["seed"] == 5


def test_two_folders_of_one_class_do_not_hide_its_mark(marked: Planted, folder: Path, tmp_path: Path) -> None:
    """They are not compared with one another, and the stand-in of the counter-test is of neither."""
    root, target = tmp_path / "set", marked.target
    for place in sorted(path for path in folder.iterdir()):
        paths = sorted(place.glob("[0-9]*.png"))
        for n, path in enumerate(paths):
            name = f"{target} more" if place.name == str(target) and n % 2 else place.name
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / path.name).write_bytes(path.read_bytes())
    done = survey(
        marked.model, root, tmp_path / "out", Asked(("shortcuts",), classes={f"{target} more": target}, batch_size=40)
    )
    assert set(read(tmp_path / "out", "suspicions")["folder"]) == {str(target), f"{target} more"}
    tested = read(tmp_path / "out", "replaced")
    for _, places in tested.groupby("folder"):
        assert places["lost"][places["suspected"]].item() > places["lost"][~places["suspected"]].max()
    assert done.found.suspected is not None
    assert done.found.suspected.classes == 10


# ---- the folder of results -------------------------------------------------------------------------------------------


def test_every_file_is_a_row_with_its_digest_and_what_cannot_be_read_says_why(
    done: Survey, folder: Path, out: Path
) -> None:
    table = read(out, "pictures")
    assert list(table["picture"]) == list(pictures_in(folder))
    for row in table.itertuples():
        assert row.sha256 == hashlib.sha256((folder / row.picture).read_bytes()).hexdigest()
    (bad,) = table[table["error"].notna()].itertuples()
    assert bad.picture == "3/broken.png"
    assert "picture" in bad.error
    assert (done.pictures, done.errors) == (len(table), 1)


def test_the_manifest_lists_the_files_the_weights_the_parameters_and_the_versions(
    marked: Planted, done: Survey, out: Path
) -> None:
    facts = manifest(out)
    listed = {file["name"]: file for file in facts["files"]}
    assert {path.name for path in out.iterdir()} == {*listed, "survey.json"}
    for name, file in listed.items():
        data = (out / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert facts["model"]["weights"] == digest_of_weights(marked.model)
    assert facts["asked"]["layers"] == ["relu3"]
    assert facts["asked"]["method"] == "hires_cam"
    assert set(facts["versions"]) == {"torch", "numpy", "pillow", "pyarrow", "scikit-learn"}
    assert facts["answered"] == list(QUESTIONS)
    assert facts["found"] == list(done.sentences)
    assert facts["how"]["layers of strongest"] == ["relu3"]
    assert facts["how"]["heatmaps"] == {"method": "hires_cam", "layer": "relu3"}
    assert facts["how"]["alike from"] == 0.9
    assert set(facts["how"]["pictures of ablations"].values()) == {5}
    assert facts["pictures"]["errors"] == 1


def test_figures_are_there_where_asked_and_show_as_pictures(done: Survey, out: Path) -> None:
    names = {path.name for path in out.glob("*.png")}
    assert names == {"confusions.png", "calibration.png", "class_means.png", "strongest_1.png"}
    for name in names:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(2**24) or ()) > 20


def test_the_same_again_is_the_same_to_the_byte_and_replaces_what_was_there(
    marked: Planted, few: Path, tmp_path: Path
) -> None:
    survey(marked.model, few, tmp_path / "one", Asked(without=1))
    survey(marked.model, few, tmp_path / "two", Asked(("answers",), png=True))
    assert (tmp_path / "two" / "confusions.png").exists()
    survey(marked.model, few, tmp_path / "two", Asked(without=1))
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert "strongest.parquet" in one


def test_results_inside_the_folder_are_no_pictures(marked: Planted, few: Path) -> None:
    survey(marked.model, few, few / "out", Asked(("answers",), png=True))
    again = survey(marked.model, few, few / "other", Asked(("answers",)))
    assert again.pictures == 4


def test_a_stop_in_the_middle_leaves_what_was_answered_and_the_next_run_is_whole(
    marked: Planted, few: Path, tmp_path: Path
) -> None:
    @contextlib.contextmanager
    def bars(what: str) -> Iterator[Callable[[int, int], None]]:
        def tell(done: int, total: int) -> None:
            if "strongest" in what:
                raise KeyboardInterrupt

        yield tell

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        survey(marked.model, few, out, bars=bars)
    facts = manifest(out)
    assert facts["answered"] == ["answers", "features"]
    assert {file["name"] for file in facts["files"]} == {path.name for path in out.iterdir()} - {"survey.json"}
    assert len(read(out, "answers")) == 4
    survey(marked.model, few, out)
    assert manifest(out)["answered"] == list(QUESTIONS)


def test_a_full_disk_leaves_whole_files_only(
    marked: Planted, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, out = os.replace, tmp_path / "out"

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "confusions.parquet":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(whole_files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        survey(marked.model, few, out)
    monkeypatch.undo()
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp") or path.name == "confusions.parquet"]
    survey(marked.model, few, out, Asked(("answers",)))
    assert (out / "confusions.parquet").exists()


# ---- classes of folders ----------------------------------------------------------------------------------------------


def test_a_folder_without_a_class_is_not_counted_until_it_is_given_one(
    marked: Planted, few: Path, tmp_path: Path
) -> None:
    (few / "1").rename(few / "one")
    done = survey(marked.model, few, tmp_path / "out", Asked(("answers",)))
    answers = read(tmp_path / "out", "answers").set_index("folder")
    assert answers.loc["one", "class"].isna().all()
    assert answers.loc["one", "right"].isna().all()
    assert "Folders without a class, not counted: 1, the first “one”." in done.sentences
    survey(marked.model, few, tmp_path / "out", Asked(("answers",), classes={"one": 1}))
    assert set(read(tmp_path / "out", "answers").set_index("folder").loc["one", "class"]) == {1}


def test_where_no_folder_has_a_class_that_is_said_and_the_commonest_answer_is_explained(
    marked: Planted, few: Path, tmp_path: Path
) -> None:
    (few / "1").rename(few / "one")
    (few / "0").rename(few / "nought")
    done = survey(marked.model, few, tmp_path / "out", Asked(("shortcuts",), png=True))
    assert done.sentences[0].startswith("No folder is named after a class")
    assert not (tmp_path / "out" / "calibration.parquet").exists()
    heats, answers = read(tmp_path / "out", "heatmaps"), read(tmp_path / "out", "answers")
    for name in ("nought", "one"):
        counts = np.bincount(answers["answer"][answers["folder"] == name])
        assert set(heats["class"][heats["folder"] == name]) == {counts.argmax()}


def test_names_that_are_no_text_are_written_as_text(marked: Planted, few: Path, tmp_path: Path) -> None:
    os.rename(few / "0", os.fsencode(few) + b"/\xff")
    survey(marked.model, few, tmp_path / "out", Asked(("answers",)))
    assert "\\xff" in set(read(tmp_path / "out", "answers")["folder"])


def test_a_picture_that_goes_away_between_two_passes_is_named(
    marked: Planted, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = survey_file.predict

    def then_gone(*given: Any, **options: Any) -> Any:
        found = real(*given, **options)
        (few / "0").joinpath(next(iter(sorted(path.name for path in (few / "0").iterdir())))).unlink()
        return found

    monkeypatch.setattr(survey_file, "predict", then_gone)
    with pytest.raises(BadParameter, match=r"'0/\d+\.png' could be read before and no longer can: The file cannot"):
        survey(marked.model, few, tmp_path / "out", Asked(batch_size=8))


def test_the_document_lists_every_table_with_its_columns_and_its_python_runs(
    marked: Planted, done: Survey, out: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "survey.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", text.split("| table |")[1], re.MULTILINE)
    assert [name for name, _ in rows] == ["pictures", *NAMES]
    assert len(list(out.glob("*.parquet"))) >= len(rows) - 1
    for name, columns in rows:
        if (out / f"{name}.parquet").exists():
            assert set(re.findall(r"`(\w+)`", columns)) == set(read(out, name)), name
    survey(marked.model, few, tmp_path / "out", Asked(("answers",)))
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    exec(compile(script, "docs/survey.md", "exec"), {})


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_a_table_of_very_many_classes_is_drawn_in_part_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tuple(f"class {k}" for k in range(60))
    draws = np.random.default_rng(0).dirichlet(np.ones(60), 300).astype(np.float32)
    folders = [labels[n % 60] for n in range(300)]
    found = evaluate(Predictions(draws, "net", labels), folders, class_mapping(sorted(set(folders)), labels))
    supxlabel = Figure.supxlabel
    said: list[str] = []

    def note(self: Figure, text: str, **options: Any) -> Any:
        said.append(text.splitlines()[-1])
        return supxlabel(self, text, **options)

    monkeypatch.setattr(Figure, "supxlabel", note)
    with Image.open(io.BytesIO(confusion_figure(found, "a net"))) as picture:
        assert picture.width < 4000
    assert said == ["20 folders and 20 answers more are in the table"]


def test_mean_heatmaps_of_very_many_classes_are_drawn_in_part() -> None:
    means = np.random.default_rng(0).random((60, 5, 4)).astype(np.float32)
    names = [f"a class of a rather long name, number {k}" for k in range(60)]
    with Image.open(io.BytesIO(means_figure(means, names, "a net"))) as picture:
        many = picture.size
    with Image.open(io.BytesIO(means_figure(means[:40], names[:40], "a net"))) as picture:
        assert abs(picture.height - many[1]) < 20


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(("colours",)), "questions names 'colours'; it must be of answers, features, channels, shortcuts"),
        (Asked(method="rise"), "method is 'rise'; it must be one of"),
        (Asked(method="eigen_cam"), "method is 'eigen_cam'; it must be one of"),
        (Asked(layers=("classifier",)), "classifier"),
        (Asked(method="cam"), "CAM needs a net that ends in global average pooling"),
        (Asked(without=101), "without is 101"),
        (Asked(ablated_over=0), "ablated_over is 0"),
        (Asked(batch_size=0), "batch_size is 0"),
        (Asked(seed=-1), "seed is -1"),
        (Asked(("answers",), layers=("relu3",)), "questions names no channels, which they are for"),
        (Asked(layers=("nowhere",)), "nowhere"),
        (Asked(classes={"nobody": 1}), "There is no folder 'nobody' to give a class; there are '0', '1'"),
        (Asked(classes={"0": 10}), "target is 10"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(
    marked: Planted, few: Path, tmp_path: Path, asked: Asked, words: str
) -> None:
    with pytest.raises((BadParameter, LayerNotFound, UnsupportedModel), match=words):
        survey(marked.model, few, tmp_path / "out", asked)
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_are_refused(marked: Planted, few: Path, tmp_path: Path) -> None:
    def refused(folder: Path, out: Path, words: str) -> None:
        with pytest.raises(BadParameter, match=words):
            survey(marked.model, folder, out, Asked(("answers",)))

    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("mine")
    refused(few, few, "among the pictures")
    refused(tmp_path / "empty", tmp_path / "out", "There is no picture in")
    refused(few, tmp_path / "no" / "out", "there is no folder")
    refused(few, tmp_path / "a file", "which is a file")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused(few, tmp_path / "mine", "holds 'notes.txt', which is of no survey")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    for name, text in (("thesis.tmp", "mine"), ("survey.json", '{"my": "own"}')):
        (tmp_path / f"of {name}").mkdir()
        (tmp_path / f"of {name}" / name).write_text(text)
        refused(few, tmp_path / f"of {name}", "which is of no survey")
        assert (tmp_path / f"of {name}" / name).read_text() == text
    done = tmp_path / "done"
    survey(marked.model, few, done, Asked(("answers",)))
    (done / "notes.txt").write_text("mine")
    refused(few, done, "notes.txt")
    assert (done / "answers.parquet").exists()


def test_a_refusal_leaves_an_earlier_survey_as_it_was(marked: Planted, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    survey(marked.model, few, out, Asked(("answers",)))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"nothing")
    for folder, asked in ((few, Asked(layers=("classifier",))), (tmp_path / "bad", Asked())):
        with pytest.raises((BadParameter, LayerNotFound, UnsupportedModel)):
            survey(marked.model, folder, out, asked)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_of_nothing_that_can_be_read_is_refused_with_the_first_reason(marked: Planted, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(b"nothing")
    with pytest.raises(BadParameter, match=r"None of 1 pictures can be read\. The first: .+"):
        survey(marked.model, tmp_path / "set", tmp_path / "out")


def test_a_net_of_one_score_is_refused(few: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="one score"):
        survey(one_logit(), few, tmp_path / "out")


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_was_found_and_writes_the_same_tables(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Model = load_model("lenet5")
    wanted = survey(model, few, tmp_path / "by hand", Asked(classes={"1": 7}, layers=("conv1",)))
    options = ("--model", "lenet5", "--means", "1=7", "--layer", "conv1", "-o", tmp_path / "out")
    assert run("survey", few, *options) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 pictures in the folder, 0 of them errors.\n")
    for sentence in wanted.sentences:
        assert sentence in said
    one, two = (manifest(tmp_path / name)["files"] for name in ("by hand", "out"))
    assert one == two


@pytest.mark.parametrize(
    ("options", "words", "status"),
    [
        (("--do", "colours"), "'colours' is none of answers, features, channels, shortcuts", 2),
        (("--means", "cats"), "--means is 'cats'; it must be FOLDER=CLASS", 1),
        (("--means", "0=cats"), "--means is 'cats'", 1),
        (("--means", "0=1", "--means", "0=2"), "--means is given twice for the folder '0'", 1),
        (("--layer", "nowhere"), "nowhere", 1),
        (("--method", "lime"), "method is 'lime'", 1),
    ],
)
def test_what_the_command_cannot_do_it_refuses(
    options: tuple[str, ...],
    words: str,
    status: int,
    few: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("survey", few, "--model", "lenet5", "-o", tmp_path / "out", *options) == status
    assert words in capsys.readouterr().err
