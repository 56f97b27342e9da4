"""A batch job on one machine: a process for each worker."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

from vizcore.batch_job import Shard
from vizcore.batch_store import Line
from vizcore.batch_worker import Worker

AHEAD = 2  # shards a worker: the one it works on, and the next


def run_local(make: Callable[[], Worker], shards: Sequence[Shard], workers: int) -> Generator[Line, None, None]:
    """The lines of ``shards``, as they are finished, by as many ``workers``, each of which calls ``make`` once.

    ``make`` goes to other processes, and so must be made of names that can be imported there. What a worker raises is
    raised here. A worker that is killed is replaced, as long as something was finished since the last one was; then
    raises ChildProcessError. When the caller stops asking, by Ctrl-C or otherwise, the workers are killed.
    """
    left = {shard.number: shard for shard in shards}
    while left:
        before = len(left)
        try:
            with contextlib.closing(_run_pool(make, list(left.values()), min(workers, len(left)))) as lines:
                for line in lines:
                    del left[line.number]
                    yield line
        except BrokenProcessPool:
            if len(left) == before:
                raise ChildProcessError(
                    "A worker ended before it had finished anything. Perhaps it was killed for want of memory: try "
                    "fewer workers, smaller shards or smaller batches. In a script, batch is called under: if __name__ "
                    "== '__main__'"
                ) from None


def _run_pool(make: Callable[[], Worker], shards: Sequence[Shard], workers: int) -> Generator[Line, None, None]:
    others = set(multiprocessing.active_children())
    # spawn: a fork of a process in which torch has run its threads may wait for them forever
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (make,))
    waiting = iter(shards)
    running: set[Future[Line]] = set()
    ours: set[multiprocessing.process.BaseProcess] = set()
    try:
        with _interrupts_ignored():  # which processes take over from the one that starts them
            running |= {pool.submit(_work, shard) for shard in itertools.islice(waiting, AHEAD * workers)}
            ours = set(multiprocessing.active_children()) - others
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                line = future.result()
                running |= {pool.submit(_work, shard) for shard in itertools.islice(waiting, 1)}
                yield line
    except BaseException:  # Ctrl-C, a worker's refusal, or a caller that asks no more: raised again
        for process in ours:
            process.kill()  # what they have written under its name is whole, the rest is not wanted
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there can they be, and only there do they come
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


# ---- in a worker ---------------------------------------------------------------------------------------------------

_worker: Worker | None = None
_refusal: Exception | None = None


def _start(make: Callable[[], Worker]) -> None:
    global _worker, _refusal
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _worker = make()
    except Exception as refusal:  # raised here, it would be printed and lost
        _refusal = refusal


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next shard forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(shard: Shard) -> Line:
    if _refusal is not None:
        raise _refusal
    assert _worker is not None
    return _worker(shard)
