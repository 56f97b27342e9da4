"""A batch job on a Ray cluster of two nodes of this machine: the same results, also when a worker is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from batch_jobs import COMMAND, EVERYTHING, LOAD, lay_pictures, tree

from models import load_model
from vizcore.batch import Job, batch
from vizcore.batch_store import read_lines
from vizcore.records import BadParameter, BadWeights, Model

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No token in the home of whoever runs the tests, and no reports to Ray's makers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
        yield


@pytest.fixture(scope="module")
def cluster(quiet: None) -> Iterator[str]:
    """The address of a cluster of two nodes of two cores each."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=2)
        nodes.wait_for_nodes()
        ray.init(nodes.address, log_to_driver=False)
        yield nodes.address
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = lay_pictures(tmp_path_factory.mktemp("pictures"))
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "b" / "0000.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def wanted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("wanted") / "out"
    batch(LOAD, pictures, out, EVERYTHING, workers=1)
    return tree(out)


def test_two_nodes_write_what_one_process_writes(
    cluster: str, pictures: Path, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    """Asked by a process of its own, which finds the cluster by its address."""
    options = [
        "--model",
        "photonet",
        "--do",
        "predictions,features,heatmaps,channels",
        "--png",
        "--shard-size",
        "4",
        "--batch-size",
        "3",
    ]
    command = [*COMMAND, str(pictures), *options, "-o", str(tmp_path / "out")]
    ray = ["--engine", "ray", "--address", cluster, "--workers", "3"]
    done = subprocess.run([*command, *ray], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == wanted
    assert f"19 pictures in {tmp_path / 'out'}, 1 of them errors." in done.stdout


def noting(folder: Path, name: str) -> Model:
    """`load_model`, and a file that says in which process."""
    (folder / str(os.getpid())).touch()
    return load_model(name)


def test_a_worker_that_is_killed_is_replaced_and_its_shard_done_again(cluster: str, tmp_path: Path) -> None:
    pictures, pids = lay_pictures(tmp_path / "set", 30), tmp_path / "pids"
    pids.mkdir()
    job = Job(("heatmaps", "features"), shard_size=3)
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        workers = {int(path.name) for path in pids.iterdir()} - {os.getpid()}
        if done and not killed and workers:
            killed.append(max(workers))
            os.kill(killed[0], signal.SIGKILL)

    load = partial(noting, pids, "photonet")
    done = batch(load, pictures, tmp_path / "out", job, engine="ray", workers=1, address=cluster, progress=kill_one)
    assert done.new == 30
    assert killed
    workers = {int(path.name) for path in pids.iterdir()} - {os.getpid()}
    assert len(workers) == 2  # another came for the one that was lost
    batch(LOAD, pictures, tmp_path / "right", job, workers=1)
    assert tree(tmp_path / "out") == tree(tmp_path / "right")


def test_what_a_killed_driver_had_done_is_gone_on_with_by_the_other_engine(tmp_path: Path) -> None:
    """Ray in a process of its own, killed with all that it has started."""
    pictures, out = lay_pictures(tmp_path / "set", 120), tmp_path / "out"
    options = ["--model", "photonet", "--do", "heatmaps", "--shard-size", "2", "--workers", "1"]
    command = [*COMMAND, str(pictures), *options, "-o", str(out)]
    with subprocess.Popen([*command, "--engine", "ray"], cwd=ROOT, stderr=subprocess.PIPE) as run:
        manifest, end = out / "manifest.jsonl", time.monotonic() + 90
        while not manifest.exists() or manifest.read_bytes().count(b"\n") < 3:
            assert run.poll() is None, run.stderr and run.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        run.kill()
    assert 3 <= manifest.read_bytes().count(b"\n") < 60
    before = len(list(read_lines(out)))
    job = Job(("heatmaps",), shard_size=2)
    assert batch(LOAD, pictures, out, job, workers=1).new == 120 - 2 * before
    batch(LOAD, pictures, tmp_path / "right", job, workers=1)
    assert tree(out) == tree(tmp_path / "right")


def refusing(home: int) -> Model:
    """Has other weights than those that the job was begun with, elsewhere than in the process ``home``."""
    model = load_model("photonet")
    if os.getpid() != home:
        next(model.net.parameters()).data += 1
    return model


def test_what_an_actor_refuses_is_refused_here_in_its_own_words(
    cluster: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"engine": "ray", "workers": 1, "address": cluster}
    with pytest.raises(BadWeights, match="other weights in this worker"):
        batch(partial(refusing, os.getpid()), pictures, tmp_path / "out", EVERYTHING, **options)
    assert not list(read_lines(tmp_path / "out"))
    (tmp_path / "out" / "features").write_bytes(b"a file where a folder is to be")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        batch(LOAD, pictures, tmp_path / "out", EVERYTHING, **options)


def test_an_address_where_nothing_answers_is_refused(pictures: Path, tmp_path: Path) -> None:
    import ray

    with contextlib.suppress(Exception):
        ray.shutdown()
    with pytest.raises(BadParameter, match=r"address is '127\.0\.0\.1:1', where no Ray cluster answers"):
        batch(LOAD, pictures, tmp_path / "out", EVERYTHING, engine="ray", workers=1, address="127.0.0.1:1")
