"""A network of one's own as a `Model`: the numbers of a checkpoint, an architecture, the names of the classes.

A weights file does not say how its pictures were prepared. Size, mean and standard deviation are those of the
architecture's usual weights unless they are given: a guess, which `vizcore.doctor` weighs.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.catalogue import Card, find_card
from models.checkpoints import Checkpoint
from models.matching import WORTH_NAMING, fill, matches, matches_of_timm
from models.safetensors_header import shown
from vizcore.records import BadParameter, BadWeights, Model, check_whole

LONGEST_LABEL = 100  # characters
MOST_LABEL_BYTES = 2**20
LEAST_SIDE, MOST_SIDE = 8, 1024  # pixels of the input


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A loaded checkpoint: its ``model``, a ``card`` made for it, and what was done to it, in sentences.

    ``model.name``, ``model.title`` and ``card.name`` end in the first 64 bits of a SHA-256 of everything that answers
    depend on: the file, the architecture, the classes, size, mean and standard deviation. So no two networks share a
    name. ``broken`` names the tensors with NaN or infinity in them.
    """

    model: Model
    card: Card
    notes: tuple[str, ...]
    broken: tuple[str, ...]


def open_network(
    checkpoint: Checkpoint,
    architecture: str | None = None,
    labels: str | Path | bytes | Sequence[str] | None = None,
    *,
    input_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> OwnNetwork:
    """The network ``architecture``, of the catalogue or of timm, with the numbers of ``checkpoint``.

    None takes the network of the catalogue whose tensors are the same by name and shape, or the only such one of timm.
    ``labels`` is a text file (its path or its bytes) with a class a line, or the names themselves; None names them
    "class 0" and so on. Pictures are cut to ``input_size`` pixels, (height, width) or the side of a square; one that
    the network cannot read is refused, which costs a pass. ``mean`` and ``std``, for pixels in [0, 1], have one number
    for each channel that the net reads. Raises BadWeights and BadParameter in one sentence.
    """
    card = find_card(architecture) if architecture is not None else _best(checkpoint)
    size = card.input_size if input_size is None else _size(input_size)
    filled = fill(checkpoint, card)
    mean, std = (
        _numbers(name, given, _by_channel(usual, filled.channels))
        for name, given, usual in (("mean", mean, card.mean), ("std", std, card.std))
    )
    if min(std) <= 0:
        raise BadParameter(f"std is {std}; pixels are divided by it, so each number must be above 0.")
    names, more = read_labels(labels, filled.classes)
    identity = repr((checkpoint.digest, card.name, names, size, mean, std)).encode()
    mark = hashlib.sha256(identity).hexdigest()[:16]
    name = f"{card.name.replace('/', '-')}-{mark}"
    title = f"{card.title} of {shown(checkpoint.name, 60)}"
    model = Model(
        name=name,
        title=f"{title} ({mark})",
        net=filled.net,
        labels=names,
        input_size=size,
        mean=mean,
        std=std,
        layers=card.layers,
        weights=f"{checkpoint.name} (your own)",
        crop_pct=card.crop_pct,
        interpolation=card.interpolation,
    )
    if size != card.input_size:
        _check_reads(model, card)
    own = replace(
        card,
        name=name,
        title=title,
        summary=f"Your own weights in {card.title}.",
        classes=f"{filled.classes:,} classes",
        parameters=sum(parameter.numel() for parameter in filled.net.parameters()),
        licence="yours to know",
        file=checkpoint.name,
        sha256=checkpoint.digest,
        input_size=size,
        mean=mean,
        std=std,
    )
    return OwnNetwork(model, own, (*checkpoint.notes, *filled.notes, *more), filled.broken)


def read_labels(
    source: str | Path | bytes | Sequence[str] | None, count: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of ``count`` classes, no two alike, and sentences about what was done to them.

    Names that occur more than once get the number of their class behind them. Raises BadParameter where the number
    of names is not ``count``, one is empty, or too long.
    """
    if source is None:
        return tuple(f"class {k}" for k in range(count)), ()
    given = _lines(source) if isinstance(source, (str, Path, bytes)) else source
    if not isinstance(given, Sequence):
        raise BadParameter(
            f"labels is {source!r}; it must be a text file with a class a line, or the names themselves."
        )
    names = [shown(str(name).strip(), LONGEST_LABEL * 10) for name in given]
    if len(names) != count:
        raise BadParameter(
            f"There are {len(names):,} class names; the last layer of the network has {count:,} classes. Give one name "
            "a line, in the order in which the network was trained."
        )
    for k, name in enumerate(names):
        if not name or len(name) > LONGEST_LABEL:
            what = "empty" if not name else f"{len(name):,} characters long"
            raise BadParameter(f"The name of class {k} is {what}; 1 to {LONGEST_LABEL} characters are allowed.")
    often = {name for name, times in Counter(names).items() if times > 1}
    if not often:
        return tuple(names), ()
    told_apart = tuple(f"{name} ({k})" if name in often else name for k, name in enumerate(names))
    if len(set(told_apart)) < count:
        raise BadParameter(f"The class name {shown(min(often))!r} occurs more than once. Give each class its own name.")
    return told_apart, (f"{len(often)} class names occur more than once; their numbers stand behind them.",)


def _lines(source: str | Path | bytes) -> list[str]:
    """The lines of a text file, of which the last may be empty."""
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except (OSError, ValueError) as error:  # a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise BadParameter(f"The class names in {source!r} cannot be read: {reason}. Give a text file.") from error
    if len(data) > MOST_LABEL_BYTES:
        raise BadParameter(f"The file of class names has {len(data):,} bytes; {MOST_LABEL_BYTES:,} are allowed.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadParameter("The file of class names is no text in UTF-8. Save it as such, one name a line.") from error
    return text.rstrip().split("\n")


def _best(checkpoint: Checkpoint) -> Card:
    """The network of the catalogue that agrees in every tensor but the last layer's."""
    best, *others = matches(checkpoint.tensors)
    if best.share == 1:
        return best.card
    names = matches_of_timm(checkpoint.tensors)
    if len(names) == 1:
        return find_card(names[0])
    if names:
        raise BadWeights(
            f"{checkpoint.name} has the kernels of {', '.join(names)}, which differ in other things, such as padding. "
            f'Say which it is, such as architecture="{names[0]}".'
        )
    worth = [match for match in (best, *others) if match.share >= WORTH_NAMING][:3]
    near = ", ".join(f"“{match.card.name}” ({100 * match.share:.0f} %)" for match in worth)
    raise BadWeights(
        f"{checkpoint.name} is none of the networks of the catalogue{f'; the nearest are {near}' if near else ''}. Say "
        'which it is with architecture="…", a name of the catalogue or of timm.'
    )


def _size(given: int | tuple[int, int]) -> tuple[int, int]:
    sides = given if isinstance(given, (tuple, list)) else (given, given)
    if len(sides) != 2:
        raise BadParameter(f"input_size is {given!r}; it must be a side, or (height, width), in pixels.")
    height, width = (check_whole("input_size", side, LEAST_SIDE, MOST_SIDE) for side in sides)
    return height, width


def _check_reads(model: Model, card: Card) -> None:
    """Refuse a size that the maps do not fit, in front of a flattened layer or of a window that is larger."""
    try:
        with torch.no_grad():
            model.net(torch.zeros(1, len(model.mean), *model.input_size))
    except RuntimeError as error:
        (height, width), (usual_height, usual_width) = model.input_size, card.input_size
        raise BadParameter(
            f"{card.title} cannot read pictures of {width} × {height} pixels. Its usual size is {usual_width} × "
            f"{usual_height}; leave the size out to take that."
        ) from error


def _by_channel(usual: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """What is usual for an architecture, for a network of it that is grey, or in colour, where that is not."""
    return usual if len(usual) == channels else (sum(usual) / len(usual),) * channels


def _numbers(name: str, given: Sequence[float] | None, usual: tuple[float, ...]) -> tuple[float, ...]:
    if given is None:
        return usual
    try:
        numbers = tuple(float(number) for number in given)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != len(usual) or not all(map(math.isfinite, numbers)):
        raise BadParameter(f"{name} is {given!r}; it must be {len(usual)} finite numbers, one for each channel.")
    return numbers
