"""The only way in to torchvision, and to timm, which imports it.

Beside a CPU build of torch, the compiled part of the torchvision wheel does not load, and then `import torchvision`
fails on "operator torchvision::nms does not exist". Declaring the schemas of `nms` and `qnms` first mends it: models,
transforms and feature extraction work; the detection operators do not, and are not used here. Where the compiled
part loads, nothing is declared.

The import takes about two seconds (torchvision.ops brings torch._dynamo along): call this late, inside functions.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from pathlib import Path
from types import ModuleType

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_lock = threading.Lock()
_declared: list[torch.library.Library] = []  # a schema lasts only as long as its Library object


def guarded_import(name: str) -> ModuleType:
    """The module ``name``, such as "torchvision.models" or "timm", whatever build of torch it stands beside.

    Safe to call again, and from several threads. ImportError where the package is not installed.
    """
    with _lock:
        if "torchvision" not in sys.modules and not _compiled_part_loads():
            _declare_schemas()
        return importlib.import_module(name)


def _compiled_part_loads() -> bool:
    """Load torchvision's own extension exactly as it will do itself; loading it twice is harmless."""
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.origin:
        raise ImportError("torchvision is not installed: pip install -r requirements.txt")
    finder = FileFinder(str(Path(package.origin).parent), (ExtensionFileLoader, EXTENSION_SUFFIXES))
    extension = finder.find_spec("_C")
    if extension is None or not extension.origin:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True


def _declare_schemas() -> None:
    if _declared:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _declared.append(library)
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(operator + _SCHEMA)
