"""What a worker does, wherever it runs: load the model once, then shard after shard."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import torch

from vizcore.batch_job import Plan, Shard
from vizcore.batch_rows import rows_of
from vizcore.batch_store import Line
from vizcore.records import BadParameter, BadWeights, Model
from vizcore.weights import digest_of_weights
from vizcore.whole_files import WrittenFile, write_whole

Load = Callable[[], Model]


class Worker:
    """Called with a shard, writes its files and returns its line for the manifest.

    ``load`` is called once, here, and must give the net whose weights have the ``digest``. ``folder`` holds the
    pictures and ``out`` the results, by names that are good on the machine that this runs on. From here on torch uses
    one thread in this process: in which order it sums depends on their number.
    """

    def __init__(self, load: Load, digest: str, plan: Plan, folder: Path, out: Path) -> None:
        torch.set_num_threads(1)
        self._model = moved(load(), plan.job.device)
        if digest_of_weights(self._model) != digest:
            raise BadWeights(
                f"{self._model.title} has other weights in this worker than where the job was begun. Give every "
                "machine the same file."
            )
        self._plan, self._folder, self._out = plan, folder, out

    def __call__(self, shard: Shard) -> Line:
        files: list[WrittenFile] = []

        def keep(name: str, data: bytes) -> None:
            files.append(write_whole(self._out, name, data))

        tables = rows_of(self._model, self._plan, shard, self._folder, keep)
        for kind, table in tables.items():
            packed = io.BytesIO()
            pq.write_table(table, packed, compression="zstd")
            keep(f"{kind}/part-{shard.number:05d}.parquet", packed.getvalue())
        errors = len(shard.names) - next(iter(tables.values()))["error"].null_count
        last = shard.first + len(shard.names) - 1
        return Line(shard.number, shard.first, last, len(shard.names), errors, tuple(files))


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have. Raises BadParameter."""
    if device not in ("cpu", "cuda"):
        raise BadParameter(f"device is {device!r}; it must be 'cpu' or 'cuda'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadParameter("device is 'cuda', and torch finds no such device on this machine. Leave it at 'cpu'.")


def moved(model: Model, device: str) -> Model:
    """``model`` on ``device``, its tensors where torch itself puts them.

    Weights that were read from a file may start at any byte of it, and oneDNN sums in another order where they do not
    start at one that suits it: two processes would differ in the last digits.
    """
    check_device(device)
    for tensor in itertools.chain(model.net.parameters(), model.net.buffers()):
        tensor.data = tensor.data.to(device, copy=True)
    return replace(model, device=device)
