"""Which files of a folder are pictures, in which order, and of which class."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from vizcore.folders import NO_FOLDER, as_text, labels_of, pictures_beside, pictures_in, read_picture
from vizcore.records import BadParameter


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_the_order_is_that_of_the_bytes_of_the_whole_path(tmp_path: Path) -> None:
    lay(tmp_path, "b/x.png", "b.png", "a/é.jpg", "a/z.JPEG", "B.tif", "a/b/c.webp")
    assert pictures_in(tmp_path) == ("B.tif", "a/b/c.webp", "a/z.JPEG", "a/é.jpg", "b.png", "b/x.png")


def test_what_is_no_picture_by_its_name_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "notes.txt", "._a.png", "__MACOSX/a.png", "png", "b.svg", "folder.png/inner.txt")
    assert pictures_in(tmp_path) == ("a.png",)


def test_results_are_no_pictures_wherever_they_lie(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", "out/overlays/0.png", "old/job.json", "old/manifest.jsonl", "old/overlays/0/1.png")
    lay(tmp_path, "half/job.json", "half/b.png")
    assert pictures_in(tmp_path, leave_out=tmp_path / "x" / ".." / "out") == ("a.png", "half/b.png")


def test_links_to_files_count_wherever_they_lead_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    lay(tmp_path, "elsewhere/b.png", "set/a.png")
    (tmp_path / "set" / "out.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "set" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set")
    assert pictures_in(tmp_path / "set") == ("a.png", "nowhere.png", "out.png")


def test_a_name_of_other_bytes_than_text_is_listed_and_shown(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(b"")
    assert pictures_in(tmp_path) == (name,)
    assert as_text(name) == r"caf\xe9.png"
    assert as_text("café.png") == "café.png"


def test_a_label_is_the_outermost_folder_in_which_the_names_differ() -> None:
    assert labels_of(["p/cats/old/a.png", "p/dogs/b.png", "p/c.png"]) == ("cats", "dogs", NO_FOLDER)
    assert labels_of(["p/q/a.png", "p/q/b.png"]) == ("q", "q")


def test_a_folder_that_is_none_or_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadParameter, match=r"There is no folder '.*gone'"):
        pictures_in(tmp_path / "gone")
    lay(tmp_path, "open/a.png", "shut/b.png")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(BadParameter, match=r"shut' cannot be listed: Permission denied\."):
        pictures_in(tmp_path)


def test_results_among_the_pictures_and_folders_without_any_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "set/a.png", "empty/a.txt")
    assert pictures_beside(tmp_path / "set", tmp_path / "set" / "out") == ("a.png",)
    with pytest.raises(BadParameter, match=r"The results would go among the pictures\. Name another folder"):
        pictures_beside(tmp_path / "set", tmp_path / "set")
    with pytest.raises(BadParameter, match=r"There is no picture in .*empty"):
        pictures_beside(tmp_path / "empty", tmp_path / "out")


def test_a_pipe_is_not_waited_for_and_what_is_read_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    pipe = read_picture(tmp_path / "pipe.png")
    assert pipe.error is not None
    assert pipe.error.startswith("It is no file, but a pipe")
    (tmp_path / "a.png").write_bytes(b"no picture")
    wrong = read_picture(tmp_path / "a.png")
    assert wrong.sha256 == hashlib.sha256(b"no picture").hexdigest()
    assert wrong.pixels is None
    assert str(tmp_path) not in str(wrong.error)
