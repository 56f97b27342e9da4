"""What the training scripts share, what they write, and the states that are shipped."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models import catalogue, load_model, training
from models.samples import digits
from models.states import State, state_model, training_states
from models.training import Pictures, States, Variation, classify, is_kept, one_cycle, read_mnist
from vizcore.records import BadParameter, BadWeights

ROOT = Path(__file__).resolve().parent.parent
WITH_STATES = tuple(
    path.name.removesuffix("_training.safetensors")
    for path in sorted(catalogue.WEIGHTS_FOLDER.glob("*_training.safetensors"))
)


def some_digits(every: int = 25) -> Pictures:
    pictures, labels = (torch.from_numpy(array[::every].copy()) for array in digits())
    return Pictures(pictures[:, None], labels.long())


# ---- the parts -------------------------------------------------------------------------------------------------


def test_no_variation_leaves_a_picture_as_it_is() -> None:
    pixels = torch.rand(3, 2, 11, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Variation()(pixels), pixels, atol=1e-5, rtol=0)


def test_a_picture_is_moved_by_no_more_pixels_than_is_said() -> None:
    pixels = torch.zeros(500, 1, 21, 31)
    pixels[:, :, 10, 15] = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = Variation(pixels=4)(pixels)[:, 0]
    rows, columns = torch.arange(21.0)[:, None], torch.arange(31.0)
    down = (moved * rows).sum((1, 2)) / moved.sum((1, 2)) - 10
    right = (moved * columns).sum((1, 2)) / moved.sum((1, 2)) - 15
    for distance in (down, right):
        assert -4.001 < distance.min() < -3.8
        assert 3.8 < distance.max() < 4.001


def test_half_of_the_pictures_are_mirrored_where_that_is_asked_for() -> None:
    pixels = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)).expand(400, 1, 5, 9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shown = Variation(flip=True)(pixels)
    as_they_were, mirrored = ((shown - other).abs().amax((1, 2, 3)) < 1e-4 for other in (pixels, pixels.flip(3)))
    assert (as_they_were ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_a_sharp_picture_is_only_mirrored_and_moved_by_whole_pixels() -> None:
    pixels = torch.rand(60, 1, 24, 20, generator=torch.Generator().manual_seed(2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shown = Variation(degrees=9, shear=9, pixels=2, zoom=0.2, flip=True, sharp=0.5)(pixels)
    inner, places = np.s_[..., 4:-4, 4:-4], range(-2, 3)
    sharp = sum(
        any(
            torch.allclose(after[inner], other.roll((down, right), (1, 2))[inner], atol=1e-5)
            for other in (before, before.flip(2))
            for down in places
            for right in places
        )
        for before, after in zip(pixels, shown, strict=True)
    )
    assert 20 <= sharp <= 40  # of 60: the rest is resampled


def test_a_square_is_hidden_somewhere_in_every_picture_and_nothing_else_changed() -> None:
    pixels = torch.zeros(3000, 2, 12, 10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shown = Variation(hidden=4)(pixels)
    grey = shown == 0.5
    assert (shown[~grey] == 0).all()
    assert torch.equal(grey[:, 0], grey[:, 1])  # all channels
    high, wide = grey[:, 0].any(2).sum(1), grey[:, 0].any(1).sum(1)
    assert torch.equal(high * wide, grey[:, 0].sum((1, 2)))  # one rectangle
    assert (high.min(), high.max(), wide.min(), wide.max()) == (2, 4, 2, 4)  # cut off at the edges
    shares = grey[:, 0].float().mean(0)
    assert shares[4:8, 4:6].mean() == pytest.approx(16 / 120, abs=0.02)
    assert (shares > 0.02).all()  # the corners are hidden at times as well


def test_a_card_names_only_the_variations_that_are_made() -> None:
    assert Variation().words == ""
    assert Variation(degrees=8.0, pixels=1.5, zoom=0.1).words == (
        "rotation up to 8°, shift up to 1.5 pixels, size up to 10%"
    )


def test_the_rate_goes_up_to_its_peak_and_down_to_nothing() -> None:
    rates = np.array([one_cycle(step / 1000, 0.3, 0.1) for step in range(1001)])
    assert rates.argmax() == 100
    assert rates[[0, 50, 100, 550]] == pytest.approx([0, 0.15, 0.3, 0.15])
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(rates[:101]) > 0).all()
    assert (np.diff(rates[100:]) < 0).all()


def test_states_are_kept_at_the_beginning_at_powers_of_two_and_at_the_end() -> None:
    assert [epoch for epoch in range(31) if is_kept(epoch, 30)] == [0, 1, 2, 4, 8, 16, 30]


def test_pictures_split_off_are_those_that_are_missing_from_the_rest() -> None:
    everything = Pictures(torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1), torch.arange(50))
    rest, held_out = everything.split_off(12, seed=3)
    assert len(held_out) == 12
    assert sorted([*rest.classes.tolist(), *held_out.classes.tolist()]) == list(range(50))
    assert torch.equal(held_out.pixels.flatten().long(), held_out.classes)


def test_a_kept_state_does_not_change_with_the_net_and_its_accuracy_is_that_of_the_rounded_numbers() -> None:
    net, data = load_model("lenet5").net, some_digits()
    states = States()
    states.keep(3, net)
    before = {name: tensor.clone() for name, tensor in states.by_epoch[3].items()}
    found = classify(net, data, lambda pixels: (pixels - 0.1307) / 0.3081)
    for tensor in net.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in states.by_epoch[3].items())
    assert all(tensor.dtype == torch.float16 for tensor in before.values())
    shares = states.accuracies(net, data, lambda pixels: (pixels - 0.1307) / 0.3081)
    assert shares[3] == pytest.approx((found == data.classes).double().mean().item(), abs=0.01)
    assert torch.equal(net.get_submodule("fc3").weight, before["fc3.weight"].float())


def test_classifying_leaves_a_net_in_its_mode() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.99), nn.Linear(784, 10)).train()
    data = some_digits(100)
    first, again = (classify(net, data, lambda pixels: pixels) for _ in range(2))
    assert torch.equal(first, again)
    assert all(module.training for module in net.modules())


def test_a_digest_is_written_beside_those_of_other_files(tmp_path: Path) -> None:
    net = nn.Linear(2, 3)
    for name in ("my_net", "net", "my_net"):
        training.write_weights(tmp_path / f"{name}.safetensors", net)
    digest = hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert lines == [f"{digest}  net.safetensors", f"{digest}  my_net.safetensors"]


# ---- the scripts -----------------------------------------------------------------------------------------------


def test_training_without_its_data_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"none\.npz cannot be read.*train_images"):
        read_mnist(tmp_path / "none.npz")


def few_digits(path: Path) -> int:
    """A file like that of MNIST, and how many pictures its test has."""
    data, test = some_digits(25), some_digits(51)
    np.savez(
        path,
        train_images=data.pixels[:, 0].numpy(),
        train_labels=data.classes.numpy(),
        test_images=test.pixels[:, 0].numpy(),
        test_labels=test.classes.numpy(),
    )
    return len(test)


def few_photos(path: Path) -> int:
    """A file like that of CIFAR-10, of ten plain colours, and how many pictures its test has."""
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", 160), ("test", 40)):
        classes = np.arange(count) % 10
        files = []
        for k, one in enumerate(classes):
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (25 * int(one), 255 - k, k)).save(file, "JPEG")
            files.append(np.frombuffer(file.getvalue(), np.uint8))
        arrays |= {
            f"{part}_bytes": np.concatenate(files),
            f"{part}_lengths": np.array([len(file) for file in files]),
            f"{part}_labels": classes,
        }
    np.savez(path, **arrays)
    return 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "name", "write"),
    [
        ("train_lenet", "lenet5", few_digits),
        ("train_transformer", "stn_lenet", few_digits),
        ("train_photonet", "photonet", few_photos),
    ],
)
def test_training_twice_gives_the_same_files_and_a_card_of_them(
    script: str, name: str, write: Callable[[Path], int], tmp_path: Path
) -> None:
    count = write(tmp_path / "few.npz")
    for out in ("first", "second"):
        arguments = [script, "--data", str(tmp_path / "few.npz"), "--out", str(tmp_path / out), "--epochs", "4"]
        lines = ("import sys", f"import models.{script} as script", f"sys.argv = {arguments!r}", "script.main()")
        subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    first, second = tmp_path / "first", tmp_path / "second"
    written = {path.name for path in first.iterdir()}
    states = {f"{name}_training.safetensors"} if name != "stn_lenet" else set()
    assert written == {f"{name}.safetensors", f"{name}.md", "SHA256SUMS"} | states
    for file in written - {f"{name}.md"}:
        assert (first / file).read_bytes() == (second / file).read_bytes()
    for line in (first / "SHA256SUMS").read_text().splitlines():
        digest, file = line.split()
        assert hashlib.sha256((first / file).read_bytes()).hexdigest() == digest
    assert f"of the {count} test pictures" in (first / f"{name}.md").read_text(encoding="utf-8")


# ---- the states that are shipped -------------------------------------------------------------------------------


def test_lenets_states_are_listed_without_torch() -> None:
    lines = (
        "import sys",
        "from models.states import training_states",
        "print([state.epoch for state in training_states('lenet5')], 'torch' in sys.modules)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[0, 1, 2, 4, 8, 16, 30] False", done.stderr


@pytest.mark.parametrize("name", WITH_STATES)
def test_states_begin_with_chance_and_end_with_the_net_that_is_shipped(name: str) -> None:
    states = training_states(name)
    assert states[0].epoch == 0
    assert states[0].accuracy < 0.2
    assert states[-1].accuracy >= 0.88
    card = (catalogue.WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for state in states:
        assert re.search(rf"[ |*]{100 * state.accuracy:.2f}%", card)
    shipped, last = load_model(name), state_model(name, states[-1].epoch)
    for key, tensor in shipped.net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        assert last.net.state_dict()[key].dtype == torch.float32
        torch.testing.assert_close(last.net.state_dict()[key], tensor, rtol=1e-3, atol=1e-4)


def test_a_state_is_a_model_like_another_with_a_name_of_its_own() -> None:
    models = [state_model("lenet5", epoch) for epoch in (0, 1, 30)]
    assert [model.title for model in models] == [
        "LeNet-5 before training",
        "LeNet-5 after 1 epoch",
        "LeNet-5 after 30 epochs",
    ]
    for model in models:
        assert model.name == "lenet5"
        assert model.weights
        assert not any(module.training for module in model.net.modules())
        assert not any(parameter.requires_grad for parameter in model.net.parameters())
    pixels = (some_digits(5).pixels.float() / 255).expand(-1, 3, -1, -1)
    right = [(model.logits(pixels).argmax(1) == some_digits(5).classes).float().mean() for model in models]
    assert right[0] < 0.25
    assert right[0] < right[1] < right[2]
    assert right[2] > 0.98


def test_loading_a_state_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    state_model("lenet5", 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_net_without_states_has_none_and_an_epoch_without_one_is_refused_with_those_there_are() -> None:
    assert training_states("resnet18") == ()
    with pytest.raises(BadParameter, match=r"no state of 'resnet18' after 3 epochs\. None"):
        state_model("resnet18", 3)
    with pytest.raises(BadParameter, match=r"after 3 epochs\. Choose one of 0, 1, 2, 4, 8, 16, 30"):
        state_model("lenet5", 3)
    with pytest.raises(BadParameter, match="after True epochs"):
        state_model("lenet5", True)


def test_a_flipped_bit_in_a_state_is_refused_by_name(weights_folder: Path) -> None:
    path = weights_folder / "lenet5_training.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    assert len(training_states("lenet5")) == 7
    with pytest.raises(BadWeights, match=r"lenet5_training\.safetensors is damaged.*git checkout"):
        state_model("lenet5", 4)
    path.write_bytes(b"not that")
    with pytest.raises(BadWeights, match=r"lenet5_training\.safetensors cannot be read.*git checkout"):
        training_states("lenet5")


def test_states_are_written_and_read_again(weights_folder: Path) -> None:
    model = state_model("lenet5", 8)
    states = States()
    states.keep(5, model.net)
    training.write_states(weights_folder / "lenet5_training.safetensors", states, {5: 0.25})
    assert training_states("lenet5") == (State(5, 0.25),)
    again = state_model("lenet5", 5).net.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.net.state_dict().items())


def test_states_of_another_net_are_refused(weights_folder: Path) -> None:
    states = States()
    states.keep(0, nn.Linear(3, 3))
    training.write_states(weights_folder / "lenet5_training.safetensors", states, {0: 0.1})
    with pytest.raises(BadWeights, match=r"no tensor 0/conv1\.weight of the shape \(6, 1, 5, 5\)"):
        state_model("lenet5", 0)


def test_the_facts_of_a_card_are_rows_of_a_table() -> None:
    assert all(re.fullmatch(r"\| .+ \| .+ \|", line) for line in training.facts_of_run(0, 12.4, "abc").splitlines())
    table = training.table_of_states({0: 0.0981, 1: 0.5}).splitlines()
    assert table[0] == "| epochs | 0 | 1 |"
    assert table[2] == "| right | 9.81% | 50.00% |"
