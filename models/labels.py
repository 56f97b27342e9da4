"""The names of the classes, short enough for a legend and no two alike."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

DIGITS = tuple("0123456789")

# WordNet gives these pairs one first name.
TOLD_APART = {134: "crane (bird)", 517: "crane (machine)", 638: "maillot (tights)", 639: "maillot (swimsuit)"}


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1 000 ImageNet classes in the usual order, each by the first name of its WordNet synset.

    Read from the text files that timm carries, without importing timm. FileNotFoundError where timm is not installed.
    """
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.origin:
        raise FileNotFoundError("timm is not installed: pip install -r requirements.txt")
    folder = Path(spec.origin).parent / "data" / "_info"
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    names = dict(line.split("\t") for line in lines)
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    short = [names[synset].split(",")[0] for synset in synsets]
    return tuple(TOLD_APART.get(i, name) for i, name in enumerate(short))
