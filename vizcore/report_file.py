"""A report as one HTML file that opens offline and prints: no scripts, no addresses, everything inside of it.

What the app needs to open it again stands in it as well: the picture is the photo that the page shows, the rest a block
of JSON. A file that comes back may have been made by anybody: it is only ever read, and never run or shown.
"""

from __future__ import annotations

import base64
import io
import json
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from PIL import Image

from vizcore.agreement import Agreement
from vizcore.colour import Scale, colour_bar
from vizcore.faithfulness import CONTROLS, Faithfulness
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS, python_of, quantity_of, scale_of, unit_of
from vizcore.images import overlay, thumbnail, to_jpeg, to_png
from vizcore.randomisation import Cascade
from vizcore.records import BadParameter
from vizcore.report import MOST_MAPS, REPEATS, Finding, Report, Wish, needs_layer
from vizcore.scripts import script
from vizcore.words import describe

VERSION = 1  # of what the file holds for the app
MOST_BYTES = 5_000_000  # of a report
PHOTO_BYTES, MAPS_BYTES = 1_900_000, 1_400_000  # before base64, which makes four bytes of three
PHOTO_SIDES = (1600, 1200, 900, 600)  # pixels of the longer side
MAP_SIDES = (560, 420, 320, 240, 180, 128)
BLEND = 0.6
TOP = 5  # classes
PACKAGES = ("torch", "numpy", "pillow", "timm", "scikit-image")
LONGEST = 200  # characters of a name
DASHES = {"map": "", "random": "2 3", "moved": "7 4", "edges": "9 3 2 3"}  # of curves, which no colour tells apart
STATE, PICTURE = "cnn-lens-report", "picture"  # the ids that are looked for

STYLE = """
:root { color-scheme: light dark; --line: #8888; --faint: #8882; --accent: #b2182b }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
img { max-width: 100%; height: auto; display: block } figure { margin: 0 0 1.5rem }
figcaption, .note { font-size: .9rem }
.photo { position: relative; width: fit-content } .photo span { position: absolute; border: 2px solid #fff;
outline: 2px solid #000; box-sizing: border-box }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.5rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums } td.long { overflow-wrap: anywhere }
meter { width: min(10rem, 20vw) } pre { overflow-x: auto; background: var(--faint); padding: .8rem; font-size: .8rem }
.bar { width: 100%; height: 10px } .ends { display: flex; justify-content: space-between; font-size: .8rem }
.caution { border-left: 4px solid var(--accent); padding: .1rem 1rem; background: var(--faint) }
svg { width: 100%; max-width: 26rem; height: auto } summary { cursor: pointer }
@media print { details > * { display: block } body { max-width: none } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def to_html(report: Report, *, made: str = "") -> bytes:
    """The report as a file of HTML in UTF-8, under MOST_BYTES; ``made`` says when and by whom, in words.

    Photos are packed without loss where there is room, else as JPEG and smaller, which the page then says. Takes a
    second or two, most of it for packing.
    """
    photo, exact = _packed(report.photo.pixels)
    body = "\n".join(
        (
            *_head(report, made),
            *_picture(report, photo, exact),
            *_classes(report),
            *_cautions(report, exact),
            *_maps(report),
            *_agreed(report.agreed),
            *_facts(report),
        )
    )
    state = json.dumps(_state(report, exact), ensure_ascii=True).replace("<", "\\u003c")
    title = escape(f"{report.title}: {report.label(report.wish.targets[0])}")
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n"
        f'<script type="application/json" id="{STATE}">{state}</script>\n</head>\n<body>\n<main>\n{body}\n</main>\n'
        "</body>\n</html>\n"
    ).encode()
    assert len(page) < MOST_BYTES, f"{len(page)} bytes"
    return page


def _head(report: Report, made: str) -> Iterator[str]:
    target = report.wish.targets[0]
    yield f"<h1>{escape(report.title)}</h1>"
    yield (
        f"<p>What {escape(report.model.title)} sees in it, and what speaks for <b>{escape(report.label(target))}</b>, "
        f"to which it gives {_percent(report.chances[target])}.{f' {escape(made)}' if made else ''}</p>"
    )


def _packed(pixels: np.ndarray) -> tuple[bytes, bool]:
    """The photo as a file of at most PHOTO_BYTES, and whether its pixels are all there, as they were."""
    if max(pixels.shape[:2]) <= PHOTO_SIDES[0]:
        if len(png := to_png(pixels)) <= PHOTO_BYTES:
            return png, True
        if len(webp := _to_webp(pixels)) <= PHOTO_BYTES:
            return webp, True
    for side in PHOTO_SIDES:
        smaller = thumbnail(pixels, side)
        for quality in (95, 90, 80):
            if len(jpeg := to_jpeg(smaller, quality)) <= PHOTO_BYTES:
                return jpeg, False
    raise AssertionError("600 pixels fit")


def _to_webp(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, method=2)
    return file.getvalue()


def _picture(report: Report, photo: bytes, exact: bool) -> Iterator[str]:
    height, width = report.photo.pixels.shape[:2]
    left, upper, right, lower = report.view.box
    edges = {
        "left": left / width,
        "top": upper / height,
        "width": (right - left) / width,
        "height": (lower - upper) / height,
    }
    frame = ";".join(f"{name}:{100 * share:.2f}%" for name, share in edges.items())
    seen = " × ".join(map(str, report.view.pixels.shape[2:]))
    yield '<figure><div class="photo">'
    yield f'<img id="{PICTURE}" alt="{escape(report.title)}" src="{_address(photo)}">'
    yield f'<span style="{frame}"></span></div>'
    packed = "" if exact else " The photo in this file is packed with loss: numbers made from it differ a little."
    yield (
        f"<figcaption>{width} × {height} pixels. The network saw what is framed, as {seen} pixels.{packed}"
        "</figcaption></figure>"
    )


def _classes(report: Report) -> Iterator[str]:
    order = [int(k) for k in np.argsort(-report.logits, kind="stable")[:TOP]]
    rows = [*order, *(target for target in report.wish.targets if target not in order)]
    yield "<h2>What the network says</h2><table><tr><th>class</th><th>probability</th><th></th><th>logit</th></tr>"
    for k in rows:
        chance = float(report.chances[k])
        yield (
            f'<tr><td>{escape(report.label(k))}</td><td class="number">{_percent(chance)}</td>'
            f'<td><meter value="{chance:.4f}">{_percent(chance)}</meter></td>'
            f'<td class="number">{_number(float(report.logits[k]))}</td></tr>'
        )
    yield "</table>"


def _cautions(report: Report, exact: bool) -> Iterator[str]:
    said = [*report.cautions, *report.refused]
    if not report.wish.evidence:
        said.append("No evidence was asked for: nothing here says whether the maps can be believed.")
    if said:
        yield '<h2>Beware</h2><div class="caution">'
        yield from (f"<p>{escape(sentence)}</p>" for sentence in said)
        yield "</div>"


def _maps(report: Report) -> Iterator[str]:
    drawn = _drawn(report)
    for target in report.wish.targets:
        yield f'<h2>What speaks for {escape(report.label(target))}</h2><div class="maps">'
        for finding, picture in zip(report.findings, drawn, strict=True):
            if finding.heat.target == target:
                yield from _map(report, finding, picture)
        yield "</div>"


def _drawn(report: Report) -> list[bytes]:
    """All maps laid over the photo, as large as there is room for."""
    for side in MAP_SIDES:
        pictures = [_laid(report, finding, side) for finding in report.findings]
        if sum(map(len, pictures)) <= MAPS_BYTES:
            break
    return pictures


def _laid(report: Report, finding: Finding, side: int) -> bytes:
    photo = thumbnail(report.photo.pixels, side)
    if max(photo.shape[:2]) < side:  # each pixel of a tiny photo a square
        factor = max(1, side // max(photo.shape[:2]))
        photo = photo.repeat(factor, 0).repeat(factor, 1)
    factor = max(photo.shape[:2]) / max(report.photo.pixels.shape[:2])
    left, upper, right, lower = (round(edge * factor) for edge in report.view.box)
    box = left, upper, min(max(right, left + 1), photo.shape[1]), min(max(lower, upper + 1), photo.shape[0])
    solid = finding.heat.method in BY_PIXEL
    picture = overlay(
        photo, finding.by_place, box, scale=scale_of(finding.heat), alpha=1.0 if solid else BLEND, solid=solid
    )
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=9)
    return file.getvalue()


def _map(report: Report, finding: Finding, picture: bytes) -> Iterator[str]:
    heat, row = finding.heat, HEATMAP_METHODS[finding.heat.method]
    words = describe(finding.by_place, quantity_of(heat))
    size = " × ".join(map(str, heat.values.shape))
    options = ", ".join(f"{name} {value}" for name, value in heat.params.items())
    facts = [
        heat.layer or "the picture",
        f"{size} values",
        f"score {_number(heat.score)}",
        *([options] if options else []),
    ]
    yield f"<figure><h3>{escape(row.title)}</h3>"
    yield f'<img alt="{escape(f"{row.title} of {report.label(heat.target)}. {words}")}" src="{_address(picture)}">'
    yield from _bar(scale_of(heat), unit_of(heat))
    yield f"<figcaption><p>{escape(str(words))}</p><p>{escape('; '.join(facts))}</p>"
    yield from (f"<p>{escape(note)}</p>" for note in heat.notes)
    yield "</figcaption>"
    for found in finding.removal:
        yield from _removal(found)
    if finding.fall:
        yield from _fall(finding.fall)
    reading = f"{escape(row.reading)} <b>Weakness:</b> {escape(row.weakness)}"
    reference = f'<p class="note">{escape(row.reference)}</p>'
    yield f"<details><summary>How to read it</summary><p>{reading}</p>{reference}</details>"
    *imports, call = python_of(heat)
    lines = escape(script(report.origin, imports, call))
    yield f"<details><summary>Python</summary><pre>{lines}</pre></details></figure>"


def _bar(scale: Scale, unit: str) -> Iterator[str]:
    bar = to_png(colour_bar(scale, width=256, height=4))
    yield f'<img class="bar" alt="" src="{_address(bar)}">'
    ends = (_number(scale.low), escape(unit), _number(scale.high))
    yield f'<div class="ends">{"".join(f"<span>{end}</span>" for end in ends)}</div>'


def _removal(found: Faithfulness) -> Iterator[str]:
    better = "lower" if found.curve.kind == "deletion" else "higher"
    yield f"<h4>{found.curve.kind.capitalize()}: area {_number(found.curve.area)}, {better} is better</h4>"
    yield _curves(found)
    yield f'<p class="note">{escape(found.verdict)} Missing pixels are blurred.</p>'


def _curves(found: Faithfulness) -> str:
    """The curve of a map and the means of its controls, drawn as SVG: told apart by their strokes."""
    width, height, left, top = 300, 130, 34, 8
    lines = {"map": found.curve, **{name: found.mean(name) for name in found.controls}}
    most = max(max(float(curve.scores.max()) for curve in lines.values()), 1e-6)
    drawn = []
    for number, (name, curve) in enumerate(lines.items()):
        points = " ".join(
            f"{left + width * share:.1f},{top + height * (1 - score / most):.1f}"
            for share, score in zip(curve.shares, curve.scores, strict=True)
        )
        stroke = 'stroke="var(--accent)" stroke-width="2.5"' if name == "map" else 'stroke="currentColor"'
        dash = f' stroke-dasharray="{DASHES[name]}"' if DASHES[name] else ""
        drawn.append(f'<polyline fill="none" {stroke}{dash} points="{points}"/>')
        y = top + height + 34 + 15 * number
        drawn.append(f'<path {stroke}{dash} d="M{left} {y}h36"/>')
        words = "the map" if name == "map" else CONTROLS[name]
        drawn.append(f'<text x="{left + 44}" y="{y + 4}">{escape(f"{words}: {_number(curve.area)}")}</text>')
    axes = f'<path fill="none" stroke="currentColor" d="M{left} {top}v{height}h{width}"/>'
    gone = "gone" if found.curve.kind == "deletion" else "there"
    texts = (
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">{100 * most:.0f} %</text>'
        f'<text x="{left - 4}" y="{top + height}" text-anchor="end">0</text>'
        f'<text x="{left + width}" y="{top + height + 14}" text-anchor="end">100 % of the pixels {gone}</text>'
    )
    total = top + height + 34 + 15 * len(lines)
    return (
        f'<svg viewBox="0 0 {left + width + 6} {total}" role="img" font-size="11" fill="currentColor" '
        f'aria-label="{escape(f"{found.curve.kind} curves. {found.verdict}")}">{axes}{texts}{"".join(drawn)}</svg>'
    )


def _fall(found: Cascade) -> Iterator[str]:
    yield f'<h4>Randomised weights</h4><p class="note">{escape(found.verdict)}</p>'
    yield "<table><tr><th>drawn anew, from the top down to</th><th>rank correlation</th><th>SSIM</th></tr>"
    for stage in found.stages:
        numbers = "".join(f'<td class="number">{_two(one)}</td>' for one in (stage.absolute_rank, stage.similarity))
        yield f'<tr><td class="long">{escape(stage.layer)}</td>{numbers}</tr>'
    yield f'</table><p class="note">Means of {REPEATS} draws; 1 is the same map.</p>'


def _agreed(agreed: Agreement | None) -> Iterator[str]:
    if agreed is None:
        return
    yield "<h2>Do the methods agree?</h2>"
    yield from (f"<p>{escape(sentence)}</p>" for sentence in agreed.summary)
    if agreed.names:
        yield "<table><tr><th>rank correlation</th>"
        yield "".join(f"<th>{escape(name)}</th>" for name in agreed.names)
        yield "</tr>"
        for name, row in zip(agreed.names, agreed.correlations, strict=True):
            numbers = "".join(f'<td class="number">{_two(float(value))}</td>' for value in row)
            yield f"<tr><td>{escape(name)}</td>{numbers}</tr>"
        yield "</table>"


def _facts(report: Report) -> Iterator[str]:
    wish, model = report.wish, report.model
    rows = {
        "Network": model.title,
        "Weights": f"{model.weights or 'random'}, SHA-256 {report.weights_digest}",
        "Layer of the CAM methods": wish.layer or model.layers["cam"] if needs_layer(wish) else "none asked for",
        "Input": f"{' × '.join(map(str, model.input_size))} pixels, mean {_list(model.mean)}, std {_list(model.std)}",
        "Picture": f"{report.title}, SHA-256 of its pixels {report.photo.digest}",
        "Seed": str(wish.seed),
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    yield "<h2>What it was made of</h2><table>"
    yield from (f'<tr><th>{escape(name)}</th><td class="long">{escape(text)}</td></tr>' for name, text in rows.items())
    yield "</table><p>CNN Lens opens this file again, on the page Report.</p>"


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _address(file: bytes) -> str:
    kind = "jpeg" if file.startswith(b"\xff\xd8") else "webp" if file.startswith(b"RIFF") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def _list(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)


def _percent(share: float) -> str:
    return f"{100 * float(share):.1f} %"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _two(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


@dataclass(frozen=True, eq=False)
class Reopened:
    """What a report remembers: its ``wish``, with the names of its classes; the network by ``model``, and the digest of
    its ``weights``; the picture file as it stands in it, and whether its pixels are ``exact``."""

    wish: Wish
    labels: tuple[str, ...]
    model: str
    model_title: str
    weights: str
    trained: bool
    title: str
    picture: bytes
    exact: bool


def _state(report: Report, exact: bool) -> dict[str, Any]:
    return {
        "version": VERSION,
        "wish": asdict(report.wish),
        "labels": [report.label(target) for target in report.wish.targets],
        "model": report.model.name,
        "model_title": report.model.title,
        "weights": report.weights_digest,
        "trained": report.model.weights is not None,
        "title": report.title[:LONGEST],
        "exact": exact,
    }


def read_report(data: bytes) -> Reopened:
    """What a report in HTML remembers, to look at the same again. Nothing in it is run, and it is believed nothing: the
    picture and the names are still to be checked by who uses them.

    Raises BadParameter for what is no report of ours, is damaged, or larger than one may be.
    """
    if len(data) > MOST_BYTES:
        raise BadParameter(f"The file has {len(data):,} bytes; a report of CNN Lens has {MOST_BYTES:,} at most.")
    state = _between(data, f'id="{STATE}">', "</script>")
    image = _between(data, f'<img id="{PICTURE}"', ">")
    address = _between(image, ' src="', '"')
    if not state or not address:
        raise BadParameter(
            "The file is not a report of CNN Lens, or a part of it is missing. Choose the file as saved."
        )
    try:
        return _reopened(json.loads(state), address.decode("ascii"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # of base64 and of text as well
        raise BadParameter("The report is damaged, or was made by another version of CNN Lens.") from error


def _between(data: bytes, start: str, end: str) -> bytes:
    """What stands between two texts, the first time; nothing where they do not. No parser of HTML: those of Python take
    minutes over a small file made to break them, and what is looked for was written by `to_html`."""
    _, found, rest = data.partition(start.encode())
    inside, closed, _ = rest.partition(end.encode())
    return inside if found and closed else b""


def _reopened(state: Any, address: str) -> Reopened:
    """Raises ValueError, KeyError or TypeError where something is not what it should be."""
    if state["version"] != VERSION:
        raise ValueError("another version")
    wish = state["wish"]
    kind, _, packed = address.partition(";base64,")
    if kind not in ("data:image/png", "data:image/jpeg", "data:image/webp"):
        raise ValueError("no picture")
    return Reopened(
        wish=Wish(
            targets=tuple(dict.fromkeys(_whole(target) for target in _several(wish["targets"]))),
            methods=tuple(dict.fromkeys(_name(method) for method in _several(wish["methods"]))),
            layer=None if wish["layer"] is None else _name(wish["layer"]),
            view=_name(wish["view"]),
            evidence=tuple(dict.fromkeys(_name(one) for one in _several(wish["evidence"]))),
            seed=_whole(wish["seed"]),
        ),
        labels=tuple(dict.fromkeys(_name(label) for label in _several(state["labels"]))),
        model=_name(state["model"]),
        model_title=_name(state["model_title"]),
        weights=_name(state["weights"]),
        trained=state["trained"] is True,
        title=_name(state["title"]),
        picture=base64.b64decode(packed, validate=True),
        exact=state["exact"] is True,
    )


def _several(given: Any) -> list[Any]:
    if not isinstance(given, list) or len(given) > MOST_MAPS:
        raise TypeError("no list")
    return given


def _name(given: Any) -> str:
    if not isinstance(given, str) or len(given) > LONGEST:
        raise TypeError("no name")
    return given


def _whole(given: Any) -> int:
    if type(given) is not int or given < 0:
        raise TypeError("no whole number")
    return given
