"""What a batch job computes: the rows of one shard, from one model and a few hundred files.

A `Job` is asked of every picture of a folder, which is cut into shards of neighbours in its order (`Shard`).
`rows_of` answers for one shard, the same to the bit wherever it runs: the pictures that go through the net together are
always the same, and where a sum may depend on the number of threads, whoever calls sees to it that there is one.
A picture that cannot be read, or that the net has no answer for, is a row that says why.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from vizcore.batch_job import Column, Job, Plan, Shard, settled
from vizcore.embedding import one_vector_each
from vizcore.folders import as_text, read_picture
from vizcore.heatmaps import BY_PIXEL, heatmap, scale_of, usual_options
from vizcore.hooks import require_maps, trace
from vizcore.images import overlay, prepare, thumbnail, to_png
from vizcore.records import (
    Heatmap,
    LensError,
    Model,
    UnsupportedModel,
    probabilities,
)
from vizcore.warp import by_place

TOP = 5  # classes of a prediction
PNG_SIDE = 1024  # pixels: what an overlay has at most
OVERLAYS = "overlays"

Answers = dict[str, dict[str, np.ndarray]]  # by kind and column, a first axis of pictures


@dataclass(frozen=True, eq=False)
class _Picture:
    """What was read of one file: ``digest`` of its bytes, and either ``pixels`` (1, 3, h, w) in [0, 1] or ``error``;
    ``photo`` uint8 (H, W, 3) where it is to be drawn on."""

    digest: str | None
    pixels: Tensor | None = None
    photo: np.ndarray | None = None
    error: str | None = None


def planned(model: Model, job: Job) -> Plan:
    """``job`` with what it leaves to the model filled in, and its columns, found with one picture of noise.

    Raises BadParameter, LayerNotFound and UnsupportedModel for what the model cannot do, so that a job of millions of
    pictures does not find out a row at a time. Costs what one picture costs.
    """
    job = settled(model, job)
    noise = torch.rand(1, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    answers, _ = _answers(model, job, noise)
    columns = tuple(
        Column(kind, name, values.dtype.name, values.shape[1] if values.ndim == 2 else None)
        for kind, answer in answers.items()
        for name, values in answer.items()
    )
    return Plan(job, columns)


def rows_of(
    model: Model, plan: Plan, shard: Shard, folder: Path, keep: Callable[[str, bytes], object]
) -> dict[str, pa.Table]:
    """The table of each kind that ``plan`` does, one row a picture of ``shard``, whose files lie in ``folder``.

    The pictures are read one batch ahead of the net, in a thread. ``keep`` is given the name and the bytes of each
    overlay.
    """
    job = plan.job
    heads: list[_Picture] = []
    filled = {column: np.zeros(_shape(column, len(shard.names)), column.dtype) for column in plan.columns}

    def read(name: str) -> _Picture:
        return _read(folder / name, model, job)

    def fill(rows: Sequence[int], answers: Answers) -> None:
        for column, values in filled.items():
            values[rows] = answers[column.kind][column.name]

    for batch in _in_batches(_read_ahead(read, shard.names, job.batch_size), job.batch_size):
        rows = [len(heads) + at for at, picture in enumerate(batch) if picture.error is None]
        heads += [replace(picture, pixels=None, photo=None) for picture in batch]
        good = [picture for picture in batch if picture.error is None]
        for part, answers in _answers_of(model, job, good):
            at = [rows[number] for number in part]
            if isinstance(answers, LensError):
                heads[at[0]] = replace(heads[at[0]], error=str(answers))
                continue
            found, heats = answers
            fill(at, found)
            for row, number, heat in zip(at, part, heats, strict=False):
                if job.png:
                    keep(overlay_name(shard, row), _overlay(model, good[number], heat))
    return {kind: _table(kind, job, shard, heads, filled) for kind in job.do}


def overlay_name(shard: Shard, row: int) -> str:
    """Where the overlay of a picture lies: by its place in the folder, for its name may be any bytes."""
    return f"{OVERLAYS}/{shard.number:05d}/{shard.first + row:08d}.png"


# ---- reading -------------------------------------------------------------------------------------------------------


def _read(path: Path, model: Model, job: Job) -> _Picture:
    """One file, as it is shown to the net."""
    file = read_picture(path)
    if file.pixels is None:
        return _Picture(file.sha256, error=file.error)
    photo = thumbnail(file.pixels, PNG_SIDE) if job.png else None
    return _Picture(file.sha256, prepare(file.pixels, model).pixels, photo)


def _read_ahead(read: Callable[[str], _Picture], names: Sequence[str], ahead: int) -> Iterator[_Picture]:
    """What ``read`` makes of each of ``names``, in order; up to ``ahead`` of them while the last one is worked on."""
    left = iter(names)
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(read, name) for name in itertools.islice(left, ahead))
        while waiting:
            picture = waiting.popleft().result()
            waiting.extend(thread.submit(read, name) for name in itertools.islice(left, 1))
            yield picture


def _in_batches(pictures: Iterable[_Picture], size: int) -> Iterator[list[_Picture]]:
    left = iter(pictures)
    while batch := list(itertools.islice(left, size)):
        yield batch


# ---- what the net says ---------------------------------------------------------------------------------------------


def _answers_of(
    model: Model, job: Job, pictures: Sequence[_Picture]
) -> Iterator[tuple[list[int], tuple[Answers, list[Heatmap]] | LensError]]:
    """What is said of ``pictures``, all together; where the net refuses one of them, of each alone."""
    every = list(range(len(pictures)))
    if not every:
        return
    pixels = torch.cat([picture.pixels for picture in pictures if picture.pixels is not None])  # (b, 3, h, w)
    try:
        yield every, _answers(model, job, pixels)
        return
    except LensError as refusal:
        if len(every) == 1:
            yield every, refusal
            return
    for number in every:
        try:
            yield [number], _answers(model, job, pixels[number : number + 1])
        except LensError as refusal:
            yield [number], refusal


def _answers(model: Model, job: Job, pixels: Tensor) -> tuple[Answers, list[Heatmap]]:
    """All that is asked of ``pixels`` (b, 3, h, w), and the heatmaps as records. One pass for all but heatmaps."""
    answers: Answers = {}
    layers = [layer for layer in (job.features_layer, job.channels_layer) if layer is not None]
    with trace(model, layers) as seen:
        logits = model.logits(pixels).float().cpu()  # (b, K)
        if job.features_layer is not None:
            vectors = one_vector_each(model, job.features_layer, seen[job.features_layer])  # (b, d)
            answers["features"] = {"features": _finite(model, job.features_layer, vectors)}
        if job.channels_layer is not None:
            maps = require_maps(model, job.channels_layer, seen[job.channels_layer])  # (b, C, h, w)
            answers["channels"] = _strongest_places(model, job.channels_layer, maps)
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")  # (b, K)
    if "predictions" in job.do:
        answers["predictions"] = _predictions(logits, order[:, :TOP])
    heats: list[Heatmap] = []
    if "heatmaps" in job.do:
        targets = order[:, 0] if job.target is None else np.full(len(pixels), job.target)
        heats = [_heat(model, job, pixels[n : n + 1], int(target)) for n, target in enumerate(targets)]
        answers["heatmaps"] = {
            "target": np.array([heat.target for heat in heats], np.int32),
            "score": np.array([heat.score for heat in heats], np.float32),
            "height": np.array([heat.values.shape[0] for heat in heats], np.int32),
            "width": np.array([heat.values.shape[1] for heat in heats], np.int32),
            "values": np.stack([heat.values.astype(np.float32).ravel() for heat in heats]),  # (b, h · w)
        }
    return answers, heats


def _predictions(logits: Tensor, best: np.ndarray) -> dict[str, np.ndarray]:
    chances = probabilities(logits.double())  # (b, K)
    all_chances = torch.cat([chances, 1 - chances], 1) if chances.shape[1] == 1 else chances
    return {
        "classes": best.astype(np.int32),
        "probabilities": np.take_along_axis(chances.numpy(), best, 1).astype(np.float32),
        "entropy": torch.special.entr(all_chances).sum(1).numpy().astype(np.float32),
    }


def _strongest_places(model: Model, layer: str, maps: Tensor) -> dict[str, np.ndarray]:
    """Of each channel the highest activation (b, C) and its place, of equal ones the first, row by row."""
    flat = maps.float().flatten(2)  # (b, C, h · w)
    highest = _finite(model, layer, flat.amax(2))
    rows, columns = np.divmod(flat.argmax(2).cpu().numpy(), maps.shape[3])
    return {"activations": highest, "rows": rows.astype(np.int32), "columns": columns.astype(np.int32)}


def _finite(model: Model, layer: str, values: Tensor) -> np.ndarray:
    if not torch.isfinite(values).all():
        raise UnsupportedModel(f"The layer “{layer}” of {model.title} gave NaN or infinity.")
    return np.asarray(values.float().cpu().numpy())


def _heat(model: Model, job: Job, pixels: Tensor, target: int) -> Heatmap:
    options: Mapping[str, Any] = usual_options(model, job.method)
    return heatmap(model, pixels, target, job.method, job.heatmaps_layer, view=job.view, **options)


def _overlay(model: Model, picture: _Picture, heat: Heatmap) -> bytes:
    assert picture.photo is not None
    assert picture.pixels is not None
    solid = heat.method in BY_PIXEL
    placed, box = by_place(model, picture.pixels, heat), prepare(picture.photo, model).box
    scale = scale_of(heat)
    return to_png(overlay(picture.photo, placed, box, scale=scale, alpha=1.0 if solid else 0.5, solid=solid))


# ---- tables --------------------------------------------------------------------------------------------------------


def _shape(column: Column, rows: int) -> tuple[int, ...]:
    return (rows,) if column.width is None else (rows, column.width)


def _table(
    kind: str, job: Job, shard: Shard, heads: Sequence[_Picture], filled: Mapping[Column, np.ndarray]
) -> pa.Table:
    """One row a picture, numbers null where there is an error."""
    bad = np.array([head.error is not None for head in heads])
    table = {
        "picture": pa.array([as_text(name) for name in shard.names], pa.string()),
        "sha256": pa.array([head.digest for head in heads], pa.string()),
        "label": pa.array([as_text(label) for label in shard.labels], pa.string()),
        "error": pa.array([head.error for head in heads], pa.string()),
    }
    for column, values in filled.items():
        if column.kind == kind:
            table[column.name] = _arrow(values, bad)
    if kind == "heatmaps" and job.png:
        names = [None if bad[row] else overlay_name(shard, row) for row in range(len(heads))]
        table["overlay"] = pa.array(names, pa.string())
    return pa.table(table)


def _arrow(values: np.ndarray, missing: np.ndarray) -> pa.Array:
    """(n,) or (n, width) as numbers or lists, null where ``missing`` (n,)."""
    if values.ndim == 1:
        return pa.array(values, mask=missing)
    if values.dtype.kind == "i":  # a list of fixed length that is null comes back as nulls, which pandas makes floats
        rows = [None if gone else row for row, gone in zip(values, missing, strict=True)]
        return pa.array(rows, pa.list_(pa.from_numpy_dtype(values.dtype)))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1], mask=pa.array(missing))
