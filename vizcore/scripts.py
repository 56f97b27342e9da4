"""The Python that makes a result again, as text: imports first, one line a module, then the picture, then the call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where a model and a photo come from: the Python expressions ``model`` and ``photo``, and their ``imports``."""

    model: str
    photo: str
    imports: tuple[str, ...]


def script(origin: Origin, imports: Iterable[str], call: str) -> str:
    """A script that ends with ``call``, lines that start from ``model``, ``photo`` and ``view``."""
    wanted = {"from models import load_model", "from vizcore.images import prepare", *origin.imports, *imports}
    lines = (*merged(wanted), "", f"model = {origin.model}", f"photo = {origin.photo}", "view = prepare(photo, model)")
    return "\n".join((*lines, call, ""))


def merged(imports: Iterable[str]) -> list[str]:
    """Import statements without double ones: one line a module, names sorted."""
    plain = sorted({line for line in imports if line.startswith("import ")})
    modules: dict[str, set[str]] = {}
    for line in set(imports).difference(plain):
        _, module, _, names = line.split(" ", 3)
        modules.setdefault(module, set()).update(names.split(", "))
    froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]
    return [*plain, *[""] * bool(plain), *froms]
