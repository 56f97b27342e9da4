"""Reading a weights file that somebody hands over, without trusting it.

A ``.safetensors`` file is numbers and nothing else: its header is checked (`models.safetensors_header`), then it is
read. What torch.save writes is a pickle, a program that builds objects. It is judged by its bytes first
(`models.archives`: what kind of file it is, what it asks for, whether anything is packed), and then opened in a process
of its own (`models/opening.py`) with limits on memory and time, by ``torch.load(weights_only=True)``, without a way
around it. That process hands back safetensors, which are checked like anybody's.

Nothing is written to the disk. One such process runs at a time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.archives import check_pickled, kind_of
from models.safetensors_header import check_header, shown
from vizcore.records import BadWeights

MOST_BYTES = 300 * 10**6
SECONDS = 60  # for the process in all; of computing it has half
KEPT_OF_THE_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP")  # what torch may need to be found
REFUSED = 3  # the exit status of that process when its output is a sentence
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The numbers of a file: ``tensors`` by the names that they have there, on the CPU.

    ``name`` is what the file is called, ``digest`` the SHA-256 of its bytes; ``notes`` are sentences for the reader.
    """

    name: str
    digest: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def read_file(path: str | Path) -> Checkpoint:
    """`read_bytes` of a file, whose size is looked at before it is read."""
    path = Path(path)
    try:
        size = path.stat().st_size
        _check_size(size, path.name)
        return read_bytes(path.read_bytes(), path.name)
    except (OSError, ValueError) as error:  # a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise BadWeights(f"{str(path)!r} cannot be read: {reason}. Give the path of a weights file.") from error


def read_bytes(data: bytes, name: str) -> Checkpoint:
    """The tensors in the ``data`` of a file called ``name``: safetensors, or a state dict as torch.save writes it.

    What kind of file it is, the bytes say and not the name. A state dict may lie in a dictionary under "state_dict",
    "model_state_dict", "model" or "net", as Lightning and others write it. A refusal takes less than a second before
    the process starts, which itself takes about two, for it imports torch. Raises BadWeights in one sentence.
    """
    name = shown(Path(name.replace("\\", "/")).name)
    _check_size(len(data), name)
    digest = hashlib.sha256(data).hexdigest()
    kind = kind_of(data)
    if kind == "safetensors" or (name.endswith(".safetensors") and kind in ("", "pickle")):
        tensors, notes = _tensors(data, name)
    else:
        check_pickled(data, name)
        tensors, notes = _tensors(_converted(data, name), name)
    return Checkpoint(name, digest, tensors, notes)


def _check_size(size: int, name: str) -> None:
    if size == 0:
        raise BadWeights(f"{name} is empty: it holds no bytes at all. Save or copy it again.")
    if size > MOST_BYTES:
        raise BadWeights(
            f"{name} has {size / 1e6:,.0f} MB; the limit is {MOST_BYTES / 1e6:,.0f} MB. Save the weights alone, "
            "without the state of the optimiser, or as half precision: torch.save(model.half().state_dict(), path)."
        )


def _tensors(data: bytes, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of safetensors ``data`` after its header is found sound."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    metadata = check_header(data, name)
    try:
        return load(data), tuple(filter(None, metadata.get("notes of the reader", "").split("\n")))
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise BadWeights(f"{name} is damaged: its tensors cannot be read. Save or copy it again.") from error


def _converted(data: bytes, name: str) -> bytes:
    """``data``, a pickled state dict, as safetensors, from a process that may do nothing but that."""
    environment = {name: os.environ[name] for name in KEPT_OF_THE_ENVIRONMENT if name in os.environ}
    program = Path(__file__).with_name("opening.py")
    try:
        with _one_at_a_time:
            done = subprocess.run(
                [sys.executable, "-I", str(program)],
                input=data,
                capture_output=True,
                env={**environment, "OMP_NUM_THREADS": "1"},
                timeout=SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise BadWeights(f"{name} could not be opened within {SECONDS} seconds, and was given up.") from error
    if done.returncode == REFUSED:
        raise BadWeights(f"{name} {shown(done.stdout.decode(errors='replace'), 600)}")
    if done.returncode:
        raise BadWeights(
            f"{name} could not be opened: it took more memory or time than a file of its size may take, or is damaged. "
            'Save the state dict alone, torch.save(model.state_dict(), "weights.pth"), or as safetensors.'
        )
    return done.stdout
