"""The pictures of a folder: which files they are, in which order, which class the folders make of each; one read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vizcore.photos import MAX_BYTES, open_photo
from vizcore.records import BadImage, BadParameter

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NO_FOLDER = "no folder"
SURVEY = "survey.json"  # the manifest of `vizcore.survey`
# What lies beside all of one of these was computed, and is no picture to compute from.
RESULTS = ({"job.json", "manifest.jsonl"}, {SURVEY, "pictures.parquet"})


@dataclass(frozen=True, eq=False)
class PictureFile:
    """What was read of one file: the SHA-256 of its bytes, and ``pixels`` uint8 (H, W, 3), or ``error``, why none."""

    sha256: str | None
    pixels: np.ndarray | None = None
    error: str | None = None


def read_picture(path: Path) -> PictureFile:
    """One file of a folder, upright and sRGB as `open_photo` gives it, never reduced. Whatever is wrong with it becomes
    a sentence that does not say where the folder lies, so that it is the same on another machine."""
    sha256 = None
    try:
        with open(_regular(path), "rb") as file:
            data = file.read(MAX_BYTES + 1)
            whole = hashlib.sha256(data)
            while more := file.read(2**20):  # of what is too large to be read
                whole.update(more)
        sha256 = whole.hexdigest()
        return PictureFile(sha256, open_photo(data).pixels)
    except BadImage as refusal:
        return PictureFile(sha256, error=str(refusal))
    except OSError as error:
        return PictureFile(sha256, error=f"The file cannot be read: {error.strerror}.")


def _regular(path: Path) -> Path:
    """``path`` where it leads to a file: a pipe of that name would be waited for without an end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadImage("It is no file, but a pipe, a socket or a device. Take it out of the folder.")
    return path


def pictures_in(folder: Path, leave_out: Path | None = None) -> tuple[str, ...]:
    """Every file of ``folder`` and of the folders inside of it whose name ends as a picture's does, as paths from
    ``folder`` with "/" between, in the order of their bytes: the same on every machine.

    A name that is not UTF-8 has surrogates in it, as Python gives it; `as_text` makes text of it. A link to a file is a
    picture wherever it leads, also where it leads nowhere: who reads it will say so. Links to folders are not followed.
    Left out are ``leave_out`` and every other folder of results of `vizcore.batch` or `vizcore.survey`, and what macOS
    adds ("._…", "__MACOSX"). Raises BadParameter where there is no such folder, or one inside it cannot be listed.
    """
    if not folder.is_dir():
        raise BadParameter(f"There is no folder {str(folder)!r}.")

    def refuse(error: OSError) -> None:
        raise BadParameter(f"The folder {str(error.filename)!r} cannot be listed: {error.strerror}.") from None

    hidden = os.path.realpath(leave_out) if leave_out is not None else None
    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        inside = Path(place).relative_to(folder)
        if os.path.realpath(place) == hidden or any(set(names) >= results for results in RESULTS):
            folders.clear()
            continue
        folders[:] = [name for name in folders if name.lower() != "__macosx"]
        found += [
            (inside / name).as_posix() for name in names if name.lower().endswith(ENDINGS) and not name.startswith("._")
        ]
    return tuple(sorted(found, key=os.fsencode))


def pictures_beside(folder: Path, out: Path) -> tuple[str, ...]:
    """`pictures_in` a folder of which the results go into ``out``, both resolved. Raises BadParameter where that is the
    same folder, and where there are no pictures."""
    if folder == out:
        raise BadParameter("The results would go among the pictures. Name another folder for them.")
    names = pictures_in(folder, leave_out=out)
    if not names:
        raise BadParameter(f"There is no picture in {str(folder)!r}.")
    return names


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
