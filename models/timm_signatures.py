"""Which networks of timm have given convolutions: a table, for building all of timm's to compare would take minutes.

A signature is a digest of the names and shapes of all kernels (four axes) but the classifier's. Networks that differ in
padding or activation alone share one. ``python -m models.timm_signatures`` writes the table anew, for another timm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_suffix(".txt")


def networks_with(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The names that timm has for networks with the kernels among ``shapes``, by tensor name."""
    return _table().get(signature(shapes), ())


def signature(shapes: Mapping[str, tuple[int, ...]], classifier: str = "classifier") -> str:
    kernels = sorted(
        f"{name} {tuple(shape)}"
        for name, shape in shapes.items()
        if len(shape) == 4 and not name.startswith(f"{classifier}.")
    )
    return hashlib.sha256("\n".join(kernels).encode()).hexdigest()[:12]


@cache
def _table() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        found[digest] = (*found.get(digest, ()), name)
    return found


def main() -> None:
    from models.timm_nets import card_of
    from models.torchvision_guard import guarded_import
    from vizcore.records import BadParameter

    timm = guarded_import("timm")
    lines = []
    for name in timm.list_models():
        try:
            card = card_of(name)
        except (BadParameter, RuntimeError, ValueError):  # not of convolutions, or not to be built as it is
            continue
        net = timm.create_model(name, device="meta")
        shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
        lines.append(f"{signature(shapes, card.layers['classifier'])} {name}\n")
    TABLE.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
