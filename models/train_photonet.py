"""Train PhotoNet on CIFAR-10 and write its weights, the states it went through, their digests and its card.

    python -m models.train_photonet --data cifar10.npz --out models/weights

``--data`` is an .npz as `models.training.read_cifar` says; without it, torchvision fetches CIFAR-10. ``--validate``
trains on 45 000 of the training pictures, measures on the other 5 000 and writes nothing: for trying other options
without looking at the test pictures.

What makes the first filters smooth is the weight decay of the first layer, ten times that of the others. Batch
normalisation behind it takes away any scale, so decay does not make the filters small against the rest: it makes
whatever no gradient holds up, the noise of the random start, vanish against what is learnt.

Passes are made in bfloat16 where the processor multiplies it (weights and their changes stay float32).
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.labels import CIFAR10
from models.photonet import PhotoNet
from models.training import (
    Pictures,
    States,
    Variation,
    classify,
    is_kept,
    one_cycle,
    read_cifar,
    write_states,
    write_weights,
)

EPOCHS = 32
BATCH = 128
PEAK_RATE = 0.1  # SGD with Nesterov's momentum, one cycle
MOMENTUM = 0.9
WARM_UP = 0.15
DECAY = 5e-4
DECAY_OF_FIRST = 5e-3
SMOOTHING = 0.05  # of the labels
VARIATION = Variation(degrees=10, shear=8, pixels=4, zoom=0.12, flip=True)
SEED = 0
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train PhotoNet on CIFAR-10.")
    parser.add_argument("--data", type=Path, help="CIFAR-10 as an .npz; without it, torchvision fetches it")
    parser.add_argument("--out", type=Path, default=Path("models/weights"), help="folder for the weights and the card")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--validate", action="store_true", help="hold out 5 000 training pictures; write nothing")
    options = parser.parse_args()
    training, test = read_cifar(options.data)
    if options.validate:
        training, test = training.split_off(5000, SEED)
    start = time.monotonic()
    net, states = train(training, options.epochs, test if options.validate else None)
    minutes = (time.monotonic() - start) / 60
    right = classify(net, test, normalise) == test.classes
    where = "held-out training" if options.validate else "test"
    print(
        f"{int(right.sum())} of {len(test)} {where} pictures right: {right.double().mean():.2%}, {minutes:.0f} minutes"
    )
    if options.validate:
        return
    path = options.out / "photonet.safetensors"
    digest = write_weights(path, net)
    by_class = [right[test.classes == number].double().mean().item() for number in range(10)]
    accuracies = states.accuracies(PhotoNet(), test, normalise)
    write_states(path.with_name("photonet_training.safetensors"), states, accuracies)
    card = card_of(net, len(training), options.epochs, right, by_class, accuracies, minutes, digest)
    path.with_suffix(".md").write_text(card, encoding="utf-8")


def train(data: Pictures, epochs: int, held_out: Pictures | None = None) -> tuple[PhotoNet, States]:
    """A net trained on ``data``, and the states it went through; prints a line an epoch."""
    torch.manual_seed(SEED)
    net = PhotoNet()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    first = net.get_submodule("conv1").weight
    groups = [
        {"params": [first], "weight_decay": DECAY_OF_FIRST},
        {"params": [p for p in net.parameters() if p.ndim > 1 and p is not first], "weight_decay": DECAY},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)
    per_epoch = math.ceil(len(data) / BATCH)
    states = States()
    states.keep(0, net)
    for epoch in range(epochs):
        start, loss_sum, right = time.monotonic(), 0.0, 0
        for number, rows in enumerate(torch.randperm(len(data)).split(BATCH)):
            for group in optimiser.param_groups:
                group["lr"] = one_cycle((epoch + (number + 1) / per_epoch) / epochs, PEAK_RATE, WARM_UP)
            batch = data[rows]
            shown = normalise(VARIATION(batch.pixels.float() / 255)).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = net(shown)
            loss = F.cross_entropy(logits.float(), batch.classes, label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(rows)
            right += int((logits.argmax(1) == batch.classes).sum())
        if is_kept(epoch + 1, epochs):
            states.keep(epoch + 1, net)
        line = f"epoch {epoch + 1:2d} of {epochs}: loss {loss_sum / len(data):.4f}, right {right / len(data):.2%}"
        if held_out:
            share = (classify(net, held_out, normalise) == held_out.classes).double().mean()
            line += f", held out {share:.2%}"
        print(f"{line}, {time.monotonic() - start:.0f} s", flush=True)
    return net.eval(), states


def normalise(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def card_of(
    net: nn.Module,
    seen: int,
    epochs: int,
    right: Tensor,
    by_class: list[float],
    accuracies: dict[int, float],
    minutes: float,
    digest: str,
) -> str:
    """The page that goes with the weights."""
    share = f"{right.double().mean():.2%}"
    varied = f"shear {VARIATION.shear:g}°, shift {VARIATION.pixels:g} pixels, size {VARIATION.zoom:.0%}"
    return f"""# PhotoNet

A small net of our own for CIFAR-10, made so that its first filters can be read: 64 kernels of 7 × 7 at stride 1.
Five convolutions, global average pooling, one linear layer; {sum(p.numel() for p in net.parameters()):,} parameters,
35.3 million multiply-adds. Written out in `models/photonet.py`.

| | |
|---|---|
| data | CIFAR-10 (Krizhevsky 2009), {seen:,} training pictures, 32 × 32, saved as JPEG once |
| accuracy | **{share}** of the {len(right):,} test pictures ({int(right.sum()):,} right), measured once, at the end |
| recipe | SGD, Nesterov's momentum {MOMENTUM}, batch {BATCH}, {epochs} epochs, one-cycle rate up to {PEAK_RATE:g} |
| weight decay | {DECAY_OF_FIRST:g} in the first layer, {DECAY:g} elsewhere; labels smoothed by {SMOOTHING:g} |
| variation | mirrored; rotation up to {VARIATION.degrees:g}°, {varied} |
| choice of the recipe | usual values; one run, no search |
| input | RGB pixels in [0, 1], minus {MEAN}, divided by {STD} |
| seed | {SEED} |
| made | {datetime.date.today().isoformat()}, in {minutes:.0f} minutes on two CPU cores, passes in bfloat16 |
| versions | Python {platform.python_version()}, torch {torch.__version__} |
| SHA-256 | `{digest}` |
| licence | weights MIT |

| class | {" | ".join(CIFAR10)} |
|---|{"---|" * 10}
| right | {" | ".join(f"{share:.1%}" for share in by_class)} |

| after epoch | {" | ".join(str(epoch) for epoch in accuracies)} |
|---|{"---|" * len(accuracies)}
| right | {" | ".join(f"{share:.1%}" for share in accuracies.values())} |

Made by `python -m models.train_photonet`, which wrote this page.
"""


if __name__ == "__main__":
    main()
