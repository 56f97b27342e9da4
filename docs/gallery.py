"""Run every cell of docs/gallery.ipynb and keep what comes out: ``python docs/gallery.py``."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "gallery.ipynb"
ROOT = NOTEBOOK.parents[1]


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()  # times, which differ from run to run
        for output in cell.get("outputs", []):
            output.metadata = nbformat.NotebookNode()
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
