"""What a network does over a whole folder of pictures, written as one folder of Parquet: a survey.

Folders are the classes. Four questions, of which the page Set asks all but the second:

* ``answers``: what every picture is answered with, accuracy with its interval, recall and precision of each class, the
  table of confusions, calibration (`vizcore.predictions`, `vizcore.calibration`).
* ``features``: the numbers of each picture before the last layer (`vizcore.embedding`), to be mapped or searched.
* ``channels``: of each layer that is named the dead channels, the nine pictures that excite each channel most, pairs
  that do the same work, the channels that carry each class and what ablating them does (`vizcore.strongest`,
  `vizcore.alike`, `vizcore.class_channels`).
* ``shortcuts``: the heatmap of every picture for its folder's class, the mean of each class, its shares by area, groups
  of heatmaps, classes that are suspected of a shortcut, and the counter-test of the surest corner or edge of each
  (`vizcore.shortcuts`, `vizcore.heat_clusters`, `vizcore.replaced`).

Unlike `vizcore.batch`, which asks of each picture for itself and so of millions, a survey asks of all together, in one
process: pictures are read anew for each pass, and what is held grows with their number by some kilobytes each.

    from models import load_model
    from vizcore.survey import Asked, survey

    done = survey(load_model("photonet"), "pictures/", "out/", Asked(png=True))
    pandas.read_parquet("out/classes.parquet")
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch

from vizcore.alike import alike_channels, alike_kernels
from vizcore.cam import CAM_METHODS, cam
from vizcore.class_channels import ablate_channels, class_channels
from vizcore.embedding import extract_features
from vizcore.filters import convolutions, filters
from vizcore.findings import Carried, Evidence, Findings, tables_of
from vizcore.folders import SURVEY, PictureFile, as_text, labels_of, pictures_beside, read_picture
from vizcore.heat_clusters import cluster_heatmaps
from vizcore.hooks import find_layer, layer_for
from vizcore.images import prepare
from vizcore.predictions import Predictions, class_mapping, evaluate, predict
from vizcore.records import BadParameter, Model, Progress, check_target, check_whole
from vizcore.replaced import Replaced, evenly, mean_of, replace_part
from vizcore.set_figures import figures_of
from vizcore.shares import Area
from vizcore.shortcuts import class_evidence, suspected
from vizcore.strongest import strongest_patches
from vizcore.survey_folder import (
    PICTURES,
    as_parquet,
    check_room,
    facts_of,
    facts_of_pictures,
    make_room,
    manifest_of,
    sentences_of,
)
from vizcore.warp import by_place
from vizcore.whole_files import WrittenFile, write_whole

QUESTIONS = ("answers", "features", "channels", "shortcuts")
METHODS = tuple(name for name in CAM_METHODS if name != "eigen_cam")  # which is blind to the class

Bars = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Asked:
    """What is asked: any of QUESTIONS, of which ``answers`` is always answered, for the others stand on it.

    ``classes`` gives folders that are named after no class one, by its number; what then still has none is counted
    neither right nor wrong, and takes its commonest answer where a class is needed. ``layers`` are those of
    ``channels``, by default the model's own for heatmaps; ``without`` (0 to 100) is how many of the channels that carry
    a class are ablated, over ``ablated_over`` (1 or more) of its pictures at most. ``method`` is one of METHODS, the
    CAM methods that know of the class; those that take a pass a channel cost that for each picture. ``png`` also draws
    figures. ``seed`` (0 to 2**32 − 1) decides what is random.
    """

    questions: tuple[str, ...] = QUESTIONS
    classes: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    without: int = 10
    ablated_over: int = 200
    method: str = "hires_cam"
    png: bool = False
    batch_size: int = 8
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Survey:
    """A finished survey: how many ``pictures`` the folder has, of which ``errors`` could not be read; what was
    ``found`` over the others; the same in ``sentences``; and the ``files`` that were written."""

    pictures: int
    errors: int
    found: Findings
    sentences: tuple[str, ...]
    files: tuple[WrittenFile, ...]


def survey(
    model: Model,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    asked: Asked | None = None,
    *,
    bars: Bars | None = None,
) -> Survey:
    """Ask ``asked`` of the pictures of ``folder`` (`folders.pictures_in`), and write the answers into ``out``.

    ``out`` becomes a folder of Parquet files, one a table (``docs/survey.md``), and of PNGs where asked, with
    ``survey.json``: what was asked, digests of pictures and weights, versions, what was found in sentences, and bytes
    and SHA-256 of each file. A survey that lies there is replaced. Pictures that cannot be read are rows of
    ``pictures.parquet`` with their error. ``bars`` makes a bar of what its name says, a context that gives a Progress;
    what that raises, and Ctrl-C, leaves the tables of the questions that were answered, and ``survey.json`` says which.

    Cost of n pictures: n passes for answers and n for features; for each layer 2 n, n forth and back, and ``without``
    for each picture of which channels are ablated; n heatmaps for shortcuts, some hundred passes for 40 pictures of
    each suspected class, and time and memory for the square of a folder's pictures to group its heatmaps (a second for
    1 000).

    Raises BadParameter for what cannot be asked, for a folder without pictures that can be read, and where ``out``
    holds something else; LayerNotFound, UnsupportedModel, all of these before ``out`` is touched; OSError where it
    cannot be written.
    """
    asked, bars = asked or Asked(), bars or _no_bars
    asked = _settled(model, asked)
    folder, out = Path(folder).resolve(), Path(out).resolve()
    names = pictures_beside(folder, out)
    check_room(out)
    _check_folders(asked, _folders(names))
    _try(model, asked)
    with bars("reading and answering") as progress:
        files, found = _answered(model, folder, names, asked, progress)
    writer = _Writer(out, model, asked)
    errors = sum(file.error is not None for file in files)
    writer.add_pictures(names, files)
    good = [name for name, file in zip(names, files, strict=True) if file.error is None]
    pictures = _Pictures(folder, good)
    writer.add("answers", found)
    for question, step in (("features", _features), ("channels", _channels), ("shortcuts", _shortcuts)):
        if question in asked.questions:
            found = step(model, pictures, found, asked, bars)
            writer.add(question, found)
    if asked.png:
        writer.add_figures(model, found, pictures)
    return Survey(len(names), errors, found, sentences_of(found), tuple(writer.files))


# -- what is asked ---------------------------------------------------------------------------------------------------


def _settled(model: Model, asked: Asked) -> Asked:
    """``asked`` with its layers named and its numbers plain. Raises BadParameter and LayerNotFound."""
    if unknown := [name for name in asked.questions if name not in QUESTIONS]:
        raise BadParameter(f"questions names {unknown[0]!r}; it must be of {', '.join(QUESTIONS)}.")
    if asked.method not in METHODS:
        raise BadParameter(f"method is {asked.method!r}; it must be one of {', '.join(METHODS)}.")
    if asked.layers and "channels" not in asked.questions:
        raise BadParameter("layers are given, but questions names no channels, which they are for. Leave them out.")
    layers = tuple(dict.fromkeys(asked.layers)) or (layer_for(model, "cam", None),)
    for layer in layers:
        find_layer(model, layer)
    questions = tuple(name for name in QUESTIONS if name == "answers" or name in asked.questions)
    return replace(
        asked,
        questions=questions,
        classes={folder: check_target(model, k) for folder, k in asked.classes.items()},
        layers=layers if "channels" in questions else (),
        without=check_whole("without", asked.without, 0, 100),
        ablated_over=check_whole("ablated_over", asked.ablated_over, 1, 10**9),
        batch_size=check_whole("batch_size", asked.batch_size, 1, 4096),
        seed=check_whole("seed", asked.seed, 0, 2**32 - 1),
    )


def _check_folders(asked: Asked, folders: Sequence[str]) -> None:
    """Of the folders that are given a class."""
    for folder in asked.classes:
        if folder not in folders:
            known = ", ".join(repr(name) for name in dict.fromkeys(folders))
            raise BadParameter(f"There is no folder {folder!r} to give a class; there are {known}.")


def _try(model: Model, asked: Asked) -> None:
    """Ask all of it of one picture of noise, so that what the net cannot be asked is said before any is read."""
    noise = torch.rand(1, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    predict(model, noise)
    for layer in asked.layers:
        strongest_patches(model, noise, layer, channels=[0])
        class_channels(model, noise, 0, layer)
    if "features" in asked.questions:
        extract_features(model, noise)
    if "shortcuts" in asked.questions:
        cam(model, noise, 0, asked.method)


def _folders(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(as_text, labels_of(names)))


# -- reading ---------------------------------------------------------------------------------------------------------


class _Pictures(Sequence[np.ndarray]):
    """The pictures of a folder, read when they are asked for."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(place, slice):
            return [self._read(name) for name in self._names[place]]
        return self._read(self._names[place])

    def some(self, places: Sequence[int] | np.ndarray) -> _Pictures:
        return _Pictures(self._folder, [self._names[place] for place in places])

    def _read(self, name: str) -> np.ndarray:
        file = read_picture(self._folder / name)
        if file.pixels is None:
            raise BadParameter(f"{as_text(name)!r} could be read before and no longer can: {file.error}")
        return file.pixels


def _answered(
    model: Model, folder: Path, names: Sequence[str], asked: Asked, progress: Progress
) -> tuple[list[PictureFile], Findings]:
    """Every file without its pixels, and what those that can be read are answered with."""
    files: list[PictureFile] = []
    chances = []
    for start in range(0, len(names), asked.batch_size):
        read = [read_picture(folder / name) for name in names[start : start + asked.batch_size]]
        pixels = [prepare(file.pixels, model).pixels for file in read if file.pixels is not None]
        if pixels:
            chances.append(predict(model, torch.cat(pixels), batch_size=asked.batch_size).probabilities)
        files += [replace(file, pixels=None) for file in read]
        progress(len(files), len(names))
    if not chances:
        raise BadParameter(f"None of {len(names)} pictures can be read. The first: {files[0].error}")
    predictions = Predictions(np.concatenate(chances), model.name, model.labels)
    good = [n for n, file in enumerate(files) if file.error is None]
    folders = _folders(names)
    kept = [folders[n] for n in good]
    mapping = class_mapping(sorted(set(kept)), model.labels)
    for name, k in asked.classes.items():
        if name in mapping.folders:
            mapping = mapping.with_class(name, k)
    evaluation = evaluate(predictions, kept, mapping)
    return files, Findings(tuple(as_text(names[n]) for n in good), tuple(kept), model.labels, evaluation)


def _features(model: Model, pictures: _Pictures, found: Findings, asked: Asked, bars: Bars) -> Findings:
    with bars("features") as progress:
        features = extract_features(model, pictures, batch_size=asked.batch_size, progress=progress)
    return replace(found, features=features)


# -- channels --------------------------------------------------------------------------------------------------------


def _channels(model: Model, pictures: _Pictures, found: Findings, asked: Asked, bars: Bars) -> Findings:
    for layer in asked.layers:
        with bars(f"{layer}: strongest") as progress:
            strongest = strongest_patches(model, pictures, layer, batch_size=asked.batch_size, progress=progress)
        found = replace(found, strongest=(*found.strongest, strongest))
        if len(strongest.channels) > 1:
            if layer in convolutions(model):
                found = replace(found, kernels=(*found.kernels, alike_kernels(filters(model, layer), seed=asked.seed)))
            with bars(f"{layer}: alike") as progress:
                outputs = alike_channels(model, pictures, layer, batch_size=asked.batch_size, progress=progress)
            found = replace(found, outputs=(*found.outputs, outputs))
        found = replace(found, carried=(*found.carried, *_carried(model, pictures, found, layer, asked, bars)))
    return found


def _carried(
    model: Model, pictures: _Pictures, found: Findings, layer: str, asked: Asked, bars: Bars
) -> Iterator[Carried]:
    """Of each folder in turn; one bar for all."""
    assert found.evaluation is not None
    folders = found.evaluation.mapping.folders
    with bars(f"{layer}: carriers, folders") as progress:
        for done, folder in enumerate(folders, 1):
            inside, target = found.numbers(folder), found.evaluation.target(folder)
            carried = class_channels(model, pictures.some(inside), target, layer, batch_size=asked.batch_size)
            ablated = []
            if asked.without:
                some = pictures.some(evenly(list(inside), asked.ablated_over))
                channels = [int(channel) for channel in carried.order[: asked.without]]
                ablated = [ablate_channels(model, some, target, channels, layer, batch_size=asked.batch_size)]
            yield Carried(folder, carried, ablated)
            progress(done, len(folders))


# -- shortcuts -------------------------------------------------------------------------------------------------------


def _shortcuts(model: Model, pictures: _Pictures, found: Findings, asked: Asked, bars: Bars) -> Findings:
    assert found.evaluation is not None
    targets = {folder: found.evaluation.target(folder) for folder in found.evaluation.mapping.folders}
    heats, layer = [], ""
    with bars(f"heatmaps by {asked.method}") as progress:
        for number, folder in enumerate(found.folders):
            pixels = prepare(pictures[number], model).pixels
            heat = cam(model, pixels, targets[folder], asked.method)
            heats.append(by_place(model, pixels, heat))
            layer = heat.layer or layer
            progress(number + 1, len(pictures))
    evidence = Evidence(np.stack(heats), targets, asked.method, layer)
    having = [folder for folder in targets if (evidence.heats[found.numbers(folder)] > 0).any()]
    means = [class_evidence(folder, evidence.heats[found.numbers(folder)]) for folder in having]
    found = replace(
        found,
        evidence=evidence,
        means=means,
        suspected=suspected(means, targets) if means else None,
    )
    with bars("groups of heatmaps, folders") as progress:
        groups = {}
        for folder in having:
            groups[folder] = cluster_heatmaps(evidence.heats[found.numbers(folder)], seed=asked.seed)
            progress(len(groups), len(having))
    found = replace(found, groups=groups)
    return replace(found, replaced=dict(_replaced(model, pictures, found, asked, bars)))


def _replaced(
    model: Model, pictures: _Pictures, found: Findings, asked: Asked, bars: Bars
) -> Iterator[tuple[tuple[str, Area], Replaced]]:
    """Of each suspected folder the surest corner or edge, put to the test; the whole border has no other place."""
    assert found.evidence is not None
    targets = found.evidence.targets
    surest: dict[str, Area] = {}
    for suspicion in found.suspected.suspicions if found.suspected else ():
        if not suspicion.area.outside:
            surest.setdefault(suspicion.label, suspicion.area)
    for folder, area in surest.items():
        others = [n for n, other in enumerate(found.folders) if targets[other] != targets[folder]]
        baseline = mean_of(model, pictures.some(evenly(others)))
        some = pictures.some(evenly(list(found.numbers(folder))))
        with bars(f"{folder}: {area.name} replaced") as progress:
            test = replace_part(
                model,
                some,
                targets[folder],
                area.part,
                baseline=baseline,
                batch_size=asked.batch_size,
                progress=progress,
            )
        yield (folder, area), test


# -- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """The folder of a survey while it is written: its manifest says at any time which questions are answered."""

    def __init__(self, out: Path, model: Model, asked: Asked) -> None:
        make_room(out)
        self._out, self._facts = out, facts_of(model, asdict(asked))
        self.files: list[WrittenFile] = []
        self.answered: list[str] = []
        self._write_manifest(None)

    def add_pictures(self, names: Sequence[str], files: Sequence[PictureFile]) -> None:
        """Every file of the folder, and one digest of all."""
        import pandas as pd

        table = {
            "picture": [as_text(name) for name in names],
            "sha256": [file.sha256 for file in files],
            "folder": list(_folders(names)),
            "error": [file.error for file in files],
        }
        frame = pd.DataFrame(table, dtype="string")
        self._facts["pictures"] = facts_of_pictures(frame)
        self._write(f"{PICTURES}.parquet", as_parquet(frame))

    def add(self, question: str, found: Findings) -> None:
        """Write the tables that are new."""
        there = {file.name.removesuffix(".parquet") for file in self.files}
        for name, table in tables_of(found, without=there):
            self._write(f"{name}.parquet", as_parquet(table))
        self.answered.append(question)
        self._write_manifest(found)

    def add_figures(self, model: Model, found: Findings, pictures: Sequence[np.ndarray]) -> None:
        for name, data in figures_of(model, found, pictures):
            self._write(f"{name}.png", data)
            self._write_manifest(found)

    def _write(self, name: str, data: bytes) -> None:
        self.files.append(write_whole(self._out, name, data))

    def _write_manifest(self, found: Findings | None) -> None:
        write_whole(self._out, SURVEY, manifest_of(self._facts, self.answered, found, self.files))


@contextlib.contextmanager
def _no_bars(what: str) -> Iterator[Progress]:
    yield lambda done, total: None
