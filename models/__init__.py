"""Which networks there are, and how to get one: `list_models` and `load_model`.

Importing this costs milliseconds; torch is imported by the first `load_model`, torchvision only for a net of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.catalogue import CARDS, Card

if TYPE_CHECKING:
    from vizcore.records import Model, Progress

__all__ = ["WEIGHTS_FILES", "Card", "list_models", "load_model"]

WEIGHTS_FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")  # how the names of weights files end


def list_models() -> tuple[Card, ...]:
    """The cards of all networks that `load_model` knows, the default first."""
    return CARDS


def load_model(
    name: str | Path,
    weights: str | None = "default",
    *,
    architecture: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    input_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Model:
    """The network ``name`` of the catalogue, in eval mode and frozen, on the CPU.

    ``weights="default"`` loads its trained weights after checking their digest, and fetches them where they have to
    come from the network (``progress`` then counts bytes). ``weights=None`` gives the structure with random weights,
    the same at each call; the record then has no ``weights`` and is titled "untrained". The caller's random state is
    left alone. Raises BadParameter for an unknown name, and BadWeights naming the file that is missing or damaged.

    The path of a weights file in place of a name loads your own: .safetensors, or a state dict as torch.save writes it,
    which is opened in a process of its own without running code from it. ``architecture``, ``labels``, ``input_size``,
    ``mean`` and ``std`` are as in `models.own.open_network`, and belong to a file only; ``weights`` does not.
    """
    from vizcore.records import BadParameter

    if isinstance(name, Path) or str(name).lower().endswith(WEIGHTS_FILES) or architecture is not None:
        from models.checkpoints import read_file
        from models.own import open_network

        if weights != "default":
            raise BadParameter(f"weights is {weights!r}, but {name} has weights of its own. Leave weights out.")
        file = read_file(name)
        return open_network(file, architecture, labels, input_size=input_size, mean=mean, std=std).model

    from models.loading import load

    if (labels, input_size, mean, std) != (None, None, None, None):
        raise BadParameter(
            "labels, input_size, mean and std are for a weights file of your own; give its path in place of a name."
        )
    return load(name, weights, progress)
