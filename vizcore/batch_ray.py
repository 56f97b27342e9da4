"""A batch job on several machines, by Ray Data: what is ours is the function over a shard.

Ray has the shards, gives each to an actor that has loaded the model, starts another actor where one is lost and gives
it the shard again. The actors write their files themselves, so FOLDER and OUT must be folders that every machine sees
under the same names (NFS or the like); only the lines of the manifest come back. Ray is not among what the app needs:
requirements-ray.txt lists it, and it is imported when a job asks for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import pyarrow as pa

from vizcore import records
from vizcore.batch_job import Shard
from vizcore.batch_store import Line
from vizcore.batch_worker import Worker
from vizcore.records import BadParameter, LensError

MOST_BLOCKS = 10_000  # that Ray follows; with more shards there are several to a block, done again together
PATIENCE = 10  # seconds, for a cluster to answer
OBJECT_STORE = 200 * 2**20  # bytes, of a Ray of this machine alone: names of pictures and lines are all that goes there


def check_ray() -> None:
    """Refuse where Ray is not installed. Raises BadParameter."""
    if find_spec("ray") is None:
        raise BadParameter(
            "engine is 'ray', which needs a package that is not installed: "
            "python -m pip install -r requirements-ray.txt"
        )


def run_ray(
    make: Callable[[], Worker], shards: Sequence[Shard], workers: int, *, address: str | None, gpus: float
) -> Generator[Line, None, None]:
    """The lines of ``shards``, as they are finished, by as many actors, each of which calls ``make`` once.

    An actor has one core and ``gpus``. Where this process is connected to a Ray already, that is used; else that of the
    cluster at ``address``, or where that is None, one of this machine that ends with the job. What an actor raises of
    LensError and OSError is raised here. Raises BadParameter where there is no cluster at ``address``.
    """
    if not shards:
        return
    with _connected(address, workers, gpus):
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        items = ray.data.from_items(list(map(_packed, shards)), override_num_blocks=min(len(shards), MOST_BLOCKS))
        done = items.map_batches(
            _Actor,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(make,),
            compute=ActorPoolStrategy(size=min(workers, len(shards)), max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # which Ray Data had set when it was imported
        for row in done.iter_rows():
            if row["refusal"] is not None:
                raise _refusal(row["refusal"])
            yield Line.of_json(row["line"])


class _Actor:
    """A `Worker` as Ray Data calls it, with tables of one row. The model is loaded with the first shard: what refuses
    there is handed on as any other refusal, where a constructor that raises is tried again and again."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._worker: Worker | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        line = refusal = None
        try:
            self._worker = self._worker or self._make()
            line = self._worker(_unpacked(table.to_pylist()[0])).as_json()
        except (LensError, OSError) as error:
            refusal = json.dumps([type(error).__name__, *map(str, error.args)])
        return pa.table({"line": pa.array([line], pa.string()), "refusal": pa.array([refusal], pa.string())})


def _packed(shard: Shard) -> dict[str, Any]:
    """As bytes, for names need not be text."""
    names, labels = (b"\0".join(map(os.fsencode, each)) for each in (shard.names, shard.labels))
    return {"number": shard.number, "first": shard.first, "names": names, "labels": labels}


def _unpacked(row: dict[str, Any]) -> Shard:
    names, labels = (tuple(map(os.fsdecode, row[each].split(b"\0"))) for each in ("names", "labels"))
    return Shard(row["number"], row["first"], names, labels)


def _refusal(text: str) -> Exception:
    """What an actor raised, made again from its class and its words."""
    name, *words = json.loads(text)
    kind = getattr(records, name, None)
    if kind is not None and issubclass(kind, LensError):
        refusal: Exception = kind(*words)
        return refusal
    return OSError(": ".join(words))


def _check_address(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT: Ray itself would go on asking for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


@contextlib.contextmanager
def _connected(address: str | None, workers: int, gpus: float) -> Iterator[None]:
    """A Ray, quiet, and gone again where it was not there before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it says of its own affairs
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            # One core more than there are actors, or Ray Data might wait for it. Cores are only counted, not held.
            own: dict[str, Any] = {"num_cpus": workers + 1, "object_store_memory": OBJECT_STORE}
            ray.init("local", include_dashboard=False, **own, **quiet)
        else:
            _check_address(address)
            ray.init(address, **quiet)
    except (OSError, ValueError) as error:
        raise BadParameter(f"address is {address!r}, where no Ray cluster answers: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()
