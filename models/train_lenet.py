"""Train LeNet-5 on MNIST and write its weights, the states it went through, their digests and its card.

    python -m models.train_lenet --data mnist.npz --out models/weights

``--data`` is an .npz as `models.training.read_mnist` says; without it, torchvision fetches MNIST. ``--validate`` trains
on 50 000 of the training pictures, measures on the other 10 000 and writes nothing: the options below were chosen so,
and the test pictures looked at once.

Sigmoids saturate, and a plain SGD run stalls for epochs before it learns anything; Xavier initialisation and Adam with
a one-cycle rate do not. One thread and one seed: a second run on the same machine and versions gives the same files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.catalogue import CARDS, Card
from models.lenet import LeNet5
from models.training import (
    Pictures,
    States,
    Variation,
    classify,
    facts_of_run,
    is_kept,
    one_cycle,
    options_of,
    read_mnist,
    shares_by_class,
    table_of_states,
    write_states,
    write_weights,
)

EPOCHS = 30
BATCH = 128
PEAK_RATE = 1e-2  # Adam, one cycle: up over the first tenth, then a half cosine down to nothing
WARM_UP = 0.1
VARIATION = Variation(degrees=8.0, pixels=1.5, zoom=0.1)
SEED = 0
CARD: Card = next(card for card in CARDS if card.name == "lenet5")


def main() -> None:
    options = options_of("Train LeNet-5 on MNIST.", "MNIST as an .npz", EPOCHS)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    training, test = read_mnist(options.data)
    if options.validate:
        training, test = training.split_off(10_000, SEED)
    start = time.monotonic()
    net, states = train(training, options.epochs)
    minutes = (time.monotonic() - start) / 60
    right = classify(net, test, normalise) == test.classes
    where = "held-out training" if options.validate else "test"
    print(f"{int(right.sum())} of {len(test)} {where} pictures right: {right.double().mean():.2%}")
    print("by digit: " + ", ".join(f"{k}: {share:.2%}" for k, share in enumerate(shares_by_class(right, test.classes))))
    if not options.validate:
        write(options.out, net, states, len(training), right, test, minutes)


def train(data: Pictures, epochs: int) -> tuple[LeNet5, States]:
    """A net trained on ``data``, and the states it went through; prints a line an epoch."""
    torch.manual_seed(SEED)
    net = LeNet5()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    optimiser = torch.optim.Adam(net.parameters())
    steps = math.ceil(len(data) / BATCH) * epochs
    step = 0
    states = States()
    states.keep(0, net)
    for epoch in range(1, epochs + 1):
        start, loss_sum = time.monotonic(), 0.0
        for rows in torch.randperm(len(data)).split(BATCH):
            optimiser.param_groups[0]["lr"] = one_cycle((step := step + 1) / steps, PEAK_RATE, WARM_UP)
            batch = data[rows]
            loss = F.cross_entropy(net(normalise(VARIATION(batch.pixels.float() / 255))), batch.classes)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(rows)
        if is_kept(epoch, epochs):
            states.keep(epoch, net)
        seconds = time.monotonic() - start
        print(f"epoch {epoch:2d} of {epochs}: loss {loss_sum / len(data):.4f}, {seconds:.1f} s", flush=True)
    return net.eval(), states


def normalise(pixels: Tensor) -> Tensor:
    return (pixels - CARD.mean[0]) / CARD.std[0]


def write(folder: Path, net: LeNet5, states: States, seen: int, right: Tensor, test: Pictures, minutes: float) -> None:
    """The weights, the states, SHA256SUMS and the card, into ``folder``."""
    digest = write_weights(folder / CARD.file, net)
    accuracies = states.accuracies(LeNet5().eval(), test, normalise)
    write_states(folder / f"{CARD.name}_training.safetensors", states, accuracies)
    card = card_of(net, seen, right, test.classes, accuracies, facts_of_run(SEED, minutes, digest))
    (folder / CARD.file).with_suffix(".md").write_text(card, encoding="utf-8")


def card_of(
    net: nn.Module, seen: int, right: Tensor, digits: Tensor, accuracies: Mapping[int, float], facts: str
) -> str:
    """The page that goes with the weights."""
    count, total = int(right.sum()), len(right)
    shares = shares_by_class(right, digits)
    return f"""# {CARD.title}

{CARD.paper}.
Two convolutions and three dense layers with sigmoids and average pooling, as in *Dive into Deep Learning* 7.6;
{sum(p.numel() for p in net.parameters()):,} parameters. Written out in `models/lenet.py`.

| | |
|---|---|
| data | MNIST (LeCun, Cortes, Burges), {seen:,} training pictures, 28 × 28, grey |
| accuracy | **{count / total:.2%}** of the {total:,} test pictures ({count:,} right), measured once, at the end |
| recipe | Adam, batch {BATCH}, {max(accuracies)} epochs, one-cycle rate with its peak at {PEAK_RATE:g}, \
Xavier initialisation |
| variation | {VARIATION.words} |
| choice of the recipe | on 10 000 held-out training pictures (`--validate`) |
| input | pixels in [0, 1], minus {CARD.mean[0]}, divided by {CARD.std[0]} |
{facts}
| licence | weights MIT; data CC BY-SA 3.0 |

| digit | {" | ".join(str(digit) for digit in range(10))} |
|---|{"---|" * 10}
| right | {" | ".join(f"{share:.1%}" for share in shares)} |

States on the way, in `{CARD.name}_training.safetensors`, as float16, each measured so on the test pictures; for who
wants to see the net grow, and for no choice:

{table_of_states(accuracies)}

Made by `python -m models.train_lenet`, which wrote this page.
"""


if __name__ == "__main__":
    main()
