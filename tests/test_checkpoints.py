"""Weights files of one's own: every row of the list of bad checkpoints, and the good ones, from bytes to answers.

Where a row says "refused", the sentence is BadWeights (or BadParameter about class names), never an error of torch, and
nothing that lies in the file has run. Only a few rows start the process that opens pickles: it imports torch each time.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import re
import struct
import subprocess
import tarfile
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import gap
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from models import checkpoints, load_model, opening
from models.archives import LEGACY, MOST_PICKLE, check_pickled
from models.catalogue import find_card
from models.checkpoints import MOST_BYTES, Checkpoint, read_bytes, read_file
from models.loading import structure
from models.matching import fill, matches, matches_of_timm
from models.own import OwnNetwork, open_network, read_labels
from models.safetensors_header import check_header
from vizcore.images import prepare
from vizcore.records import BadParameter, BadWeights, LensError

HOSTILE = r"![x](http://a/b.png)<img src=x onerror=alert(1)>$x$:red[a]"
TORCH_SAYS = re.compile(r"weights_only|safe_globals|Unpickl|torch\.load|Traceback|RuntimeError", re.IGNORECASE)


def saved(what: Any, **options: Any) -> bytes:
    """The bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(what, file, **options)
    return file.getvalue()


def filled(architecture: str, classes: int | None = None) -> dict[str, Tensor]:
    """A state dict with seeded numbers that keep a picture's signal alive."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, tensor in structure(find_card(architecture), classes).state_dict().items():
        if tensor.ndim > 1:
            state[name] = torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
        else:
            state[name] = torch.full(tensor.shape, float("var" in name or "weight" in name)).to(tensor.dtype)
    return state


@pytest.fixture(scope="module")
def digits() -> dict[str, Tensor]:
    return filled("lenet5")


def refused(data: bytes, name: str = "mine.pth", *, seconds: float = 1.0) -> str:
    """The sentence that refuses ``data``, which took this process less than a second and says nothing of torch's."""
    start = time.process_time()
    with pytest.raises(BadWeights) as caught:
        read_bytes(data, name)
    assert time.process_time() - start < seconds
    sentence = str(caught.value)
    assert name[:20] in sentence
    assert not TORCH_SAYS.search(sentence), sentence
    assert len(sentence) < 700
    return sentence


def refused_inside(what: Any) -> str:
    """What the process that opens pickles says of ``what``; asked here, without starting it."""
    check_pickled(saved(what), "mine.pth")
    with pytest.raises(opening.Refused) as caught:
        opening.converted(saved(what))
    assert not TORCH_SAYS.search(str(caught.value)), caught.value
    return str(caught.value)


def opened(state: dict[str, Tensor], architecture: str | None = "lenet5", **options: Any) -> OwnNetwork:
    return open_network(read_bytes(save(state), "mine.safetensors"), architecture, **options)


def picture() -> Tensor:
    return torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(2))


class Evil:
    """Leaves a file where it was opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.canary, "opened")


# ---- what is taken ------------------------------------------------------------------------------------------


def test_c1_a_state_dict_answers_as_the_net_that_it_was_saved_from(digits: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(digits, path)
    model = load_model(path, architecture="lenet5")
    plain = structure(find_card("lenet5")).to_empty(device="cpu").eval()
    plain.load_state_dict(digits)
    assert torch.equal(model.logits(picture()), plain(model.normalise(picture())))
    assert model.labels == tuple(f"class {k}" for k in range(10))
    assert not model.net.training
    assert not any(parameter.requires_grad for parameter in model.net.parameters())
    assert sorted(tmp_path.iterdir()) == [path]


def test_c20_a_lightning_checkpoint_in_half_precision_behind_two_prefixes(digits: dict[str, Tensor]) -> None:
    """Rows C16, C18, C20 and C25 in one file, through the process."""
    state = OrderedDict((f"model.module.{name}", tensor.half()) for name, tensor in digits.items())
    state["model.module.fc3.bias"] = state["model.module.fc2.bias"][:10]  # one storage for both
    lightning = {"epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 1e-3}, "callbacks": {"best": "a"}}
    own = open_network(read_bytes(saved(lightning), "last.ckpt"), "lenet5")
    assert torch.equal(own.model.net.conv1.weight, digits["conv1.weight"].half().float())
    said = " ".join(own.notes)
    assert "“state_dict”" in said
    assert "“model.module.” was taken off" in said
    assert "float16 were made float32" in said
    assert own.model.logits(picture()).dtype == torch.float32


def test_a_file_in_the_format_before_2020_is_let_into_the_process_and_converted(digits: dict[str, Tensor]) -> None:
    data = saved(digits, _use_new_zipfile_serialization=False)
    assert data.startswith(LEGACY)
    check_pickled(data, "old.pth")
    tensors = read_bytes(opening.converted(data), "old.safetensors").tensors
    assert all(torch.equal(tensors[name], tensor) for name, tensor in digits.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8])
def test_c16_other_types_of_number_are_made_float32_and_said(digits: dict[str, Tensor], dtype: torch.dtype) -> None:
    own = opened({name: tensor.to(dtype) for name, tensor in digits.items()})
    assert {parameter.dtype for parameter in own.model.net.parameters()} == {torch.float32}
    (note,) = own.notes
    assert str(dtype).removeprefix("torch.") in note
    assert ("scale" in note) == (dtype == torch.int8)


def test_c18_the_prefix_of_data_parallel_is_taken_off_and_said(digits: dict[str, Tensor]) -> None:
    own = opened({f"module.{name}": tensor for name, tensor in digits.items()})
    assert own.notes == ("“module.” was taken off the names of its tensors.",)
    assert torch.equal(own.model.net.conv2.bias, digits["conv2.bias"])


def test_c19_the_number_of_classes_is_read_from_the_last_layer() -> None:
    own = opened(filled("resnet18", 7), "resnet18")
    assert own.model.labels == tuple(f"class {k}" for k in range(7))
    assert own.model.logits(torch.rand(1, 3, 64, 96)).shape == (1, 7)


def test_c25_tied_weights_are_taken(digits: dict[str, Tensor]) -> None:
    shared = torch.arange(400.0)
    state = digits | {"conv1.bias": shared[:6], "conv2.bias": shared[:16]}
    written = opening.converted(saved(state))
    tensors = read_bytes(written, "mine.safetensors").tensors
    assert torch.equal(tensors["conv1.bias"], shared[:6])
    assert torch.equal(tensors["conv2.bias"], shared[:16])


def test_c28_metadata_of_the_file_is_no_note_and_is_never_shown(digits: dict[str, Tensor]) -> None:
    own = open_network(read_bytes(save(digits, {"about": HOSTILE, "format": "pt"}), "mine.safetensors"), "lenet5")
    assert HOSTILE not in f"{own.notes} {own.model} {own.card}"


@pytest.mark.parametrize("name", ["lenet5", "efficientnet_lite0", "resnet18", "mobilenet_v2"])
def test_the_network_is_proposed_from_names_and_shapes_whatever_its_classes(name: str) -> None:
    tensors = {
        name: torch.zeros(()).expand(tensor.shape)
        for name, tensor in structure(find_card(name), 3).state_dict().items()
    }
    best, second = matches(tensors)[:2]
    assert best.card.name == name
    assert best.share == 1 > second.share


SHARED = "timm/mobilenetv3_small_100"  # one of several with its kernels


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "regnetx_002", "densenet121"])
def test_a_network_of_timm_is_found_by_its_kernels_whatever_its_classes(name: str) -> None:
    shapes = {f"module.{key}": tensor.shape for key, tensor in structure(find_card(name), 3).state_dict().items()}
    tensors = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    assert f"timm/{name}" in matches_of_timm(tensors)
    tensors[next(key for key, shape in shapes.items() if len(shape) == 4)] = torch.zeros(1, 2, 3, 3)
    assert matches_of_timm(tensors) == ()


def test_kernels_that_several_networks_of_timm_have_are_no_reason_to_take_one() -> None:
    """MobileNetV3 and the same with TensorFlow's padding, say: what differs lies in no tensor."""
    state = {key: torch.zeros(tensor.shape) for key, tensor in structure(find_card(SHARED), 3).state_dict().items()}
    assert len(several := matches_of_timm(state)) > 1
    with pytest.raises(BadWeights, match=r"has the kernels of .*, which differ in other things") as refusal:
        opened(state, None)
    assert all(name in str(refusal.value) for name in several)
    assert f'architecture="{several[0]}"' in str(refusal.value)


def test_a_misfit_says_what_to_do(digits: dict[str, Tensor]) -> None:
    """By what the tensors fit: networks of timm, nothing, the one that was asked for best, or another."""
    of_timm = {key: torch.zeros(tensor.shape) for key, tensor in structure(find_card(SHARED), 3).state_dict().items()}
    for state, architecture, words in (
        (of_timm, "resnet18", f"It has the kernels of {matches_of_timm(of_timm)[0]}"),
        ({"a": torch.zeros(3), "b": torch.zeros(2, 2)}, "lenet5", "It fits no network of the catalogue"),
        (
            {name: digits[name] for name in digits if name != "conv2.weight"},
            "lenet5",
            "No other network of the catalogue fits better",
        ),
        (digits, "resnet18", 'The best match is LeNet-5, with 100 % of the tensors: take architecture="lenet5"'),
    ):
        with pytest.raises(BadWeights, match=re.escape(words)):
            opened(state, architecture)


def test_without_an_architecture_the_one_that_fits_is_taken(digits: dict[str, Tensor]) -> None:
    assert opened(digits, None).model.name.startswith("lenet5-")


def test_equal_files_have_one_name_and_anything_that_changes_answers_another(digits: dict[str, Tensor]) -> None:
    other = digits | {"fc3.bias": digits["fc3.bias"] + 1}
    names = [
        opened(digits).model.name,
        opened(other).model.name,
        opened(digits, mean=(0.5,)).model.name,
        opened(digits, std=(0.5,)).model.name,
        opened(digits, labels=[*"abcdefghij"]).model.name,
    ]
    assert len(set(names)) == len(names)
    assert opened(dict(digits)).model.name == names[0]


def test_another_size_of_the_input_is_taken_where_the_network_reads_it() -> None:
    state = dict(load_model("all_conv", weights=None).net.state_dict())
    usual, other = (opened(state, "all_conv", input_size=size) for size in (None, (48, 40)))
    assert (usual.model.input_size, other.model.input_size, other.card.input_size) == ((32, 32), (48, 40), (48, 40))
    assert usual.model.name != other.model.name
    view = prepare(np.full((60, 90, 3), 128, np.uint8), other.model)
    assert view.pixels.shape == (1, 3, 48, 40)
    assert torch.isfinite(other.model.logits(view.pixels)).all()


# ---- what is refused by its bytes ----------------------------------------------------------------------------


def test_c2_a_pickle_that_runs_code_is_refused_and_did_not_run_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    said = refused(saved({"weight": torch.zeros(2), "x": Evil(canary)}))
    assert "getattr" in said  # of the method that would have run
    assert not canary.exists()


def test_c3_nor_does_one_in_the_format_before_2020(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    refused(saved(Evil(canary), _use_new_zipfile_serialization=False))
    assert not canary.exists()


def test_the_process_itself_runs_no_code_either(tmp_path: Path) -> None:
    """The second wall, were the first to miss something."""
    canary = tmp_path / "canary"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        with pytest.raises(opening.Refused, match="damaged, or holds what a state dict does not"):
            opening.converted(saved(Evil(canary), **options))
    assert not canary.exists()


def test_c4_a_plain_pickle(tmp_path: Path) -> None:
    assert "plain Python pickle" in refused(pickle.dumps({"a": np.zeros(2)}))
    assert "plain Python pickle" in refused(pickle.dumps(Evil(tmp_path / "canary")))


def test_c5_a_whole_network() -> None:
    said = refused(saved(gap().net))
    assert "whole network" in said
    assert "torch.save(model.state_dict()" in said


def test_c6_torchscript() -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), file)
    assert "TorchScript" in refused(file.getvalue())


def test_c7_an_exported_program(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", "{}")
        archive.writestr("net/data.pkl", pickle.dumps(Evil(tmp_path / "canary"), 2))
    assert "is an exported program (.pt2)" in refused(file.getvalue(), "net.pt2")
    assert not (tmp_path / "canary").exists()


def test_c8_a_tar_of_old_days() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    assert "tar archive" in refused(file.getvalue())


def test_c9_an_empty_file() -> None:
    assert "empty" in refused(b"")
    assert "empty" in refused(b"", "mine.safetensors")


@pytest.mark.parametrize("length", [10, 400, -400, -1])
def test_c10_a_file_cut_off(digits: dict[str, Tensor], length: int) -> None:
    assert "cut off" in refused(saved(digits)[:length])
    assert re.search("cut off|damaged", refused(save(digits)[:length], "mine.safetensors"))


def test_c11_what_is_no_weights_file_at_all() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 5)).save(picture, "JPEG")
    assert "is a JPEG picture" in refused(picture.getvalue())
    assert "HDF5, as Keras" in refused(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "web page" in refused(b"<html><script>alert(1)</script>")
    assert "Git LFS" in refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "no weights file" in refused(bytes(range(1, 200)))
    arrays = io.BytesIO()
    np.savez(arrays, a=np.zeros(3))
    assert ".npz" in refused(arrays.getvalue())


def repacked(data: bytes, method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(file, "w", method) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    return file.getvalue()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (subprocess.TimeoutExpired("python", 1), r"could not be opened within \d+ seconds, and was given up"),
        (subprocess.CompletedProcess([], checkpoints.REFUSED, b"is no state dict."), r"mine\.pth is no state dict\."),
        (subprocess.CompletedProcess([], -9, b""), "took more memory or time than a file of its size may take"),
    ],
    ids=["in time", "refused", "killed"],
)
def test_what_becomes_of_the_process_that_opens_a_file_is_said(
    answer: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*args: object, **options: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(BadWeights, match=words):
        read_bytes(saved({"weight": torch.zeros(2)}), "mine.pth")


def test_what_the_library_for_safetensors_cannot_read_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(data: bytes) -> None:
        raise SafetensorError("its own words")

    monkeypatch.setattr("safetensors.torch.load", load)
    with pytest.raises(BadWeights, match=r"mine\.safetensors is damaged: its tensors cannot be read"):
        read_bytes(save({"weight": torch.zeros(2)}), "mine.safetensors")


def test_an_encrypted_zip_is_said_to_be_one() -> None:
    data = bytearray(saved({"weight": torch.zeros(2)}))
    place = data.index(b"PK\x01\x02")  # the first entry of the directory: its flags stand 8 bytes on
    data[place + 8] |= 1
    assert "is encrypted" in refused(bytes(data))


def test_a_pickle_that_names_what_it_asks_for_on_its_stack_is_none_of_torchs() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(OrderedDict(), 4))
    assert "pickled in a way that torch.save does not use (STACK_GLOBAL)" in refused(file.getvalue())


@pytest.mark.parametrize("extra", range(0, 64, 16))
def test_answers_are_the_same_to_the_bit_wherever_the_numbers_lie_in_a_file(tmp_path: Path, extra: int) -> None:
    path, known = tmp_path / "mine.safetensors", load_model("lenet5")
    path.write_bytes(save(dict(known.net.state_dict()), {"moved by": "x" * extra}))
    pixels = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_model(path, architecture="lenet5").logits(pixels), known.logits(pixels))


def test_a_safetensors_file_of_less_than_its_first_number_is_cut_off() -> None:
    with pytest.raises(BadWeights, match=r"mine\.safetensors is cut off: .* more than 5 bytes"):
        check_header(b"12345", "mine.safetensors")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_in_which_two_members_have_one_name_is_no_sound_one() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", b"1234")
        archive.writestr("a/data/0", b"5678")
    assert "its members overlap" in refused(file.getvalue())


def test_a_list_of_tensors_that_is_too_long_is_refused_before_it_is_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # one step of many bytes
        text = b"a" * MOST_PICKLE
        archive.writestr("a/data.pkl", b"\x80\x02X" + struct.pack("<I", len(text)) + text + b".")
    assert "more than 10,000 tensors" in refused(file.getvalue())


def test_c12_a_compressed_file_is_refused_before_anything_of_it_is_unpacked() -> None:
    plain = saved({"weight": torch.zeros(2_000_000)})
    packed = repacked(plain, zipfile.ZIP_DEFLATED)
    assert len(plain) / len(packed) > 500
    assert re.search(r"compressed \([\d,]+ to 1\)", refused(packed))
    check_pickled(repacked(plain, zipfile.ZIP_STORED), "mine.pth")


def test_c14_a_file_of_301_mb_is_refused_by_its_size_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.truncate(301 * 10**6)
    start = time.process_time()
    with pytest.raises(BadWeights, match=r"301 MB; the limit is 300 MB"):
        read_file(path)
    assert time.process_time() - start < 0.1
    assert MOST_BYTES == 300 * 10**6


def test_c20_what_lies_beside_the_network_of_a_lightning_checkpoint_is_left_out_and_said(
    digits: dict[str, Tensor],
) -> None:
    state = {f"model.{name}": tensor for name, tensor in digits.items()} | {"criterion.weight": torch.ones(10)}
    own = opened(state)
    assert any("“model.” was left out: criterion.weight" in note for note in own.notes)
    assert torch.equal(own.model.net.state_dict()["conv1.weight"], digits["conv1.weight"])
    assert opened(state, None).card.title.startswith("LeNet-5")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda path: load_model("a\0b.pth"), r"cannot be read"),
        (lambda path: load_model(path, labels="a\0b"), r"class names in .* cannot be read"),
        (lambda path: load_model(path, labels=5), r"labels is 5"),
        (lambda path: load_model(path, mean=0.5), r"mean is 0\.5; it must be 1 finite numbers"),
        (lambda path: load_model(path, std="abc"), r"std is 'abc'"),
        (lambda path: load_model(path, input_size=5), r"input_size is 5; it must be a whole number from 8 to 1024"),
        (lambda path: load_model(path, input_size=28.0), r"input_size is 28\.0; it must be a whole number"),
        (lambda path: load_model(path, input_size=(28, 28, 1)), r"it must be a side, or \(height, width\)"),
        (
            lambda path: load_model(path, input_size=64),
            r"cannot read pictures of 64 × 64 pixels\. Its usual size is 28",
        ),
        (lambda path: load_model(path, weights=None), r"weights is None, but .* has weights of its own"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_in_a_sentence(
    call: Callable[[Path], object], sentence: str, digits: dict[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(save(digits))
    with pytest.raises((BadParameter, BadWeights), match=sentence):
        call(tmp_path / "mine.safetensors")


@pytest.mark.parametrize(
    ("guest", "named"),
    [(argparse.Namespace(a=1), "argparse.Namespace"), (Path("a"), "pathlib"), (np.float64(1), "numpy")],
)
def test_c21_what_is_no_part_of_a_state_dict_is_named(digits: dict[str, Tensor], guest: Any, named: str) -> None:
    assert named in refused(saved({"state_dict": digits, "hyper_parameters": guest}))


def test_c23_a_million_tensors_are_refused_by_their_number() -> None:
    members, listed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(members, "w") as archive:
        for number in range(10_200):
            archive.writestr(f"a/data/{number}", b"")
    assert "10,000 tensors" in refused(members.getvalue())
    with zipfile.ZipFile(listed, "w") as archive:  # one store of numbers for all
        archive.writestr("a/data.pkl", b"\x80\x02" + b"K\x00Q0" * 10_001 + b"N.")
    assert "10,000 tensors" in refused(listed.getvalue())
    with zipfile.ZipFile(listed := io.BytesIO(), "w") as archive:  # 3 MB of steps that lead nowhere
        archive.writestr("a/data.pkl", b"\x80\x02" + b"N0" * 1_500_000 + b"N.")
    assert "10,000 tensors" in refused(listed.getvalue())
    many = {str(number): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(10_001)}
    assert "10,000 are allowed" in refused(safetensors(many), "mine.safetensors")


def test_c24_complex_quantised_sparse_and_nested_tensors() -> None:
    assert "complex" in refused(saved({"a": torch.zeros(2, dtype=torch.complex64)}))
    assert "quantised" in refused(saved({"a": torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)}))
    assert "sparse" in refused(saved({"a": torch.eye(3).to_sparse()}))
    assert "nested" in refused(saved({"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}))
    assert "meta" in refused(saved({"a": torch.zeros(3, device="meta")}))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (lambda: {"a": torch.zeros(2, dtype=torch.complex64)}, "complex numbers"),
        (lambda: {"a": torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)}, "is quantised"),
        (lambda: {"a": torch.zeros(3, device="meta")}, "a shape and no numbers"),
        (lambda: {str(n): torch.zeros(0) for n in range(10_001)}, "holds 10,001 tensors; the limit is 10,000"),
    ],
    ids=["complex", "quantised", "meta", "many"],
)
def test_who_reads_the_pickle_looks_again_at_what_came_out_of_it(
    tensors: Callable[[], dict[str, Tensor]], words: str
) -> None:
    with pytest.raises(opening.Refused, match=words):
        opening.state_in(tensors())


def safetensors(header: Any, numbers: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def tensor(begin: int, end: int, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end], **changes}


@pytest.mark.parametrize("length", [2**63, 2**62, 5 * 2**20, 17])
def test_c26_a_header_longer_than_the_file(length: int) -> None:
    assert f"{length:,} bytes" in refused(struct.pack("<Q", length) + b"{}", "mine.safetensors")


@pytest.mark.parametrize(
    ("header", "numbers", "said"),
    [
        ({"a": tensor(0, 8), "b": tensor(4, 12)}, 12, "“b” overlaps"),
        ({"a": tensor(0, 4), "b": tensor(8, 12)}, 12, "“b” leaves a gap"),
        ({"a": tensor(4, 8)}, 8, "“a” leaves a gap"),
        ({"a": tensor(0, 4)}, 8, "has a tail"),
        ({"a": tensor(0, 8)}, 4, "cut off"),
        (b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": 1}', 4, "names “a” twice"),
        ({"a": tensor(0, 4, dtype="F31")}, 4, "“a” as F31"),
        ({"a": tensor(0, 4, dtype=3)}, 4, "describes “a”"),
        ({"a": tensor(0, 4, more=1)}, 4, "describes “a”"),
        ({"a": tensor(0, 4, shape=[-1])}, 4, "a shape that no tensor has"),
        ({"a": tensor(0, 4, shape=[2**39, 2**39])}, 4, "whose shape needs"),
        ({"a": tensor(0, 4, shape=[True])}, 4, "a shape that no tensor has"),
        ({"a": tensor(0, 4, shape=[2])}, 4, "4 bytes for “a”"),
        ({"a": tensor(8, 4, shape=[0])}, 8, "bytes for “a”"),
        ({}, 0, "holds 0 tensors"),
        ([1], 0, "no list of tensors|damaged|no weights file"),
        (b"{" * 3000, 0, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", 0, "not JSON"),
        (b"{\xff}", 0, "not JSON"),
        ({"__metadata__": {"a": 1}, "a": tensor(0, 4)}, 4, "metadata that is not text"),
        ({"x" * 10_000: tensor(0, 4)}, 4, "10,000 characters long"),
    ],
)
def test_c27_a_safetensors_header_that_is_not_sound(header: Any, numbers: int, said: str) -> None:
    assert re.search(said, refused(safetensors(header, bytes(numbers)), "mine.safetensors"))


def test_c40_a_hostile_file_name_is_shown_in_one_line_and_is_no_path(digits: dict[str, Tensor]) -> None:
    own = open_network(read_bytes(save(digits), "../../etc/\u202epass\0wd\n.safetensors"), "lenet5")
    assert own.model.weights is not None
    assert own.model.weights.isprintable()
    assert "/" not in own.model.weights
    assert len(opened(digits).model.title) < 100


# ---- what is refused once it is open ---------------------------------------------------------------------------


def test_c13_a_tensor_that_is_larger_than_what_is_stored_of_it() -> None:
    assert "40000 × 40000 but stored as 4 bytes" in refused_inside({"weight": torch.zeros(1).expand(40_000, 40_000)})


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_while_a_file_is_read_is_said_as_what_it_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(opening.Refused, match="declares more numbers than the file can hold"):
        opening.converted(b"a file")


def test_a_small_file_that_declares_gigabytes_is_stopped_by_the_limit_on_memory() -> None:
    data = saved({"weight": torch.zeros(70_000)}, _use_new_zipfile_serialization=False)
    declared = data.replace(b"J" + struct.pack("<i", 70_000), b"J" + struct.pack("<i", 1_600_000_000))
    assert declared != data
    assert re.search("declares more numbers|took more memory|is damaged", refused(declared))


@pytest.mark.parametrize("what", [[1, 2], torch.zeros(3), {"a": "text"}, {}, "text", {"a": [torch.zeros(2)]}])
def test_c22_what_is_no_state_dict_is_named(what: Any) -> None:
    assert "not a state dict" in refused_inside(what)


def test_c29_names_that_are_no_names() -> None:
    assert "10,000 characters long" in refused_inside({"x" * 10_000: torch.zeros(1)})
    assert "of the type int" in refused_inside({3: torch.zeros(1)})


@pytest.mark.parametrize("name", ["__class__", "../x", "a.b.c", HOSTILE, "\u202eevil", "a\nb", ""])
def test_c29_strange_names_are_extra_tensors_and_nothing_more(digits: dict[str, Tensor], name: str) -> None:
    with pytest.raises(BadWeights) as caught:
        fill(Checkpoint("mine", "0", digits | {name: torch.zeros(1)}), find_card("lenet5"))
    assert "1 are of no layer of it" in str(caught.value)
    assert str(caught.value).isprintable()


# ---- what does not fit ------------------------------------------------------------------------------------------


def test_c17_missing_and_extra_tensors_are_listed_the_first_five(digits: dict[str, Tensor]) -> None:
    bent = {f"more.{name}" if "fc" in name else name: tensor for name, tensor in digits.items()}
    with pytest.raises(BadWeights) as caught:
        opened(bent)
    said = str(caught.value)
    assert "6 tensors are missing (fc1.weight, fc1.bias, fc2.weight, fc2.bias, fc3.weight, …)" in said
    assert "6 are of no layer of it (more.fc1.bias, " in said
    assert said.count("more.fc") == 5


def test_c19_another_shape_is_said_with_both_shapes(digits: dict[str, Tensor]) -> None:
    with pytest.raises(BadWeights, match=r"conv1\.weight is 6 × 2 × 5 × 5, not 6 × 1 × 5 × 5"):
        opened(digits | {"conv1.weight": torch.zeros(6, 2, 5, 5)})
    with pytest.raises(BadWeights, match="last layer, which decides about classes"):
        opened(digits | {"fc3.bias": torch.zeros(7)})


def test_another_stem_is_told_from_another_network() -> None:
    state = dict(load_model("resnet18", weights=None).net.state_dict())
    with pytest.raises(BadWeights, match="All else agrees: it is this network with another first convolution"):
        opened(state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, "resnet18")
    with pytest.raises(BadWeights) as caught:
        opened(state | {"conv1.weight": torch.zeros(64, 3, 3, 3), "more": torch.zeros(3)}, "resnet18")
    assert "All else agrees" not in str(caught.value)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 1), ("lenet5", 3), ("mobilenet_v2", 1)])
def test_a_network_may_read_grey_where_its_architecture_has_colour_and_the_other_way_round(
    name: str, channels: int
) -> None:
    plain = load_model(name, weights=None)
    state, stem = dict(plain.net.state_dict()), f"{plain.layers['first_conv']}.weight"
    wide, narrow = sorted((len(plain.mean), channels), reverse=True)
    grey = state[stem][:, :1].contiguous()
    own = opened(state | {stem: grey if channels == 1 else grey.repeat(1, wide, 1, 1) / wide}, name)
    assert any("first convolution reads" in note for note in own.notes)
    assert (len(own.model.mean), len(own.card.std), narrow) == (channels, channels, 1)
    pixels = torch.rand(1, 1, *plain.input_size).repeat(1, 3, 1, 1)  # grey
    values = own.model.normalise(pixels)
    assert values.shape[1] == channels
    with torch.no_grad():
        first = plain.net.get_submodule(plain.layers["first_conv"])
        expected = torch.nn.functional.conv2d(
            values.mean(1, keepdim=True),
            grey,
            first.bias,
            first.stride,
            first.padding,  # type: ignore[arg-type]
        )
        found = own.model.net.get_submodule(plain.layers["first_conv"])(values)
    torch.testing.assert_close(found, expected)


def test_c30_the_refusal_of_a_wrong_architecture_names_the_right_one() -> None:
    state = {
        name: torch.zeros(tensor.shape) for name, tensor in structure(find_card("resnet18"), 4).state_dict().items()
    }
    for wrong in ("resnet50", "lenet5"):
        with pytest.raises(BadWeights, match=r'ResNet-18, with 100 % .* architecture="resnet18"'):
            fill(Checkpoint("mine.pth", "0", state), find_card(wrong))


def test_a_file_of_no_known_network_says_how_to_name_one() -> None:
    with pytest.raises(BadWeights, match=r"none of the networks of the catalogue.*architecture="):
        opened({"weight": torch.zeros(3)}, None)


def test_an_unknown_architecture_is_refused_with_the_nearest(digits: dict[str, Tensor]) -> None:
    with pytest.raises(BadParameter, match="lenet5"):
        opened(digits, "lenet")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_c15_a_net_with_nan_is_loaded_says_so_and_refuses_to_answer(digits: dict[str, Tensor], value: float) -> None:
    weight = digits["conv2.weight"].clone()
    weight[3, 2, 1, 0] = value
    own = opened(digits | {"conv2.weight": weight, "fc3.bias": torch.full((10,), value)})
    assert own.broken == ("conv2.weight", "fc3.bias")
    assert "2 of its 10 tensors hold NaN or infinity: conv2.weight, fc3.bias" in " ".join(own.notes)
    with pytest.raises(LensError, match="NaN or infinity"):
        own.model.logits(picture())


# ---- class names and normalisation --------------------------------------------------------------------------------


def test_class_names_come_from_a_text_file_with_one_a_line(digits: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffzéro\r\nun\r\n" + "\n".join("abcdefgh") + "\n\n", encoding="utf-8")
    assert opened(digits, labels=path).model.labels == ("zéro", "un", *"abcdefgh")
    assert opened(digits, labels=path.read_bytes()).model.labels[0] == "zéro"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (b"a\nb", "2 class names; the last layer of the network has 3 classes"),
        (b"a\n\nb", "class 1 is empty"),
        (b"a\nb\n" + b"c" * 101, "class 2 is 101 characters long"),
        (b"\xff\xfea\x00", "no text in UTF-8"),
        (b"a" * (2**20 + 1), "1,048,577 bytes"),
        ("nowhere.txt", "cannot be read"),
        (["a", "a", "a (0)"], "more than once"),
    ],
)
def test_class_names_that_cannot_be_used_are_refused(names: Any, said: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(said)):
        read_labels(names, 3)


def test_equal_class_names_are_told_apart_by_their_numbers() -> None:
    names, notes = read_labels(b"crane\ncat\ncrane\n", 3)
    assert names == ("crane (0)", "cat", "crane (2)")
    assert "more than once" in notes[0]


@pytest.mark.parametrize("bad", [{"mean": (0.5, 0.5)}, {"std": (0.0,)}, {"std": (float("nan"),)}, {"std": (-1.0,)}])
def test_mean_and_std_must_be_one_sound_number_a_channel(digits: dict[str, Tensor], bad: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        opened(digits, **bad)


def test_what_belongs_to_a_file_is_refused_for_a_network_of_the_catalogue() -> None:
    with pytest.raises(BadParameter, match="weights file of your own"):
        load_model("lenet5", labels=[*"0123456789"])
    with pytest.raises(BadWeights, match="cannot be read"):
        load_model("not/there.safetensors")


# ---- damaged in ways that nobody thought of ------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["flip", "cut", "splice"]))
        if kind == "flip":
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        else:
            other = draw(st.integers(0, len(data)))
            data[place:place] = data[other : other + draw(st.integers(1, 40))]
        if not data:
            return b""
    return bytes(data)


SMALL = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.zeros(2, dtype=torch.float16)}


@settings(max_examples=150, deadline=None)
@given(damaged(save(SMALL)))
def test_damaged_safetensors_are_read_or_refused(data: bytes) -> None:
    said = ""
    try:
        found = read_bytes(data, "mine.safetensors")
    except BadWeights as refusal:
        said = str(refusal)
    assert not TORCH_SAYS.search(said)
    assert said or all(isinstance(one, Tensor) for one in found.tensors.values())


@settings(max_examples=150, deadline=None)
@given(st.one_of(damaged(saved(SMALL)), damaged(saved(SMALL, _use_new_zipfile_serialization=False))))
def test_damaged_pickles_are_let_through_or_refused(data: bytes) -> None:
    """What is let through, the process refuses or converts: its errors are all of one kind."""
    said = ""
    try:
        check_pickled(data, "mine.pth")
        opening.converted(data)
    except (BadWeights, opening.Refused) as refusal:
        said = str(refusal)
    assert not TORCH_SAYS.search(said)
