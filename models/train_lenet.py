"""Train LeNet-5 on MNIST and write its weights, their digest and their card.

    python -m models.train_lenet --data mnist.npz --out models/weights

``--data`` is an .npz with train_images (60000, 28, 28) uint8, train_labels, test_images (10000, 28, 28) and
test_labels; without it, torchvision fetches MNIST. ``--validate`` trains on 50 000 of the training pictures, measures
on the other 10 000 and writes nothing: the options below were chosen so, and the test pictures looked at once.

Sigmoids saturate, and a plain SGD run stalls for epochs before it learns anything; Xavier initialisation and Adam with
a one-cycle rate do not. One thread and one seed: a second run on the same machine and versions gives the same file.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import math
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.catalogue import CARDS, Card
from models.lenet import LeNet5

EPOCHS = 30
BATCH = 128
PEAK_RATE = 1e-2  # Adam, one cycle: up over the first tenth, then a half cosine down to nothing
WARM_UP = 0.1
DEGREES, PIXELS, ZOOM = 8.0, 1.5, 0.1  # the largest rotation, shift and change of size of a training picture
SEED = 0
CARD: Card = next(card for card in CARDS if card.name == "lenet5")


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures (n, 1, 28, 28) in [0, 1] and their digits (n,)."""

    pixels: Tensor
    digits: Tensor

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, rows: Tensor | slice) -> Digits:
        return Digits(self.pixels[rows], self.digits[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train LeNet-5 on MNIST.")
    parser.add_argument("--data", type=Path, help="mnist.npz; without it, torchvision fetches MNIST")
    parser.add_argument("--out", type=Path, default=Path("models/weights"), help="folder for the weights and the card")
    parser.add_argument("--validate", action="store_true", help="hold out 10 000 training pictures; write nothing")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    training, test = read_npz(options.data) if options.data else fetch_mnist()
    if options.validate:
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(SEED))
        training, test = training[order[10_000:]], training[order[:10_000]]
    start = time.monotonic()
    net = train(training)
    minutes = (time.monotonic() - start) / 60
    right = classify(net, test) == test.digits
    by_digit = [right[test.digits == digit].double().mean().item() for digit in range(10)]
    where = "held-out training" if options.validate else "test"
    print(f"{int(right.sum())} of {len(test)} {where} pictures right: {right.double().mean():.2%}")
    print("by digit: " + ", ".join(f"{digit}: {share:.2%}" for digit, share in enumerate(by_digit)))
    if not options.validate:
        write(options.out, net, len(training), int(right.sum()), len(test), by_digit, minutes)


def read_npz(path: Path) -> tuple[Digits, Digits]:
    """Training and test pictures of a file as the module's docstring says."""
    try:
        with np.load(path) as file:
            arrays = [file[f"{part}_{what}"] for part in ("train", "test") for what in ("images", "labels")]
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"{path} cannot be read ({error}); it must be an .npz with train_images, train_labels and so on.")
    pictures, digits, test_pictures, test_digits = (torch.from_numpy(array) for array in arrays)
    return as_digits(pictures, digits), as_digits(test_pictures, test_digits)


def fetch_mnist() -> tuple[Digits, Digits]:
    """MNIST through torchvision, kept in build/mnist."""
    from models.torchvision_guard import guarded_import

    datasets = guarded_import("torchvision.datasets")
    try:
        sets = [datasets.MNIST("build/mnist", train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        sys.exit(f"MNIST could not be fetched ({error}). Name a file that is here: --data mnist.npz")
    return as_digits(sets[0].data, sets[0].targets), as_digits(sets[1].data, sets[1].targets)


def as_digits(pictures: Tensor, digits: Tensor) -> Digits:
    return Digits(pictures[:, None].float() / 255, digits.long())


def train(data: Digits) -> LeNet5:
    """A net trained on ``data``; prints a line an epoch."""
    torch.manual_seed(SEED)
    net = LeNet5()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    optimiser = torch.optim.Adam(net.parameters())
    steps = math.ceil(len(data) / BATCH) * EPOCHS
    step = 0
    for epoch in range(EPOCHS):
        start, loss_sum = time.monotonic(), 0.0
        for rows in torch.randperm(len(data)).split(BATCH):
            optimiser.param_groups[0]["lr"] = rate((step := step + 1) / steps)
            batch = data[rows]
            loss = F.cross_entropy(net(normalise(vary(batch.pixels))), batch.digits)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(rows)
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1:2d} of {EPOCHS}: loss {loss_sum / len(data):.4f}, {seconds:.1f} s", flush=True)
    return net.eval()


def rate(done: float) -> float:
    """The learning rate when the share ``done`` of the training is done, 0 to 1."""
    if done < WARM_UP:
        return PEAK_RATE * done / WARM_UP
    return PEAK_RATE * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def vary(pixels: Tensor) -> Tensor:
    """Each picture turned, moved and resized a little, at random; black comes in at the edges."""
    n, _, h, w = pixels.shape
    spread = torch.rand(4, n) * 2 - 1  # (4, N) in [-1, 1]
    angle, zoom = spread[0] * math.radians(DEGREES), 1 + spread[1] * ZOOM
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    right, down = spread[2] * PIXELS * 2 / w, spread[3] * PIXELS * 2 / h
    matrix = torch.stack([cos, -sin, right, sin, cos, down], 1).view(n, 2, 3)
    grid = F.affine_grid(matrix, [n, 1, h, w], align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


def normalise(pixels: Tensor) -> Tensor:
    return (pixels - CARD.mean[0]) / CARD.std[0]


@torch.no_grad()
def classify(net: nn.Module, data: Digits) -> Tensor:
    """The digit that the net sees in each picture, (n,)."""
    return torch.cat([net(normalise(part)).argmax(1) for part in data.pixels.split(1000)])


def write(
    folder: Path, net: nn.Module, seen: int, right: int, total: int, by_digit: list[float], minutes: float
) -> None:
    """The weights, SHA256SUMS (as sha256sum -c reads it) and the card, into ``folder``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CARD.file
    save_file(net.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = folder / "SHA256SUMS"
    others = [line for line in sums.read_text().splitlines() if not line.endswith(path.name)] if sums.exists() else []
    sums.write_text("\n".join([*others, f"{digest}  {path.name}"]) + "\n")
    card = f"""# {CARD.title}

{CARD.paper}.
Two convolutions and three dense layers with sigmoids and average pooling, as in *Dive into Deep Learning* 7.6;
{sum(p.numel() for p in net.parameters()):,} parameters. Written out in `models/lenet.py`.

| | |
|---|---|
| data | MNIST (LeCun, Cortes, Burges), {seen:,} training pictures, 28 × 28, grey |
| accuracy | **{right / total:.2%}** of the {total:,} test pictures ({right:,} right), measured once, at the end |
| recipe | Adam, batch {BATCH}, {EPOCHS} epochs, one-cycle rate with its peak at {PEAK_RATE:g}, Xavier initialisation |
| variation | rotation up to {DEGREES:g}°, shift up to {PIXELS:g} pixels, size up to {ZOOM:.0%} |
| choice of the recipe | on 10 000 held-out training pictures (`--validate`) |
| input | pixels in [0, 1], minus {CARD.mean[0]}, divided by {CARD.std[0]} |
| seed | {SEED} |
| made | {datetime.date.today().isoformat()}, in {minutes:.0f} minutes on one CPU core |
| versions | Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__} |
| SHA-256 | `{digest}` |
| licence | weights MIT; data CC BY-SA 3.0 |

| digit | {" | ".join(str(digit) for digit in range(10))} |
|---|{"---|" * 10}
| right | {" | ".join(f"{share:.1%}" for share in by_digit)} |

Made by `python -m models.train_lenet`, which wrote this page.
"""
    (folder / CARD.file).with_suffix(".md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
