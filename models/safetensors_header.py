"""The header of a safetensors file, checked before it is believed.

The format: eight bytes that say how long the header is, the header (JSON: for each tensor its dtype, its shape and
where its numbers begin and end), and the numbers, without gaps and without overlap.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from typing import Any

from vizcore.records import BadWeights

MOST_HEADER = 4 * 2**20  # bytes
MOST_TENSORS = 10_000
LONGEST_NAME = 300  # characters
BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


def check_header(data: bytes, name: str) -> dict[str, str]:
    """The metadata of a safetensors file whose header is sound; else BadWeights in one sentence."""
    if len(data) < 8:
        raise BadWeights(f"{name} is cut off: a safetensors file has more than {len(data)} bytes. Copy it again.")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(MOST_HEADER, len(data) - 8):
        raise BadWeights(
            f"{name} says that its header has {length:,} bytes; the file has {len(data):,}, and a header at most "
            f"{MOST_HEADER:,}. It is damaged, cut off, or not safetensors. Copy it again."
        )
    header = _parsed(data[8 : 8 + length], name)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadWeights(f"{name} has metadata that is not text, which safetensors do not allow. Save it again.")
    if not 0 < len(header) <= MOST_TENSORS:
        raise BadWeights(f"{name} holds {len(header):,} tensors; 1 to {MOST_TENSORS:,} are allowed.")
    _check_places(header, len(data) - 8 - length, name)
    return metadata


def shown(text: str, most: int = 120) -> str:
    """A name from somebody's file as a sentence can hold it: one line, not too long."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: most + 400])
    return text if len(text) <= most else f"{text[: most - 20]}…{text[-19:]}"


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise BadWeights(f"{name} names “{shown(twice)}” twice in its header. Save it again.")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"{name} has a header that is not JSON: it is damaged. Save or copy it again.") from error
    if not isinstance(header, dict):
        raise BadWeights(f"{name} has a header that is no list of tensors. Save it again.")
    return header


def _check_places(header: dict[str, Any], size: int, name: str) -> None:
    """Every tensor as large as its shape and dtype say, each byte in one tensor."""
    places = []
    for tensor, entry in header.items():
        if len(tensor) > LONGEST_NAME:
            raise BadWeights(
                f"{name} has a tensor whose name is {len(tensor):,} characters long; {LONGEST_NAME} are allowed."
            )
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)], **more} if not more:
                pass
            case _:
                raise BadWeights(f"{name} describes “{shown(tensor)}” in a way that safetensors do not. Save it again.")
        if dtype not in BYTES:
            raise BadWeights(
                f"{name} has “{shown(tensor)}” as {shown(dtype, 20)}; known are {', '.join(sorted(BYTES))}."
            )
        if not all(type(side) is int and 0 <= side < 2**40 for side in shape) or len(shape) > 8:
            raise BadWeights(f"{name} gives “{shown(tensor)}” a shape that no tensor has. Save it again.")
        if end - begin != math.prod(shape) * BYTES[dtype]:
            raise BadWeights(
                f"{name} has {end - begin:,} bytes for “{shown(tensor)}”, whose shape needs "
                f"{math.prod(shape) * BYTES[dtype]:,}. It is damaged. Save or copy it again."
            )
        places.append((begin, end, tensor))
    reached = 0
    for begin, end, tensor in sorted(places):
        if begin != reached:
            what = "overlaps the tensor before it" if begin < reached else "leaves a gap before it"
            raise BadWeights(f"{name} is no sound safetensors: “{shown(tensor)}” {what}. Save it again.")
        reached = end
    if reached != size:
        raise BadWeights(
            f"{name} holds {size:,} bytes of numbers, and names {reached:,}: it is cut off, or has a tail."
        )
