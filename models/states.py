"""The states that a net went through while it was trained, where they are shipped: `training_states`, `state_model`.

They lie beside its weights in ``<name>_training.safetensors``, as float16, tensors called ``<epoch>/<name>``, with the
accuracy of each among the file's facts (`models.training` writes them).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models import catalogue, load_model

if TYPE_CHECKING:
    from vizcore.records import Model


@dataclass(frozen=True)
class State:
    """A net after so many epochs of its training; ``accuracy`` is the share of the test pictures it got right."""

    epoch: int
    accuracy: float


def training_states(name: str) -> tuple[State, ...]:
    """The states of the network ``name`` that are shipped, the first epoch first; none for most networks.

    Reads the facts of a file, no tensors, and needs no torch. Raises BadWeights where it cannot be read.
    """
    path = _file_of(name)
    if not path.is_file():
        return ()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            accuracies = json.loads(file.metadata()["accuracies"])
        return tuple(sorted((State(int(epoch), share) for epoch, share in accuracies.items()), key=lambda s: s.epoch))
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        from vizcore.records import BadWeights

        raise BadWeights(f"{path} cannot be read ({error}). Put it back: git checkout -- models/weights") from error


def state_model(name: str, epoch: int) -> Model:
    """The network ``name`` as it was after ``epoch`` epochs, like what `load_model` gives, its weights float32.

    The digest of the file is checked first. Raises BadParameter for an epoch of which no state is shipped, listing the
    others, and BadWeights for a damaged file.
    """
    from models.loading import check_digest
    from vizcore.records import BadParameter

    known = [state.epoch for state in training_states(name)]
    if isinstance(epoch, bool) or epoch not in known:
        listed = f"Choose one of {', '.join(map(str, known))}." if known else "None of its training are shipped."
        raise BadParameter(f"There is no state of {name!r} after {epoch!r} epochs. {listed}")
    path = _file_of(name)
    check_digest(catalogue.find_card(name), path)
    model = load_model(name, weights=None)
    _fill(model, path, epoch)
    title = catalogue.find_card(name).title
    after = "before training" if epoch == 0 else f"after {epoch} epoch{'s' * (epoch != 1)}"
    return dataclasses.replace(model, title=f"{title} {after}", weights=f"{path.name}, {after}")


def _file_of(name: str) -> Path:
    return catalogue.WEIGHTS_FOLDER / f"{name}_training.safetensors"


def _fill(model: Model, path: Path, epoch: int) -> None:
    """Write the numbers of one state into the net, every shape checked."""
    from safetensors import safe_open

    from vizcore.records import BadWeights

    with safe_open(path, framework="pt") as file:
        held = set(file.keys())
        for name, tensor in model.net.state_dict().items():
            key = f"{epoch}/{name}"
            if name.endswith("num_batches_tracked"):  # counts steps; nothing reads it
                continue
            if key not in held or tuple(file.get_slice(key).get_shape()) != tuple(tensor.shape):
                raise BadWeights(f"{path.name} has no tensor {key} of the shape {tuple(tensor.shape)}.")
            tensor.copy_(file.get_tensor(key))
