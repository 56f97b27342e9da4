"""The names of the classes, short enough for a legend and no two alike."""

from __future__ import annotations

from functools import cache
from pathlib import Path

DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1 000 ImageNet classes in the usual order, each by the first name of its WordNet synset.

    WordNet gives "crane" and "maillot" twice: the file beside this one says which is meant.
    """
    names = Path(__file__).with_name("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(names.splitlines())


def class_names(classes: str, count: int) -> tuple[str, ...]:
    """The names of ``count`` classes, of the data set that a card's ``classes`` begins with; numbered if unknown."""
    data = classes.partition(",")[0]
    named = {"MNIST": DIGITS, "CIFAR-10": CIFAR10}
    names = imagenet_labels() if data == "ImageNet" else named.get(data, ())
    return names if len(names) == count else tuple(f"class {i}" for i in range(count))
