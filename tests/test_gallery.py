"""The notebook in docs/ runs from top to bottom, with public names only, and what it shows is what it makes."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "gallery.ipynb"
PACKAGES = {"models", "vizcore", "numpy", "IPython", "PIL"}


def test_it_imports_public_names_of_the_project_and_little_else() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert {str(module).split(".")[0] for module in modules} <= PACKAGES
            if isinstance(node, ast.ImportFrom):
                assert not [name.name for name in node.names if name.name.startswith("_")]
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), f"{node.attr} is nobody's business"


@pytest.mark.slow
def test_it_runs_and_shows_as_much_as_it_has_kept() -> None:
    kept = nbformat.read(NOTEBOOK, as_version=4)
    ran = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(ran, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert any(cell.get("outputs") for cell in kept.cells), "it was saved without what it shows"
    for before, after in zip(kept.cells, ran.cells, strict=True):
        if before.cell_type == "code":
            assert shown(before) == shown(after), before.source


def shown(cell: nbformat.NotebookNode) -> list[object]:
    """What comes out of a cell: of words the first ones, of pictures that there are some."""
    return [
        output.text.split()[0] if output.output_type == "stream" else sorted(output.data) for output in cell.outputs
    ]
