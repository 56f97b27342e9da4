"""Train the spatial-transformer LeNet on distorted MNIST and write its weights, their digest and its card.

    python -m models.train_transformer --data mnist.npz --out models/weights

``--data`` is an .npz as `models.training.read_mnist` says; without it, torchvision fetches MNIST. Each time a training
picture is shown it is turned, resized and moved anew; the test pictures once, with a seed of their own.
``--validate`` trains on 50 000 of the training pictures, measures on the other 10 000 and writes nothing: the options
below were chosen so, in shorter runs, and the test pictures looked at once.

Nobody says where the digit is or how it is turned: the localisation net learns it from the classes alone. Left to
itself it centres and enlarges digits, and the rest of the net learns to read them turned. It learns to turn them back
as well where it learns faster than the rest, and where digits begin upright and are turned farther and farther.

Passes are made in bfloat16, weights and their changes stay float32.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.catalogue import CARDS, Card
from models.distorted import DEGREES, DIGIT, FRAME, SCALES, placements
from models.spatial_transformer import SpatialTransformerLeNet
from models.training import (
    Pictures,
    classify,
    facts_of_run,
    one_cycle,
    options_of,
    read_mnist,
    shares_by_class,
    write_weights,
)

EPOCHS = 10
BATCH = 128
PEAK_RATE = 2e-3  # Adam, one cycle: up over the first tenth, then a half cosine down to nothing
SHARE_OF_LOCATE = 3.0  # times that rate, for the localisation net
WARM_UP = 0.1
UPRIGHT_FIRST = 0.5  # of the training, over which digits are turned farther and farther
SEED, SEED_OF_TEST = 0, 1
CARD: Card = next(card for card in CARDS if card.name == "stn_lenet")


def main() -> None:
    options = options_of("Train a LeNet with a spatial transformer on distorted MNIST.", "MNIST as an .npz", EPOCHS)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    training, test = read_mnist(options.data)
    if options.validate:
        training, test = training.split_off(10_000, SEED)
    matrices = placements(len(test), np.random.default_rng(SEED_OF_TEST))
    test = distort(test, matrices)
    start = time.monotonic()
    net = train(training, options.epochs, test if options.validate else None)
    minutes = (time.monotonic() - start) / 60
    right = classify(net, test, as_shown) == test.classes
    before, behind = spreads(net, test, matrices)
    where = "held-out training" if options.validate else "test"
    print(
        f"{int(right.sum())} of {len(test)} {where} pictures right: {right.double().mean():.2%}, {minutes:.1f} minutes"
    )
    print(f"turned by {before:.1f}° before the warp and {behind:.1f}° behind it (standard deviation)")
    if not options.validate:
        digest = write_weights(options.out / CARD.file, net)
        facts = facts_of_run(SEED, minutes, digest)
        card = card_of(net, len(training), options.epochs, right, test.classes, (before, behind), facts)
        (options.out / CARD.file).with_suffix(".md").write_text(card, encoding="utf-8")


def train(data: Pictures, epochs: int, held_out: Pictures | None = None) -> SpatialTransformerLeNet:
    """A net trained on ``data``, digits that are not yet distorted; prints a line an epoch."""
    torch.manual_seed(SEED)
    draws = np.random.default_rng(SEED)
    net = SpatialTransformerLeNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    locating = list(net.get_submodule("transformer").parameters())
    others = [parameter for name, parameter in net.named_parameters() if not name.startswith("transformer.")]
    optimiser = torch.optim.Adam([{"params": others, "share": 1.0}, {"params": locating, "share": SHARE_OF_LOCATE}])
    steps = math.ceil(len(data) / BATCH) * epochs
    step = 0
    for epoch in range(1, epochs + 1):
        start, loss_sum = time.monotonic(), 0.0
        for rows in torch.randperm(len(data)).split(BATCH):
            rate = one_cycle((step := step + 1) / steps, PEAK_RATE, WARM_UP)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
            batch = data[rows]
            shown = place(
                batch.pixels.float() / 255,
                placements(len(rows), draws, DEGREES * min(1.0, step / steps / UPRIGHT_FIRST)),
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = net(shown)
            loss = F.cross_entropy(logits.float(), batch.classes)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(rows)
        line = f"epoch {epoch:2d} of {epochs}: loss {loss_sum / len(data):.4f}"
        if held_out:
            line += f", held out {(classify(net, held_out, as_shown) == held_out.classes).double().mean():.2%}"
        print(f"{line}, {time.monotonic() - start:.1f} s", flush=True)
    return net.eval()


def as_shown(pixels: Tensor) -> Tensor:
    """The net takes pixels in [0, 1] as they are: black is 0, and so is what the warp brings in from outside."""
    return pixels


def place(digits: Tensor, matrices: np.ndarray) -> Tensor:
    """Digits (N, 1, 28, 28), each in its frame (N, 1, 42, 42) as `models.distorted.placements` says."""
    scaled = torch.from_numpy(matrices).float() / (DIGIT / 2)
    scaled[:, :, :2] *= FRAME / 2  # both from -1 to 1 between the edges, as torch counts
    grid = F.affine_grid(scaled, [len(digits), 1, FRAME, FRAME], align_corners=False)  # (N, 42, 42, 2)
    return F.grid_sample(digits, grid, align_corners=False)


def distort(digits: Pictures, matrices: np.ndarray) -> Pictures:
    """Digits in their frames, as uint8 pictures again."""
    return Pictures((place(digits.pixels.float() / 255, matrices) * 255).round().byte(), digits.classes)


@torch.no_grad()
def spreads(net: SpatialTransformerLeNet, pictures: Pictures, matrices: np.ndarray) -> tuple[float, float]:
    """How far digits are turned before the warp and behind it: the standard deviations, in degrees."""
    locate = net.get_submodule("transformer.locate")
    found = torch.cat([locate(part.float() / 255) for part in pictures.pixels.split(500)]).view(-1, 2, 3).numpy()
    turned = np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0])  # clockwise
    taken_back = np.arctan2(found[:, 1, 0] - found[:, 0, 1], found[:, 0, 0] + found[:, 1, 1])
    return float(np.degrees(turned.std())), float(np.degrees((turned - taken_back).std()))


def card_of(
    net: SpatialTransformerLeNet,
    seen: int,
    epochs: int,
    right: Tensor,
    digits: Tensor,
    turned: tuple[float, float],
    facts: str,
) -> str:
    """The page that goes with the weights."""
    count, total = int(right.sum()), len(right)
    return f"""# {CARD.title}

{CARD.paper}.
A localisation net of two convolutions and two dense layers, an affine warp from {FRAME} × {FRAME} to {DIGIT} × {DIGIT}
pixels, and a LeNet with ReLUs and maximum pooling behind it; {sum(p.numel() for p in net.parameters()):,} parameters.
Written out in `models/spatial_transformer.py`.

| | |
|---|---|
| data | MNIST (LeCun, Cortes, Burges), {seen:,} training pictures, distorted anew each time they are shown |
| distortion | rotation up to {DEGREES:g}° either way, {SCALES[0]:g} to {SCALES[1]:g} times as large, anywhere in \
{FRAME} × {FRAME} pixels |
| accuracy | **{count / total:.2%}** of the {total:,} test pictures ({count:,} right), distorted once with seed \
{SEED_OF_TEST}, measured once, at the end |
| rotation | {turned[0]:.1f}° before the warp, {turned[1]:.1f}° \
behind it: the standard deviation over the test pictures |
| recipe | Adam, batch {BATCH}, {epochs} epochs, one-cycle rate with its peak at {PEAK_RATE:g}, \
{SHARE_OF_LOCATE:g} times that for the localisation net; rotation grows from 0° over the first {UPRIGHT_FIRST:.0%}; \
passes in bfloat16 |
| choice of the recipe | on held-out training pictures, in shorter runs (`--validate`) |
| input | pixels in [0, 1], as they are |
{facts}
| licence | weights MIT; data CC BY-SA 3.0 |

| digit | {" | ".join(str(digit) for digit in range(10))} |
|---|{"---|" * 10}
| right | {" | ".join(f"{share:.1%}" for share in shares_by_class(right, digits))} |

Made by `python -m models.train_transformer`, which wrote this page.
"""


if __name__ == "__main__":
    main()
