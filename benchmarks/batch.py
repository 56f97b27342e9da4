"""What a batch job gives of what the machine could do: pictures a second by engine and workers, and memory.

The measure is the plain loop: one process, one thread, the same pictures in the same batches, the model loaded before,
nothing written. An engine's time is that between its first finished shard and its last, so that starting it, which does
not grow with the pictures, stands in a column of its own. Lost is the share of the loop's speed, times the workers,
that is not there; with more workers than idle cores it says more about the machine.

Memory is the highest resident set of the process that is asked, and of a worker, in processes of their own.

    PYTHONPATH=. python benchmarks/batch.py --data cifar10_jpeg.npz --full
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import Options, columns, figure, machine
from models import load_model
from vizcore.batch import Job, batch
from vizcore.embedding import extract_features
from vizcore.folders import pictures_in
from vizcore.heatmaps import heatmap
from vizcore.images import prepare
from vizcore.photos import open_photo
from vizcore.records import Model

KINDS = {"features": "features", "heatmaps": "Grad-CAM"}
BATCH = 8
TIMED = {"quick": 24, "short": 800, "full": 4_000}  # pictures
HELD = {"quick": (8, 24), "short": (200, 800), "full": (1_000, 20_000)}  # pictures, of which memory is asked
SHARDS = {"quick": 4, "short": 50, "full": 128}

MEMORY = """
import json, resource, sys
from functools import partial
from models import load_model
from vizcore.batch import Job, batch
if __name__ == "__main__":
    folder, out, model, shard = sys.argv[1:]
    batch(partial(load_model, model), folder, out, Job(("features",), shard_size=int(shard)), workers=1)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([peak / 1024 for peak in peaks]))
"""


@dataclass(frozen=True)
class Run:
    """``speed`` in pictures a second after the first shard, which was there after ``start`` seconds."""

    speed: float
    start: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few pictures, to see that all of it runs")
    parser.add_argument("--full", action="store_true", help="more pictures, 20 000 for memory; a quarter of an hour")
    parser.add_argument("--data", type=Path, help="CIFAR-10 as JPEGs in an .npz. Default: gradients with noise")
    parser.add_argument("--model", default="photonet", help="Default: %(default)s")
    asked = parser.parse_args()
    mode = "quick" if asked.quick else "full" if asked.full else "short"
    torch.set_num_threads(1)  # as the workers
    print(f"{machine(Options(asked.quick, False), 'torch', 'pyarrow', 'pillow')}\n")
    engines = ["local", "ray"] if find_spec("ray") else ["local"]
    if engines == ["local"]:
        print("Ray is not installed, and left out: python -m pip install -r requirements-ray.txt\n")
    with tempfile.TemporaryDirectory() as temporary:
        folders = {count: Path(temporary) / f"{count} pictures" for count in {TIMED[mode], *HELD[mode]}}
        for count, folder in folders.items():
            for number, data in enumerate(jpegs(asked.data, count)):
                path = folder / f"{number % 10}" / f"{number:06d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        what = f"{TIMED[mode]:,} pictures of {'CIFAR-10' if asked.data else 'noise'}"
        print(f"{asked.model}, {what}, {SHARDS[mode]} to a shard")
        print(show_speeds(asked.model, folders[TIMED[mode]], engines, SHARDS[mode], Path(temporary)))
        print("\nMemory, features, local, one worker")
        print(show_memory(asked.model, [folders[count] for count in HELD[mode]], SHARDS[mode], Path(temporary)))


def jpegs(data: Path | None, count: int) -> Iterator[bytes]:
    """``count`` JPEG files, of all classes in turn: of CIFAR-10, or coarse colours with noise."""
    if data is None:
        draws = np.random.default_rng(0)
        for _ in range(count):
            coarse = Image.fromarray(draws.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((40, 32))
            with tempfile.SpooledTemporaryFile() as file:
                Image.fromarray(np.array(coarse) // 2 + draws.integers(0, 128, (32, 40, 3), np.uint8)).save(
                    file, "JPEG"
                )
                file.seek(0)
                yield file.read()
        return
    with np.load(data) as held:
        lengths, content = held["train_lengths"], held["train_bytes"]
    ends = np.cumsum(lengths)
    for number in np.random.default_rng(0).permutation(len(lengths))[:count]:
        yield content[ends[number] - lengths[number] : ends[number]].tobytes()


def show_speeds(name: str, folder: Path, engines: list[str], shard: int, temporary: Path) -> str:
    lines = []
    model = load_model(name)
    for kind, title in KINDS.items():
        plain = plain_loop(model, folder, kind)
        for engine in engines:
            for workers in (1, 2):
                out = temporary / f"{kind}-{engine}-{workers}"
                run = timed(name, folder, out, Job((kind,), shard_size=shard, batch_size=BATCH), engine, workers)
                ratio = plain * workers / run.speed
                lines.append(
                    (
                        f"{title}, {engine}, {workers} worker{'s' * (workers > 1)}",
                        f"the loop, {figure(plain)} a second" + f" × {workers}" * (workers > 1),
                        figure(run.speed),
                        f"{100 * (1 - 1 / ratio):.0f} %",
                        f"{figure(run.start)} s",
                        figure(ratio),
                    )
                )
    return columns(("what", "against", "pictures a second", "lost", "first shard after", "loop ÷ engine"), lines)


def plain_loop(model: Model, folder: Path, kind: str) -> float:
    """Pictures a second of the same work without an engine."""
    names = pictures_in(folder)
    start = time.perf_counter()
    for first in range(0, len(names), BATCH):
        photos = [open_photo(folder / name).pixels for name in names[first : first + BATCH]]
        if kind == "features":
            extract_features(model, photos, batch_size=BATCH)
            continue
        pixels = torch.cat([prepare(photo, model).pixels for photo in photos])
        for number, target in enumerate(model.logits(pixels).argmax(1)):
            heatmap(model, pixels[number : number + 1], int(target), "grad_cam")
    return len(names) / (time.perf_counter() - start)


def timed(name: str, folder: Path, out: Path, job: Job, engine: str, workers: int) -> Run:
    start = time.perf_counter()
    ticks: list[tuple[int, float]] = []

    def tick(done: int, total: int) -> None:
        ticks.append((done, time.perf_counter()))

    batch(partial(load_model, name), folder, out, job, engine=engine, workers=workers, progress=tick)
    (first, began), (last, ended) = ticks[1], ticks[-1]
    return Run((last - first) / (ended - began), began - start)


def show_memory(name: str, folders: list[Path], shard: int, temporary: Path) -> str:
    counts = [len(pictures_in(folder)) for folder in folders]
    found = []
    for number, folder in enumerate(folders):
        script = temporary / "memory.py"
        script.write_text(MEMORY)
        command = [sys.executable, str(script), str(folder), str(temporary / f"memory-{number}"), name, str(shard)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(printed.splitlines()[-1]))
    lines = []
    for at, who in enumerate(("who asks", "a worker")):
        fewer, many = found[0][at], found[1][at]
        cells = f"{many:.0f} MB", f"{fewer:.0f} MB", figure(many / fewer)
        lines.append((f"{who}, {counts[1]:,} pictures", f"{counts[0]:,} pictures", *cells))
    return columns(("what", "against", "many", "fewer", "many ÷ fewer"), lines)


if __name__ == "__main__":
    main()
