"""Any convolutional net that timm knows, as a `Card`: what timm says of it, and which of its layers play which role.

timm names a net's first convolution and its classifier. The last maps and the vector before the classifier it does
not name, so a pass of a picture without memory (torch's device "meta") through a net without memory shows them.
Importing timm takes seconds, hence everything here is asked late.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from models.catalogue import Card, Origin
from models.torchvision_guard import guarded_import
from vizcore.records import BadParameter, BadWeights, Progress

PREFIX = "timm/"
QUERIES = ("q", "to_q", "q_proj", "q_bias", "query", "qkv", "qkvs", "qkv_proj", "to_qkv")  # layers of self-attention
HANDS_THROUGH = (nn.Identity, nn.Dropout, nn.Flatten)


def knows(name: str) -> bool:
    """Whether timm has a net of this name, an architecture or an architecture.tag; "timm/" may stand before it."""
    timm = _timm()
    name = name.removeprefix(PREFIX)
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture) or architecture in timm.models.get_deprecated_models():
        return False
    return not dot or name in timm.list_models(f"{architecture}.*", include_tags=True)


def nearest(name: str) -> list[str]:
    """Up to three names of timm that look like ``name``, with "timm/" before them."""
    wanted = name.removeprefix(PREFIX).lower()
    timm = _timm()
    known = timm.list_models(include_tags="." in wanted)
    return [PREFIX + near for near in difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)]


@cache
def card_of(name: str) -> Card:
    """The card of a net that timm `knows`, made from its cfg and a pass without memory.

    Raises BadParameter for what is no convolutional net with a classifier: transformers, mixers, feature extractors.
    """
    name = name.removeprefix(PREFIX)
    cfg = _timm().get_pretrained_cfg(name)
    if cfg is None:
        raise BadParameter(f"timm says nothing of how {name} wants its pictures, so it cannot be shown one.")
    if not cfg.num_classes:
        raise BadParameter(f"{name} of timm has no classifier: it ends in features. Choose a net with classes.")
    net = _timm().create_model(name, device="meta").eval()
    if attention := _attention_in(net):
        raise BadParameter(
            f"{name} of timm is no convolutional network: its “{attention}” lets every place look at every other. CNN "
            "Lens shows networks of convolutions."
        )
    file = cfg.hf_hub_filename or "model.safetensors" if cfg.hf_hub_id else (cfg.url or "").rpartition("/")[2]
    digest = "" if cfg.hf_hub_id else file.rpartition("-")[2].partition(".")[0]  # as torch.hub has it in the name
    origin: Origin = "hub" if cfg.hf_hub_id else "loader" if re.fullmatch("[0-9a-f]{8,64}", digest) else "untrained"
    return Card(
        name=PREFIX + name,
        title=name,
        year=None,
        paper=cfg.paper_name or cfg.origin_url or "see timm",
        summary=cfg.description or "As timm builds it.",
        classes="ImageNet, 1,000 classes" if cfg.num_classes == 1000 else f"{cfg.num_classes:,} classes",
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        licence=cfg.license or "not stated by timm",
        builder=f"timm.{name}",
        origin=origin,
        hub=cfg.hf_hub_id or "",
        file=file,
        sha256=digest if origin == "loader" else "",
        input_size=tuple(cfg.input_size[1:]),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        crop_pct=cfg.crop_pct,
        interpolation=cfg.interpolation,
        layers=_roles(net, cfg),
    )


def build(name: str) -> nn.Module:
    """The net ``name`` of timm on the device "meta", in train mode; buffers that no file holds are real."""
    net = _timm().create_model(name, device="meta")
    for module in net.modules():
        for key in module._non_persistent_buffers_set:
            buffer = module._buffers[key]
            if buffer is not None:
                module._buffers[key] = torch.empty_like(buffer, device="cpu")
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
    return net


def trained(card: Card, progress: Progress | None = None) -> nn.Module:
    """The net with its weights through timm's own loader. BadWeights in one sentence where that cannot have them.

    timm counts no bytes: ``progress`` is called at the end.
    """
    try:
        if not card.ready():
            from models.fetching import reach

            reach(_address(card))
        with torch.random.fork_rng(devices=[]):  # timm fills the net with random numbers first
            net = _timm().create_model(card.builder.partition(".")[2], pretrained=True)
    except Exception as error:  # of timm, its hub, their connection and the file: they have no family name
        from models.fetching import reason

        raise BadWeights(
            f"The weights of {card.title} are not on this machine and could not be fetched ({reason(error)}): copy the "
            f"folder {card.folder} from a machine where timm has fetched them, load {card.file} of the hub's "
            f'{card.hub} as a file of your own with architecture="{card.name}", or take the structure untrained with '
            f'load_model("{card.name}", weights=None).'
        ) from error
    if progress:
        progress(1, 1)
    return net


def _address(card: Card) -> str:
    """Where the hub has the file."""
    return f"{os.getenv('HF_ENDPOINT', 'https://huggingface.co')}/{card.hub}/resolve/main/{card.file}"


def _timm() -> ModuleType:
    return guarded_import("timm")


# ---- which layer plays which role ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """One module as it finished: its output's ``shape`` with N, () where that is no tensor."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]


def _attention_in(net: nn.Module) -> str:
    """The name of the first module that looks from place to place by content, or by recurrence, or ""."""
    for name, module in net.named_modules():
        known = name.rpartition(".")[2] in QUERIES or "Attention" in type(module).__name__
        if known or isinstance(module, nn.RNNBase) or any(own in QUERIES for own in module._parameters):
            return name
    return ""


def _roles(net: nn.Module, cfg: Any) -> dict[str, str]:
    """The layers that play the four roles, or BadParameter where a net has none that could."""
    ran = _order_of(net, cfg.input_size)
    runs = Counter(one.name for one in ran)
    once = [one for one in ran if runs[one.name] == 1]
    convolutions = [one.name for one in once if isinstance(one.module, nn.Conv2d)]
    first = [cfg.first_conv] if isinstance(cfg.first_conv, str) else list(cfg.first_conv or ())
    ends = [i for i, one in enumerate(once) if one.name == cfg.classifier]
    if not convolutions or not ends or not isinstance(last := once[ends[0]].module, (nn.Linear, nn.Conv2d)):
        raise BadParameter(f"{cfg.architecture} of timm does not end in one layer of scores behind convolutions.")
    before = once[: ends[0]]
    maps = [i for i, one in enumerate(before) if len(one.shape) == 4 and one.shape[2] * one.shape[3] > 1]
    behind = before[maps[-1] :] if maps else []
    vectors = [one for one in behind if math.prod(one.shape) == last.weight.shape[1]]
    if not vectors or any(len(one.shape) == 3 for one in behind):
        raise BadParameter(f"{cfg.architecture} of timm hands no maps to its classifier: it is no convolutional one.")
    return {
        "first_conv": next((name for name in first if name in convolutions), convolutions[0]),
        "cam": _name_of([before[i] for i in maps]),
        "features": _name_of(vectors),
        "classifier": cfg.classifier,
    }


def _name_of(candidates: list[Ran]) -> str:
    """The last of the candidates, and of those that only hand it on, the one that made it."""
    made = [one.name for one in candidates if not isinstance(one.module, HANDS_THROUGH)]
    return (made or [one.name for one in candidates])[-1]


def _order_of(net: nn.Module, input_size: tuple[int, int, int]) -> list[Ran]:
    """Every module of a net without memory in the order in which they finish, in one pass of a picture without memory.

    The net belongs to this function alone, so that each module's ``forward`` can be wrapped and forgotten with it.
    """
    ran: list[Ran] = []

    def watch(name: str, module: nn.Module) -> None:
        forward = module.forward

        def watched(*args: Any, **options: Any) -> Any:
            output = forward(*args, **options)
            ran.append(Ran(name, module, tuple(output.shape) if isinstance(output, Tensor) else ()))
            return output

        module.forward = watched

    for name, module in net.named_modules():
        if name:
            watch(name, module)
    with torch.no_grad():
        net(torch.empty(1, *input_size, device="meta"))
    return ran
