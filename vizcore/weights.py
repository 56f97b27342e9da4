"""Which weights a net has: one digest of all of them, and what else its answers hang on."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from vizcore.records import Model


def digest_of_weights(model: Model) -> str:
    """SHA-256, in hexadecimal, of all parameters and buffers with their names, types and shapes: the same for the same
    net wherever it was loaded from. Takes a second for a gigabyte."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def facts_of_model(model: Model, digest: str) -> dict[str, Any]:
    """What tells a model from another in a manifest: its name, the ``digest`` of its weights, how it sees a picture."""
    return {
        "name": model.name,
        "weights": digest,
        "input_size": list(model.input_size),
        "mean": list(model.mean),
        "std": list(model.std),
        "crop_pct": model.crop_pct,
        "interpolation": model.interpolation,
    }
