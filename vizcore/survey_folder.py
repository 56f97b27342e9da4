"""The folder that a survey becomes: Parquet files, figures, and ``survey.json``, which says what all of it is."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vizcore.findings import NAMES, Findings, calibration_of, tables_of
from vizcore.folders import SURVEY
from vizcore.records import BadParameter, Model
from vizcore.set_figures import FIGURES
from vizcore.weights import digest_of_weights, facts_of_model
from vizcore.whole_files import TEMPORARY, WrittenFile

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("torch", "numpy", "pillow", "pyarrow", "scikit-learn")  # of another version, numbers may differ
FORM = 1  # of the folder
PICTURES = "pictures"  # the table of all files
# What a survey may have written, whether or not it came to list it.
_NAME = rf"{re.escape(SURVEY)}|({'|'.join((PICTURES, *NAMES))})\.parquet|({'|'.join(FIGURES)}|strongest_\d+)\.png"
OURS = re.compile(rf"{_NAME}|\.({_NAME})\.[0-9a-f]+{re.escape(TEMPORARY)}")


def facts_of(model: Model, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of which net, by which versions; ``pictures`` is to be filled in by `facts_of_pictures`."""
    return {
        "form": FORM,
        "model": facts_of_model(model, digest_of_weights(model)),
        "asked": dict(asked),
        "pictures": {},
        "versions": {name: version(name) for name in PACKAGES},
        "classes": list(model.labels),
    }


def facts_of_pictures(table: pd.DataFrame) -> dict[str, Any]:
    """Their number, of them errors, and one digest of all names and digests, of the table of all pictures."""
    digest = hashlib.sha256()
    for name, own in zip(table["picture"], table["sha256"].fillna(""), strict=True):
        digest.update(f"{name}\0{own}\n".encode())
    return {"count": len(table), "errors": int(table["error"].notna().sum()), "digest": digest.hexdigest()}


def manifest_of(
    facts: Mapping[str, Any], answered: Sequence[str], found: Findings | None, files: Sequence[WrittenFile]
) -> bytes:
    """``survey.json``: ``facts``, the questions ``answered``, what was ``found`` and how, the ``files``."""
    about = {"found": (), "how": {}} if found is None else {"found": sentences_of(found), "how": _how(found)}
    whole = {**facts, "answered": list(answered), **about, "files": [asdict(file) for file in files]}
    return json.dumps(whole, indent=1, ensure_ascii=False).encode() + b"\n"


def _how(found: Findings) -> dict[str, Any]:
    """Layers, methods and thresholds of what was found."""
    return {
        "layers of strongest": [ranked.layer for ranked in found.strongest],  # in the order of strongest_1.png, …
        "alike from": found.threshold,
        "kernels by chance": {likeness.layer: likeness.by_chance for likeness in found.kernels},
        "pictures of ablations": {one.folder: len(one.ablated[0].before) for one in found.carried if one.ablated},
        "heatmaps": found.evidence and {"method": found.evidence.method, "layer": found.evidence.layer},
    }


def as_parquet(table: pd.DataFrame) -> bytes:
    """The file that `pandas.read_parquet` makes the same table of."""
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()


def as_zip(
    model: Model,
    found: Findings,
    pictures: pd.DataFrame,
    asked: Mapping[str, Any],
    figures: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """The same folder as a zip: the tables of what was ``found`` so far, the table of all ``pictures`` (``picture``,
    ``sha256``, ``folder``, ``error``), ``figures`` by name, and the manifest. The same findings give the same bytes."""
    data = {f"{PICTURES}.parquet": as_parquet(pictures)}
    data |= {f"{name}.parquet": as_parquet(table) for name, table in tables_of(found)}
    data |= {f"{name}.png": figure for name, figure in figures}
    files = [WrittenFile(name, len(one), hashlib.sha256(one).hexdigest()) for name, one in data.items()]
    facts = facts_of(model, asked) | {"pictures": facts_of_pictures(pictures)}
    data[SURVEY] = manifest_of(facts, answered_of(found), found, files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, one in data.items():
            file.writestr(zipfile.ZipInfo(name), one)
    return packed.getvalue()


def check_room(out: Path) -> None:
    """Whether a survey can go to the folder ``out``: that is to be made, is empty, or holds a survey and no more.

    Raises BadParameter."""
    if not out.parent.is_dir():
        raise BadParameter(f"The results are to go to {str(out)!r}, but there is no folder {str(out.parent)!r}.")
    if out.exists() and not out.is_dir():
        raise BadParameter(f"The results are to go to {str(out)!r}, which is a file. Name a folder.")
    paths = list(out.iterdir()) if out.exists() else []
    begun = _is_survey(out / SURVEY)
    if strangers := [path.name for path in paths if not (begun and path.is_file() and OURS.fullmatch(path.name))]:
        raise BadParameter(
            f"{str(out)!r} holds {strangers[0]!r}, which is of no survey. Name a new folder, or an empty one."
        )


def make_room(out: Path) -> None:
    """Make the folder ``out``, or empty it of what a survey wrote there, finished or not. Raises BadParameter."""
    check_room(out)
    out.mkdir(exist_ok=True)
    # The manifest last: it says whose the others are.
    for path in sorted(out.iterdir(), key=lambda path: path.name == SURVEY):
        path.unlink()


def _is_survey(path: Path) -> bool:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and {"form", "answered", "found", "files"} <= set(facts)


# -- in sentences ----------------------------------------------------------------------------------------------------


def _of_answers(found: Findings) -> Iterator[str]:
    evaluation = found.evaluation
    if evaluation is None:
        return
    accuracy = evaluation.accuracy
    if not accuracy.count:
        yield "No folder is named after a class of the network, so that nothing can be counted right or wrong."
        return
    low, high = accuracy.interval
    yield (
        f"{accuracy.hits:,} of {accuracy.count:,} pictures are right, {accuracy.value:.1%}; over ever more such "
        f"pictures it would lie between {low:.1%} and {high:.1%} (95 % interval of Wilson)."
    )
    curve = calibration_of(evaluation)
    more = "more" if curve.error > curve.rarely else "no more"
    yield f"The expected calibration error is {curve.error:.1%}, {more} than chance explains."
    for folder, found_classes in zip(evaluation.mapping.folders, evaluation.mapping.candidates, strict=True):
        if len(found_classes) > 1:
            yield f"The folder “{folder}” is named after several classes, and is not counted."
    if unmatched := evaluation.mapping.unmatched:
        yield f"Folders without a class, not counted: {len(unmatched)}, the first “{unmatched[0]}”."


def _of_channels(found: Findings) -> Iterator[str]:
    for ranked in found.strongest:
        yield f"{ranked.layer}: {len(ranked.dead)} of {len(ranked.channels)} channels are dead over these pictures."
    at = f"{found.threshold:.2f} or more, of either sign"
    for likeness in found.kernels:
        chance = likeness.by_chance or 0.0
        means = ", so that they mean nothing" if found.threshold <= chance else ""
        yield (
            f"{likeness.layer}: {len(likeness.pairs(found.threshold))} pairs of kernels have a cosine of {at}; "
            f"shuffled weights reach {chance:.2f}{means}."
        )
    for likeness in found.outputs:
        yield f"{likeness.layer}: {len(likeness.pairs(found.threshold))} pairs of channels have a correlation of {at}."


def _of_shortcuts(found: Findings) -> Iterator[str]:
    if found.evidence is None:
        return
    if found.suspected is None:
        yield "No heatmap has positive evidence by this method. Choose another."
        return
    yield found.suspected.sentence
    yield from (one.sentence for one in found.suspected.suspicions)
    for (folder, area), test in found.replaced.items():
        yield f"{area.name.capitalize()} of “{folder}”. {test.sentence}"


def sentences_of(found: Findings) -> tuple[str, ...]:
    """What was found, as far as it was asked."""
    return (*_of_answers(found), *_of_channels(found), *_of_shortcuts(found))


def answered_of(found: Findings) -> list[str]:
    """The questions that were asked, at least in part."""
    asked = {
        "answers": found.evaluation is not None,
        "features": found.features is not None,
        "channels": bool(found.strongest or found.kernels or found.outputs or found.carried),
        "shortcuts": found.evidence is not None,
    }
    return [question for question, done in asked.items() if done]
