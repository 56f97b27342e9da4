"""``models`` and ``methods``: the names that ``--model`` and ``--method`` know."""

from __future__ import annotations

from typing import Any

from commands import common


def add(commands: Any) -> None:
    common.command(
        commands,
        "models",
        models,
        "the networks that --model knows by name",
        "Which networks there are by name, and whether their weights are on this machine.\n\n"
        "  python -m vizcore models",
    )
    common.command(
        commands,
        "methods",
        methods,
        "the methods that --method knows by name",
        "Which heatmaps there are, and who made them up.\n\n  python -m vizcore methods",
    )


def models(asked: Any) -> None:
    """What ``models`` does."""
    from models import list_models

    rows = [("name", "network", "classes", "parameters", "weights")]
    for card in list_models():
        weights = "none: --untrained" if card.origin == "untrained" else "here" if card.ready() else "not here"
        rows.append((card.name, card.title, card.classes, f"{card.parameters:,}", weights))
    common.print_table(rows, right=(3,))


def methods(asked: Any) -> None:
    """What ``methods`` does."""
    from vizcore.heatmaps import HEATMAP_METHODS

    common.print_table(
        [("name", "method", "from"), *((name, row.title, row.reference) for name, row in HEATMAP_METHODS.items())]
    )
