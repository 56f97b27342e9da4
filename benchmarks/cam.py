"""What a class activation map costs: in plain forward passes, beside the peers, and in memory.

The peers do the same job in the same rounds, as their own manuals show it: their object is made, asked once, and taken
off again; the parameters can be trained, as a loader leaves them. They share the weights of our net.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress

import torch
from torch import Tensor, nn

from benchmarks.timing import Options, Row, machine, peak_megabytes, read_options, table, time_in_turns
from models import load_model
from models.torchvision_guard import guarded_import
from vizcore.cam import cam
from vizcore.hooks import trace
from vizcore.records import Model

TARGET = 3
LITE = "efficientnet_lite0"
PASSES_WANTED = 1.3
MEGABYTES_WANTED = 600

Contenders = dict[str, Callable[[], object]]


def main() -> None:
    warnings.simplefilter("ignore")  # the peers' own
    options = read_options(__doc__)
    torch.manual_seed(0)
    print(f"{machine(options, 'torch', 'timm', 'grad-cam', 'torchcam', 'captum')}\n")
    # 40 channels of 28 × 28: one pass a channel ends in seconds; at "bn2", with 1 280, in minutes.
    first, middle = (load_model("lenet5", weights=None), "act1") if options.quick else (load_model(LITE), "blocks.2")
    print(show_memory(first))  # first, while nothing that others have freed lies about

    print("\nGrad-CAM of one picture at the last maps")
    rows = list(grad_cam_rows(first, options, 2 if options.quick else 15))
    if not options.quick:
        rows += grad_cam_rows(load_model("resnet18", weights=None), options, 15)
        rows += grad_cam_rows(load_model("vgg16", weights=None), options, 7)
    print(table(rows))

    print(f"\nOne pass a channel, {first.title} at “{middle}”")
    print(table(masking_rows(first, middle, options, 1 if options.quick else 3)))


def grad_cam_rows(model: Model, options: Options, rounds: int) -> Iterator[Row]:
    pixels = torch.rand(1, 3, *model.input_size)
    layer, net = model.layers["cam"], trainable(model)
    module = net.get_submodule(layer)
    peer, torchcam = guarded_import("pytorch_grad_cam"), guarded_import("torchcam.methods")
    from captum.attr import LayerGradCam

    def plain() -> Tensor:
        with torch.no_grad():
            return model.logits(pixels)

    def by_pytorch_grad_cam() -> object:
        with peer.GradCAM(net, [module]) as method:
            return method(model.normalise(pixels), [peer.utils.model_targets.ClassifierOutputTarget(TARGET)])

    def by_torchcam() -> object:
        with torchcam.GradCAM(net, layer) as method:
            return method(TARGET, net(model.normalise(pixels)))

    def by_captum() -> object:
        return LayerGradCam(net, module).attribute(model.normalise(pixels), TARGET, relu_attributions=True)

    contenders: Contenders = {
        "a plain pass": plain,
        "Grad-CAM": lambda: cam(model, pixels, TARGET),
        "a plain pass again": plain,
        "pytorch-grad-cam": by_pytorch_grad_cam,
        "torch-cam": by_torchcam,
        "Captum": by_captum,
    }
    seconds = time_in_turns(contenders, rounds, options.clock)
    ours, passes = seconds["Grad-CAM"], seconds["a plain pass"]
    yield Row(f"{model.title}, Grad-CAM", "a plain pass", ours, passes, PASSES_WANTED)
    yield Row(f"{model.title}, a plain pass again", "a plain pass", seconds["a plain pass again"], passes)
    for name in ("pytorch-grad-cam", "torch-cam", "Captum"):
        yield Row(f"{model.title}, Grad-CAM", name, ours, seconds[name])


def masking_rows(model: Model, layer: str, options: Options, rounds: int) -> list[Row]:
    """Each at its own default batch size: ours 8, pytorch-grad-cam's 16 (Score-CAM) and 32 (Ablation-CAM)."""
    pixels, net = torch.rand(1, 3, *model.input_size), trainable(model)
    peer = guarded_import("pytorch_grad_cam")
    targets = [peer.utils.model_targets.ClassifierOutputTarget(TARGET)]

    def by_pytorch_grad_cam(name: str) -> object:
        with getattr(peer, name)(net, [net.get_submodule(layer)]) as method:
            method.batch_size = {"ScoreCAM": 16, "AblationCAM": 32}[name]
            return method(model.normalise(pixels), targets)

    contenders: Contenders = {
        "Score-CAM": lambda: cam(model, pixels, TARGET, "score_cam", layer),
        "its Score-CAM": lambda: by_pytorch_grad_cam("ScoreCAM"),
        "Ablation-CAM": lambda: cam(model, pixels, TARGET, "ablation_cam", layer),
        "its Ablation-CAM": lambda: by_pytorch_grad_cam("AblationCAM"),
    }
    with redirect_stderr(io.StringIO()):  # its progress bars
        seconds = time_in_turns(contenders, rounds, options.clock)
    return [
        Row(name, "pytorch-grad-cam", seconds[name], seconds[f"its {name}"]) for name in ("Score-CAM", "Ablation-CAM")
    ]


def show_memory(model: Model) -> str:
    """Peak memory at the largest layer. It is reached in the first batches, so the run is cancelled after ten."""
    pixels, layer = torch.rand(1, 3, *model.input_size), model.layers["cam"]
    with trace(model, [layer]) as seen:
        model.logits(pixels)
        channels, height, width = seen[layer].shape[1:]
    lines = [
        f"Peak memory above the loaded model, {model.title} at “{layer}” ({channels} × {height} × {width}), "
        "the first ten batches"
    ]
    for method in ("score_cam", "ablation_cam"):
        peak = peak_megabytes(lambda method=method: first_batches(model, pixels, method, 10))  # type: ignore[misc]
        verdict = "met" if peak <= MEGABYTES_WANTED else "missed"
        lines.append(f"  {method:<12} {peak:4.0f} MB   wanted ≤ {MEGABYTES_WANTED}: {verdict}")
    return "\n".join(lines)


def first_batches(model: Model, pixels: Tensor, method: str, batches: int) -> None:
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == batches and done < total:
            raise InterruptedError

    with suppress(InterruptedError):
        cam(model, pixels, TARGET, method, progress=stop)


def trainable(model: Model) -> nn.Module:
    """A copy of the net on the same weights, whose parameters may be differentiated."""
    shared = {id(weights): nn.Parameter(weights.detach()) for weights in model.net.parameters()}
    return copy.deepcopy(model.net, shared)


if __name__ == "__main__":
    main()
