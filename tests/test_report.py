"""A report is one file that opens offline, says what the numbers say, runs nothing, and can be opened again."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from nets import answering, gap
from pictures import scene
from PIL import Image
from torch import Tensor

from vizcore import report_file
from vizcore.agreement import agreement
from vizcore.faithfulness import CONTROLS, curves
from vizcore.heatmaps import HEATMAP_METHODS, heatmap, usual_options
from vizcore.photos import Photo, open_photo
from vizcore.randomisation import cascade
from vizcore.records import BadParameter, LayerNotFound, Model, UnsupportedModel
from vizcore.report import (
    EVIDENCE,
    FILLING,
    REPEATS,
    STAGES,
    STEPS,
    Report,
    Wish,
    gather,
    passes_to_gather,
)
from vizcore.report_file import MOST_BYTES, STATE, read_report, to_html
from vizcore.weights import digest_of_weights

WILD = '<script>alert("1")</script> **&amp;** ‮'


def trained(**changes: object) -> Model:
    return replace(gap(), weights="weights of a test", title="Test net", **changes)


def report_of(wish: Wish, model: Model | None = None, photo: np.ndarray | None = None, **options: object) -> Report:
    photo = scene(60, 90) if photo is None else photo
    return gather(model or trained(), Photo.of(photo), wish, **options)  # type: ignore[arg-type]


class Page(HTMLParser):
    """The texts that a reader sees, what pictures hold, and every address."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.alts: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ("src", "href", "srcset", "action") if name in given]
        if tag == "img":
            self.alts.append(given["alt"] or "")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def test_the_maps_are_those_of_the_methods() -> None:
    model, methods = trained(), ("grad_cam", "occlusion", "gradient", "smooth_grad", "rise")
    found = report_of(Wish((1, 0), methods, evidence=(), seed=4), model)
    assert [(one.heat.target, one.heat.method) for one in found.findings] == [(t, m) for t in (1, 0) for m in methods]
    for one in found.findings:
        options = usual_options(model, one.heat.method)
        if one.heat.method in ("smooth_grad", "rise"):
            options["seed"] = 4
        alone = heatmap(model, found.view.pixels, one.heat.target, one.heat.method, **options)
        np.testing.assert_array_equal(one.heat.values, alone.values)
        assert one.heat.params == alone.params
        assert not one.removal
        assert one.fall is None


def test_the_evidence_is_that_of_its_own_functions_and_only_for_the_first_class() -> None:
    model = trained()
    found = report_of(Wish((1, 0), ("hires_cam", "gradient"), view="signed", evidence=EVIDENCE, seed=2), model)
    for one in found.findings[2:]:
        assert not one.removal
        assert one.fall is None
    for one in found.findings[:2]:
        for kind, got in zip(("deletion", "insertion"), one.removal, strict=True):
            wanted = curves(
                model,
                found.view.pixels,
                1,
                one.heat,
                kind=kind,
                steps=STEPS,
                filling=FILLING,
                controls=tuple(CONTROLS),
                seed=2,
            )
            np.testing.assert_array_equal(got.curve.scores, wanted.curve.scores)
            assert got.verdict == wanted.verdict
        method = one.heat.method
        wanted_fall = cascade(
            model,
            lambda net, method=method: heatmap(net, found.view.pixels, 1, method, view="signed").values,
            stages=STAGES,
            repeats=REPEATS,
            seed=2,
        )
        assert one.fall is not None
        assert one.fall.verdict == wanted_fall.verdict
    first, second = found.findings[:2]
    maps = {"HiResCAM": first.heat.values, "Gradient": np.abs(second.heat.values)}  # by pixel, the magnitude counts
    assert found.agreed is not None
    wanted_grid = agreement(maps, tuple(found.view.pixels.shape[2:])).correlations
    np.testing.assert_array_equal(found.agreed.correlations, wanted_grid)


def test_progress_counts_up_to_the_price_and_never_back() -> None:
    told: list[tuple[int, int]] = []
    wish = Wish((1, 0), ("grad_cam", "occlusion", "score_cam"), evidence=EVIDENCE)
    model = trained()
    report_of(wish, model, progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {passes_to_gather(model, wish)}
    counts = [done for done, _ in told]
    assert counts == sorted(counts)
    assert counts[-1] == passes_to_gather(model, wish)


def test_the_price_is_at_least_what_runs() -> None:
    """By pictures that went through the net, a pass forth and back counted as three."""
    model, seen = trained(), 0

    def count(module: torch.nn.Module, given: tuple[torch.Tensor, ...], output: object) -> None:
        nonlocal seen
        seen += len(given[0])

    wish = Wish((1,), ("grad_cam", "occlusion", "smooth_grad"), evidence=("removal",))
    handle = model.net.register_forward_hook(count)
    try:
        report_of(wish, model)
    finally:
        handle.remove()
    assert 0.3 * passes_to_gather(model, wish) < seen <= passes_to_gather(model, wish) + 10


def test_a_cancel_passes_through_and_leaves_the_model_as_it_was() -> None:
    model = trained()
    before = digest_of_weights(model)

    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int) -> None:
        if done > total // 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        report_of(Wish((1,), ("grad_cam", "hires_cam"), evidence=EVIDENCE), model, progress=cancel)
    assert digest_of_weights(model) == before
    assert not any(module._forward_hooks for module in model.net.modules())


def test_what_the_net_does_not_allow_is_said_and_the_rest_is_there() -> None:
    from nets import deep_head

    found = report_of(Wish((1,), ("cam", "grad_cam"), evidence=()), replace(deep_head(), weights="w"))
    assert [one.heat.method for one in found.findings] == ["grad_cam"]
    assert len(found.refused) == 1
    assert found.refused[0].startswith("CAM of class 1: ")
    assert found.refused[0] in Page(to_html(found)).text


def test_where_the_net_allows_no_map_at_all_that_is_said() -> None:
    from nets import deep_head

    with pytest.raises(UnsupportedModel, match=r"No map could be made\. CAM of class 1: "):
        report_of(Wish((1,), ("cam",), evidence=()), replace(deep_head(), weights="w"))


def test_a_method_of_many_passes_is_not_randomised_and_an_untrained_net_neither() -> None:
    many = report_of(Wish((1,), ("occlusion",), evidence=("randomisation",)))
    assert many.findings[0].fall is None
    assert "Randomisation of Occlusion was left out: a map takes" in many.refused[0]
    none = report_of(Wish((1,), ("grad_cam",), evidence=("randomisation",)), gap())
    assert none.findings[0].fall is None
    assert "nothing to forget" in none.refused[0]


def test_cautions_name_what_a_reader_should_know() -> None:
    model = gap()
    found = report_of(Wish((1,), ("eigen_cam",)), model, scene(40, 200))
    said = " ".join(found.cautions)
    assert "untrained" in said
    assert "does not know the class" in said
    unseen = 1 - (found.view.box[2] - found.view.box[0]) * (found.view.box[3] - found.view.box[1]) / (40 * 200)
    assert f"{100 * unseen:.0f} % of the photo lies outside" in said
    top = int(found.logits.argmax())
    other = (top + 1) % len(model.labels)
    assert f"{model.labels[other]} is not what the network answers; that is {model.labels[top]}" in " ".join(
        report_of(Wish((other,), ("grad_cam",), evidence=()), model).cautions
    )


def test_a_map_that_does_not_beat_its_controls_is_among_the_cautions_and_one_that_does_is_not() -> None:
    found = report_of(Wish((1,), ("grad_cam", "occlusion")))
    for one in found.findings:
        for removal in one.removal:
            beaten = all(verdict.startswith("Beats") for verdict in removal.verdicts.values())
            said = [sentence for sentence in found.cautions if f"{one.title} by {removal.curve.kind}" in sentence]
            assert bool(said) is not beaten


def test_the_digest_of_weights_is_that_of_numbers_and_names() -> None:
    model, same, other = gap(), gap(), gap()
    assert digest_of_weights(model) == digest_of_weights(same)
    assert re.fullmatch("[0-9a-f]{64}", digest_of_weights(model))
    parameter = next(other.net.parameters())
    with torch.no_grad():
        parameter.view(-1)[0] += 1e-6
    assert digest_of_weights(other) != digest_of_weights(model)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish((99,)), "target is 99"),
        (Wish(()), "0 classes were asked for"),
        (Wish((1,), ()), "0 methods"),
        (Wish((1,), ("grad_cma",)), "methods has 'grad_cma'"),
        (Wish((1,), evidence=("deletion",)), "evidence has 'deletion'"),
        (Wish((0, 1), tuple(HEATMAP_METHODS)), "1 to 24 maps"),
        (Wish((1,), view="both"), "view is 'both'"),
        (Wish((1,), seed=-1), "seed is -1"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_anything_runs(wish: Wish, words: str) -> None:
    def never(logits: Tensor) -> Tensor:
        raise AssertionError("it ran")

    with pytest.raises(BadParameter, match=words):
        report_of(wish, answering(never))


def test_an_unknown_layer_is_refused_with_the_nearest() -> None:
    with pytest.raises(LayerNotFound, match="conv1"):
        report_of(Wish((1,), layer="conv_1"))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = to_html(report_of(Wish((1,), ("grad_cam", "gradient"), evidence=EVIDENCE)))
    read = Page(page)
    assert all(address.startswith("data:image/") for address in read.addresses)
    assert b"default-src 'none'" in page
    assert read.tags.count("script") == 1  # the block of JSON
    assert b'<script type="application/json"' in page
    assert not re.search(rb"<[a-z]+[^>]* on[a-z]+=", page)
    assert not re.search(rb"https?://", page)


def test_names_are_text_wherever_they_stand() -> None:
    model = trained(labels=tuple(f"{WILD} {k}" for k in range(len(gap().labels))))
    page = to_html(report_of(Wish((1,), ("grad_cam",), evidence=EVIDENCE), model, title=WILD), made=WILD)
    read = Page(page)
    assert read.tags.count("script") == 1
    assert f"{WILD} 1" in read.text
    assert any(f"{WILD} 1" in alt for alt in read.alts)
    assert read_report(page).title == WILD
    assert read_report(page).labels == (f"{WILD} 1",)


def test_the_page_says_what_it_was_made_of() -> None:
    model = trained()
    found = report_of(Wish((1, 0), ("grad_cam", "occlusion"), evidence=EVIDENCE, seed=7), model, title="cat.jpg")
    text = Page(to_html(found, made="Made today.")).text
    for wanted in (
        "Made today.",
        "cat.jpg",
        "Test net",
        "weights of a test",
        digest_of_weights(model),
        found.photo.digest,
        f"torch {torch.__version__.split('+')[0]}",
        "class 1",
        "class 0",
        "Weakness:",
        *(sentence for sentence in found.cautions),
        *(removal.verdict for one in found.findings for removal in one.removal),
        *(one.fall.verdict for one in found.findings if one.fall),
        *(found.agreed.summary if found.agreed else ()),
    ):
        assert wanted in text, wanted


def test_the_python_of_each_map_makes_that_map(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    Image.fromarray(scene(60, 90)).save("photo.png")
    monkeypatch.setattr("models.load_model", lambda name: trained() if name == "GapNet" else None)
    found = report_of(Wish((1,), ("grad_cam", "gradient", "occlusion"), evidence=()), title="photo.png")
    scripts = re.findall(r"<pre>(.*?)</pre>", to_html(found).decode(), re.DOTALL)
    from html import unescape

    for one, lines in zip(found.findings, scripts, strict=True):
        names: dict[str, object] = {}
        exec(compile(unescape(lines), "report", "exec"), names)
        np.testing.assert_array_equal(names["heat"].values, one.heat.values)  # type: ignore[attr-defined]


def test_a_report_opened_again_has_the_wish_and_the_pixels() -> None:
    wish = Wish((1, 0), ("grad_cam", "occlusion"), "conv2", "signed", ("removal", "agreement"), 3)
    found = report_of(wish, title="a photo")
    again = read_report(to_html(found))
    assert again.wish == wish
    assert again.exact
    assert (again.model, again.model_title, again.title) == ("GapNet", "Test net", "a photo")
    assert again.weights == digest_of_weights(trained())
    assert open_photo(again.picture).digest == found.photo.digest
    afresh = gather(trained(), open_photo(again.picture), again.wish)
    for one, other in zip(found.findings, afresh.findings, strict=True):
        np.testing.assert_array_equal(one.heat.values, other.heat.values)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1600, 1200), (700, 500), (1601, 80)])
def test_the_largest_report_of_the_worst_picture_is_within_its_size(size: tuple[int, int]) -> None:
    """Noise cannot be packed; 24 maps with all that can be asked of them."""
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    wish = Wish((0, 1), tuple(HEATMAP_METHODS)[:12], evidence=EVIDENCE)
    found = report_of(wish, photo=photo)
    page = to_html(found)
    assert len(page) < MOST_BYTES
    again = read_report(page)
    opened = open_photo(again.picture)
    assert again.exact is (opened.digest == found.photo.digest)
    if not again.exact:
        assert "packed with loss" in Page(page).text
    assert opened.pixels.shape[0] * size[1] == pytest.approx(opened.pixels.shape[1] * size[0], rel=0.05)


def test_a_photo_of_usual_size_is_packed_without_loss() -> None:
    found = report_of(Wish((1,), ("grad_cam",), evidence=()), photo=scene(600, 800))
    assert read_report(to_html(found)).exact


def test_a_tiny_picture_is_enlarged_in_squares() -> None:
    found = report_of(Wish((1,), ("grad_cam",), evidence=()), photo=scene(28, 28))
    addresses = [one for one in Page(to_html(found)).addresses if len(one) > 5000]
    assert any(min(Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))).size) >= 300 for one in addresses)


def changed(**changes: object) -> bytes:
    """A report whose JSON was changed by somebody."""
    page = to_html(report_of(Wish((1,), ("grad_cam",), evidence=()))).decode()
    found = re.search(rf'id="{STATE}">(.*?)</script>', page)
    assert found
    state = json.loads(found[1])
    for name, value in changes.items():
        place = state["wish"] if name in state["wish"] else state
        place[name] = value
    return page.replace(found[1], json.dumps(state)).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b"\xff\xfe\x00bad",
        b"<!" * 50,
        to_html(report_of(Wish((1,), ("grad_cam",), evidence=()))).replace(b"data:image/png", b"https://x/image", 1),
        to_html(report_of(Wish((1,), ("grad_cam",), evidence=()))).replace(b";base64,", b";base64,!", 1),
        to_html(report_of(Wish((1,), ("grad_cam",), evidence=()))).replace(b'"version": 1', b'"version": 1,,'),
        changed(version=2),
        changed(targets=["1"]),
        changed(targets=[True]),
        changed(targets=[-1]),
        changed(targets=3),
        changed(methods=[3]),
        changed(methods=["x" * 300]),
        changed(layer={}),
        changed(seed="0"),
        changed(title=None),
        changed(labels="ab" * 200),
        changed(wish=[]),
        b"x" * (MOST_BYTES + 1),
        b"<a " * (MOST_BYTES // 3),  # over which Python's own parser of HTML sits for hours
        b"<!--" * (MOST_BYTES // 4),
    ],
    ids=range(22),
)
def test_what_is_no_report_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(BadParameter, match=r"report of CNN Lens|The report is damaged"):
        read_report(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x" * (MOST_BYTES + 1), f"a report of CNN Lens has {MOST_BYTES:,} at most"),
        (b"<html></html>", "The file is not a report of CNN Lens, or a part of it is missing"),
        (changed(version=2), "The report is damaged, or was made by another version"),
    ],
    ids=["too large", "another page", "another version"],
)
def test_what_is_too_large_of_another_kind_or_damaged_is_called_so(data: bytes, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        read_report(data)


def test_a_block_of_json_that_never_ends_is_refused() -> None:
    deep = (
        b'<script type="application/json" id="cnn-lens-report">'
        + b"[" * 100_000
        + b'</script><img id="picture" src="x">'
    )
    with pytest.raises(BadParameter, match="damaged"):
        read_report(deep)


def test_the_curves_are_drawn_to_their_scale() -> None:
    found = report_of(Wish((1,), ("grad_cam",))).findings[0].removal[0]
    drawn = report_file._curves(found)
    first = re.search(r'stroke-width="2.5" points="([^"]+)"', drawn)
    assert first
    points = np.array([[float(number) for number in pair.split(",")] for pair in first[1].split()])
    assert len(points) == len(found.curve.scores)
    fitted = np.polyfit(points[:, 1], found.curve.scores, 1)  # a line: higher on the page is a larger score
    assert fitted[0] < 0
    np.testing.assert_allclose(
        np.polyval(fitted, points[:, 1]), found.curve.scores, atol=0.01 * found.curve.scores.max()
    )
    assert np.all(np.diff(points[:, 0]) > 0)
