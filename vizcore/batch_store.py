"""The folder of a batch job: what was asked, one line for each finished shard, and their Parquet files.

::

    job.json                       what is asked, of which pictures and weights, by which versions
    manifest.jsonl                 a line a shard: its number, rows, errors, and each file's bytes and SHA-256
    features/part-00000.parquet    and a folder like it for each kind that was asked for
    overlays/00000/00000000.png    where asked for

A file comes to be under a temporary name and is renamed when it is whole. A shard is done when its line stands in the
manifest and its files have the sizes said there; whatever else lies there is written again. Nothing in the folder says
when, where or by how many the work was done, so that two runs can be compared byte by byte.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vizcore.records import BadParameter
from vizcore.whole_files import TEMPORARY, WrittenFile, whole, write_whole

JOB, MANIFEST = "job.json", "manifest.jsonl"


@dataclass(frozen=True)
class Line:
    """What the manifest says of a finished shard: pictures ``first`` to ``last`` of all, ``errors`` of them without an
    answer."""

    number: int
    first: int
    last: int
    rows: int
    errors: int
    files: tuple[WrittenFile, ...]

    def as_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def of_json(cls, text: str | bytes) -> Line:
        """Raises ValueError, KeyError or TypeError for what is no such line."""
        fields = json.loads(text)
        return cls(**{**fields, "files": tuple(WrittenFile(**file) for file in fields["files"])})


class Results:
    """The folder of one job while somebody writes into it. Made by `writing`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.done: set[int] = set()
        self.rows = self.errors = 0
        self._mend()
        self._manifest = open(folder / MANIFEST, "ab")  # noqa: SIM115  closed by `close`

    def append(self, line: Line) -> None:
        """Note that a shard is done."""
        self._manifest.write(f"{line.as_json()}\n".encode())
        self._manifest.flush()
        self._count(line)

    def finish(self) -> None:
        """Put the lines in the order of their shards, when all are there."""
        places, start = [], 0
        with open(self._folder / MANIFEST, "rb") as lines:
            for line in lines:
                places.append((Line.of_json(line).number, start))
                start += len(line)
            with whole(self._folder / MANIFEST) as sorted_lines:
                for _, start in sorted(places):
                    lines.seek(start)
                    sorted_lines.write(lines.readline())

    def close(self) -> None:
        self._manifest.close()

    def _count(self, line: Line) -> None:
        self.done.add(line.number)
        self.rows += line.rows
        self.errors += line.errors

    def _mend(self) -> None:
        """Keep the lines whose files are there; the last one may be half a line, where the writer was killed."""
        path = self._folder / MANIFEST
        path.touch()
        with open(path, "rb") as lines, whole(path) as good:
            for text in lines:
                try:
                    line = Line.of_json(text)
                except (ValueError, KeyError, TypeError):
                    continue
                if text.endswith(b"\n") and line.number not in self.done and self._is_there(line):
                    good.write(text)
                    self._count(line)

    def _is_there(self, line: Line) -> bool:
        for file in line.files:
            try:
                if (self._folder / file.name).stat().st_size != file.bytes:
                    return False
            except OSError:
                return False
        return True


@contextlib.contextmanager
def writing(folder: Path, facts: Mapping[str, Any]) -> Iterator[Results]:
    """The results in ``folder`` of the job that ``facts`` (anything that JSON can hold) describe, new or gone on with.

    Raises BadParameter where the folder holds the results of another job, which is told by the first fact that differs,
    where it holds anything else, and where another process on this machine is writing into it. What dead writers left
    half written is removed.
    """
    if not folder.parent.is_dir():
        raise BadParameter(f"The results are to go to {str(folder)!r}, but there is no folder {str(folder.parent)!r}.")
    if folder.exists() and not folder.is_dir():
        raise BadParameter(f"The results are to go to {str(folder)!r}, which is a file. Name a folder.")
    folder.mkdir(exist_ok=True)
    with _locked(folder):
        _check_same(folder, json.loads(json.dumps(facts)))
        for left in folder.rglob(f".*{TEMPORARY}"):
            left.unlink(missing_ok=True)
        if not (folder / JOB).exists():
            write_whole(folder, JOB, json.dumps(facts, indent=1).encode() + b"\n")
        with contextlib.closing(Results(folder)) as results:
            yield results


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``job.json`` says. Raises BadParameter where there is none."""
    try:
        facts: dict[str, Any] = json.loads((folder / JOB).read_bytes())
    except (OSError, ValueError):
        raise BadParameter(f"{str(folder)!r} holds no results of a batch job: its {JOB} cannot be read.") from None
    return facts


def read_lines(folder: Path) -> Iterator[Line]:
    """The manifest, line by line. Raises BadParameter where there is none."""
    read_facts(folder)
    with open(folder / MANIFEST, "rb") as lines:
        for line in lines:
            yield Line.of_json(line)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else on this machine writes into the folder meanwhile; the lock goes with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # Windows: two runs at once are the caller's care
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadParameter(
                f"Another run is writing into {str(folder)!r}. Wait for its end, or name another folder."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF, errno.EINVAL):
                raise  # the others: a file system without locks
        yield
    finally:
        os.close(handle)


def _check_same(folder: Path, facts: dict[str, Any]) -> None:
    """Refuse a folder that was begun for something else. ``facts`` as JSON gives them back."""
    held = [path.name for path in folder.iterdir() if not path.name.endswith(TEMPORARY)]
    if JOB not in held:
        if held:
            raise BadParameter(
                f"{str(folder)!r} holds {held[0]!r}, and no {JOB}: it is no folder of results. Name a new one."
            )
        return
    begun, asked = _leaves(read_facts(folder)), _leaves(facts)
    for name in (*asked, *begun):
        if begun.get(name) != asked.get(name):
            raise BadParameter(
                f"The results in {str(folder)!r} were begun with {name} = {_short(begun.get(name))}, and now it is "
                f"{_short(asked.get(name))}. Name another folder, or ask as before."
            )


def _leaves(facts: Any, name: str = "") -> dict[str, Any]:
    """Nested facts as one level: ``{"job.method": "grad_cam"}``."""
    if not isinstance(facts, dict):
        return {name: facts}
    return {
        key: value
        for inner, fact in facts.items()
        for key, value in _leaves(fact, f"{name}.{inner}" if name else inner).items()
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
