"""The process that opens a pickled checkpoint: ``python -I models/opening.py < weights.pth > weights.safetensors``.

Run by `models.checkpoints`, and a program of its own: it imports nothing of this project. It reads all of its input,
gives up what it will not need (memory beyond a few times the file, time, writing files), and only then looks at what it
was given, by ``torch.load(weights_only=True)``. Its output is safetensors; or, with exit status 3, the rest of a
sentence that begins with the name of the file.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Mapping
from typing import Any

REFUSED = 3
MOST_TENSORS = 10_000
LONGEST_NAME = 300  # characters
SECONDS = 30  # of computing
ROOM = 512 * 2**20  # bytes beside the tensors, which are held four times: loaded, copied, written, put together
NESTED = ("state_dict", "model_state_dict", "model", "net")  # under which a state dict lies in a training checkpoint
SAVE = "Save the state dict alone: torch.save(model.state_dict(), path)."


class Refused(Exception):
    """What is in the file is not a state dict; the rest of the sentence."""


def main() -> int:
    data = sys.stdin.buffer.read()
    warnings.simplefilter("ignore")
    import safetensors.torch  # noqa: F401 - before the limits, as is torch
    import torch  # noqa: F401

    limit(4 * len(data) + ROOM)
    try:
        output = converted(data)
    except Refused as refusal:
        sys.stdout.buffer.write(str(refusal).encode())
        return REFUSED
    sys.stdout.buffer.write(output)
    return 0


def limit(memory: int) -> None:
    """From here on: ``memory`` bytes more, SECONDS of computing, no file written. Windows knows no such limits."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))


def converted(data: bytes) -> bytes:
    """A pickled state dict as safetensors. Raises Refused."""
    import torch
    from safetensors.torch import save

    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        state, notes = state_in(found)
        # Each for itself: safetensors know no shared memory, which tied weights have.
        tensors = {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}
        return save(tensors, {"notes of the reader": "\n".join(notes)})
    except Refused:
        raise
    except MemoryError:
        raise Refused(f"declares more numbers than the file can hold. {SAVE}") from None
    except Exception as error:  # torch raises anything for a damaged file, and its words are not for visitors
        if "alloc" in str(error):  # torch has no error of its own for it
            raise Refused(f"declares more numbers than the file can hold. {SAVE}") from None
        raise Refused(f"is damaged, or holds what a state dict does not. {SAVE}") from None


def state_in(found: Any) -> tuple[dict[str, Any], list[str]]:
    """The state dict in what was unpickled, and sentences about what was done to it."""
    import torch

    notes = []
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            notes.append(f"The weights lay under “{key}” in the file, as training programs save them.")
    if not isinstance(found, Mapping) or not any(isinstance(value, torch.Tensor) for value in found.values()):
        what = "a dictionary without tensors" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise Refused(f"holds {what}, not a state dict, which maps names to tensors. {SAVE}")
    if odd := [name for name in found if not isinstance(name, str) or len(name) > LONGEST_NAME]:
        kind = f"{len(odd[0]):,} characters long" if isinstance(odd[0], str) else f"of the type {type(odd[0]).__name__}"
        raise Refused(f"has a tensor whose name is {kind}; names are text of at most {LONGEST_NAME} characters. {SAVE}")
    state = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if others := [name for name in found if name not in state]:
        notes.append(f"{len(others)} entries that are no tensors were left out.")
    if len(state) > MOST_TENSORS:
        raise Refused(f"holds {len(state):,} tensors; the limit is {MOST_TENSORS:,}. {SAVE}")
    for name, tensor in state.items():
        if reason := fault_of(tensor):
            raise Refused(f"holds the tensor {name[:80]!r}, which {reason}.")
    return state, notes


def fault_of(tensor: Any) -> str:
    """Why a tensor is not taken, or nothing."""
    import torch

    if tensor.is_quantized:
        return "is quantised; save the network before it is quantised"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "is nested" if tensor.is_nested else "is sparse; save it dense: tensor.to_dense()"
    if tensor.is_complex():
        return "has complex numbers; networks here compute with real ones"
    if tensor.is_meta:
        return "has a shape and no numbers (device “meta”); save the network after its weights are loaded"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return (
            f"is declared as {' × '.join(map(str, tensor.shape))} but stored as {tensor.untyped_storage().nbytes():,} "
            "bytes, repeated (an expanded view); save tensor.contiguous()"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())
