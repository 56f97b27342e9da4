"""Folders of pictures and jobs on them, for the tests of both engines."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from pictures import save, scene

from models import load_model
from vizcore.batch import Job

LOAD = partial(load_model, "photonet")
EVERYTHING = Job(("predictions", "features", "heatmaps", "channels"), png=True, shard_size=4, batch_size=3)
COMMAND = (sys.executable, "-m", "vizcore", "batch")


def lay_pictures(folder: Path, count: int = 18) -> Path:
    """Pictures of two classes and of several sizes, JPEG and PNG, and one that is damaged."""
    for number in range(count):
        kind = ("PNG", "JPEG")[number % 2]
        path = folder / "ab"[number % 3 == 0] / f"{number:04d}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(save(scene(30 + number % 7, 45 - number % 5, seed=number % 50), kind))
        if number == 1:
            path.write_bytes(b"no picture")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name from there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
