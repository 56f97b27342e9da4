"""The command line says what the functions say, writes whole files or none, and refuses in sentences."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pictures import scene
from PIL import Image
from test_report import Page

import commands
from commands import common
from models import load_model
from models.samples import list_samples, read_sample
from vizcore.activations import activation_maps
from vizcore.anatomy import anatomy, to_csv
from vizcore.embedding import extract_features, tsne
from vizcore.filters import filters
from vizcore.heatmaps import HEATMAP_METHODS, heatmap, quantity_of, usual_options
from vizcore.images import prepare
from vizcore.photos import open_photo
from vizcore.records import Model
from vizcore.report_file import read_report
from vizcore.words import describe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("photonet")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a cat's photo.png"
    path.write_bytes(read_sample("cat"))
    return path


def run(*arguments: object) -> int:
    """The exit status of a command."""
    try:
        return commands.main([str(one) for one in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)


def facts_of(path: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "facts"}, json.loads(str(file["facts"]))


@pytest.mark.parametrize("method", ["grad_cam", "occlusion", "gradient"])
def test_a_heatmap_has_the_numbers_and_the_words_of_its_function(
    method: str, model: Model, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.npz"
    assert run("heatmap", photo, "--model", "photonet", "--class", "dog", "--method", method, "-o", out) == 0
    target = model.labels.index("dog")
    pixels = prepare(open_photo(photo).pixels, model).pixels
    wanted = heatmap(model, pixels, target, method, **usual_options(model, method))
    arrays, facts = facts_of(out)
    np.testing.assert_array_equal(arrays["values"], wanted.values)
    assert (facts["method"], facts["target"]) == (method, target)
    said = capsys.readouterr().out
    assert str(describe(wanted, quantity_of(wanted))) in said
    assert f"{HEATMAP_METHODS[method].title} of dog" in said


def test_without_a_class_it_is_that_which_the_network_answers(
    model: Model, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("heatmap", photo, "--model", "photonet") == 0
    logits = model.logits(prepare(open_photo(photo).pixels, model).pixels)[0]
    said = capsys.readouterr().out
    assert f"Grad-CAM of {model.labels[int(logits.argmax())]}" in said
    assert f"{100 * float(logits.softmax(0).max()):.1f} %" in said


def test_a_figure_shows_the_map_on_the_photo(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    assert run("heatmap", photo, "--model", "photonet", "-o", out) == 0
    with Image.open(out) as picture:
        assert min(picture.size) > 400
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 1000


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("tabby", 281),
        ("281", 281),
        ("cardigan", 474),
        ("Cardigan", 264),
        ("TIGER CAT", 282),
        ("egyptian", 285),
        (" lynx ", 287),
    ],
)
def test_a_class_is_found_by_its_number_its_name_or_a_part_of_it(given: str, found: int) -> None:
    assert common.find_class(load_model("efficientnet_lite0"), given) == found


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cat", "stands in the names of several classes"),
        ("CARDIGAN", "stands in the names of several classes"),
        ("taby", "is no class of .* Choose one of tabby"),
        ("1000", "0 to 999"),
        ("-1", "is no class"),
        ("", "is no class"),
    ],
)
def test_a_class_that_is_none_is_refused_with_the_nearest(given: str, words: str) -> None:
    from vizcore.records import BadParameter

    with pytest.raises(BadParameter, match=words):
        common.find_class(load_model("efficientnet_lite0"), given)


def test_a_name_that_is_a_number_goes_before_the_number_of_a_class() -> None:
    """The classes of LeNet-5 are digits."""
    net = load_model("lenet5")
    assert common.find_class(net, "7") == net.labels.index("7")


def test_a_report_is_made_and_remembers_what_was_asked(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    asked = ("--class", "cat", "--class", "dog", "--methods", "grad_cam,gradient", "--view", "signed")
    assert run("report", photo, "--model", "photonet", *asked, "--evidence", "removal,agreement", "-o", out) == 0
    again = read_report(out.read_bytes())
    assert again.labels == ("cat", "dog")
    assert (again.wish.methods, again.wish.view) == (("grad_cam", "gradient"), "signed")
    assert again.wish.evidence == ("removal", "agreement")
    assert open_photo(again.picture).digest == open_photo(photo).digest
    text = Page(out.read_bytes()).text
    assert f"open_photo({str(photo)!r}, max_side=1600)" in text
    assert "load_model('photonet')" in text


def test_the_table_of_layers_is_that_of_the_anatomy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "layers.csv"
    assert run("layers", "--model", "lenet5", "-o", out) == 0
    facts = anatomy(load_model("lenet5"))
    assert out.read_text() == to_csv(facts)
    capsys.readouterr()
    assert run("layers", "--model", "lenet5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(facts.layers)
    for line, layer in zip(lines[1:], facts.layers, strict=True):
        assert line.startswith(layer.title)
        assert f"{layer.parameters:,}" in line


def test_the_maps_of_a_layer_are_those_of_the_function(model: Model, photo: Path, tmp_path: Path) -> None:
    numbers, figure = tmp_path / "maps.npz", tmp_path / "maps.png"
    layer = model.layers["first_conv"]
    assert run("layers", photo, "--model", "photonet", "--layer", layer, "-o", numbers, "-o", figure) == 0
    wanted = activation_maps(model, prepare(open_photo(photo).pixels, model).pixels, layer)
    np.testing.assert_array_equal(facts_of(numbers)[0]["values"], wanted.values)
    Image.open(figure).verify()


@pytest.mark.parametrize("name", ["photonet", "lenet5"])
def test_the_filters_are_those_of_the_function(name: str, tmp_path: Path) -> None:
    numbers, figure = tmp_path / "f.npz", tmp_path / "f.png"
    assert run("filters", "--model", name, "-o", numbers, "-o", figure) == 0
    np.testing.assert_array_equal(facts_of(numbers)[0]["values"], filters(load_model(name)).values)
    Image.open(figure).verify()
    second = [layer.name for layer in anatomy(load_model(name)).layers if layer.kind == "Conv2d"][1]
    assert run("filters", "--model", name, "--layer", second, "-o", figure) == 0


def test_a_folder_becomes_a_map_with_its_folders_as_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    digits = [sample for sample in list_samples() if sample.grey and sample.seed is None]
    for number, sample in enumerate(digits):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[number % 2] / f"{sample.key}.png").write_bytes(sample.read())
    (folder / "a" / "damaged.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    table, numbers, figure = (tmp_path / f"map.{ending}" for ending in ("csv", "npz", "png"))
    assert run("embed", folder, "--model", "lenet5", "-o", table, "-o", numbers, "-o", figure, "--seed", 3) == 0
    said = capsys.readouterr()
    assert "damaged.png" in said.err
    files = [file for file in sorted(folder.rglob("*.png")) if file.name != "damaged.png"]
    net = load_model("lenet5")
    rows = np.concatenate([extract_features(net, [open_photo(file).pixels]) for file in files])
    wanted = tsne(rows, seed=3)
    np.testing.assert_array_equal(facts_of(numbers)[0]["points"], wanted.points)
    written = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [Path(row["file"]) for row in written] == files
    assert [row["class"] for row in written] == [file.parent.name for file in files]
    np.testing.assert_allclose([float(row["x"]) for row in written], wanted.points[:, 0], rtol=1e-6)
    assert f"Trustworthiness {wanted.trustworthiness:.2f} of 1" in said.out
    Image.open(figure).verify()


def test_models_and_methods_are_listed_by_the_names_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    assert "efficientnet_lite0" in capsys.readouterr().out
    assert run("methods") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(HEATMAP_METHODS)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("heatmap", "nowhere.png"), 1, "There is no file"),
        (("heatmap", "PHOTO", "--model", "resnet5"), 1, "resnet50"),
        (("heatmap", "PHOTO", "--model", "photonet", "--method", "gradcam"), 1, "it must be one of cam, grad_cam"),
        (("heatmap", "PHOTO", "--model", "photonet", "--layer", "bloc1"), 1, "The nearest are"),
        (("heatmap", "PHOTO", "--model", "photonet", "--class", "cat", "--class", "dog"), 1, "given several times"),
        (("heatmap", "PHOTO", "-o", "nowhere/map.png"), 1, "there is no folder 'nowhere'"),
        (("heatmap", "PHOTO", "-o", "map.jpg"), 2, "'map.jpg' must end with .png or .npz"),
        (("heatmap",), 2, "required: photo"),
        (("filters", "--model", "photonet", "--layer", "fc", "-o", "f.png"), 1, "has no layer 'fc'"),
        (("layers", "--layer", "conv1"), 1, "give one before the options"),
        (("layers", "PHOTO", "-o", "layers.csv"), 1, "takes no photo"),
        (("report", "PHOTO", "--model", "photonet", "--methods", "grad_cam,rice", "-o", "r.html"), 1, "'rice'"),
        (("report", "PHOTO", "--model", "photonet", "--evidence", "all", "-o", "r.html"), 1, "'all'"),
        (("report", "PHOTO"), 2, "required: -o/--output"),
        (("heatmap", "PHOTO", "--model", "photonet", "--method", "rise", "--layer", "act3"), 1, "--layer is 'act3'"),
        (
            ("heatmap", "PHOTO", "--model", "photonet", "--view", "signed"),
            1,
            "--view is 'signed', but grad_cam has none",
        ),
        (("heatmap", "PHOTO", "--untrained", "--architecture", "resnet18"), 1, "--untrained takes no weights"),
        (
            ("report", "PHOTO", "--model", "lenet5", "--methods", "cam", "-o", "r.html"),
            1,
            "No map could be made. CAM of",
        ),
        (("embed", "nowhere"), 1, "There is no folder 'nowhere'"),
        (("embed", "."), 1, "it must be 5 to 100,000"),
        (("embed", ".", "--perplexity", "many"), 2, "invalid float value"),
        (("paint",), 2, "invalid choice"),
        ((), 2, "required: COMMAND"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_leaves_no_file(
    arguments: tuple[str, ...],
    status: int,
    words: str,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photo.parent)
    before = sorted(photo.parent.iterdir())
    assert run(*(photo if one == "PHOTO" else one for one in arguments)) == status
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert sorted(photo.parent.iterdir()) == before


def test_a_full_disk_is_said_and_the_file_that_was_there_stays(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.npz"
    out.write_bytes(b"the one before")

    def full(old: object, new: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))

    monkeypatch.setattr(os, "replace", full)
    assert run("heatmap", photo, "--model", "photonet", "-o", out) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"the one before"
    assert sorted(tmp_path.iterdir()) == sorted([photo, out])


def test_a_file_is_as_readable_as_any_other(photo: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "map.npz", tmp_path / "other"
    other.write_bytes(b"")
    assert run("heatmap", photo, "--model", "photonet", "-o", out) == 0
    assert out.stat().st_mode == other.stat().st_mode


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vizcore", *map(str, arguments)]


def test_help_teaches_and_comes_at_once() -> None:
    done = subprocess.run(command("report", "--help"), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "python -m vizcore report cat.jpg -o cat.html" in done.stdout


@pytest.mark.slow
def test_ctrl_c_stops_a_run_with_130_and_writes_nothing(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    asked = command("report", photo, "--methods", "rise,score_cam", "--evidence", "removal", "-o", out)
    with subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "passes of" in process.stderr.readline()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.rstrip().endswith("stopped.")
    assert not out.exists()


def test_who_reads_a_few_lines_only_sees_no_complaint() -> None:
    line = f"{' '.join(command('methods'))} | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[0] == "name"
    assert done.stderr == ""


def test_a_pipe_that_nobody_reads_costs_no_file(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.npz"
    line = f"{' '.join(map(shlex.quote, command('heatmap', photo, '--model', 'photonet', '-o', out)))} | true"
    for buffered in ("", "1"):
        out.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": buffered}
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert out.exists()
        assert "BrokenPipe" not in done.stderr


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(photo: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(photo.read_bytes())
    assert run("heatmap", odd, "--model", "photonet", "-o", tmp_path / "map.png") == 0
    assert run("report", odd, "--model", "photonet", "--evidence", "none", "-o", tmp_path / "r.html") == 0
    assert read_report((tmp_path / "r.html").read_bytes()).title == "caf\ufffd.png"


def test_a_screen_that_knows_ascii_only_is_no_reason_to_stop() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command("layers", "--model", "lenet5"), cwd=ROOT, env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 0
    assert b"6 ? 28 ? 28" in done.stdout


def test_five_pictures_are_enough_and_four_that_can_be_read_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "set", tmp_path / "map.csv"
    for number, sample in enumerate([sample for sample in list_samples() if sample.grey][:5]):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[number % 2] / f"{number}.png").write_bytes(sample.read())
    assert run("embed", folder, "--model", "lenet5", "-o", out) == 0
    assert "the 4 nearest pictures" in capsys.readouterr().out
    (folder / "a" / "0.png").write_bytes(b"damaged")
    assert run("embed", folder, "--model", "lenet5", "-o", out) == 1
    assert "4 pictures of" in capsys.readouterr().err


def test_the_usual_size_of_the_photo_does_not_matter(tmp_path: Path) -> None:
    """A photo of many pixels, and one of few."""
    for name, picture in (("large", scene(1500, 2500)), ("small", scene(20, 31))):
        path = tmp_path / f"{name}.png"
        Image.fromarray(picture).save(path)
        assert run("heatmap", path, "--model", "photonet", "-o", tmp_path / f"{name}-map.png") == 0
        assert run("report", path, "--model", "photonet", "--evidence", "none", "-o", tmp_path / f"{name}.html") == 0
        assert (tmp_path / f"{name}.html").stat().st_size < 5_000_000
