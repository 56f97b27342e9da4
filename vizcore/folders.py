"""The pictures of a folder: which files they are, in which order, and which class the folders make of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vizcore.records import BadParameter

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NO_FOLDER = "no folder"
RESULTS = {"job.json", "manifest.jsonl"}  # what lies beside these was computed, and is no picture to compute from


def pictures_in(folder: Path, leave_out: Path | None = None) -> tuple[str, ...]:
    """Every file of ``folder`` and of the folders inside of it whose name ends as a picture's does, as paths from
    ``folder`` with "/" between, in the order of their bytes: the same on every machine.

    A name that is not UTF-8 has surrogates in it, as Python gives it; `as_text` makes text of it. A link to a file is a
    picture wherever it leads, also where it leads nowhere: who reads it will say so. Links to folders are not followed.
    Left out are ``leave_out`` and every other folder of results of `vizcore.batch`, and what macOS adds ("._…",
    "__MACOSX"). Raises BadParameter where there is no such folder, or one inside it cannot be listed.
    """
    if not folder.is_dir():
        raise BadParameter(f"There is no folder {str(folder)!r}.")

    def refuse(error: OSError) -> None:
        raise BadParameter(f"The folder {str(error.filename)!r} cannot be listed: {error.strerror}.") from None

    hidden = os.path.realpath(leave_out) if leave_out is not None else None
    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        inside = Path(place).relative_to(folder)
        if os.path.realpath(place) == hidden or set(names) >= RESULTS:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name.lower() != "__macosx"]
        found += [
            (inside / name).as_posix() for name in names if name.lower().endswith(ENDINGS) and not name.startswith("._")
        ]
    return tuple(sorted(found, key=os.fsencode))


def labels_of(names: Sequence[str]) -> tuple[str, ...]:
    """The class of each of ``names``, paths with "/" between: the outermost folder in which they differ; where all
    share one folder, that folder. "no folder" for what lies above the others' folders."""
    folders = [name.split("/")[:-1] for name in names]
    shared = 0
    while all(len(folder) > shared and folder[shared] == folders[0][shared] for folder in folders):
        shared += 1
    if all(len(folder) == shared for folder in folders):
        shared = max(0, shared - 1)
    return tuple(folder[shared] if len(folder) > shared else NO_FOLDER for folder in folders)


def as_text(name: str) -> str:
    """A path as text: on Linux it may be bytes that are none, which are shown as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
