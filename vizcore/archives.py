"""A zip of pictures, its folders taken as classes.

Archives come from strangers. Nothing is written to disk and no name in the archive is used as a path; what the
directory claims is checked before anything is unpacked, and each file is unpacked alone, in memory, under a cap. A
file that cannot be used becomes an entry of `PictureSet.failures`; the others are read. An archive that cannot be used
as a whole raises `BadImage`.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vizcore.folders import labels_of
from vizcore.images import open_photo
from vizcore.records import BadImage, Progress

MEGABYTE = 10**6
MAX_ARCHIVE = 100 * MEGABYTE
MAX_MEMBER = 15 * MEGABYTE  # as for one uploaded picture
MAX_UNPACKED = 500 * MEGABYTE  # all pictures together
MAX_ENTRIES = 15_000  # with folders and what macOS adds, one a picture
MAX_DIRECTORY = 4 * MEGABYTE  # the list of names: 260 bytes an entry
MAX_PICTURES = 10_000
MAX_RATIO = 200  # photos stay below 2, drawings and bitmaps below 100; deflate can reach 1 030
SMALL = MEGABYTE  # below this, any ratio is harmless: a blank bitmap shrinks 1 000-fold
MAX_SIDE = 256
MAX_PIXEL_BYTES = 128 * 2**20  # what the pictures of one set take in memory

JUNK = {"__macosx", ".ds_store", "thumbs.db", "desktop.ini"}
OTHER_ARCHIVES = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (257, b"ustar", "tar"),
)
END, END_SIZE, ZIP64_LOCATOR, ZIP64_LOCATOR_SIZE = b"PK\x05\x06", 22, b"PK\x06\x07", 20
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)

Source = bytes | str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True, eq=False)
class PictureSet:
    """The pictures of an archive, in its order: ``pictures`` uint8 (H, W, 3), sides of at most 256 pixels.

    ``labels`` are the classes and ``names`` where each lay in the archive, without two alike; both are text to show,
    and never paths. ``failures`` pairs the name of each file that could not be used with the sentence that says why.
    ``notes`` are sentences for the reader. All pictures together take at most 128 MiB.
    """

    pictures: tuple[np.ndarray, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_zip(source: Source, *, progress: Progress | None = None) -> PictureSet:
    """Every picture of a zip (path, bytes or open file), reduced, with the folder it lies in as its class.

    The class is the outermost folder in which the pictures differ: "cats" for ``pets/cats/old/a.png`` beside
    ``pets/dogs/b.png``; "no folder" for a picture that lies above the others' folders. What macOS and Windows add is
    skipped. Progress counts files.

    Raises BadImage where the archive is not a zip, is damaged, has no picture that can be read, or is over a limit: 100
    MB, 15 000 entries, 10 000 pictures, 500 MB unpacked. Not unpacked, but listed, are files over 15 MB, files over 1
    MB that grow more than 200-fold, encrypted ones, links, and archives in the archive.
    """
    with _opened(source) as file:
        _check_outside(file)
        try:
            archive = zipfile.ZipFile(file)
        except DAMAGE:
            raise BadImage(_damaged("its list of files cannot be read")) from None
        with archive:
            _check_layout(archive)
            return _read_members(archive, progress)


def _read_members(archive: zipfile.ZipFile, progress: Progress | None) -> PictureSet:
    members = _members(archive)
    side = min(MAX_SIDE, int((MAX_PIXEL_BYTES / (3 * len(members))) ** 0.5))
    pictures: dict[str, np.ndarray] = {}
    failures: list[tuple[str, str]] = []
    for done, (name, info) in enumerate(members.items(), start=1):
        try:
            pictures[name] = open_photo(_unpacked(archive, info), max_side=side).pixels
        except BadImage as problem:
            failures.append((name, str(problem)))
        if progress is not None:
            progress(done, len(members))
    if not pictures:
        name, reason = failures[0]
        raise BadImage(
            f"The archive holds no picture that can be read. The first of {len(failures)}, “{name}”: {reason}"
        )
    labels = labels_of(list(pictures))
    notes = []
    if side < MAX_SIDE:
        notes.append(
            f"The {len(members)} pictures are kept at {side} pixels a side at most, so that they fit in memory."
        )
    if len(set(labels)) == 1:
        notes.append("All pictures are in one folder, and so of one class. Put each class into a folder of its own.")
    return PictureSet(tuple(pictures.values()), labels, tuple(pictures), tuple(failures), tuple(notes))


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        try:
            content = Path(source).open("rb")  # noqa: SIM115  what is raised inside the yield is not about the path
        except (OSError, ValueError):
            raise BadImage(f"The archive {os.fspath(source)!r} cannot be opened. Check the path.") from None
        with content as file:
            yield file
    else:
        yield source


def _check_outside(file: BinaryIO) -> None:
    """Refuse by size, by kind and by the number of entries that the archive claims, before its list is read."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_ARCHIVE:
        raise BadImage(
            f"The archive has {size / MEGABYTE:.0f} MB; {MAX_ARCHIVE // MEGABYTE} MB is the limit. "
            "Bring fewer pictures, or smaller ones."
        )
    file.seek(0)
    head = file.read(512)
    file.seek(max(0, size - END_SIZE - 2**16))
    tail = file.read()
    file.seek(0)
    # The end record is found as zipfile finds it, or the two could be shown different ones.
    plain = tail[-END_SIZE:].startswith(END) and tail.endswith(b"\0\0")
    at = len(tail) - END_SIZE if plain else tail.rfind(END)
    if at < 0 or len(tail) < at + END_SIZE:
        kind = next((kind for start, magic, kind in OTHER_ARCHIVES if head[start:].startswith(magic)), None)
        if kind:
            raise BadImage(f"The archive is a {kind} file; only zip is read. Pack the pictures as a zip.")
        if head.startswith(b"PK\x03\x04"):
            raise BadImage(_damaged("its end is missing"))
        raise BadImage("The file is not a zip archive. Pack the pictures as a zip, one folder a class.")
    entries, directory = struct.unpack_from("<HI", tail, at + 10)
    if tail[max(0, at - ZIP64_LOCATOR_SIZE) : at].startswith(ZIP64_LOCATOR):
        raise BadImage(
            "The archive is in the zip64 form, made for more than 65 535 files or 4 GB; "
            f"{MAX_ENTRIES} files and {MAX_ARCHIVE // MEGABYTE} MB are the limit. Bring fewer pictures."
        )
    if entries > MAX_ENTRIES or directory > MAX_DIRECTORY:
        raise BadImage(f"The archive lists {entries} files; {MAX_ENTRIES} is the limit. Bring fewer pictures.")


def _check_layout(archive: zipfile.ZipFile) -> None:
    """Refuse files that share bytes with one another: that is how a small archive unpacks to a huge one."""
    if len(archive.infolist()) > MAX_ENTRIES:
        raise BadImage(f"The archive lists more than {MAX_ENTRIES} files, the limit. Bring fewer pictures.")
    spans = sorted((i.header_offset, i.header_offset + 30 + i.compress_size) for i in archive.infolist())
    spans.append((archive.start_dir, archive.start_dir))
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise BadImage(_damaged("some of its files overlap"))


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files that may be pictures, by a name to show; no two differ only in case or in how accents are written."""
    members: dict[str, zipfile.ZipInfo] = {}
    taken: set[str] = set()
    for info in archive.infolist():
        parts = _parts(info.filename)
        if info.filename.endswith(("/", "\\")) or any(part.lower() in JUNK or part.startswith("._") for part in parts):
            continue
        plain = "/".join(parts) or "unnamed"
        candidates = itertools.chain([plain], (f"{plain} ({number})" for number in itertools.count(2)))
        name = next(c for c in candidates if unicodedata.normalize("NFC", c).casefold() not in taken)
        taken.add(unicodedata.normalize("NFC", name).casefold())
        members[name] = info
    if not members:
        raise BadImage("The archive holds no pictures. Pack them as a zip, one folder a class.")
    if len(members) > MAX_PICTURES:
        raise BadImage(f"The archive holds {len(members)} pictures; {MAX_PICTURES} is the limit. Bring fewer.")
    unpacked = sum(info.file_size for info in members.values() if _refusal(info) is None)
    if unpacked > MAX_UNPACKED:
        raise BadImage(
            f"Unpacked, the archive has {unpacked / MEGABYTE:.0f} MB; {MAX_UNPACKED // MEGABYTE} MB is the limit. "
            "Bring fewer pictures, or smaller ones."
        )
    return members


def _parts(name: str) -> list[str]:
    """Folders and file name, without drives and steps upwards; a backslash parts them too, as on Windows."""
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
    return parts[1:] if parts and re.fullmatch("[A-Za-z]:", parts[0]) else parts


def _refusal(info: zipfile.ZipInfo) -> str | None:
    """Why a file is not unpacked, read from the directory alone; None where it may be."""
    if info.flag_bits & 1:
        return "It is encrypted. Pack the pictures without a password."
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return "It is a link to another file. Pack the picture itself."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "It is packed in a way that is not read here. Pack the pictures as an ordinary zip."
    if info.file_size > MAX_MEMBER:
        return f"It has {info.file_size / MEGABYTE:.0f} MB; {MAX_MEMBER // MEGABYTE} MB is the limit for one picture."
    if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
        return f"It grows more than {MAX_RATIO}-fold when unpacked, as no photo does. Save it in another format."
    return None


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of one file, or BadImage. zipfile unpacks no more than the size claimed, which is checked."""
    refusal = _refusal(info)
    if refusal:
        raise BadImage(refusal)
    try:
        with archive.open(info) as member:
            content = member.read(MAX_MEMBER + 1)
    except DAMAGE:
        raise BadImage("It is damaged, or its size is not the one that the archive states. Pack it again.") from None
    if content.startswith((b"PK\x03\x04", END)):
        raise BadImage("It is an archive in the archive, which is not opened. Pack the pictures themselves.")
    return content


def _damaged(how: str) -> str:
    return f"The archive is damaged: {how}. Pack the pictures again as a zip."
