"""The kernels of a convolution as numbers for pictures.

First-layer kernels work on the picture itself, so they can be looked at (Krizhevsky et al., *ImageNet Classification
with Deep CNNs*, NeurIPS 2012, figure 3): oriented edges, colour blobs. Kernels of deeper layers have no colours; they
are slices, one for each channel that they read. Values are the weights as they are, signed, on one scale for the
whole bank: scaling each kernel for itself would make a dead one look like the strongest.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vizcore.hooks import find_layer, layer_for
from vizcore.records import BadParameter, Filters, LayerNotFound, Model, UnsupportedModel

ORDERS = ("index", "strength", "similarity")


def filters(model: Model, layer: str | None = None) -> Filters:
    """The kernels (N, C, kh, kw) of a convolution; ``layer`` None takes ``model.layers["first_conv"]``.

    C is the number of input channels of a group. No forward pass. Raises LayerNotFound, listing the
    convolutions, for a layer that is not a two-dimensional one.
    """
    layer = layer_for(model, "first_conv", layer)
    module = find_layer(model, layer)
    if not isinstance(module, nn.Conv2d):
        known = ", ".join(f"“{name}”" for name in convolutions(model)[:6])
        raise LayerNotFound(
            f"The layer “{layer}” of {model.title} is a {type(module).__name__}, not a two-dimensional convolution. "
            f"Convolutions are, from the first: {known or 'none'}."
        )
    if module.weight.is_meta:
        raise UnsupportedModel(f"{model.title} has no weights in memory (device “meta”): load them first.")
    with model.lock, torch.no_grad():
        values = module.weight.detach().float().cpu().numpy().copy()
    sees_picture = layer == model.layers.get("first_conv") and values.shape[1] == len(model.mean) == 3
    return Filters(values, model.name, layer, ("red", "green", "blue") if sees_picture else None)


def convolutions(model: Model) -> tuple[str, ...]:
    """Dotted names of the two-dimensional convolutions, in order of definition."""
    return tuple(name for name, module in model.net.named_modules() if name and isinstance(module, nn.Conv2d))


def as_rgb(bank: Filters) -> np.ndarray:
    """Kernels of three input channels as colours, (N, kh, kw, 3) float32 in [0, 1]: 0.5 is a weight of zero.

    One scale for the whole bank: the weight of largest magnitude reaches 0 or 1.
    """
    if bank.values.shape[1] != 3:
        raise BadParameter(f"The kernels of “{bank.layer}” read {bank.values.shape[1]} channels; colours need 3.")
    largest = float(np.abs(bank.values).max()) or 1.0
    return (0.5 + 0.5 * bank.values / largest).transpose(0, 2, 3, 1)


def order(bank: Filters, by: str = "index") -> np.ndarray:
    """A permutation (N,) of the kernels: by ``index``, by ``strength`` (Euclidean length, strongest first), or
    by ``similarity`` (each followed by its nearest unused neighbour in cosine, from the strongest on)."""
    if by not in ORDERS:
        raise BadParameter(f"by is {by!r}; it must be one of {', '.join(ORDERS)}.")
    strongest = np.argsort(-bank.norms, kind="stable")
    if by == "index":
        return np.arange(len(bank.values))
    if by == "strength":
        return strongest
    flat = bank.values.reshape(len(bank.values), -1) / np.maximum(bank.norms, np.finfo(np.float32).tiny)[:, None]
    cosine = flat @ flat.T  # (N, N)
    chain, left = [int(strongest[0])], set(strongest[1:].tolist())
    while left:
        chain.append(max(sorted(left), key=lambda n: cosine[chain[-1], n]))
        left.discard(chain[-1])
    return np.array(chain)
