"""Which networks there are, and how to get one: `list_models` and `load_model`.

Importing this costs milliseconds; torch is imported by the first `load_model`, torchvision only for a net of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.catalogue import CARDS, Card

if TYPE_CHECKING:
    from vizcore.records import Model, Progress

__all__ = ["Card", "list_models", "load_model"]


def list_models() -> tuple[Card, ...]:
    """The cards of all networks that `load_model` knows, the default first."""
    return CARDS


def load_model(name: str, weights: str | None = "default", *, progress: Progress | None = None) -> Model:
    """The network ``name`` of the catalogue, in eval mode and frozen, on the CPU.

    ``weights="default"`` loads its trained weights after checking their digest, and fetches them where they have to
    come from the network (``progress`` then counts bytes). ``weights=None`` gives the structure with random weights,
    the same at each call; the record then has no ``weights`` and is titled "untrained". The caller's random state is
    left alone. Raises BadParameter for an unknown name, and BadWeights naming the file that is missing or damaged.
    """
    from models.loading import load

    return load(name, weights, progress)
