"""What must hold from a file to what the network sees, and back on to the photo. I-numbers: the list of bad inputs."""

from __future__ import annotations

import gc
import io
import re
import threading
import time
import tracemalloc

import numpy as np
import pictures
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import save, scene
from PIL import Image
from torch import nn

from models.torchvision_guard import guarded_import
from vizcore.images import (
    MAX_BYTES,
    Photo,
    Scale,
    check_photo,
    frame,
    open_photo,
    overlay,
    prepare,
    read_image,
    thumbnail,
    to_colours,
    to_jpeg,
    to_png,
)
from vizcore.records import BadImage, BadParameter, Heatmap, Model

LEAKS = re.compile(r"traceback|pillow|PIL|cannot identify|image file|decompression|errno|0x|broken|unsupported", re.I)
REFUSED = pictures.refused()


def model(size=(224, 224), crop_pct=0.875, interpolation="bicubic"):
    return Model(
        "reader", nn.Identity(), (), size, (0.5,) * 3, (0.5,) * 3, {}, crop_pct=crop_pct, interpolation=interpolation
    )


def refusal(source, *, seconds=1.0) -> str:
    """The sentence with which a source is refused, in time and in words of ours."""
    start = time.perf_counter()
    with pytest.raises(BadImage) as caught:
        open_photo(source)
    assert time.perf_counter() - start < seconds
    sentence = str(caught.value)
    assert not LEAKS.search(sentence), sentence
    assert caught.value.__cause__ is None
    assert sentence.endswith(".")
    assert len(sentence) > 40
    return sentence


# Files: what is refused


@pytest.mark.parametrize("row", REFUSED)
def test_a_bad_file_is_refused_in_a_sentence_and_within_a_second(row):
    refusal(REFUSED[row])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("I1 empty", "empty (0 bytes)"),
        ("I2 random bytes", "JPEG, PNG, WebP, GIF, BMP and TIFF"),
        ("I3 HTML", "web page"),
        ("I5 header of 96 megapixels", "12000 × 8000 pixels"),
        ("I6 bomb of 64 megapixels", "8000 × 8000 pixels"),
        ("I8 header of 2**31 - 1", "too large"),
        ("I9 half a JPEG", "JPEG file is damaged or incomplete"),
        ("I10 half a PNG", "PNG file is damaged or incomplete"),
        ("I14 float TIFF with NaN", "NaN"),
        ("I25 one pixel", "too small: 1 × 1"),
        ("I26 one by 20000", "1 × 20000"),
        ("I26b 30 by 2000", "too long and thin: 2000 × 30"),
        ("I27 seven by seven", "at least 8"),
        ("I32 SVG", "SVG drawing"),
        ("I33 HEIC", "Export it as JPEG"),
        ("I34 PDF", "PDF document"),
        ("I34 EPS", "PostScript document"),
        ("I35 JPEG 2000", "JPEG 2000"),
        ("I35 AVIF", "AVIF picture"),
        ("I35 PSD", "Photoshop"),
        ("I35 FITS", "FITS"),
        ("I35 ICO", "icon"),
    ],
)
def test_a_refusal_says_what_was_received(row, words):
    assert words in refusal(REFUSED[row])


def test_a_stated_size_is_refused_before_any_pixel_is_decoded(monkeypatch):
    def decoded(self):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decoded, raising=False)
    for row in ("I5 header of 96 megapixels", "I6 bomb of 64 megapixels", "I25 one pixel", "I26 one by 20000"):
        refusal(REFUSED[row])


@pytest.mark.filterwarnings("error")
def test_i5_a_size_that_the_decoder_only_warns_of_is_refused_even_where_warnings_are_errors():
    assert "too large" in refusal(REFUSED["I5b header of 100 megapixels"])


def test_i34_no_other_program_is_ever_started_for_a_file(monkeypatch):
    def started(*args, **options):
        raise AssertionError("another program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    for row, data in REFUSED.items():
        if row.startswith(("I32", "I33", "I34", "I35")):
            refusal(data)


def test_i39_a_file_of_more_than_fifteen_megabytes_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    data = pictures.raw_png(30, 20) + bytes(MAX_BYTES)
    path = tmp_path / "large.png"
    path.write_bytes(data)
    monkeypatch.setattr("PIL.Image.open", None)
    for source in (data, path, io.BytesIO(data)):
        assert "15 MB" in refusal(source)


@pytest.mark.parametrize(
    "name", ["../../etc/no such file", "x" * 300, "CON", "\u202egnp.jpg", "🐈.png", "a\0b.png", ""]
)
def test_i40_a_path_that_is_no_file_is_refused_whatever_its_name(name):
    assert "no file" in refusal(name)


def test_i40_a_folder_is_no_picture(tmp_path):
    assert "no file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [(None, "NoneType"), (7, "int"), (np.zeros((9, 9, 3), np.uint8), "ndarray"), (io.StringIO("text"), "binary mode")],
)
def test_what_is_neither_path_nor_bytes_nor_file_is_refused(source, words):
    assert words in refusal(source)


def test_i47_a_camera_that_sends_nothing_is_refused_and_one_that_sends_4k_is_reduced():
    assert "take the picture again" in refusal(io.BytesIO(b""))
    photo = open_photo(io.BytesIO(save(scene(2160, 3840), "JPEG")), max_side=1280)
    assert photo.pixels.shape == (720, 1280, 3)
    assert photo.notes == ("The picture of 3840 × 2160 pixels was reduced to 1280 × 720.",)


# Files: what is read


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_format_gives_the_pixels_that_went_in(kind, tmp_path):
    picture = scene()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = save(picture, kind, **options)
    path = tmp_path / "picture"
    path.write_bytes(data)
    tolerance = {"JPEG": 4, "GIF": 16}.get(kind, 0)
    for source in (data, bytearray(data), path, str(path), io.BytesIO(data), path.open("rb")):
        pixels = read_image(source)
        assert pixels.dtype == np.uint8
        assert pixels.flags.writeable
        assert pixels.shape == picture.shape
        assert np.abs(pixels.astype(int) - picture).max() <= tolerance
        if hasattr(source, "close"):
            source.close()


def test_a_file_that_was_read_before_is_read_from_its_start_again():
    file = io.BytesIO(save(scene(), "PNG"))
    first = open_photo(file)
    assert open_photo(file).digest == first.digest


def test_i13_sixteen_bit_grey_is_scaled_not_clipped_to_white():
    values = np.array([[0, 257, 30_000, 60_000, 65_535]] * 8, np.uint16).repeat(3, axis=1)
    for kind in ("PNG", "TIFF"):
        photo = open_photo(save(values, kind))
        np.testing.assert_array_equal(photo.pixels[:, :, 0], np.rint(values / 257))
        np.testing.assert_array_equal(photo.pixels[:, :, 0], photo.pixels[:, :, 2])
        assert "16-bit values were scaled to 8 bits." in photo.notes


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255], "from 0 to 1"),
        ([-3.0, 1.0, 1.0], [0, 255, 255], "from -3 to 1 were stretched"),
        ([1e30, 1e30, 1e30], [0, 0, 0], "stretched"),
    ],
)
def test_floating_point_brightness_is_scaled_and_said_so(values, expected, note):
    picture = np.array(values, np.float32)[None].repeat(10, axis=0).repeat(4, axis=1)
    photo = open_photo(save(picture, "TIFF"))
    np.testing.assert_array_equal(photo.pixels[0, ::4, 1], expected)
    assert any(note in sentence for sentence in photo.notes)


def test_i15_print_colours_become_the_plausible_screen_colours():
    cyan, magenta = Image.new("CMYK", (20, 12), (255, 0, 0, 0)), Image.new("CMYK", (20, 12), (0, 255, 0, 0))
    for picture, dark in ((cyan, 0), (magenta, 1)):
        for kind in ("JPEG", "TIFF"):
            photo = open_photo(save(picture, kind))
            colour = photo.pixels[6, 10].astype(int)
            assert colour[dark] < 60
            assert np.delete(colour, dark).min() > 200
            assert any("CMYK" in sentence for sentence in photo.notes)


def test_i16_black_and_white_stays_black_and_white():
    picture = np.zeros((10, 14), bool)
    picture[:, 7:] = True
    photo = open_photo(save(picture, "PNG"))
    np.testing.assert_array_equal(photo.pixels, picture[..., None].repeat(3, axis=2) * 255)


def test_i17_a_palette_is_looked_up():
    indices = np.arange(80).reshape(8, 10) % 3
    colours = [(200, 10, 20), (30, 220, 40), (50, 60, 240)]
    np.testing.assert_array_equal(open_photo(pictures.palette_png(colours, indices)).pixels, np.array(colours)[indices])


def test_i18_a_transparent_palette_entry_becomes_white():
    picture = Image.new("P", (12, 9), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.paste(0, (0, 0, 6, 9))
    photo = open_photo(save(picture, "PNG", transparency=0))
    assert (photo.pixels[:, :6] == 255).all()
    assert (photo.pixels[:, 6:] == (255, 0, 0)).all()
    assert photo.notes == ("Transparent parts are shown on white.",)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("RGBA", (255, 0, 0, 128), (255, 127, 127)), ("LA", (0, 128), (127, 127, 127))],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_i19_half_transparent_colours_lie_on_white(mode, colour, expected, kind):
    photo = open_photo(save(Image.new(mode, (12, 9), colour), kind))
    assert (np.abs(photo.pixels.astype(int) - expected) <= 1).all()
    assert photo.notes == ("Transparent parts are shown on white.",)


def test_i20_a_wholly_transparent_picture_is_white_and_said_to_be_transparent():
    photo = open_photo(save(Image.new("RGBA", (12, 9), (9, 8, 7, 0)), "PNG"))
    assert (photo.pixels == 255).all()
    assert "The picture is wholly transparent." in photo.notes


def test_an_opaque_alpha_channel_is_not_worth_a_note():
    photo = open_photo(save(Image.new("RGBA", (12, 9), (9, 8, 7, 255)), "PNG"))
    assert (photo.pixels == (9, 8, 7)).all()
    assert photo.notes == ()


@pytest.mark.parametrize(("row", "kind"), [("I21", "GIF"), ("I24", "PNG"), ("I24", "WEBP")])
def test_i21_i24_of_an_animation_the_first_frame_is_used(row, kind):
    photo = open_photo(pictures.animation(3, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (photo.pixels == (255, 0, 0)).all()
    assert photo.notes == ("Animated: only the first frame is used.",)


def test_i22_ten_thousand_frames_take_less_than_a_second():
    data = pictures.long_gif()
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 10_000
    start = time.perf_counter()
    photo = open_photo(data)
    assert time.perf_counter() - start < 1
    assert photo.notes == ("Animated: only the first frame is used.",)


def test_i23_of_several_pages_the_first_is_used():
    photo = open_photo(pictures.animation(3, "TIFF"))
    assert (photo.pixels == (255, 0, 0)).all()
    assert photo.notes == ("Several pages: only the first is used.",)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_i28_every_orientation_is_shown_upright_and_turned_once(orientation, kind):
    stored, tolerance = scene(), 6 if kind == "JPEG" else 0
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    photo = open_photo(pictures.with_exif(stored, {pictures.ORIENTATION: orientation}, kind, **options))
    upright = TURNS[orientation](stored)
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(int) - upright).max() <= tolerance
    assert photo.notes == ()


@pytest.mark.parametrize("orientation", [0, 9, 99, 65_535])
def test_i29_an_orientation_that_does_not_exist_is_ignored(orientation):
    stored = scene()
    photo = open_photo(pictures.with_exif(stored, {pictures.ORIENTATION: orientation}))
    np.testing.assert_array_equal(photo.pixels, stored)


@pytest.mark.parametrize(
    "exif", [pictures.raw_exif(b"abc\0"), b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"?" * 99]
)
def test_i29_malformed_exif_is_ignored(exif):
    stored = scene()
    np.testing.assert_array_equal(read_image(save(stored, "PNG", exif=exif)), stored)


def test_i30_what_the_exif_says_of_person_and_place_is_not_kept():
    tags = {pictures.ARTIST: "<script>alert(1)</script>", pictures.GPS: {1: "N", 2: (52.0, 31.0, 12.0)}}
    photo = open_photo(pictures.with_exif(scene(), tags, "JPEG"))
    assert photo.notes == ()
    for data in (to_png(photo.pixels), to_jpeg(photo.pixels)):
        assert b"script" not in data
        assert b"Exif" not in data
        with Image.open(io.BytesIO(data)) as image:
            assert not image.getexif()


@pytest.mark.parametrize(("kind", "size"), [("PNG", 500), ("PNG", 5_000_000), ("TIFF", 5_000_000)])
def test_i31_a_broken_colour_profile_is_ignored_and_said_so(kind, size):
    stored = scene()
    photo = open_photo(save(stored, kind, icc_profile=np.random.default_rng(0).bytes(size)))
    np.testing.assert_array_equal(photo.pixels, stored)
    assert len(photo.notes) == 1
    assert re.search("profile is (damaged|too large) and was ignored", photo.notes[0])


def test_i31_a_sound_profile_is_followed():
    stored = scene()
    photo = open_photo(save(stored, "PNG", icc_profile=pictures.swapped_profile()))
    # The profile has a gamma of 2.2, not sRGB's curve: a few levels apart in the shadows.
    assert np.abs(photo.pixels[:, :, ::-1].astype(int) - stored).max() <= 10
    assert photo.notes == ("The colours were converted from the embedded profile to sRGB.",)


def test_i31_a_profile_that_is_srgb_changes_nothing():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = open_photo(save(scene(), "PNG", icc_profile=profile))
    np.testing.assert_array_equal(photo.pixels, scene())
    assert photo.notes == ()


def test_a_file_that_may_not_be_read_is_refused_with_the_reason(tmp_path, monkeypatch):
    def opened(*args, **options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mine.png").write_bytes(b"a")
    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(BadImage, match=r"mine\.png' cannot be opened: Permission denied"):
        read_image(tmp_path / "mine.png")


def test_i36_a_picture_with_a_zip_behind_it_is_the_picture():
    jpeg = save(scene(), "JPEG")
    both = jpeg + pictures.zip_of({"a.txt": b"hidden"})
    assert open_photo(both).digest == open_photo(jpeg).digest


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_i37_unusual_jpegs_are_read(options):
    photo = open_photo(save(scene(), "JPEG", quality=95, **options))
    assert np.abs(photo.pixels.astype(int) - scene()).max() < 20


@pytest.mark.parametrize(("marker", "precision"), [(b"\xff\xc9", 8), (b"\xff\xc1", 12), (b"\xff\xc3", 8)])
def test_i37_arithmetic_twelve_bit_and_lossless_jpegs_are_read_or_refused(marker, precision):
    jpeg = save(scene(), "JPEG")
    start = jpeg.index(b"\xff\xc0")
    odd = jpeg[:start] + marker + jpeg[start + 2 : start + 4] + bytes([precision]) + jpeg[start + 5 :]
    try:
        assert open_photo(odd).pixels.shape == scene().shape
    except BadImage as refused:
        assert not LEAKS.search(str(refused))  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("level", [0, 128, 255])
def test_i38_a_constant_picture_is_seen_and_a_map_of_zeros_over_it_shows_no_signal(level):
    photo = read_image(save(Image.new("RGB", (60, 40), (level,) * 3), "PNG"))
    view = prepare(photo, model((16, 16)))
    assert view.pixels.unique().numel() == 1
    picture = overlay(photo, np.zeros((4, 6), np.float32), view.box, alpha=1.0)
    left, top, right, bottom = view.box
    assert (picture[top:bottom, left:right] == level).all()


def test_i42_name_and_exif_do_not_change_the_digest(tmp_path):
    stored = scene()
    plain = save(stored, "PNG")
    path = tmp_path / "![x](http:a) $x$ :red[a] <img onerror=a>.png"
    path.write_bytes(plain)
    digests = {
        open_photo(plain).digest,
        open_photo(path).digest,
        open_photo(pictures.with_exif(stored, {pictures.ARTIST: "somebody"})).digest,
        open_photo(save(stored, "BMP")).digest,
        Photo.of(stored).digest,
    }
    assert len(digests) == 1
    assert re.fullmatch("[0-9a-f]{64}", digests.pop())


def test_i43_one_pixel_of_a_million_changes_the_digest():
    first = np.zeros((1000, 1000, 3), np.uint8)
    second = first.copy()
    second[567, 123, 1] = 1
    assert Photo.of(first).digest != Photo.of(second).digest


def test_the_same_bytes_in_another_shape_have_another_digest():
    flat = np.arange(240, dtype=np.uint8)
    assert Photo.of(flat.reshape(8, 10, 3)).digest != Photo.of(flat.reshape(10, 8, 3)).digest


def test_i44_equal_indices_with_another_palette_are_another_picture():
    indices = np.arange(80).reshape(8, 10) % 2
    first = open_photo(pictures.palette_png([(0, 0, 0), (9, 9, 9)], indices))
    second = open_photo(pictures.palette_png([(0, 0, 0), (9, 9, 8)], indices))
    assert first.digest != second.digest


def test_a_photo_cannot_be_changed():
    photo = open_photo(save(scene(), "PNG"))
    with pytest.raises(ValueError, match="read-only"):
        photo.pixels[0, 0] = 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_reducing_keeps_shape_and_colours_and_never_enlarges(kind):
    large = scene(600, 900)
    photo = open_photo(save(large, kind, **({"quality": 95} if kind == "JPEG" else {})), max_side=90)
    assert photo.pixels.shape == (60, 90, 3)
    assert np.abs(photo.pixels.astype(int) - thumbnail(large, 90)).max() <= 4
    assert open_photo(save(scene(), "PNG"), max_side=900).pixels.shape == scene().shape


def test_a_reduced_photo_is_upright():
    data = pictures.with_exif(scene(300, 450), {pictures.ORIENTATION: 6}, "JPEG")
    assert open_photo(data, max_side=90).pixels.shape == (90, 60, 3)


@pytest.mark.parametrize("max_side", [0, -5, 2.5, True])
def test_a_senseless_max_side_is_refused(max_side):
    with pytest.raises(BadParameter, match="max_side"):
        open_photo(save(scene(), "PNG"), max_side=max_side)


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_a_refused_file_is_closed(tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(REFUSED["I9 half a JPEG"])
    refusal(path)
    gc.collect()
    path.unlink()


def test_refusing_a_bomb_costs_less_than_fifty_megabytes():
    tracemalloc.start()
    try:
        for row in ("I4 header of 20000 x 20000", "I6 bomb of 64 megapixels", "I12 text bomb", "I25 one pixel"):
            refusal(REFUSED[row])
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_eight_threads_read_what_one_reads():
    files = [save(scene(seed=k), kind) for k, kind in enumerate(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"] * 4)]
    alone = [open_photo(data).digest for data in files]
    together: dict[int, list[str]] = {}

    def read(k):
        together[k] = [open_photo(data).digest for data in files]

    threads = [threading.Thread(target=read, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(together.values()) == [alone] * 8


MUTATED = {
    **{kind: save(scene(24, 33), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")},
    "animated GIF": pictures.animation(3, "GIF"),
    "pages": pictures.animation(2, "TIFF"),
    "turned JPEG": pictures.with_exif(scene(24, 33), {pictures.ORIENTATION: 6}, "JPEG"),
    "profiled PNG": save(scene(24, 33), "PNG", icc_profile=pictures.swapped_profile()),
}


@settings(max_examples=150, deadline=2000, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    kind=st.sampled_from(sorted(MUTATED)),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=6),
    cut=st.none() | st.tuples(st.integers(0, 2000), st.integers(1, 60)),
    splice=st.none() | st.tuples(st.integers(0, 2000), st.binary(max_size=40)),
)
@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_read_or_refused_and_nothing_else(kind, flips, cut, splice):
    data = bytearray(MUTATED[kind])
    for place, change in flips:
        data[place % len(data)] ^= change
    if cut:
        start = cut[0] % len(data)
        del data[start : start + cut[1]]
    if splice:
        start = splice[0] % (len(data) + 1)
        data[start:start] = splice[1]
    try:
        photo = open_photo(bytes(data))
    except BadImage as refused:
        assert not LEAKS.search(str(refused))  # noqa: PT017 - either outcome is right
    else:
        assert photo.pixels.dtype == np.uint8
        assert photo.pixels.shape[2] == 3


# Arrays


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1, ::-1],
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    ],
)
def test_i45_any_memory_layout_is_accepted_and_left_alone(change):
    array = change(scene())
    array.flags.writeable = False
    before = array.copy()
    photo = check_photo(array)
    assert photo.flags.c_contiguous
    np.testing.assert_array_equal(photo, before)
    prepare(array, model((16, 16)))
    overlay(array, np.ones((3, 4), np.float32), (0, 0, 45, 30))
    frame(array, (2, 3, 40, 20))
    np.testing.assert_array_equal(array, before)


def test_a_grey_array_becomes_three_equal_channels():
    grey = scene()[:, :, 0]
    np.testing.assert_array_equal(check_photo(grey), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (scene().astype(np.float64), "float64"),
        (scene() > 9, "bool"),
        (scene().astype(object), "object"),
        (scene().astype(np.int64), "int64"),
        (scene().transpose(2, 0, 1), r"transpose\(1, 2, 0\)"),
        (scene()[:, :, :2], r"\(30, 45, 2\)"),
        (np.zeros((30, 45, 5), np.uint8), r"\(30, 45, 5\)"),
        (np.zeros((30, 45, 4), np.uint8), "background"),
        (np.zeros((0, 30, 45, 3), np.uint8), "empty"),
        (np.zeros((2, 30, 45, 3), np.uint8), r"array\[0\]"),
        (np.zeros((0, 45, 3), np.uint8), "empty"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
        ("cat.jpg", "read_image"),
        ([[1, 2], [3, 4]], "list"),
    ],
)
def test_i45_i46_another_type_or_shape_is_refused_with_the_expected_shape(array, words):
    for use in (check_photo, lambda a: prepare(a, model()), to_png, Photo.of):
        with pytest.raises(BadImage, match=words) as caught:
            use(array)
        assert "(H, W, 3)" in str(caught.value)


# What the network sees


@pytest.mark.parametrize(
    ("name", "size", "crop_pct", "interpolation"),
    [
        ("chelsea.png", (224, 224), 0.875, "bicubic"),
        ("rocket.jpg", (224, 224), 0.875, "bicubic"),
        ("astronaut.png", (224, 224), 0.875, "bicubic"),
        ("coffee.png", (224, 224), 0.875, "bilinear"),
        ("coffee.png", (240, 240), 0.882, "bicubic"),
        ("chelsea.png", (160, 256), 0.9, "bilinear"),
        ("coffee.png", (256, 160), 1.0, "bicubic"),
        ("chelsea.png", (28, 28), 1.0, "bilinear"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_view_is_that_of_timms_own_transform(name, size, crop_pct, interpolation, turned):
    guarded_import("torchvision")  # which timm's transforms import
    from timm.data import create_transform

    photo = read_image(pictures.sample(name))
    photo = np.ascontiguousarray(np.rot90(photo)) if turned else photo
    transform = create_transform(
        (3, *size), crop_pct=crop_pct, interpolation=interpolation, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    theirs = transform(Image.fromarray(photo))
    ours = prepare(photo, model(size, crop_pct, interpolation)).pixels
    assert ours.shape == (1, 3, *size)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs, rtol=0, atol=1e-7)


def test_a_picture_of_the_input_size_is_seen_as_it_is():
    digit = scene(28, 28)
    view = prepare(digit, model((28, 28), 1.0, "bilinear"))
    np.testing.assert_array_equal((view.pixels[0].permute(1, 2, 0) * 255).round().byte().numpy(), digit)
    assert view.box == (0, 0, 28, 28)


@pytest.mark.parametrize("shape", [(300, 451), (451, 300), (30, 45), (29, 500), (1000, 8)])
@pytest.mark.parametrize("size", [(224, 224), (64, 96)])
def test_the_box_marks_the_part_that_is_seen_and_no_other(shape, size):
    net = model(size, 0.875, "bilinear")
    dark = np.zeros((*shape, 3), np.uint8)
    left, top, right, bottom = prepare(dark, net).box
    resized_pixel = min(shape) / min(size)  # an odd rest of the crop puts half of one more on one side
    assert abs((left + right) - shape[1]) <= 1 + resized_pixel
    assert abs((top + bottom) - shape[0]) <= 1 + resized_pixel
    outside = dark.copy()
    margin = 2 + max(1, min(shape) * 2 // min(size))  # a resampled pixel reaches a little over the border
    outside[:] = 255
    outside[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin] = 0
    assert prepare(outside, net).pixels.max() == 0
    rim = dark.copy()
    rim[top : top + margin], rim[bottom - margin : bottom] = 255, 255
    rim[:, left : left + margin], rim[:, right - margin : right] = 255, 255
    seen = prepare(rim, net).pixels
    for edge in (seen[..., 0, :], seen[..., -1, :], seen[..., 0], seen[..., -1]):
        assert edge.min() > 0.1


def test_a_mark_in_the_photo_is_seen_where_the_box_says():
    photo = np.zeros((200, 500, 3), np.uint8)
    photo[60:70, 270:290] = 255
    view = prepare(photo, model((100, 100), 0.8, "bilinear"))
    left, top, right, bottom = view.box
    rows, columns = np.nonzero(view.pixels[0, 0].numpy() > 0.5)
    y = top + (rows.mean() + 0.5) * (bottom - top) / 100
    x = left + (columns.mean() + 0.5) * (right - left) / 100
    assert abs(y - 65) < 1.5
    assert abs(x - 280) < 1.5


def test_a_very_long_strip_costs_no_more_than_a_square():
    strip = np.zeros((4, 100_000, 3), np.uint8)
    start = time.perf_counter()
    assert prepare(strip, model()).pixels.shape == (1, 3, 224, 224)
    assert time.perf_counter() - start < 1


def test_an_unknown_interpolation_is_refused_with_the_known_ones():
    with pytest.raises(BadParameter, match="bicubic"):
        prepare(scene(), model(interpolation="cubical"))


# Back on to the photo


def test_nothing_is_laid_over_the_photo_at_alpha_zero():
    photo = scene(40, 70)
    np.testing.assert_array_equal(overlay(photo, np.ones((3, 5), np.float32), (0, 0, 70, 40), alpha=0.0), photo)


@pytest.mark.parametrize("sign", [1, -1])
def test_at_alpha_one_the_strongest_evidence_has_exactly_the_colour_of_the_end_of_the_scale(sign):
    scale = Scale(-2.0, 2.0) if sign < 0 else Scale(0.0, 2.0)
    picture = overlay(scene(), np.full((3, 5), 2.0 * sign, np.float32), (0, 0, 45, 30), scale=scale, alpha=1.0)
    assert (picture == to_colours(np.float32(2.0 * sign), scale)).all()


def test_where_there_is_no_evidence_the_photo_stays_as_it_is():
    photo = scene()
    for scale in (Scale(0.0, 1.0), Scale(-1.0, 1.0)):
        heat = np.zeros((6, 9), np.float32)
        heat[1, 7] = 1
        picture = overlay(photo, heat, (0, 0, 45, 30), scale=scale, alpha=0.9)
        np.testing.assert_array_equal(picture[:, :25], photo[:, :25])
        assert (picture[5:10, 35:40] != photo[5:10, 35:40]).any(axis=2).all()


def test_heat_lands_on_the_cell_it_belongs_to_in_a_photo_and_a_map_that_are_not_square():
    photo = np.full((80, 210, 3), 128, np.uint8)
    box = (50, 20, 190, 60)  # 140 wide, 40 high
    heat = np.zeros((4, 7), np.float32)
    heat[1, 5] = 1.0  # its cell: rows 30 to 40, columns 150 to 170
    changed = (overlay(photo, heat, box, alpha=1.0) != photo).any(axis=2)
    changed[:20], changed[60:], changed[:, :50], changed[:, 190:] = False, False, False, False
    rows, columns = np.nonzero(changed)
    assert abs((rows.min() + rows.max()) / 2 - 34.5) <= 1
    assert abs((columns.min() + columns.max()) / 2 - 159.5) <= 1
    assert rows.max() - rows.min() < 20
    assert columns.max() - columns.min() < 40


def test_a_solid_overlay_at_alpha_one_is_the_map_and_nothing_else():
    heat = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    heat[:5] = 0
    picture = overlay(scene(), heat, (10, 5, 40, 25), alpha=1.0, solid=True)
    np.testing.assert_array_equal(picture[5:25, 10:40], to_colours(heat, Scale.of(heat)))
    half = overlay(np.zeros((40, 60, 3), np.uint8), heat, (10, 5, 40, 25), alpha=0.5, solid=True)
    np.testing.assert_allclose(half[5:25, 10:40], to_colours(heat, Scale.of(heat)) / 2, atol=1)


def test_an_overlay_keeps_the_sign_and_takes_a_heatmap_record():
    heat = Heatmap(np.array([[1.0, -1.0]], np.float32), "grad_cam", "reader", "layer", 0, 1.0)
    picture = overlay(np.full((20, 40, 3), 128, np.uint8), heat, (0, 0, 40, 20), alpha=1.0)
    left, right = picture[10, 2].astype(int), picture[10, -3].astype(int)
    assert left[0] > left[2]  # for: red
    assert right[2] > right[0]  # against: blue


def test_on_a_shared_scale_a_faint_map_looks_faint():
    photo, box = np.full((20, 40, 3), 128, np.uint8), (0, 0, 40, 20)
    strong, faint = np.full((2, 3), 9.0, np.float32), np.full((2, 3), 0.09, np.float32)
    scale = Scale.of(strong, faint)

    def change(heat, scale=None):
        return np.abs(overlay(photo, heat, box, scale=scale).astype(int) - 128).mean()

    assert change(faint, scale) < 0.25 * change(strong, scale)
    np.testing.assert_array_equal(overlay(photo, faint, box), overlay(photo, strong, box))


def test_a_large_photo_is_painted_like_its_parts():
    photo, heat = scene(600, 90), np.random.default_rng(0).normal(size=(600, 90)).astype(np.float32)
    scale = Scale.of(heat)
    whole = overlay(photo, heat, (0, 0, 90, 600), scale=scale)
    parts = [overlay(photo[k : k + 100], heat[k : k + 100], (0, 0, 90, 100), scale=scale) for k in range(0, 600, 100)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_what_the_network_did_not_see_is_grey_and_the_rest_is_not_touched():
    photo, box = scene(), (12, 4, 38, 29)
    picture = overlay(photo, np.zeros((2, 3), np.float32), box)
    inside = np.zeros((30, 45), bool)
    inside[4:29, 12:38] = True
    np.testing.assert_array_equal(picture[inside], photo[inside])
    assert (np.ptp(picture[~inside], axis=1) == 0).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_frame_is_visible_on_any_photo(level):
    photo = np.full((60, 100, 3), level, np.uint8)
    picture = frame(photo, (20, 5, 70, 50)).astype(int)
    for line in (picture[5:7, 22:68], picture[48:50, 22:68], picture[7:48, 20:22], picture[7:48, 68:70]):
        assert np.abs(line - level).max(axis=(0, 1, 2)) >= 127
    assert (picture[10:40, 30:60] == level).all()


@pytest.mark.parametrize("alpha", [1.5, -0.1, float("nan"), float("inf"), "half", None, True])
def test_p10_a_blend_outside_zero_to_one_is_refused(alpha):
    with pytest.raises(BadParameter, match="alpha"):
        overlay(scene(), np.ones((2, 3), np.float32), (0, 0, 45, 30), alpha=alpha)


@pytest.mark.parametrize(
    "box", [(0, 0, 46, 30), (0, 0, 45, 31), (-1, 0, 45, 30), (5, 0, 5, 30), (0, 9, 45, 3), (1, 2, 3), None, "abcd"]
)
def test_a_box_outside_of_the_photo_is_refused(box):
    for draw in (lambda: frame(scene(), box), lambda: overlay(scene(), np.ones((2, 3), np.float32), box)):
        with pytest.raises(BadParameter, match="box"):
            draw()


@pytest.mark.parametrize("heat", [np.ones((1, 2, 3), np.float32), np.ones(3, np.float32), np.ones((0, 3), np.float32)])
def test_a_heatmap_that_is_not_a_plane_is_refused(heat):
    with pytest.raises(BadParameter, match=r"\(h, w\)|value"):
        overlay(scene(), heat, (0, 0, 45, 30))


# Files out


def test_a_png_gives_back_every_pixel_and_a_jpeg_nearly():
    picture = scene()
    np.testing.assert_array_equal(read_image(to_png(picture)), picture)
    assert np.abs(read_image(to_jpeg(picture, quality=100)).astype(int) - picture).max() < 12
    assert len(to_jpeg(read_image(pictures.sample()), 50)) < len(to_jpeg(read_image(pictures.sample()), 95))


@pytest.mark.parametrize("quality", [0, 101, 90.5, "high"])
def test_a_senseless_quality_is_refused(quality):
    with pytest.raises(BadParameter, match="quality"):
        to_jpeg(scene(), quality)


def test_a_thumbnail_fits_its_side_and_is_never_larger_than_the_picture():
    assert thumbnail(scene(300, 450), 90).shape == (60, 90, 3)
    assert thumbnail(scene(450, 300), 90).shape == (90, 60, 3)
    np.testing.assert_array_equal(thumbnail(scene(), 900), scene())
