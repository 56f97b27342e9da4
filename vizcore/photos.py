"""File -> RGB pixels: a photo is an array of uint8, shape (H, W, 3), sRGB and upright, whatever the file was.

What had to be changed on the way is said in `Photo.notes`. Files come from strangers: their size is looked at before
anything is decoded, the header before the pixels, only six decoders of Pillow are ever tried, and every failure leaves
as `BadImage` in words of ours.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from vizcore.records import BadImage, check_whole

MAX_BYTES = 15_000_000
MAX_PIXELS = 40_000_000  # decoded, 120 MB of RGB
MIN_SIDE = 8
MAX_ASPECT = 20  # longer side to shorter: a centre crop of more than that shows next to nothing


ALLOWED = "CNN Lens reads JPEG, PNG, WebP, GIF, BMP and TIFF"
DECODERS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
STRANGERS = {
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "a PostScript document",
    b"8BPS": "a Photoshop document",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"SIMPLE  =": "a FITS picture",
    b"\0\0\1\0": "a Windows icon",
    b"PK\3\4": "a zip archive",
}
# EXIF tag 274. Not ImageOps.exif_transpose: it writes the EXIF anew, and fails where some other tag is malformed.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Photo:
    """``pixels`` uint8 (H, W, 3), sRGB, upright, read-only, and what was changed to get there.

    ``digest`` is the SHA-256 of shape and pixels in hexadecimal: the same picture under another name or with other
    EXIF has the same. ``notes`` are sentences for the reader.
    """

    pixels: np.ndarray
    digest: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, array: np.ndarray, notes: tuple[str, ...] = ()) -> Photo:
        """A photo of a copy of ``array``, uint8 (H, W, 3) or grey (H, W)."""
        pixels = check_photo(array).copy()
        pixels.flags.writeable = False
        digest = hashlib.sha256("×".join(map(str, pixels.shape)).encode())
        digest.update(pixels.data)
        return cls(pixels, digest.hexdigest(), notes)


def read_image(source: str | os.PathLike[str] | bytes | BinaryIO) -> np.ndarray:
    """The pixels of a picture file, uint8 (H, W, 3), upright, sRGB: `open_photo` without its notes."""
    return open_photo(source).pixels.copy()


def open_photo(source: str | os.PathLike[str] | bytes | BinaryIO, *, max_side: int | None = None) -> Photo:
    """Read a picture from a path, from bytes, or from a binary file (from its start, where it can seek).

    JPEG, PNG, WebP, GIF, BMP or TIFF, up to MAX_BYTES and MAX_PIXELS, at least MIN_SIDE pixels a side and at most
    MAX_ASPECT times as long as wide. Of several frames or pages the first is taken; transparent parts become white;
    16-bit values are scaled, other ranges stretched, to 8 bits; an embedded colour profile is followed. With
    ``max_side`` a larger photo is reduced so that its longer side has that many pixels. Takes up to 16 bytes of memory
    a pixel of the file for a while (a JPEG with ``max_side``: about 3). Raises BadImage on all else, with a sentence
    that says what was received and what to do.
    """
    if max_side is not None:
        check_whole("max_side", max_side, MIN_SIDE, 100_000)
    data = _read(source)
    decoder = _find_decoder(data)
    notes: list[str] = []
    try:
        with _open(data, decoder, notes) as image:
            _check_size(*image.size)
            picture = _decode(image, max_side, notes)
            _note_frames(image, notes)
        pixels = np.asarray(picture)
        del image, picture
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(_too_many_pixels("far too many pixels")) from None
    except Exception:  # decoders of damaged files raise anything, from struct.error to SyntaxError
        raise BadImage(
            f"The {decoder} file is damaged or incomplete: it cannot be read to its end. Save or download it again, "
            "or open it in a photo program and export it as PNG."
        ) from None
    return Photo.of(pixels, tuple(notes))


def bytes_to_open(data: bytes) -> int:
    """The memory that `open_photo` takes for a while to open and reduce a file, in bytes, by its header alone: at most
    16 for each pixel, 3 for those of a JPEG. 0 where it would be refused."""
    try:
        decoder = _find_decoder(data)
        with _open(data, decoder, []) as image:
            pixels = image.width * image.height
    except Exception:  # whatever decoders raise of damaged files; open_photo says it in words
        return 0
    return (3 if decoder == "JPEG" else 16) * pixels if pixels <= MAX_PIXELS else 0


def check_photo(array: Any) -> np.ndarray:
    """``array`` as contiguous uint8 (H, W, 3), grey (H, W) made RGB; the array itself is never changed.

    Raises BadImage on any other type or shape, with the shape that is expected.
    """
    wanted = "a photo is uint8 of the shape (H, W, 3), or (H, W) if grey"
    if not isinstance(array, np.ndarray):
        raise BadImage(f"The photo is a {type(array).__name__}; {wanted}, in a NumPy array. read_image makes one.")
    if array.dtype != np.uint8:
        hint = " Multiply numbers from 0 to 1 by 255 and round them." if array.dtype.kind == "f" else ""
        raise BadImage(f"The photo is an array of {array.dtype}; {wanted}, with values from 0 to 255.{hint}")
    if 0 in array.shape:
        raise BadImage(f"The photo is empty, of the shape {array.shape}; {wanted}.")
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        hint = ""
        if array.ndim == 3 and array.shape[2] == 4:
            hint = " Lay a transparent picture on a background first; read_image does so for files."
        elif array.ndim == 3 and array.shape[0] in (1, 3):
            hint = " Channels come last: use array.transpose(1, 2, 0)."
        elif array.ndim == 4:
            hint = " Hand over one picture at a time, array[0]."
        raise BadImage(f"The photo has the shape {array.shape}; {wanted}.{hint}")
    return np.ascontiguousarray(array)


def _read(source: Any) -> bytes:
    """All bytes of a path, of bytes, or of a binary file, at most MAX_BYTES of them."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        if not os.path.isfile(source):  # also false for folders, devices, and names that cannot be names
            raise BadImage(f"There is no file {str(source)[-100:]!r}. Check the name and the folder.")
        try:
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadImage(f"The file {str(source)[-100:]!r} cannot be opened: {error.strerror}.") from None
    elif hasattr(source, "read"):
        if hasattr(source, "seekable") and source.seekable():
            source.seek(0)
        data = source.read(MAX_BYTES + 1)
        if not isinstance(data, bytes):
            raise BadImage('The file was opened as text; open a picture in binary mode: open(name, "rb").')
    else:
        raise BadImage(
            f"A picture cannot be read from a {type(source).__name__}; hand over a path, bytes, or a file opened in "
            "binary mode. An array of pixels needs no reading."
        )
    if len(data) > MAX_BYTES:
        raise BadImage(
            f"The file has more than {MAX_BYTES / 1e6:.0f} MB, which is the most that is read. Export the picture "
            "smaller, or as JPEG."
        )
    if not len(data):
        raise BadImage("The file is empty (0 bytes). Choose it again, or take the picture again.")
    return data


def _find_decoder(data: bytes) -> str:
    """Pillow's name of the format, by the first bytes, or BadImage saying what the file is instead."""
    for start, name in DECODERS.items():
        if data.startswith(start):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    kind = "not a picture file that is known here"
    advice = "Open it in a photo program and export it as JPEG or PNG."
    for start, name in STRANGERS.items():
        if data.startswith(start):
            kind = name
    if kind == "a zip archive":
        advice = "Unpack it, and choose one of the pictures inside."
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        heic = brand[:2] in (b"he", b"mi", b"ms")
        kind = "a HEIC picture" if heic else "an AVIF picture" if brand[:3] == b"avi" else "a video"
        advice = "Take one picture out of it." if kind == "a video" else "Export it as JPEG and try again."
    opening = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if opening.startswith(b"<"):
        kind = "an SVG drawing" if b"<svg" in opening else "a web page or other text, whatever its name says"
    raise BadImage(f"The file is {kind}. {ALLOWED}. {advice}")


def _open(data: bytes, decoder: str, notes: list[str]) -> Image.Image:
    """Read the header with one decoder and no other."""
    try:
        return Image.open(io.BytesIO(data), formats=(decoder,))
    except ValueError:
        if decoder != "PNG":
            raise
        # Pillow refuses the whole PNG for a colour profile of over a megabyte: it is tried again without one.
        image = Image.open(io.BytesIO(_without_profile(data)), formats=(decoder,))
        notes.append("The embedded colour profile is too large and was ignored.")
        return image


def _without_profile(png: bytes) -> bytes:
    """A PNG less its iCCP chunks, which stand before the pixels."""
    kept, start = [png[:8]], 8
    while start < len(png) and png[start + 4 : start + 8] != b"IDAT":
        end = start + 12 + int.from_bytes(png[start : start + 4])
        if png[start + 4 : start + 8] != b"iCCP":
            kept.append(png[start:end])
        start = end
    return b"".join((*kept, png[start:]))


def _check_size(width: int, height: int) -> None:
    """Refuse, from the header alone, what is too large, too small, or too long and thin."""
    if width * height > MAX_PIXELS:
        raise BadImage(_too_many_pixels(f"{width} × {height} pixels"))
    if min(width, height) < MIN_SIDE:
        raise BadImage(
            f"The picture is too small: {width} × {height} pixels, where each side needs at least {MIN_SIDE}. Choose a "
            "larger one."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage(
            f"The picture is too long and thin: {width} × {height} pixels, where one side may be at most {MAX_ASPECT} "
            "times the other. Cut out a part of it."
        )


def _too_many_pixels(size: str) -> str:
    most = f"{MAX_PIXELS // 10**6} million pixels"
    return f"The picture is too large: {size}, where at most {most} are decoded. Export it smaller."


def _decode(image: Image.Image, max_side: int | None, notes: list[str]) -> Image.Image:
    """The first frame as an RGB image, upright, in sRGB, on white, not longer than ``max_side``."""
    width, height = image.size
    size = reduced_size(image.size, max_side or max(image.size))
    if size != image.size and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * size[0], 2 * size[1]))  # a JPEG decodes to a half, quarter or eighth for less work
    image.load()
    orientation = _find_orientation(image)
    picture = _to_srgb(_opaque(image, notes), image.info.get("icc_profile"), notes)
    if size != (width, height):
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        notes.append(f"The picture of {width} × {height} pixels was reduced to {size[0]} × {size[1]}.")
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def reduced_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """``size`` scaled down so that neither number is above ``side``, nor below 1."""
    factor = min(1, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _find_orientation(image: Image.Image) -> object:
    """What the EXIF says of the way up; None where there is none or it cannot be read."""
    try:
        return image.getexif().get(0x0112)
    except Exception:  # malformed metadata is no reason to refuse the pixels
        return None


def _opaque(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode of Pillow as opaque 8-bit L, RGB or CMYK."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image, notes)
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        used = layer.getchannel("A").histogram()  # number of pixels at each opacity, 0 to 255
        if sum(used[:255]):
            wholly = not sum(used[1:])
            notes.append("The picture is wholly transparent." if wholly else "Transparent parts are shown on white.")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    """Grey of 16 or 32 bits, or floating point, as 8 bits: scaled by its full range where that is known."""
    values = np.asarray(image)  # (H, W)
    if not np.isfinite(values).all():
        raise BadImage(
            "The picture holds NaN or infinity instead of brightness in places. Replace these, and export it as 8 or "
            "16 bits."
        )
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and 255 < high <= 65535):
        low, high = 0.0, 65535.0
        notes.append("16-bit values were scaled to 8 bits.")
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
        notes.append("Values from 0 to 1 were scaled to 8 bits.")
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    else:
        notes.append(f"Values from {low:g} to {high:g} were stretched to 8 bits.")
    share = (values.astype(np.float64) - low) / ((high - low) or 1)
    return Image.fromarray(np.rint(share * 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """L, RGB or CMYK as sRGB, by the embedded ICC profile where it is sound and fits the mode."""
    if profile:
        from PIL import ImageCms

        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            fits = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(embedded.profile.xcolor_space.strip()) == image.mode
            if fits and "sRGB" not in (embedded.profile.profile_description or ""):
                transform = ImageCms.buildTransform(embedded, ImageCms.createProfile("sRGB"), image.mode, "RGB")
                converted = ImageCms.applyTransform(image, transform)
                if converted is not None:
                    notes.append("The colours were converted from the embedded profile to sRGB.")
                    return converted
        except Exception:  # a damaged profile is no reason to refuse the pixels
            notes.append("The embedded colour profile is damaged and was ignored.")
    if image.mode == "CMYK":
        notes.append("The print colours (CMYK) were converted to RGB.")
    return image.convert("RGB")


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    """Say that there are more frames; they are never counted, which would mean to decode them."""
    try:
        several = getattr(image, "is_animated", False)
    except Exception:  # damage behind the first frame
        several = False
    if several and image.format == "TIFF":
        notes.append("Several pages: only the first is used.")
    elif several and image.format != "MPO":  # a camera's JPEG with previews behind it
        notes.append("Animated: only the first frame is used.")
