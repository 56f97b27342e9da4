"""A batch job says what the functions say, is the same whoever did it and however often it was stopped, and a picture
that cannot be read is a row."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pandas as pd
import pytest
import torch
from batch_jobs import COMMAND, EVERYTHING, LOAD, lay_pictures, tree
from pictures import refused, save, scene
from PIL import Image

import commands
from models import load_model
from vizcore import batch as batch_file
from vizcore import batch_ray, batch_rows, batch_store
from vizcore.activations import activation_maps
from vizcore.batch import Job, Summary, batch, read_results
from vizcore.batch_job import Shard
from vizcore.batch_store import Line, read_lines
from vizcore.batch_worker import Worker, moved
from vizcore.embedding import extract_features
from vizcore.heatmaps import heatmap
from vizcore.images import prepare
from vizcore.photos import open_photo
from vizcore.records import BadParameter, BadWeights, LayerNotFound, LensError, Model, UnsupportedModel

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., Summary]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`batch` with one worker, which is this process: what does not depend on there being others is tested so."""

    def run(make: Callable[[], Worker], shards: Sequence[Shard], workers: int) -> Generator[Line, None, None]:
        worker = make()
        yield from (worker(shard) for shard in shards)

    monkeypatch.setattr(batch_file, "run_local", run)
    return batch


@pytest.fixture(scope="module")
def wanted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What everybody must come to: one worker, never stopped."""
    out = tmp_path_factory.mktemp("wanted") / "out"
    done = batch(LOAD, pictures, out, EVERYTHING, workers=1)
    assert (done.pictures, done.errors, done.new) == (18, 1, 18)
    return tree(out)


# ---- what is in a row ----------------------------------------------------------------------------------------------


def test_a_row_has_the_numbers_of_the_functions(pictures: Path, tmp_path: Path, here: Run) -> None:
    here(LOAD, pictures, tmp_path / "out", EVERYTHING)
    model, tables = LOAD(), {kind: read_results(tmp_path / "out", kind) for kind in EVERYTHING.do}
    for row, name in enumerate(tables["features"]["picture"]):
        if name == "a/0001.jpeg":
            continue
        photo = open_photo(pictures / name).pixels
        pixels = prepare(photo, model).pixels
        chances = model.logits(pixels)[0].softmax(0)
        found = {kind: table.iloc[row] for kind, table in tables.items()}
        assert found["predictions"].classes.tolist() == chances.argsort(descending=True)[:5].tolist()
        close(found["predictions"].probabilities, np.sort(chances)[::-1][:5])
        close(found["predictions"].entropy, -(chances * chances.log()).sum())
        close(found["features"].features, extract_features(model, [photo])[0])
        heat = heatmap(model, pixels, int(chances.argmax()), "grad_cam")
        close(found["heatmaps"]["values"].reshape(heat.values.shape), heat.values)
        assert (found["heatmaps"].height, found["heatmaps"].width) == heat.values.shape
        assert found["heatmaps"].target == heat.target
        close(found["heatmaps"].score, heat.score)
        maps = activation_maps(model, pixels, model.layers["cam"])
        close(found["channels"].activations, maps.maxima)
        places = zip(range(len(maps.maxima)), found["channels"].rows, found["channels"].columns, strict=True)
        close([maps.values[place] for place in places], maps.maxima)
        with Image.open(tmp_path / "out" / found["heatmaps"].overlay) as drawn:
            assert drawn.size == photo.shape[1::-1]


def close(found: Any, right: Any) -> None:
    """But for the order of a sum: others are in the same batch."""
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


def test_rows_are_in_the_order_of_the_names_with_their_folder_as_label(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    out = unpacked(wanted, tmp_path)
    table = read_results(out, "features")
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.*"))
    assert table["picture"].tolist() == names
    assert table["label"].tolist() == [name[0] for name in names]
    pd.testing.assert_frame_equal(table, pd.read_parquet(out / "features"))
    bad = table[table["error"].notna()]
    assert bad["picture"].tolist() == ["a/0001.jpeg"]
    assert bad["features"].isna().all()


def unpacked(files: dict[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_bytes(data)
    return folder / "out"


def test_the_manifest_has_the_digest_of_every_file_and_the_rows_of_every_picture(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    from hashlib import sha256

    lines = list(read_lines(unpacked(wanted, tmp_path)))
    assert [line.number for line in lines] == [0, 1, 2, 3, 4]
    assert [(line.first, line.last, line.rows) for line in lines] == [
        (n, min(n + 3, 17), min(4, 18 - n)) for n in range(0, 18, 4)
    ]
    assert sum(line.errors for line in lines) == 1
    files = [file for line in lines for file in line.files]
    assert {file.name for file in files} == set(wanted) - {"job.json", "manifest.jsonl"}
    for file in files:
        assert (file.bytes, file.sha256) == (len(wanted[file.name]), sha256(wanted[file.name]).hexdigest())
    table = read_results(tmp_path / "out", "predictions")
    for name, digest in zip(table["picture"], table["sha256"], strict=True):
        assert digest == sha256((pictures / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("method", ["occlusion", "gradient", "guided_grad_cam", "layer_cam"])
def test_any_method_may_be_asked_and_any_class(method: str, tmp_path: Path, here: Run) -> None:
    folder = lay_pictures(tmp_path / "set", 2)
    job = Job(("heatmaps",), method=method, target=3, png=True)
    here(LOAD, folder, tmp_path / "out", job)
    table = read_results(tmp_path / "out", "heatmaps")
    model, row = LOAD(), table[table["error"].isna()].iloc[0]
    pixels = prepare(open_photo(folder / row.picture).pixels, model).pixels
    options = {"window": 4, "stride": 2} if method == "occlusion" else {}
    close(row["values"], heatmap(model, pixels, 3, method, **options).values.ravel())
    assert row.target == 3


def test_a_net_with_one_logit_has_the_entropy_of_its_two_answers(tmp_path: Path, here: Run) -> None:
    folder = lay_pictures(tmp_path / "set", 1)
    here(nets.one_logit, folder, tmp_path / "out", Job(("predictions",)))
    row = read_results(tmp_path / "out", "predictions").iloc[0]
    (p,) = row.probabilities
    close(row.entropy, -p * np.log(p) - (1 - p) * np.log(1 - p))


# ---- pictures that are none ----------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_a_row_that_says_why(
    tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number, data in enumerate(refused().values()):
        (folder / f"{number:02d}.png").write_bytes(data)
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "round.png").symlink_to("round.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "large.png").write_bytes(save(scene(), "PNG") + bytes(16_000_000))
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(save(scene(), "PNG"))
    done = here(LOAD, folder, tmp_path / "out", Job(("predictions",)))
    table = read_results(tmp_path / "out", "predictions").set_index("picture")
    assert done.errors == done.pictures - 1 == len(refused()) + 4
    assert table.index[table["error"].isna()].tolist() == [r"caf\xe9.png"]
    assert table["error"]["gone.png"] == "The file cannot be read: No such file or directory."
    assert "Too many levels of symbolic links" in table["error"]["round.png"]
    assert "no file, but a pipe" in table["error"]["pipe.png"]
    assert "more than 15 MB" in table["error"]["large.png"]
    assert len(table["sha256"]["large.png"]) == 64
    assert table["sha256"][["gone.png", "round.png", "pipe.png"]].isna().all()
    assert not table["error"].str.contains(str(tmp_path), na=False, regex=False).any()


class Doubtful(torch.nn.Module):
    """Has no answer for a picture that is white."""

    def __init__(self) -> None:
        super().__init__()
        self.body = LOAD().net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.body(x)
        return torch.where(x.mean((1, 2, 3), keepdim=False)[:, None] > 1.5, torch.nan, answer)


def doubtful() -> Model:
    model = LOAD()
    return replace(model, net=Doubtful(), layers={role: f"body.{layer}" for role, layer in model.layers.items()})


def test_a_picture_that_the_net_has_no_answer_for_does_not_take_its_batch_with_it(tmp_path: Path, here: Run) -> None:
    folder = lay_pictures(tmp_path / "set", 4)
    (folder / "a" / "white.png").write_bytes(save(np.full((20, 30, 3), 255, np.uint8), "PNG"))
    done = here(doubtful, folder, tmp_path / "out", Job(("features", "heatmaps"), png=True))
    table = read_results(tmp_path / "out", "features").set_index("picture")
    assert done.errors == 2
    assert "NaN or infinity" in table["error"]["a/white.png"]
    good = table[table["error"].isna()]
    assert len(good) == 3
    for name, features in good["features"].items():
        close(features, extract_features(doubtful(), [open_photo(folder / str(name)).pixels])[0])


# ---- the same whoever did it ---------------------------------------------------------------------------------------


def test_two_workers_write_what_one_writes(pictures: Path, wanted: dict[str, bytes], tmp_path: Path) -> None:
    batch(LOAD, pictures, tmp_path / "out", EVERYTHING, workers=2)
    assert tree(tmp_path / "out") == wanted


def test_shards_may_be_done_in_any_order_and_in_this_very_process(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(make: Callable[[], Worker], shards: Sequence[Shard], workers: int) -> Iterator[Line]:
        worker = make()
        for shard in reversed(shards):
            yield worker(shard)

    monkeypatch.setattr(batch_file, "run_local", lambda *args: (line for line in backwards(*args)))
    batch(LOAD, pictures, tmp_path / "out", EVERYTHING)
    assert tree(tmp_path / "out") == wanted


def test_where_the_folder_lies_does_not_matter(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path, here: Run
) -> None:
    shutil.copytree(pictures, tmp_path / "moved")
    here(LOAD, tmp_path / "moved", tmp_path / "moved" / "out", EVERYTHING)
    assert tree(tmp_path / "moved" / "out") == wanted
    assert here(LOAD, tmp_path / "moved", tmp_path / "moved" / "out", EVERYTHING).new == 0


def test_tensors_that_lie_anywhere_are_laid_where_torch_lays_them() -> None:
    model = LOAD()
    weight = next(model.net.parameters())
    raw = torch.empty(weight.nbytes + 1, dtype=torch.uint8)
    raw[1:].copy_(weight.data.contiguous().view(-1).view(torch.uint8))
    weight.data = torch.frombuffer(memoryview(raw.numpy())[1:], dtype=torch.float32).view(weight.shape)
    before = [p.clone() for p in model.net.parameters()]
    assert weight.data_ptr() % 64
    net = moved(model, "cpu").net
    assert all(p.data_ptr() % 64 == 0 for p in net.parameters())
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


# ---- stopped, and gone on with -------------------------------------------------------------------------------------


def test_a_run_that_is_killed_and_one_that_is_stopped_leave_what_they_did_and_the_end_is_the_same(
    tmp_path: Path, here: Run
) -> None:
    folder, out = lay_pictures(tmp_path / "set", 240), tmp_path / "out"
    options = ["--model", "photonet", "--do", "heatmaps,features", "--shard-size", "4", "--workers", "2"]
    command = [*COMMAND, str(folder), *options, "-o", str(out)]
    manifest = out / "manifest.jsonl"
    kept: dict[str, int] = {}
    for how, lines in ((signal.SIGKILL, 3), (signal.SIGINT, 10)):
        # A group of its own: Ctrl-C reaches the workers as well.
        run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
        assert run.stderr is not None
        wait_until(lambda lines=lines: manifest.exists() and manifest.read_bytes().count(b"\n") >= lines)
        workers = children(run.pid)
        if how == signal.SIGKILL:
            run.kill()
            run.wait(20)
        else:
            os.killpg(run.pid, how)
            said = run.stderr.read().decode()
            assert run.wait(20) == 130
            assert "stopped." in said
            assert "Traceback" not in said
        assert workers
        wait_until(lambda workers=workers: not any(is_alive(worker) for worker in workers))
        done = [Line.of_json(line) for line in manifest.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        assert lines <= len(done) < 60
        files = {file.name: (out / file.name).stat().st_ino for line in done for file in line.files}
        assert kept.items() <= files.items()  # not written again
        kept = files
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"{240 - 4 * len(done)} of them now" in again.stdout
    assert {name: (out / name).stat().st_ino for name in kept} == kept
    here(LOAD, folder, tmp_path / "right", Job(("heatmaps", "features"), shard_size=4))
    assert tree(out) == tree(tmp_path / "right")


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_is_killed_is_replaced(pictures: Path, wanted: dict[str, bytes], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if done and not killed:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.pid or 0)
            victim.kill()

    batch(LOAD, pictures, tmp_path / "out", EVERYTHING, workers=1, progress=kill_one)
    assert killed
    assert tree(tmp_path / "out") == wanted


def dying() -> Model:
    """Is loaded where the job is begun, and kills every worker that loads it."""
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    return LOAD()


def test_a_job_whose_workers_all_die_ends_with_a_sentence(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match="before it had finished anything"):
        batch(dying, pictures, tmp_path / "out", EVERYTHING, workers=1)


def refusing() -> Model:
    """Loads other weights in a worker than where the job is begun."""
    model = LOAD()
    if multiprocessing.parent_process() is not None:
        next(model.net.parameters()).data += 1
    return model


def test_a_worker_with_other_weights_is_refused_in_its_own_words(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="other weights in this worker"):
        batch(refusing, pictures, tmp_path / "out", EVERYTHING, workers=1)


def test_what_progress_raises_stops_the_workers_and_keeps_what_is_done(pictures: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if done:
            raise KeyboardInterrupt

    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        batch(LOAD, pictures, tmp_path / "out", EVERYTHING, workers=1, progress=stop)
    assert calls == [(0, 18), (4, 18)]
    assert set(multiprocessing.active_children()) == before
    assert len(list(read_lines(tmp_path / "out"))) == 1


class Dawdling(torch.nn.Module):
    """In a worker it takes half a minute over white pictures, and makes ``file`` when it is done."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.body, self.file = LOAD().net, file

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if multiprocessing.parent_process() is not None and x.mean() > 1.5:
            time.sleep(30)
            self.file.touch()
        answer: torch.Tensor = self.body(x)
        return answer


def dawdling(file: Path) -> Model:
    model = LOAD()
    return replace(model, net=Dawdling(file), layers={role: f"body.{layer}" for role, layer in model.layers.items()})


def test_who_stops_does_not_wait_for_what_a_worker_is_about(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number, grey in enumerate((60, 255)):
        (folder / f"{number}.png").write_bytes(save(np.full((20, 30, 3), grey, np.uint8), "PNG"))

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    job, file = Job(("predictions",), shard_size=1), tmp_path / "awake"
    with pytest.raises(KeyboardInterrupt):
        batch(partial(dawdling, file), folder, tmp_path / "out", job, workers=1, progress=stop)
    assert not file.exists()


def test_what_the_dead_left_half_written_is_removed_and_what_is_missing_done_again(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path, here: Run
) -> None:
    out = unpacked(wanted, tmp_path)
    lines = wanted["manifest.jsonl"].splitlines(keepends=True)
    (out / "manifest.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:50])  # killed while it wrote
    (out / "features" / ".part-00004.parquet.0123.tmp").write_bytes(b"half")
    (out / ".job.json.0123.tmp").write_bytes(b"half")
    (out / "features" / "part-00001.parquet").write_bytes(b"cut short")
    (out / "overlays" / "00002" / "00000009.png").unlink()
    assert here(LOAD, pictures, out, EVERYTHING).new == 4 + 4 + 2
    assert tree(out) == wanted


def test_a_full_disk_leaves_whole_files_only_and_the_job_goes_on_when_there_is_room(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = iter(range(20))
    sync = os.fsync

    def full(handle: int) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        here(LOAD, pictures, tmp_path / "out", replace(EVERYTHING, batch_size=3))
    left = tree(tmp_path / "out")
    assert 0 < len(left) < len(wanted)
    assert all(wanted[name] == data for name, data in left.items() if name != "manifest.jsonl")
    monkeypatch.setattr(os, "fsync", sync)
    here(LOAD, pictures, tmp_path / "out", EVERYTHING)
    assert tree(tmp_path / "out") == wanted


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do": ()}, "do is empty"),
        ({"do": ("feature",)}, "do names 'feature'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"shard_size": 0}, "shard_size is 0"),
        ({"method": "gradcam"}, "method is 'gradcam'"),
        ({"method": "gradient", "view": "both"}, "view is 'both'"),
        ({"view": "signed"}, "view is 'signed', but grad_cam has none"),
        ({"target": 10}, "target is 10"),
        ({"method": "rise", "heatmaps_layer": "act4"}, "heatmaps_layer is 'act4', but rise has none"),
        ({"do": ("features",), "target": 3, "png": False}, "target is given, but do names no heatmaps"),
        ({"do": ("features",)}, "png is given, but do names no heatmaps"),
        ({"do": ("features",), "png": False, "heatmaps_layer": "act4"}, "heatmaps_layer is given"),
        ({"do": ("heatmaps",), "features_layer": "act4"}, "features_layer is 'act4', but do names no features"),
        ({"do": ("heatmaps",), "channels_layer": "act4"}, "channels_layer is 'act4', but do names no channels"),
        ({"channels_layer": "act5"}, "has no layer 'act5'"),
        ({"channels_layer": "flatten"}, "not maps"),
        ({"device": "cuda"}, "torch finds no such device"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
    ids=str,
)
def test_a_job_that_cannot_be_done_is_refused_before_anything_is_written(
    change: dict[str, Any], words: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises((BadParameter, LayerNotFound), match=words):
        batch(LOAD, pictures, tmp_path / "out", replace(EVERYTHING, **change))
    assert not (tmp_path / "out").exists()


def test_a_method_that_the_net_does_not_allow_is_refused_at_once(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(LensError, match="CAM"):
        batch(partial(load_model, "lenet5"), pictures, tmp_path / "out", Job(("heatmaps",), method="cam"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layer", ["features_layer", "channels_layer"])
def test_a_layer_that_gives_nan_is_refused(layer: str, pictures: Path, tmp_path: Path) -> None:
    model = LOAD()
    shift = next(one for one in model.net.modules() if isinstance(one, torch.nn.BatchNorm2d))
    name = next(name for name, one in model.net.named_modules() if one is shift)
    assert shift.bias is not None
    shift.bias.data[0] = -torch.inf  # which the ReLU behind it makes 0
    with pytest.raises(UnsupportedModel, match=f"The layer “{name}” of PhotoNet gave NaN or infinity"):
        batch(lambda: model, pictures, tmp_path / "out", Job((layer.removesuffix("_layer"),), **{layer: name}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "spark"}, "engine is 'spark'"),
        ({"address": "auto"}, "address is for the engine 'ray'"),
        ({"gpus": 1.0}, "gpus is for the engine 'ray'"),
        ({"workers": 0}, "workers is 0"),
    ],
    ids=str,
)
def test_an_engine_that_there_is_not_is_refused(
    options: dict[str, Any], words: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadParameter, match=words):
        batch(LOAD, pictures, tmp_path / "out", EVERYTHING, **options)


def test_an_engine_that_is_not_installed_is_refused_with_what_installs_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_ray, "find_spec", lambda name: None)
    with pytest.raises(BadParameter, match=r"pip install -r requirements-ray\.txt"):
        batch(LOAD, pictures, tmp_path / "out", EVERYTHING, engine="ray")


def test_folders_that_cannot_be_used_are_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_bytes(b"")
    for folder, out, words in (
        (tmp_path / "gone", "out", "There is no folder"),
        (tmp_path / "empty", "out", "There is no picture in"),
        (pictures, pictures, "would go among the pictures"),
        (pictures, "gone/out", "there is no folder '.*gone'"),
        (pictures, "file", "which is a file"),
        (pictures, "full", "'thesis.txt', and no job.json"),
    ):
        with pytest.raises(BadParameter, match=words):
            batch(LOAD, folder, tmp_path / out, EVERYTHING)
    monkeypatch.setattr(batch_file, "MOST_SHARDS", 4)
    with pytest.raises(BadParameter, match="shard_size is 4, which makes more than 4 files"):
        batch(LOAD, pictures, tmp_path / "out", EVERYTHING)


def test_another_job_in_the_same_folder_is_refused_by_what_differs(
    pictures: Path, wanted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = unpacked(wanted, tmp_path)
    other = shutil.copytree(pictures, tmp_path / "other")
    (other / "new.png").write_bytes(save(scene(), "PNG"))
    changed = shutil.copytree(pictures, tmp_path / "changed")
    (changed / "b" / "0000.png").write_bytes(save(scene(31, 47), "PNG"))
    for load, folder, job, words in (
        (partial(load_model, "lenet5"), pictures, EVERYTHING, 'model.name = "photonet", and now it is "lenet5"'),
        (partial(load_model, "photonet", weights=None), pictures, EVERYTHING, "model.weights = "),
        (LOAD, pictures, replace(EVERYTHING, method="layer_cam"), 'job.method = "grad_cam", and now it is "layer_cam"'),
        (LOAD, pictures, replace(EVERYTHING, shard_size=5), "job.shard_size = 4, and now it is 5"),
        (LOAD, other, EVERYTHING, "pictures.count = 18, and now it is 19"),
        (LOAD, changed, EVERYTHING, "pictures.digest = "),
    ):
        with pytest.raises(BadParameter, match=words):
            batch(load, folder, out, job)
    monkeypatch.setattr(batch_file, "version", lambda name: "0")
    with pytest.raises(BadParameter, match=r"versions\.torch"):
        batch(LOAD, pictures, out, EVERYTHING)
    assert tree(out) == wanted


def test_two_runs_at_once_in_one_folder_are_refused(pictures: Path, wanted: dict[str, bytes], tmp_path: Path) -> None:
    out = unpacked(wanted, tmp_path)
    facts = json.loads(wanted["job.json"])
    with batch_store.writing(out, facts), pytest.raises(BadParameter, match="Another run is writing"):
        batch(LOAD, pictures, out, EVERYTHING)


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def broken(handle: int, how: int) -> None:
        raise OSError(errnos.pop(), "said by the file system")

    errnos = [errno.EIO, errno.ENOLCK]
    monkeypatch.setattr(fcntl, "flock", broken)
    with batch_store.writing(tmp_path / "out", {"form": 1}) as results:
        assert not results.done
    with pytest.raises(OSError, match="said by the file system"), batch_store.writing(tmp_path / "out", {"form": 1}):
        pass


def test_results_that_are_not_there_are_refused(wanted: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="holds no results"):
        read_results(tmp_path, "features")
    out = unpacked({"job.json": json.dumps({"job": {"do": ["features"]}}).encode()}, tmp_path)
    with pytest.raises(BadParameter, match=r"kind is 'heatmaps'; .* holds features"):
        read_results(out, "heatmaps")
    with pytest.raises(BadParameter, match=r"No shard of .* is finished"):
        read_results(out, "features")


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(
    pictures: Path, tmp_path: Path, here: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["batch", str(pictures), "--do", "heatmaps, predictions", "--model", "photonet", "--class", "dog"]
    arguments += ["-o", str(tmp_path / "out")]
    assert commands.main(arguments) == 0
    said = capsys.readouterr().out
    assert f"18 pictures in {tmp_path / 'out'}, 1 of them errors." in said
    assert "18 of them now, in " in said
    assert set(read_results(tmp_path / "out", "heatmaps")["target"].dropna()) == {LOAD().labels.index("dog")}
    assert commands.main(arguments) == 0
    assert "All of them were done before." in capsys.readouterr().err
    assert commands.main([*arguments, "--method", "layer_cam"]) == 1
    assert "job.method" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        commands.main(["batch", str(pictures), "--do", "feats", "-o", "out"])
    assert exit.value.code == 2
    assert "'feats' is none of predictions, features, heatmaps, channels" in capsys.readouterr().err


def test_reading_goes_ahead_of_the_net_by_a_batch_and_no_further() -> None:
    read: list[str] = []

    def one(name: str) -> Any:
        read.append(name)
        return name

    names = [str(number) for number in range(10)]
    seen = batch_rows._read_ahead(one, names, 3)
    assert next(seen) == "0"
    wait_until(lambda: len(read) == 4)
    time.sleep(0.05)
    assert len(read) == 4
    assert list(seen) == names[1:]
