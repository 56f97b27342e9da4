"""Memory has a stated bound, whatever the number of channels or windows: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app_pages import memory
from app_pages.looks_for import KEPT
from models import load_model
from vizcore.anatomy import BYTES, anatomy

pytestmark = pytest.mark.slow

LIMIT = 600  # MB above the loaded model

# Linux counts the largest resident size since it was last reset, in kB; so what the imports and the loading took
# for a moment does not hide anything.
MEASURE = """
import contextlib, sys
from pathlib import Path
sys.path.insert(0, "tests")
import nets
import torch
from models import load_model
from vizcore.attribution import attribution
from vizcore.cam import cam
from vizcore.occlusion import estimate_occlusion, occlusion

class Enough(BaseException):
    pass

def stop_after(passes):
    def progress(done, total):
        if done >= passes:
            raise Enough
    return progress

def resident(line):
    status = Path("/proc/self/status").read_text()
    return int(status.split(line + ":")[1].split()[0]) / 1024

def small(model):
    from app_pages import memory
    return sum(tensor.nbytes for tensor in model.net.parameters()) <= memory.SMALL_MB * memory.MB

def features_of(model, count):
    import numpy as np
    from vizcore.embedding import extract_features
    pictures = np.random.default_rng(0).integers(0, 256, (count, 160, 160, 3)).astype(np.uint8)
    extract_features(model, list(pictures), model.layers["features"])

def strongest_of(model, count, layer):
    import numpy as np
    from vizcore.strongest import strongest_patches
    pictures = np.random.default_rng(0).integers(0, 256, (count, 160, 190, 3)).astype(np.uint8)
    strongest_patches(model, list(pictures), layer)

def climbed(model, layer, count):
    from vizcore.maximisation import Objective, maximise
    maximise(model, Objective(layer, channel=1), count=count, steps=2)

def every_stage(model):
    from vizcore.cam import cam_of_layers
    from vizcore.hooks import stages
    cam_of_layers(model, pixels, 281, [stage.name for stage in stages(model)])

def sent_back(model, layer):
    from vizcore.projection import projection
    projection(model, pixels, layer, 1, 5, 6)

torch.set_num_threads(1)
model = MODEL
pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
assert resident("VmHWM") < before + 20
with contextlib.suppress(Enough):
    CALL
print(resident("VmHWM") - before)
"""
LITE = "load_model('efficientnet_lite0')"
WIDE = "nets.wide()"
VGG, RESNET = "load_model('vgg16', weights=None)", "load_model('resnet50', weights=None)"
DEEP = "load_model('resnet152', weights=None)"


def megabytes_above_the_model(model: str, call: str) -> float:
    script = MEASURE.replace("MODEL", model).replace("CALL", call)
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


SMALL_LIMIT = 400  # where the parameters take no more than memory.SMALL_MB


@pytest.mark.parametrize(
    ("model", "call"),
    [
        (LITE, "occlusion(model, pixels, 281, 32, 16)"),
        ("load_model('efficientnet_lite2')", "occlusion(model, torch.rand(1, 3, 260, 260), 281, 64, 32)"),
        ("load_model('googlenet', weights=None)", "occlusion(model, pixels, 281, 64, 32, progress=stop_after(40))"),
        ("load_model('efficientnet_lite2')", "features_of(model, 60)"),
        (LITE, "strongest_of(model, 60, 'blocks.1.0.conv_pw')"),  # 96 channels of 112 × 112
        (LITE, "sent_back(model, 'blocks.6')"),
        (LITE, "climbed(model, 'blocks.6', 1)"),
        (LITE, "cam(model, pixels, 281, 'ablation_cam')"),
        (LITE, "every_stage(model)"),
        (LITE, "attribution(model, pixels, 281, 'smooth_grad', samples=4, batch_size=2)"),
    ],
)
def test_no_method_takes_more_with_a_small_network_than_a_long_turn_is_given(model: str, call: str) -> None:
    assert (memory.LONG_OF_SMALL_MB, memory.LONG_MB) == (SMALL_LIMIT, LIMIT)
    assert 1 < megabytes_above_the_model(model, f"assert small(model); {call}") < SMALL_LIMIT


@pytest.mark.parametrize(
    ("model", "call"),
    [
        (WIDE, "cam(model, pixels, 4, 'score_cam')"),  # 1 280 channels, all of them, through a net that costs little
        (LITE, "cam(model, pixels, 281, 'score_cam', progress=stop_after(80))"),  # 1 280 channels, the first 80
        (WIDE, "cam(model, pixels, 4, 'ablation_cam')"),
        (LITE, "cam(model, pixels, 281, 'ablation_cam')"),  # 1 280 channels, all of them
        (LITE, "cam(model, pixels, 281, 'ablation_cam', 'blocks.1.0.bn1')"),  # 96 channels of 112 × 112
        (WIDE, "occlusion(model, pixels, 4, 16, 6, partial=lambda heat: None)"),  # 1 296 windows
        (LITE, "occlusion(model, pixels, 281, 32, 16)"),
        (VGG, "occlusion(model, pixels, 281, 32, 16, progress=stop_after(80))"),
        (VGG, "every_stage(model)"),
        (DEEP, "every_stage(model)"),
        (DEEP, "attribution(model, pixels, 281, 'smooth_grad', samples=4, batch_size=2)"),
        (VGG, "occlusion(model, pixels, 281, 200, 100)"),
        (RESNET, "occlusion(model, pixels, 281, 32, 16, progress=stop_after(120))"),
        (DEEP, "occlusion(model, pixels, 281, 32, 16, progress=stop_after(24))"),
        (VGG, "estimate_occlusion(model, pixels, [281, 282], 32, 16)"),
        (LITE, "cam(model, pixels, 281, 'eigen_cam', 'blocks.1.0.bn1')"),
        (LITE, "cam(model, pixels, 281, 'grad_cam', 'conv_stem')"),
        (VGG, "strongest_of(model, 24, 'features.1')"),  # 64 channels of 224 × 224
        (VGG, "sent_back(model, 'features.29')"),
        (VGG, "climbed(model, 'features.29', 1)"),
    ],
)
def test_no_method_takes_more_than_its_bound(model: str, call: str) -> None:
    assert 1 < megabytes_above_the_model(model, call) < LIMIT


@pytest.mark.parametrize("model", [LITE, VGG])
def test_four_pictures_at_once_take_no_more_than_their_price_says(model: str) -> None:
    layer = "blocks.6" if model == LITE else "features.29"
    one, four = (megabytes_above_the_model(model, f"climbed(model, {layer!r}, {count})") for count in (1, 4))
    network = load_model("efficientnet_lite0") if model == LITE else load_model("vgg16", weights=None)
    besides = 3 * KEPT * BYTES * anatomy(network).activations / 10**6
    assert one + besides / 2 < four < one + besides


def test_memory_grows_with_the_batch_and_so_the_measurement_sees_it() -> None:
    small, large = (
        megabytes_above_the_model(LITE, f"occlusion(model, pixels, 281, 32, 16, batch_size={size})")
        for size in (1, 169)
    )
    assert large > small + 100
