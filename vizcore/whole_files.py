"""Files that are there whole or not at all, in folders of results whose manifests list them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"  # how the name of a file ends that is not whole yet


@dataclass(frozen=True)
class WrittenFile:
    """A file in a folder of results: ``name`` from the folder, with "/" between."""

    name: str
    bytes: int
    sha256: str


def write_whole(folder: Path, name: str, data: bytes) -> WrittenFile:
    """Write a file of the ``folder`` of results, whole or not at all; folders that it lies in are made."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as file:
        file.write(data)
    return WrittenFile(name, len(data), hashlib.sha256(data).hexdigest())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name ``path`` when all is written, and is gone where that fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the name could outlive a power cut without what it names
        os.replace(temporary, path)
    except BaseException:  # a full disk, Ctrl-C: what is half written goes
        temporary.unlink(missing_ok=True)
        raise
