"""What must hold for a zip from a stranger: the good pictures are read, and nothing else happens."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vizcore import archives
from vizcore.archives import read_zip
from vizcore.folders import NO_FOLDER
from vizcore.records import BadImage

DRAWN = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def png(colour: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(DRAWN + np.uint8(colour)).save(file, "PNG")
    return file.getvalue()


def packed(
    *members: tuple[str | zipfile.ZipInfo, bytes],
    method: int = zipfile.ZIP_DEFLATED,
    lie: Callable[[list[zipfile.ZipInfo]], None] = lambda infos: None,
) -> bytes:
    """A zip of the members; ``lie`` may change what its directory says of them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
        lie(archive.filelist)
    return file.getvalue()


def refusal(source: object) -> str:
    with pytest.raises(BadImage) as caught:
        read_zip(source)
    return str(caught.value)


def failures(content: bytes) -> dict[str, str]:
    """The sentences about the files that failed, beside a good picture that is read all the same."""
    read = read_zip(content)
    assert "good.png" in read.names
    return dict(read.failures)


GOOD = ("good.png", png())


def test_the_pictures_come_back_exactly_in_their_order_and_with_their_folders_as_classes():
    read = read_zip(packed(("b/2.png", png(2)), ("a/1.png", png(1)), ("b/3.png", png(3))))
    assert read.labels == ("b", "a", "b")
    assert read.names == ("b/2.png", "a/1.png", "b/3.png")
    for picture, colour in zip(read.pictures, (2, 1, 3), strict=True):
        np.testing.assert_array_equal(picture, DRAWN + np.uint8(colour))
    assert not read.failures
    assert not read.notes


def test_bytes_a_path_and_an_open_file_give_the_same_and_the_file_stays_open(tmp_path):
    content = packed(("a/1.png", png(1)), ("b/2.png", png(2)))
    path = tmp_path / "pictures.zip"
    path.write_bytes(content)
    file = io.BytesIO(content)
    file.seek(7)
    from_bytes, from_path, from_file = read_zip(content), read_zip(path), read_zip(file)
    assert from_bytes.names == from_path.names == from_file.names
    np.testing.assert_array_equal(from_bytes.pictures, from_path.pictures)
    np.testing.assert_array_equal(from_bytes.pictures, from_file.pictures)
    assert not file.closed


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["pets/cats/old/a.png", "pets/dogs/b.png"], ("cats", "dogs")),
        (["pets/cats/a.png", "pets/b.png"], ("cats", NO_FOLDER)),
        (["cats/a.png", "b.png"], ("cats", NO_FOLDER)),
        (["pets/cats/a.png", "pets/cats/b.png"], ("cats", "cats")),
        (["a.png", "b.png"], (NO_FOLDER, NO_FOLDER)),
        (["cats\\a.png", "dogs\\b.png"], ("cats", "dogs")),
    ],
)
def test_the_class_is_the_outermost_folder_in_which_the_pictures_differ(names, labels):
    read = read_zip(packed(*[(name, png()) for name in names]))
    assert read.labels == labels
    assert bool(read.notes) == (len(set(labels)) == 1)


@pytest.mark.parametrize(
    "content", [b"", b"no zip", bytes(range(1, 256)) * 20, b"PK"], ids=["empty", "text", "noise", "PK"]
)
def test_a1_what_is_not_a_zip_is_refused(content):
    assert "not a zip" in refusal(content)


@pytest.mark.parametrize("keep", [0.3, 0.8, 0.99])
def test_a2_a_zip_cut_short_is_refused_as_damaged(keep):
    content = packed(*[(f"{i}.png", png(i)) for i in range(5)])
    assert "damaged" in refusal(content[: int(len(content) * keep)])


def test_a3_a_zip_without_files_or_only_with_folders_holds_no_pictures():
    assert "no pictures" in refusal(packed())
    assert "no pictures" in refusal(packed(("cats/", b"")))


@pytest.mark.slow
def test_a4_a_gigabyte_of_zeros_is_refused_in_a_second_and_in_little_memory(tmp_path):
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.png", "w") as member,
    ):
        for _ in range(1024):
            member.write(bytes(2**20))
    assert path.stat().st_size < 8 * 2**20
    script = """if True:
        import sys, time
        from vizcore.archives import read_zip
        from vizcore.records import BadImage
        peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        before, start = peak(), time.perf_counter()
        try:
            read_zip(sys.argv[1])
        except BadImage:
            print((peak() - before) / 1024, time.perf_counter() - start)
    """
    command = [sys.executable, "-c", script, path]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    megabytes, seconds = map(float, run.stdout.split())
    assert megabytes < 50
    assert seconds < 1


def test_a4_a_file_that_grows_beyond_the_ratio_is_not_unpacked(monkeypatch):
    bomb = ("bomb.png", bytes(5 * 10**6))
    assert "200-fold" in failures(packed(GOOD, bomb))["bomb.png"]
    content = packed(bomb)

    def unpack(*args: object, **kwargs: object) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", unpack)
    assert "200-fold" in refusal(content)


def test_a_blank_bitmap_below_a_megabyte_is_no_bomb():
    file = io.BytesIO()
    Image.new("RGB", (600, 500), "white").save(file, "BMP")
    content = packed(("blank.bmp", file.getvalue()))
    assert len(file.getvalue()) > 300 * len(content)
    (picture,) = read_zip(content).pictures
    assert (picture == 255).all()


@pytest.mark.slow
def test_a5_a_hundred_thousand_entries_are_refused_by_their_count_before_they_are_read():
    content = packed(*[(str(i), b"") for i in range(100_000)], method=zipfile.ZIP_STORED)
    start = time.perf_counter()
    assert "in the zip64 form" in refusal(content)
    assert time.perf_counter() - start < 0.5


def test_a5_too_many_entries_and_too_many_pictures_are_refused_by_their_count():
    many = [(str(i), b"") for i in range(archives.MAX_ENTRIES + 1)]
    content = packed(*many)
    assert "15001 files" in refusal(content)
    end = content.rfind(b"PK\5\6")
    understated = content[: end + 8] + b"\1\0\1\0" + content[end + 12 :]
    assert "15000 files" in refusal(understated)
    assert "10001 pictures" in refusal(packed(*many[: archives.MAX_PICTURES + 1]))


def test_a6_entries_that_share_bytes_are_refused():
    def overlap(infos: list[zipfile.ZipInfo]) -> None:
        infos[1].header_offset = infos[0].header_offset

    def reach_over(infos: list[zipfile.ZipInfo]) -> None:
        infos[0].compress_size += 100

    for lie in (overlap, reach_over):
        assert "overlap" in refusal(packed(("a.png", png(1)), ("b.png", png(2)), lie=lie))


def test_a7_an_archive_in_the_archive_is_not_opened():
    content = packed(GOOD)
    for _ in range(5):
        content = packed(("inner.zip", content))
    assert "archive in the archive" in refusal(content)
    assert "archive in the archive" in failures(packed(GOOD, ("photo.png", packed())))["photo.png"]


def test_a8_names_that_lead_outside_are_only_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [
        "../../up.png",
        "/abs.png",
        "C:\\drive.png",
        "\\\\host\\share\\s.png",
        "a/../b/c.png",
        "..",
        "CON",
        "\x01.png",
    ]
    read = read_zip(packed(*[(name, png(i)) for i, name in enumerate(names)]))
    assert read.names == (
        "up.png",
        "abs.png",
        "drive.png",
        "host/share/s.png",
        "a/b/c.png",
        "unnamed",
        "CON",
        "\x01.png",
    )
    assert not list(tmp_path.iterdir())


def test_a9_a_link_is_not_followed():
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    assert "link" in failures(packed(GOOD, (link, b"/etc/passwd")))["link.png"]


def test_a10_an_encrypted_file_is_refused():
    def encrypt(infos: list[zipfile.ZipInfo]) -> None:
        infos[-1].flag_bits |= 1

    assert "encrypted" in failures(packed(GOOD, ("secret.png", png()), lie=encrypt))["secret.png"]
    assert "encrypted" in refusal(packed(("secret.png", png()), lie=encrypt))


@pytest.mark.parametrize("claimed", [0, 10, 14_000_000])
def test_a11_a_file_that_is_not_of_the_size_stated_is_refused(claimed):
    def lie(infos: list[zipfile.ZipInfo]) -> None:
        infos[-1].file_size = claimed

    noise = os.urandom(10**6) * 16  # 16 MB, over the limit
    assert failures(packed(GOOD, ("liar.png", noise), lie=lie)).keys() == {"liar.png"}


def test_a11_no_more_is_unpacked_than_the_size_stated(monkeypatch):
    def lie(infos: list[zipfile.ZipInfo]) -> None:
        infos[-1].file_size = 10

    unpacked = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *args: unpacked.append(read(*args)) or unpacked[-1])
    refusal(packed(("liar.png", os.urandom(10**6)), lie=lie))
    assert sum(map(len, unpacked)) <= 10


def test_a_file_over_the_limit_for_one_picture_is_listed_with_its_size():
    noise = os.urandom(16 * 10**6)
    assert "16 MB" in failures(packed(GOOD, ("big.png", noise), method=zipfile.ZIP_STORED))["big.png"]


def test_an_archive_over_the_limit_or_unpacking_to_more_is_refused(monkeypatch):
    content = packed(("a.png", os.urandom(2 * 10**6)), ("b.png", os.urandom(2 * 10**6)))
    monkeypatch.setattr(archives, "MAX_UNPACKED", 3 * 10**6)
    assert "Unpacked" in refusal(content)
    monkeypatch.setattr(archives, "MAX_ARCHIVE", 3 * 10**6)
    assert "The archive has 4 MB; 3 MB is the limit" in refusal(content)


def test_a12_good_pictures_are_read_and_the_bad_ones_listed_by_name():
    members = [
        ("a/1.png", png(1)),
        ("a/cut.png", png()[:80]),
        ("b/notes.txt", b"text"),
        ("b/2.png", png(2)),
        ("b/0", b""),
    ]
    steps = []
    read = read_zip(packed(*members), progress=lambda done, total: steps.append((done, total)))
    assert read.names == ("a/1.png", "b/2.png")
    assert read.labels == ("a", "b")
    assert [name for name, _ in read.failures] == ["a/cut.png", "b/notes.txt", "b/0"]
    assert all(sentence.endswith(".") for _, sentence in read.failures)
    assert steps == [(i, 5) for i in range(1, 6)]


def test_a12_where_no_file_is_a_picture_the_first_reason_is_given():
    assert "“notes.txt”" in refusal(packed(("notes.txt", b"text"), ("more.txt", b"text")))


def test_a13_what_systems_add_is_skipped_quietly():
    junk = ["__MACOSX/._good.png", "cats/.DS_Store", "Thumbs.db", "cats/desktop.ini", "._x.png"]
    read = read_zip(packed(GOOD, *[(name, b"junk") for name in junk]))
    assert read.names == ("good.png",)
    assert not read.failures


def test_a14_names_alike_are_told_apart_and_each_keeps_its_picture():
    names = ["a.png", "a.png (2)", "a.png", "A.png", "caf\u00e9.png", "cafe\u0301.png"]
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = packed(*[(name, png(i)) for i, name in enumerate(names)])
    read = read_zip(content)
    assert read.names == ("a.png", "a.png (2)", "a.png (3)", "A.png (4)", "caf\u00e9.png", "cafe\u0301.png (2)")
    for i, picture in enumerate(read.pictures):
        np.testing.assert_array_equal(picture, DRAWN + np.uint8(i))


def tar(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(png())
        archive.addfile(info, io.BytesIO(png()))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tar("w"), "tar"),
        (tar("w:gz"), "gzip"),
        (tar("w:xz"), "xz"),
        (tar("w:bz2"), "bzip2"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "7z"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(99), "rar"),
    ],
    ids=["tar", "tar.gz", "tar.xz", "tar.bz2", "7z", "rar"],
)
def test_a15_other_archives_are_named_and_refused(content, kind):
    assert f"a {kind} file; only zip is read" in refusal(content)


def test_a16_odd_folder_names_come_back_as_they_are():
    names = ["<b>bold</b>", "![x](http://a/b.png)", "$x$", ":red[a]", "\u202eRTL", "🐈", "x" * 300]
    read = read_zip(packed(*[(name.replace("/", "") + "/c.png", png()) for name in names]))
    assert read.labels == tuple(name.replace("/", "") for name in names)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_zipfile_unpacks_without_a_bound_are_refused(method):
    assert "ordinary zip" in refusal(packed(("a.png", png()), method=method))


def test_large_pictures_are_reduced_and_a_large_set_more_so(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(np.tile(DRAWN, (20, 20, 1))).save(file, "JPEG")  # 400 × 600
    content = packed(*[(f"{i}/a.jpg", file.getvalue()) for i in range(4)])
    assert {picture.shape for picture in read_zip(content).pictures} == {(171, 256, 3)}
    monkeypatch.setattr(archives, "MAX_PIXEL_BYTES", 4 * 3 * 90 * 90)
    read = read_zip(content)
    assert {picture.shape for picture in read.pictures} == {(60, 90, 3)}
    assert sum(picture.nbytes for picture in read.pictures) <= archives.MAX_PIXEL_BYTES
    assert "90 pixels" in read.notes[0]


def test_a_cancel_passes_through():
    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        read_zip(packed(GOOD, ("b.png", png())), progress=cancel)


@pytest.mark.parametrize("path", ["missing.zip", "nul\0.zip", "."])
def test_a_path_that_cannot_be_opened_is_refused(path):
    assert "cannot be opened" in refusal(path)


WHOLE = packed(("a/1.png", png(1)), ("b/2.png", png(2)))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.data())
def test_a_damaged_zip_gives_pictures_or_a_refusal_and_never_another_error(changes, data):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    if data.draw(st.booleans()):
        # The directory at the end is where a change matters most.
        place = len(content) - 1 - data.draw(st.integers(0, 150))
        content[place] = data.draw(st.integers(0, 255))
    try:
        read = read_zip(bytes(content))
    except BadImage:
        return
    assert len(read.pictures) == len(read.labels) == len(read.names) >= 1
