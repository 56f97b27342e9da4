"""What the training scripts have in common: pictures in memory, their variation, the rate, and what is written.

Weights go into ``<name>.safetensors`` with their digest in SHA256SUMS; the states that the net went through into
``<name>_training.safetensors``, as float16 and with the accuracy of each, for who wants to see it grow.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pixels (n, C, h, w) uint8 and their classes (n,) int64."""

    pixels: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: Tensor | slice) -> Pictures:
        return Pictures(self.pixels[rows], self.classes[rows])

    def split_off(self, count: int, seed: int) -> tuple[Pictures, Pictures]:
        """All but ``count`` of them, and these, drawn at random."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[count:]], self[order[:count]]


@dataclass(frozen=True)
class Variation:
    """How far a training picture may be turned (degrees), sheared (degrees), moved (pixels) and resized (a share).

    Of the pictures, the share ``sharp`` is only moved, by whole pixels, and mirrored: what is resampled is a little
    blurred, and a net that has seen nothing else is worse at pictures as they are. In each, a square of ``hidden``
    pixels a side is grey, somewhere (cutout: DeVries and Taylor 2017); at the edges less of it is seen.
    """

    degrees: float = 0.0
    shear: float = 0.0
    pixels: float = 0.0
    zoom: float = 0.0
    flip: bool = False
    sharp: float = 0.0
    hidden: int = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Each picture (N, C, h, w) varied at random. Black comes in at the edges, or what lies inside, mirrored."""
        n, _, h, w = pixels.shape
        spread = torch.rand(4, n) * 2 - 1  # (4, N) in [-1, 1]
        angle, zoom, right, down = (
            spread * torch.tensor([math.radians(self.degrees), self.zoom, self.pixels, self.pixels])[:, None]
        )
        slant = (torch.rand(n) * 2 - 1) * math.radians(self.shear) if self.shear else torch.zeros(n)
        if self.sharp:
            sharp = torch.rand(n) < self.sharp
            angle, zoom, slant = (part.masked_fill(sharp, 0.0) for part in (angle, zoom, slant))
            right, down = (torch.where(sharp, part.round(), part) for part in (right, down))
        cos, sin = angle.cos() / (1 + zoom), angle.sin() / (1 + zoom)
        matrix = torch.stack([cos, -sin, right * 2 / w, sin, cos, down * 2 / h], 1).view(n, 2, 3)
        matrix[:, :, 1] += slant.tan()[:, None] * matrix[:, :, 0]
        if self.flip:
            matrix[:, :, :2] *= torch.stack([(torch.rand(n) < 0.5) * -2.0 + 1, torch.ones(n)], 1)[:, None]
        grid = F.affine_grid(matrix, [n, 1, h, w], align_corners=False)
        padding = "reflection" if self.flip else "zeros"  # photos have no black ground to show
        varied = F.grid_sample(pixels, grid, align_corners=False, padding_mode=padding)
        return self._with_a_square_hidden(varied) if self.hidden else varied

    def _with_a_square_hidden(self, pixels: Tensor) -> Tensor:
        n, _, h, w = pixels.shape
        top = torch.randint(h, (n, 1)) - self.hidden // 2
        left = torch.randint(w, (n, 1)) - self.hidden // 2
        rows, columns = torch.arange(h) - top, torch.arange(w) - left  # (N, h) and (N, w), from the square's corner
        within_rows, within_columns = (place // self.hidden == 0 for place in (rows, columns))
        return pixels.masked_fill((within_rows[:, :, None] & within_columns[:, None])[:, None], 0.5)

    @property
    def words(self) -> str:
        """For a card: "rotation up to 8°, shift up to 1.5 pixels, size up to 10%"."""
        said = (
            (self.degrees, f"rotation up to {self.degrees:g}°"),
            (self.shear, f"shear up to {self.shear:g}°"),
            (self.pixels, f"shift up to {self.pixels:g} pixels"),
            (self.zoom, f"size up to {self.zoom:.0%}"),
            (self.flip, "mirrored half of the time"),
            (self.sharp, f"{self.sharp:.0%} of the pictures only mirrored and moved by whole pixels"),
            (self.hidden, f"a grey square of {self.hidden} pixels a side somewhere"),
        )
        return ", ".join(words for value, words in said if value)


def one_cycle(done: float, peak: float, warm_up: float) -> float:
    """The learning rate when the share ``done`` of the training is done: up for ``warm_up`` of it, then a half cosine
    down to nothing."""
    if done < warm_up:
        return peak * done / warm_up
    return peak * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) / 2


def is_kept(epoch: int, epochs: int) -> bool:
    """Whether a state is kept: before the first epoch, after 1, 2, 4, 8, … and the last."""
    return epoch in (0, epochs) or epoch.bit_count() == 1


@torch.no_grad()
def classify(net: nn.Module, pictures: Pictures, normalise: Callable[[Tensor], Tensor]) -> Tensor:
    """The class that the net sees in each picture, (n,)."""
    mode = net.training
    net.eval()
    found = torch.cat([net(normalise(part.float() / 255)).argmax(1) for part in pictures.pixels.split(500)])
    net.train(mode)
    return found


@dataclass(frozen=True, eq=False)
class States:
    """What a net went through: its tensors by epoch, as float16."""

    by_epoch: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def keep(self, epoch: int, net: nn.Module) -> None:
        self.by_epoch[epoch] = {
            name: tensor.detach().half().clone() if tensor.is_floating_point() else tensor.clone()
            for name, tensor in net.state_dict().items()
            if not name.endswith("num_batches_tracked")  # counts steps; nothing reads it later
        }

    def accuracies(self, net: nn.Module, test: Pictures, normalise: Callable[[Tensor], Tensor]) -> dict[int, float]:
        """The share of ``test`` that each state gets right, as it is shipped: with its numbers rounded."""
        found = {}
        for epoch, state in self.by_epoch.items():
            net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
            found[epoch] = (classify(net, test, normalise) == test.classes).double().mean().item()
        return found


def write_states(path: Path, states: States, accuracies: Mapping[int, float]) -> None:
    from safetensors.torch import save_file

    tensors = {
        f"{epoch}/{name}": tensor.contiguous()
        for epoch, state in states.by_epoch.items()
        for name, tensor in state.items()
    }
    save_file(tensors, path, {"accuracies": json.dumps({str(epoch): share for epoch, share in accuracies.items()})})
    _list_digest(path)


def write_weights(path: Path, net: nn.Module) -> str:
    """The tensors of a net and their digest, which is the answer."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path)
    return _list_digest(path)


def _list_digest(path: Path) -> str:
    """The SHA-256 of a file, written into the SHA256SUMS beside it, as sha256sum -c reads it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = path.parent / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    others = [line for line in lines if line.split()[1:] != [path.name]]
    sums.write_text("\n".join([*others, f"{digest}  {path.name}"]) + "\n")
    return digest


def shares_by_class(right: Tensor, classes: Tensor) -> list[float]:
    """The share of the pictures of each class that are ``right``, (n,) bool, in the order of the classes."""
    return [right[classes == one].double().mean().item() for one in range(int(classes.max()) + 1)]


def options_of(what: str, data: str, epochs: int) -> argparse.Namespace:
    """What a training script is asked for on its command line; ``data`` says what file it takes."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--data", type=Path, help=f"{data}; without it, torchvision fetches it")
    parser.add_argument("--out", type=Path, default=Path("models/weights"), help="folder for the weights and the card")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--validate", action="store_true", help="measure on held-out training pictures; write nothing")
    return parser.parse_args()


def facts_of_run(seed: int, minutes: float, digest: str) -> str:
    """Rows of a card: what is the same for every net that is trained here."""
    cores = torch.get_num_threads()
    return f"""| seed | {seed} |
| made | {datetime.date.today().isoformat()}, in {minutes:.0f} minutes on {cores} CPU core{"s" * (cores > 1)} |
| versions | Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__} |
| SHA-256 | `{digest}` |"""


def table_of_states(accuracies: Mapping[int, float]) -> str:
    """A table for a card: the share of the test pictures that is right after so many epochs."""
    return f"""| epochs | {" | ".join(str(epoch) for epoch in accuracies)} |
|---|{"---|" * len(accuracies)}
| right | {" | ".join(f"{share:.2%}" for share in accuracies.values())} |"""


def read_mnist(path: Path | None) -> tuple[Pictures, Pictures]:
    """MNIST for training and for the test, (n, 1, 28, 28): from ``path``, or through torchvision into build/mnist.

    ``path`` is an .npz with train_images (60000, 28, 28) uint8, train_labels, test_images (10000, 28, 28), test_labels.
    """
    if path is None:
        return tuple(Pictures(one.data[:, None], one.targets.long()) for one in _fetch("MNIST"))  # type: ignore[return-value]
    try:
        with np.load(path) as file:
            arrays = [file[f"{part}_{what}"] for part in ("train", "test") for what in ("images", "labels")]
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"{path} cannot be read ({error}); it must be an .npz with train_images, train_labels and so on.")
    pixels, classes, test_pixels, test_classes = (torch.from_numpy(array) for array in arrays)
    return Pictures(pixels[:, None], classes.long()), Pictures(test_pixels[:, None], test_classes.long())


def read_cifar(path: Path | None) -> tuple[Pictures, Pictures]:
    """CIFAR-10 for training and for the test, (n, 3, 32, 32): from ``path``, or through torchvision into build/cifar10.

    ``path`` is an .npz with, for train and for test, `*_bytes` (all JPEG files end to end), `*_lengths`, `*_labels`.
    """
    if path is None:
        return tuple(  # type: ignore[return-value]
            Pictures(torch.from_numpy(one.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(one.targets))
            for one in _fetch("CIFAR10")
        )
    try:
        with np.load(path) as file:
            return _decoded(file, "train"), _decoded(file, "test")
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"{path} cannot be read ({error}); it must be an .npz with train_bytes, train_lengths and so on.")


def _decoded(file: Mapping[str, np.ndarray], part: str) -> Pictures:
    import io

    from PIL import Image

    ends = np.cumsum(file[f"{part}_lengths"])
    everything = file[f"{part}_bytes"].tobytes()
    rows = [
        np.asarray(Image.open(io.BytesIO(everything[first:last])).convert("RGB"))
        for first, last in zip(np.r_[0, ends[:-1]], ends, strict=True)
    ]
    pixels = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()  # (n, 3, 32, 32)
    return Pictures(pixels, torch.from_numpy(file[f"{part}_labels"].astype(np.int64)))


def _fetch(name: str) -> list:
    """The training and the test set of torchvision's data set ``name``."""
    from models.torchvision_guard import guarded_import

    data_set = getattr(guarded_import("torchvision.datasets"), name)
    try:
        return [data_set(f"build/{name.lower()}", train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        sys.exit(f"{name} could not be fetched ({error}). Name a file that is here with --data.")
