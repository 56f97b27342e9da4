"""Which network a state dict belongs to, told by the names and shapes of its tensors, and filling that network with it.

Training programs put words before every name ("module." by DataParallel, "model." by Lightning), which are taken off.
The number of classes is read from the last layer, and is no part of the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from models.catalogue import CARDS, Card
from models.checkpoints import Checkpoint
from models.loading import laid_out, structure
from models.safetensors_header import shown
from models.timm_signatures import networks_with
from vizcore.records import BadWeights

PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.")
FOR_TRAINING = ("aux1.", "aux2.", "AuxLogits.")  # heads that are not built
LISTED = 5  # names in a refusal
WORTH_NAMING = 0.5  # share of the tensors from which on a network is proposed
STEM = (
    "All else agrees: it is this network with another first convolution, as small pictures have it, and its step and "
    "the pooling behind it do not lie in the file. Build it in Python and wrap it in vizcore.records.Model, as README "
    "shows."
)
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Match:
    """How far a state dict agrees with a network: ``share`` of the tensors of both by name and shape, 0 to 1."""

    card: Card
    share: float


@dataclass(frozen=True, eq=False)
class Filled:
    """A net with the numbers of a checkpoint: in eval mode, frozen. It reads so many ``channels``, 1 for grey and 3 for
    colour. ``broken`` names tensors with NaN or infinity."""

    net: nn.Module
    classes: int
    channels: int
    notes: tuple[str, ...]
    broken: tuple[str, ...]


def matches(tensors: Mapping[str, Tensor], cards: tuple[Card, ...] = CARDS) -> tuple[Match, ...]:
    """The networks of ``cards``, the best-matching first. Builds each once without memory, together in seconds."""
    found = [Match(card, _agreement(_fitting(tensors, shapes_of(card)).tensors, card)) for card in cards]
    return tuple(sorted(found, key=lambda match: -match.share))


def matches_of_timm(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Networks of timm, as "timm/name", that have the very kernels of ``tensors`` by name and shape. Builds none."""
    for renamed in _renamings(tensors):
        if names := networks_with({name: tuple(tensor.shape) for name, tensor in renamed.tensors.items()}):
            return tuple(f"timm/{name}" for name in names)
    return ()


def fill(checkpoint: Checkpoint, card: Card) -> Filled:
    """The network of ``card`` with the tensors of ``checkpoint``, as many classes as its last layer has rows, grey or
    in colour as its first one reads.

    Numbers of another type become float32, and the notes say so. Raises BadWeights, listing what is missing, too
    much or of another shape, and the network that fits better.
    """
    renamed = _fitting(checkpoint.tensors, shapes_of(card))
    tensors, notes = dict(renamed.tensors), []
    if renamed.prefix:
        notes.append(f"“{renamed.prefix}” was taken off the names of its tensors.")
    if renamed.left_out:
        notes.append(f"What is not under “{renamed.prefix}” was left out: {_listed(list(renamed.left_out))}.")
    if heads := [name for name in tensors if name.startswith(FOR_TRAINING) and name not in shapes_of(card)]:
        notes.append(f"The {len(heads)} tensors of heads that serve training only were left out.")
        tensors = {name: tensor for name, tensor in tensors.items() if name not in heads}
    head = tensors.get(f"{card.layers['classifier']}.weight")
    channels = channels_read(checkpoint.tensors, card)
    if channels != len(card.mean):
        notes.append(
            f"Its first convolution reads {'grey' if channels == 1 else 'colour'}; that of {card.title} does not."
        )
    net = structure(card, None if head is None or not head.ndim else max(1, len(head)), channels)
    wanted = net.state_dict()
    # Counters of training steps, which old files lack and which evaluation does not read.
    tensors |= {
        name: torch.zeros((), dtype=torch.int64)
        for name in wanted
        if name.endswith("num_batches_tracked") and name not in tensors
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if fault := _fault(tensors, shapes, card):
        advice = STEM if _differs_in_stem(tensors, shapes, card) else _advice(checkpoint.tensors, card)
        raise BadWeights(f"{checkpoint.name} does not fit {card.title}: {fault}. {advice}")
    state = {name: laid_out(tensors[name].to(tensor.dtype)) for name, tensor in wanted.items()}
    net.load_state_dict(state, assign=True)
    notes += _casts(tensors, wanted)
    broken = tuple(name for name, tensor in state.items() if not torch.isfinite(tensor).all())
    if broken:
        notes.append(f"{len(broken)} of its {len(state)} tensors hold NaN or infinity: {_listed(list(broken))}.")
    classes = len(state[f"{card.layers['classifier']}.weight"])
    return Filled(net.eval().requires_grad_(False), classes, channels, tuple(notes), broken)


def channels_read(tensors: Mapping[str, Tensor], card: Card) -> int:
    """How many channels the first convolution of ``tensors`` reads, 1 or 3; where there is none, what ``card`` has."""
    stem = _fitting(tensors, shapes_of(card)).tensors.get(_stem(card))
    return stem.shape[1] if stem is not None and stem.ndim == 4 and stem.shape[1] in (1, 3) else len(card.mean)


@cache
def shapes_of(card: Card) -> Shapes:
    """The tensors of a network as its builder makes it, by name."""
    return {name: tuple(tensor.shape) for name, tensor in structure(card).state_dict().items()}


@dataclass(frozen=True, eq=False)
class _Renaming:
    """Tensors without the ``prefix`` of their names; those that do not have it are ``left_out``."""

    tensors: Mapping[str, Tensor]
    prefix: str
    left_out: tuple[str, ...]


def _fitting(tensors: Mapping[str, Tensor], wanted: Shapes) -> _Renaming:
    """``tensors`` under the names that agree best with ``wanted``."""
    return max(_renamings(tensors), key=lambda found: len(found.tensors.keys() & wanted.keys()))


def _renamings(tensors: Mapping[str, Tensor]) -> Iterator[_Renaming]:
    """As they are, then without the prefix that most of them have, and so on: a loss beside the net may have some."""
    found = _Renaming(tensors, "", ())
    while True:
        yield found
        names = list(found.tensors)
        prefix = max(PREFIXES, key=lambda known: sum(name.startswith(known) for name in names))
        if 2 * sum(name.startswith(prefix) for name in names) <= len(names):
            return
        kept = {name.removeprefix(prefix): one for name, one in found.tensors.items() if name.startswith(prefix)}
        others = tuple(found.prefix + name for name in names if not name.startswith(prefix))
        found = _Renaming(kept, found.prefix + prefix, (*found.left_out, *others))


def _agreement(tensors: Mapping[str, Tensor], card: Card) -> float:
    """The share of tensors that are the same in both, by name and shape, apart from the last layer and counters."""
    head = f"{card.layers['classifier']}."

    def body(shapes: Shapes) -> set[tuple[str, tuple[int, ...]]]:
        return {
            (name, shape)
            for name, shape in shapes.items()
            if not name.startswith((head, *FOR_TRAINING)) and not name.endswith("num_batches_tracked")
        }

    found, wanted = body({name: tuple(tensor.shape) for name, tensor in tensors.items()}), body(shapes_of(card))
    return len(found & wanted) / max(len(found | wanted), 1)


def _stem(card: Card) -> str:
    return f"{card.layers['first_conv']}.weight"


def _differs_in_stem(tensors: Mapping[str, Tensor], wanted: Shapes, card: Card) -> bool:
    """Whether the kernels of the first convolution are of another size, and all else is the same."""
    bent = [name for name, shape in wanted.items() if name not in tensors or tuple(tensors[name].shape) != shape]
    return bent == [_stem(card)] and tensors.keys() <= wanted.keys()


def _fault(tensors: Mapping[str, Tensor], wanted: Shapes, card: Card) -> str:
    """What does not agree, or nothing."""
    missing = [name for name in wanted if name not in tensors]
    extra = sorted(tensors.keys() - wanted.keys())
    bent = [name for name, shape in wanted.items() if name in tensors and tuple(tensors[name].shape) != shape]
    faults = []
    if missing:
        faults.append(f"{len(missing)} tensors are missing ({_listed(missing)})")
    if extra:
        faults.append(f"{len(extra)} are of no layer of it ({_listed(extra)})")
    if bent:
        name = bent[0]
        shapes = f"{shown(name)} is {_size(tensors[name].shape)}, not {_size(wanted[name])}"
        head = f"{card.layers['classifier']}."
        where = ", all in the last layer, which decides about classes" if all(n.startswith(head) for n in bent) else ""
        faults.append(f"{len(bent)} have another shape ({shapes}{where})")
    return "; ".join(faults)


def _advice(tensors: Mapping[str, Tensor], card: Card) -> str:
    """What to do about a misfit: the network that fits, if there is one."""
    best = matches(tensors)[0]
    if best.share < 1 and (names := matches_of_timm(tensors)):
        return f"It has the kernels of {_listed(list(names))}: take one of them as the architecture."
    if best.share < WORTH_NAMING:
        return "It fits no network of the catalogue. Name the one that it was trained as, of the catalogue or of timm."
    if best.card == card:
        return "No other network of the catalogue fits better. Name the one that it was trained as; timm has more."
    return (
        f"The best match is {best.card.title}, with {100 * best.share:.0f} % of the tensors: take "
        f'architecture="{best.card.name}".'
    )


def _casts(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each type of number that was made another."""
    notes = []
    kinds = {tensors[name].dtype for name, tensor in wanted.items() if tensor.is_floating_point()} - {torch.float32}
    for dtype in sorted(kinds, key=str):
        kind = str(dtype).removeprefix("torch.")
        whole = "" if dtype.is_floating_point else ", as they are: a scale that they may need does not lie in the file"
        notes.append(f"Numbers of the type {kind} were made float32{whole}.")
    return notes


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > LISTED else ""
    return ", ".join(shown(name, 80) for name in names[:LISTED]) + more


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"
