"""Everything that was found over the set so far, as one zip of Parquet and PNG with a manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import (
    common,
    exciting,
    folder_alike,
    folder_carriers,
    folder_clusters,
    folder_replaced,
    folder_shortcuts,
    views,
)
from app_pages.folder_set import Answered, Folders
from vizcore.alike import THRESHOLD
from vizcore.class_channels import VALUES
from vizcore.findings import Carried, Evidence, Findings
from vizcore.predictions import NO_CLASS
from vizcore.records import LensError
from vizcore.set_figures import figures_of
from vizcore.shares import areas
from vizcore.shortcuts import suspected
from vizcore.survey_folder import as_zip


def offer(folders: Folders) -> None:
    """The button, as soon as there is something to take away."""
    method, threshold = st.session_state.get("shortcut_method"), st.session_state.get("alike", THRESHOLD)
    layers = [layer.name for layer in views.layers_of(folders.here)]
    if not any_known(folders, layers):
        return
    st.divider()
    st.download_button(
        "Everything found so far (.zip)",
        lambda: packed(folders, layers, method, threshold),
        f"{folders.here.model.name}-set.zip",
        "application/zip",
        key="everything of the set",
        on_click="ignore",
        icon=":material/folder_zip:",
        help="Tables as Parquet, which pandas.read_parquet reads, figures as PNG, and survey.json: digests of pictures "
        "and weights, parameters, versions.",
    )
    st.caption(
        "Right and wrong, channels of every layer and shortcuts by the method chosen there, as far as you asked for "
        "them. For a folder on a disk, `python -m vizcore survey` asks all of it."
    )


def known(key: Hashable) -> Any | None:
    """The answer to a question that was asked; of what was refused, or not asked, none."""
    try:
        return common.recall(key)
    except LensError:
        return None


def any_known(folders: Folders, layers: list[str]) -> bool:
    answered: Answered | None = known(("answers", *folders.key))
    if answered is not None:
        return True
    return evidence_known(folders, None, None) is not None or any(
        known(key(folders, layer)) is not None
        for layer in layers
        for key in (_ranked, folder_alike.channels_key, _kernels)
    )


def _ranked(folders: Folders, layer: str) -> tuple[object, ...]:
    return exciting.ranked_key(folders.here, folders.pictures, layer)


def _kernels(folders: Folders, layer: str) -> tuple[object, ...]:
    return folder_alike.kernels_key(folders.here, layer)


def evidence_known(folders: Folders, answered: Answered | None, method: str | None) -> Evidence | None:
    """By ``method``, or where there is none by it, by another."""
    if answered is None and any(folders.class_of(name) == NO_CLASS for name in folders.names):
        return None  # its classes are those of the answers
    targets = folder_shortcuts.targets_of(folders, answered)
    for each in sorted(folder_shortcuts.METHODS, key=lambda one: one != method):
        found: Evidence | None = known(folder_shortcuts.key_of(folders, targets, each))
        if found is not None:
            return found
    return None


# -- gathered when somebody asks for the file ------------------------------------------------------------------------


def packed(folders: Folders, layers: list[str], method: str | None, threshold: float) -> bytes:
    found = replace(gathered(folders, layers, method), threshold=threshold)
    model = folders.here.model
    pictures, failures = folders.pictures.load(lambda done, total: None), folders.pictures.failures
    table = pd.DataFrame(
        {
            "picture": [*folders.pictures.names, *(name for name, _ in failures)],
            "sha256": [*(digest_of(picture) for picture in pictures), *(None for _ in failures)],
            "folder": [*folders.pictures.labels, *(None for _ in failures)],
            "error": [*(None for _ in pictures), *(reason for _, reason in failures)],
        },
        dtype="string",
    )
    asked = {
        "classes": dict(folders.given),
        "sha256": "of height, width and pixels of each picture as decoded; those of a zip are reduced on reading",
    }
    return as_zip(model, found, table, asked, figures_of(model, found, pictures))


def digest_of(picture: np.ndarray) -> str:
    """SHA-256 of a picture as it was decoded, uint8 (H, W, 3): its height and width as text, and its pixels."""
    height, width = picture.shape[:2]
    return hashlib.sha256(f"{height} {width}\n".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def gathered(folders: Folders, layers: list[str], method: str | None) -> Findings:
    answered: Answered | None = known(("answers", *folders.key))
    evidence = evidence_known(folders, answered, method)
    means = folder_shortcuts.evidence_of(folders, evidence)[0] if evidence is not None else []
    targets = {
        name: folders.target(name, answered)
        for name in folders.names
        if answered is not None or folders.class_of(name) != NO_CLASS
    }
    of_folders, how = (evidence.targets, evidence.method) if evidence is not None else ({}, "")
    others = {folder: folder_replaced.others_of(folders, of_folders, folder) for folder in of_folders}
    return Findings(
        names=folders.pictures.names,
        folders=folders.pictures.labels,
        labels=folders.here.model.labels,
        evaluation=folders.evaluation(answered) if answered is not None else None,
        strongest=_each(_ranked(folders, layer) for layer in layers),
        kernels=_each(_kernels(folders, layer) for layer in layers),
        outputs=_each(folder_alike.channels_key(folders, layer) for layer in layers),
        carried=[one for layer in layers for one in carried_of(folders, targets, layer)],
        evidence=evidence,
        means=means,
        suspected=suspected(means, evidence.targets) if evidence is not None and means else None,
        groups={
            folder: groups
            for folder, target in of_folders.items()
            if (groups := known(folder_clusters.clusters_key(folders, folder, target, how))) is not None
        },
        replaced={
            (folder, area): test
            for folder, target in of_folders.items()
            for area in areas()
            if (test := known(folder_replaced.replaced_key(folders, folder, target, area, others[folder]))) is not None
        },
    )


def _each(keys: Iterable[Hashable]) -> list[Any]:
    """What is known of them."""
    return [found for found in map(known, keys) if found is not None]


def carried_of(folders: Folders, targets: Mapping[str, int], layer: str) -> list[Carried]:
    found = []
    for folder, target in targets.items():
        channels = known(folder_carriers.carried_key(folders, folder, target, layer))
        if channels is not None:
            keys = (folder_carriers.ablated_key(folders, folder, target, layer, value) for value in VALUES)
            found.append(Carried(folder, channels, tuple(_each(keys))))
    return found
