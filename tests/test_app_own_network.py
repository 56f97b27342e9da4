"""The page "Your network" without a browser: from a file to the current network, what is refused, whom it concerns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from streamlit.testing.v1 import AppTest
from test_app import HOSTILE, saying, texts, visit
from test_app import chosen as chosen_in

from app_pages import common
from models import load_model
from models.samples import list_samples
from vizcore.images import prepare

PAGE = "own_network"
PAGES = (
    "overview",
    "layers",
    "anatomy",
    "heatmaps",
    "evidence",
    "compare",
    "hiding",
    "arithmetic",
    "embedding",
    "folder",
)


@pytest.fixture(autouse=True)
def a_machine_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Uploads are allowed, and nothing is left in the folder for temporary files."""
    monkeypatch.setenv("CNN_LENS_CHECKPOINTS", "on")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    yield
    assert not list((tmp_path / "tmp").iterdir())


@pytest.fixture(scope="module")
def digits() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_model("lenet5").net.state_dict().items()}


def bring(app: AppTest, data: bytes, name: str = "mine.safetensors") -> AppTest:
    app.file_uploader(key="weights").set_value((name, data, "application/octet-stream")).run()
    assert not app.exception
    return app


def press_open(app: AppTest) -> AppTest:
    next(button for button in app.button if button.label.startswith("Open and examine")).click().run()
    assert not app.exception
    return app


def brought(digits: dict[str, torch.Tensor], name: str = "mine.safetensors") -> AppTest:
    return press_open(bring(visit(PAGE), save(digits), name))


def test_a_file_becomes_the_current_network_on_every_page(digits: dict[str, torch.Tensor]) -> None:
    app = bring(visit(PAGE), save(digits))
    (proposed,) = [box for box in app.selectbox if box.label == "Architecture"]
    assert proposed.value == "lenet5"
    press_open(app)
    assert chosen_in(app).model.name.startswith("lenet5-")
    assert "Nothing was changed" in app.success[0].value
    for page in ("overview", "layers", "heatmaps"):
        app.switch_page(f"app_pages/{page}.py").run()
        assert not app.exception
        assert not app.error
        assert chosen_in(app).model.name.startswith("lenet5-")
    code = next(block.value for block in app.code if "load_model" in block.value)
    assert "model = load_model('mine.safetensors', architecture='lenet5')" in code


def test_the_answers_are_those_of_the_file_and_the_report_is_there_to_read(digits: dict[str, torch.Tensor]) -> None:
    app = brought(digits)
    here, known = chosen_in(app), load_model("lenet5")
    own, wanted = here.model.net.state_dict(), known.net.state_dict()
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[name], wanted[name]) for name in wanted)
    pixels = prepare(here.photo, known).pixels
    common.share_the_cores()  # as the app does
    assert torch.equal(torch.from_numpy(here.scores), known.logits(pixels)[0])
    said = saying(app, "**Normalisation**")
    assert "guessed from the architecture" in said.replace("\\", "")
    assert "**Answer**: fine" in saying(app, "**Answer**")
    assert "not CAM" not in saying(app, "Grad\\-CAM")
    assert "global average pooling" in saying(app, "Not CAM")


def test_class_names_and_file_names_are_shown_as_text(digits: dict[str, torch.Tensor]) -> None:
    app = bring(visit(PAGE), save(digits), f"{HOSTILE.replace('/', '')}.safetensors")
    names = "\n".join([HOSTILE, *(f"*{k}*" for k in range(9))])
    app.file_uploader(key="class names").set_value(("names.txt", names.encode(), "text/plain")).run()
    press_open(app)
    assert chosen_in(app).model.labels[0] == HOSTILE
    app.selectbox(key="class").set_value(HOSTILE).run()
    for page in (PAGE, *PAGES):
        app.switch_page(f"app_pages/{page}.py").run()
        assert not app.exception
        shown = texts(app) + [bar.proto.text for bar in app.progress]
        assert not [text for text in shown if HOSTILE in text or "![x]" in text or "*3*" in text.replace("\\*", "")]


def test_the_size_of_the_input_and_grey_can_be_chosen_and_what_is_guessed_is_called_so() -> None:
    state = dict(load_model("all_conv", weights=None).net.state_dict())
    stem = f"{load_model('all_conv', weights=None).layers['first_conv']}.weight"
    app = bring(visit(PAGE), save(state | {stem: state[stem].sum(1, keepdim=True)}))
    (architecture,) = [box for box in app.selectbox if box.label == "Architecture"]
    architecture.set_value("all_conv").run()
    press_open(app)
    assert "guessed" in saying(app, "**Input**")
    assert len(chosen_in(app).model.mean) == 1
    app.number_input(key="side for all_conv").set_value(48).run()
    press_open(app)
    assert "guessed" not in saying(app, "**Input**")
    assert "guessed" in saying(app, "**Normalisation**")
    assert chosen_in(app).model.input_size == (48, 48)
    assert chosen_in(app).view.pixels.shape == (1, 3, 48, 48)
    app.switch_page("app_pages/layers.py").run()
    assert not app.exception
    (code, *_) = [block.value for block in app.code if "load_model" in block.value]
    assert "architecture='all_conv', input_size=48)" in code


def test_a_size_that_the_network_cannot_read_is_refused(digits: dict[str, torch.Tensor]) -> None:
    app = bring(visit(PAGE), save(digits))
    app.number_input(key="side for lenet5").set_value(64).run()
    press_open(app)
    assert "cannot read pictures of 64 × 64 pixels" in app.error[0].value.replace("\\", "")
    assert chosen_in(app).model.name == common.DEFAULT_MODEL


def test_the_wrong_number_of_class_names_is_refused_and_the_network_before_stays(
    digits: dict[str, torch.Tensor],
) -> None:
    app = bring(visit(PAGE), save(digits))
    app.file_uploader(key="class names").set_value(("names.txt", b"a\nb\n", "text/plain")).run()
    press_open(app)
    assert "2 class names; the last layer of the network has 10" in app.error[0].value
    assert chosen_in(app).model.name == common.DEFAULT_MODEL


def test_a_new_file_forgets_the_class_names_of_the_one_before(digits: dict[str, torch.Tensor]) -> None:
    app = bring(visit(PAGE), save(digits))
    app.file_uploader(key="class names").set_value(("names.txt", b"a\nb\n", "text/plain")).run()
    assert "names\\.txt" in saying(app, "are used")
    bring(app, save(digits | {"fc3.bias": torch.zeros(10)}), "second.safetensors")
    press_open(app)
    assert chosen_in(app).model.labels[3] == "class 3"


def test_the_report_stays_with_its_picture_until_another_one_is_asked_for(digits: dict[str, torch.Tensor]) -> None:
    app = brought(digits)
    first = app.session_state["brought"]
    assert first.digest == chosen_in(app).digest  # a digit: not what was chosen when the file was opened
    assert first.examined_on in saying(app, "examined on").replace("\\", "")
    assert not [button for button in app.button if button.key == "examine anew"]
    other = next(sample.key for sample in list_samples() if sample.grey and sample.title != first.examined_on)
    app.selectbox(key="digit").set_value(other).run()
    assert app.session_state["brought"] is first
    app.button(key="examine anew").click().run()
    assert not app.exception
    assert app.session_state["brought"].digest == chosen_in(app).digest != first.digest
    assert app.session_state["brought"].report.unchanged
    assert not [button for button in app.button if button.key == "examine anew"]


def test_a_network_with_nan_is_examined_loudly_and_does_not_become_the_current_one(
    digits: dict[str, torch.Tensor],
) -> None:
    app = brought(digits | {"fc2.bias": torch.full((84,), float("nan"))})
    assert "cannot be looked into" in app.error[0].value
    assert "**NaN and infinity**: a fault" in saying(app, "**NaN")
    assert chosen_in(app).model.name == common.DEFAULT_MODEL
    app.selectbox(key="model").set_value(app.session_state["brought"].card.name).run()
    assert "NaN or infinity" in app.error[0].value
    assert "Nothing was changed" in app.success[0].value  # the report is there all the same


@pytest.mark.parametrize("data", [b"", b"<html>", b"PK\x03\x04 and then nothing", b"\x80\x04N."])
def test_what_is_no_weights_file_is_refused_in_a_sentence_and_the_visit_goes_on(
    digits: dict[str, torch.Tensor], data: bytes
) -> None:
    app = bring(visit(PAGE), data, "mine.pth")
    assert app.error[0].value.startswith("mine\\.pth")
    assert not [button for button in app.button if button.label.startswith("Open and examine")]
    press_open(bring(app, save(digits)))
    assert not app.error


def test_a_wrong_architecture_is_refused_with_the_right_one(digits: dict[str, torch.Tensor]) -> None:
    app = bring(visit(PAGE), save(digits))
    next(box for box in app.selectbox if box.label == "Architecture").set_value("resnet18").run()
    press_open(app)
    assert "LeNet-5" in app.error[0].value.replace("\\", "")
    assert chosen_in(app).model.name == common.DEFAULT_MODEL


def test_two_visitors_files_of_one_name_never_mix(digits: dict[str, torch.Tensor]) -> None:
    other = digits | {"fc3.bias": digits["fc3.bias"].flip(0) + 3}
    apps = [brought(state) for state in (digits, other)]
    names = [chosen_in(app).model.name for app in apps]
    titles = [chosen_in(app).model.title for app in apps]
    assert len(set(names)) == len(set(titles)) == 2
    for app in (*apps, *apps):
        app.run()
    first, second = (torch.from_numpy(chosen_in(app).scores) for app in apps)
    torch.testing.assert_close(second - first, other["fc3.bias"] - digits["fc3.bias"])
    assert names[1] not in apps[0].selectbox(key="model").options
    stranger = visit("overview", model=names[0])
    assert chosen_in(stranger).model.name == common.DEFAULT_MODEL


def test_weights_can_be_brought_where_those_of_the_current_network_are_missing(digits: dict[str, torch.Tensor]) -> None:
    app = visit(PAGE, model="ResNet-18")
    assert "not on this machine" in app.error[0].value
    press_open(bring(app, save(digits)))
    assert not app.error
    assert chosen_in(app).model.name.startswith("lenet5-")


@pytest.mark.parametrize(
    ("settings", "address", "allowed"),
    [
        ({}, "localhost", True),
        ({}, "0.0.0.0", False),
        ({}, None, False),
        ({"CNN_LENS_PUBLIC": "1"}, "localhost", False),
        ({"CNN_LENS_PUBLIC": "0"}, "localhost", True),
        ({"CNN_LENS_PUBLIC": "1", "CNN_LENS_CHECKPOINTS": "on"}, "0.0.0.0", True),
        ({"CNN_LENS_CHECKPOINTS": "off"}, "localhost", False),
        ({"CNN_LENS_CHECKPOINTS": "perhaps"}, "localhost", False),
    ],
)
def test_uploads_are_off_where_the_public_comes_unless_somebody_switches_them_on(
    settings: dict[str, str], address: str | None, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CNN_LENS_CHECKPOINTS")
    monkeypatch.delenv("CNN_LENS_PUBLIC", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("streamlit.get_option", lambda name: address)
    assert common.uploads_allowed() == allowed


def test_a_public_page_says_so_and_has_no_uploader_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN_LENS_CHECKPOINTS", "off")
    app = visit(PAGE)
    assert not app.exception
    assert "switched off on this server" in app.info[0].value
    assert not [uploader for uploader in app.file_uploader if uploader.label == "Weights file"]


# ---- any network of timm, by its name --------------------------------------------------------------------------


def take(app: AppTest, name: str, untrained: bool) -> AppTest:
    app.text_input(key="timm name").set_value(name).run()
    app.toggle(key="timm untrained").set_value(untrained).run()
    next(button for button in app.button if button.label.startswith("Take and examine")).click().run()
    assert not app.exception
    return app


def test_a_network_of_timm_is_taken_by_its_name_and_is_current_on_every_page() -> None:
    app = take(visit(PAGE), "test_resnet", untrained=True)
    assert not app.error
    assert "Nothing was changed" in app.success[0].value
    assert chosen_in(app).model.name == "timm/test_resnet"
    assert chosen_in(app).model.weights is None
    app.switch_page("app_pages/layers.py").run()
    assert not app.exception
    assert "untrained" in app.warning[0].value
    assert any("load_model('timm/test_resnet', weights=None)" in block.value for block in app.code)


@pytest.mark.parametrize(
    ("name", "untrained", "sentence"),
    [
        ("no_such_net_of_timm", True, "There is no model"),
        ("vit_tiny_patch16_224", True, "is no convolutional network"),
        ("timm/resnetv2_152x4_bit", True, "up to 150,000,000 fit here"),
        ("test_resnet", False, "test_resnet"),  # its weights would have to be fetched, and there is no network
    ],
)
def test_a_name_that_cannot_be_taken_is_refused_in_a_sentence(name: str, untrained: bool, sentence: str) -> None:
    app = take(visit(PAGE), name, untrained)
    assert sentence in app.error[0].value.replace("\\", "")
    assert chosen_in(app).model.name == "efficientnet_lite0"
