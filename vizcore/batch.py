"""The same question asked of every picture of a folder, by several processes or machines: one folder of Parquet.

What can be asked is said at `vizcore.batch_job.Job`, what the folder of results holds at `vizcore.batch_store`. The
results are the same to the bit for any number of workers and either engine, and after any number of interruptions, on
machines whose processors are of one kind.

    from functools import partial
    from models import load_model
    from vizcore.batch import Job, batch, read_results

    batch(partial(load_model, "photonet"), "pictures/", "out/", Job(("features", "heatmaps")))
    table = read_results("out/", "features")        # a pandas.DataFrame
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vizcore.batch_job import MOST_ROWS, Job, Plan, Shard
from vizcore.batch_local import run_local
from vizcore.batch_ray import check_ray, run_ray
from vizcore.batch_rows import planned
from vizcore.batch_store import Line, read_facts, writing
from vizcore.batch_worker import Load, Worker, check_device
from vizcore.folders import labels_of, pictures_beside
from vizcore.records import BadParameter, Model, Progress, check_whole
from vizcore.weights import digest_of_weights, facts_of_model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ENGINES", "Job", "Summary", "batch", "read_results"]

ENGINES = ("local", "ray")
MOST_WORKERS = 10_000
MOST_SHARDS = 100_000  # five digits: read in the order of their names, they are in that of their numbers
PACKAGES = ("torch", "numpy", "pillow", "pyarrow")  # of another version, results may differ in the last digits
FORM = 1  # of the folder of results


@dataclass(frozen=True)
class Summary:
    """A finished job: its ``pictures``, of them ``errors`` that have none but a sentence, and of them ``new``, computed
    in this run in ``seconds``."""

    pictures: int
    errors: int
    new: int
    seconds: float


def batch(
    load: Load,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    job: Job,
    *,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus: float = 0.0,
    progress: Progress | None = None,
) -> Summary:
    """Do ``job`` for every picture of ``folder`` (`folders.pictures_in`) and write the results into ``out``.

    ``load`` makes the model, here and once in every worker: something that can be pickled, such as
    ``functools.partial(load_model, "photonet")``. Where ``out`` holds a part of this very job, only what is missing is
    computed. The ``engine`` "local" starts ``workers`` processes, by default one a core; "ray" has as many actors, of
    one core and ``gpus`` each, in a Ray of this machine or in the cluster at ``address``, which must see both folders
    under the same names. Progress counts the pictures of this run, by shards; what it raises, and Ctrl-C, leaves what
    is finished in ``out``.

    Raises BadParameter, LayerNotFound and UnsupportedModel for what cannot be asked, BadParameter where ``folder`` has
    no pictures or ``out`` holds another job, and what `run_local` and `run_ray` raise.
    """
    start = time.monotonic()
    if engine not in ENGINES:
        raise BadParameter(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}.")
    if engine == "local" and (address is not None or gpus):
        raise BadParameter(f"{'address' if address is not None else 'gpus'} is for the engine 'ray'. Leave it out.")
    if engine == "ray":
        check_ray()
    else:  # with Ray the devices are those of other machines
        check_device(job.device)
    workers = check_whole("workers", _cores() if workers is None else workers, 1, MOST_WORKERS)
    folder, out = Path(folder).resolve(), Path(out).resolve()
    names = pictures_beside(folder, out)
    check_whole("shard_size", job.shard_size, 1, MOST_ROWS)
    if len(names) > MOST_SHARDS * job.shard_size:
        raise BadParameter(
            f"shard_size is {job.shard_size}, which makes more than {MOST_SHARDS:,} files of each kind. Raise it to "
            f"{math.ceil(len(names) / MOST_SHARDS)} at least."
        )
    model = load()
    plan, digest = planned(model, job), digest_of_weights(model)
    facts = _facts(model, digest, plan, folder, names)
    del model
    with writing(out, facts) as results:
        shards = [shard for shard in _shards(names, plan.job.shard_size) if shard.number not in results.done]
        missing = sum(len(shard.names) for shard in shards)
        make = partial(Worker, load, digest, plan, folder, out)
        lines: Generator[Line, None, None]
        if engine == "local":
            lines = run_local(make, shards, workers)
        else:
            lines = run_ray(make, shards, workers, address=address, gpus=gpus)
        done = 0
        _tell(progress, done, missing)
        with contextlib.closing(lines):  # or what raises here would leave the workers at work
            for line in lines:
                results.append(line)
                done += line.rows
                _tell(progress, done, missing)
        results.finish()
        return Summary(len(names), results.errors, missing, time.monotonic() - start)


def read_results(out: str | os.PathLike[str], kind: str) -> pd.DataFrame:
    """The rows of one ``kind`` of KINDS, in the order of the pictures, as far as they are there: ``picture``,
    ``sha256``, ``label`` and ``error``, and the columns of that kind, lists as NumPy arrays.

    All of it at once: where that is too much, pandas and pyarrow read the folder ``out/features`` in parts as well.
    Raises BadParameter where the folder holds no such results.
    """
    import pandas as pd

    facts = read_facts(Path(out))
    if kind not in facts["job"]["do"]:
        raise BadParameter(f"kind is {kind!r}; {os.fspath(out)!r} holds {', '.join(facts['job']['do'])}.")
    parts = sorted((Path(out) / kind).glob("part-*.parquet"))
    if not parts:
        raise BadParameter(f"No shard of {os.fspath(out)!r} is finished yet. Run the job again.")
    return pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shards(names: Sequence[str], size: int) -> Iterator[Shard]:
    labels = labels_of(names)
    for number, first in enumerate(range(0, len(names), size)):
        part = slice(first, first + size)
        yield Shard(number, first, tuple(names[part]), labels[part])


def _facts(model: Model, digest: str, plan: Plan, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """All that the results depend on, as it stands in job.json."""
    return {
        "form": FORM,
        "model": facts_of_model(model, digest),
        "job": asdict(plan.job) | {"do": list(plan.job.do)},
        "pictures": {"count": len(names), "digest": _digest_of_list(folder, names)},
        "shards": math.ceil(len(names) / plan.job.shard_size),
        "versions": {name: version(name) for name in PACKAGES},
        "columns": [asdict(column) for column in plan.columns],
        "classes": list(model.labels),
    }


def _digest_of_list(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 of the names and the sizes: what is cheap to know of every picture before any is read."""
    digest = hashlib.sha256()
    for name in names:
        try:
            size = os.stat(folder / name).st_size
        except OSError:
            size = -1
        digest.update(os.fsencode(name) + b"\0" + str(size).encode() + b"\n")
    return digest.hexdigest()
