"""Picture files, good and bad, made in memory for the tests: nothing is kept on disk and nothing is downloaded."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from PIL import Image

ORIENTATION, ARTIST, GPS = 0x0112, 0x013B, 0x8825


def sample(name: str = "chelsea.png") -> Path:
    """A real photo that scikit-image ships."""
    return Path(skimage.__file__).parent / "data" / name


def scene(height: int = 30, width: int = 45, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture in which no two corners are alike, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    corners = rng.uniform(0, 255, (4, 3))
    weights = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], axis=-1)
    return np.rint(weights @ corners).astype(np.uint8)


def save(picture: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """A picture as a file of Pillow's format ``kind``."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(width: int, height: int, *, before: bytes = b"", body: bytes = b"") -> bytes:
    """A PNG whose header states any size at all; ``before`` are chunks put before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + chunk(b"IEND", b"")


def with_exif(picture: np.ndarray, tags: dict[int, Any], kind: str = "PNG", **options: Any) -> bytes:
    exif = Image.Exif()
    exif.update(tags)
    return save(picture, kind, exif=exif, **options)


def raw_exif(orientation: bytes) -> bytes:
    """EXIF whose orientation is a string, which Pillow itself would refuse to write."""
    assert len(orientation) == 4
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, ORIENTATION, 2, 4, orientation, 0)


def animation(frames: int, kind: str, size: tuple[int, int] = (16, 12), **options: Any) -> bytes:
    """``frames`` plain pictures, the first red, in one file."""
    pages = [Image.new("RGB", size, ("red", "lime", "blue")[k % 3]) for k in range(frames)]
    return save(pages[0], kind, save_all=True, append_images=pages[1:], **options)


@cache
def long_gif(frames: int = 10_000) -> bytes:
    """A GIF of very many frames, put together from the bytes of a short one."""
    short = animation(3, "GIF")
    second = short.index(b"\x21\xf9", short.index(b"\x2c"))  # the control block of the second frame
    third = short.index(b"\x21\xf9", second + 1)
    return short[:second] + short[second:third] * (frames - 1) + b";"


def swapped_profile() -> bytes:
    """A sound ICC profile in which red and blue have changed places: what it calls red is sRGB's blue."""

    def fixed(*numbers: float) -> bytes:
        return b"".join(struct.pack(">i", round(n * 65536)) for n in numbers)

    red, green, blue = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)
    text = b"red and blue swapped\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(*blue),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(*green),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(*red),
        **{name: b"curv" + struct.pack(">IIH", 0, 1, round(2.2 * 256)) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"test", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def zip_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def palette_png(colours: Sequence[tuple[int, int, int]], indices: np.ndarray) -> bytes:
    picture = Image.fromarray(indices.astype(np.uint8)).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([number for colour in colours for number in colour])
    return save(picture, "PNG")


def refused() -> dict[str, bytes]:
    """Files that must be refused, by the row of the list of bad inputs and what they are."""
    picture = scene()
    jpeg, png = save(picture, "JPEG"), save(picture, "PNG")
    flipped = bytearray(png)
    flipped[40] ^= 0xFF
    noise = np.random.default_rng(0).integers(0, 256, (100, 90, 3), dtype=np.uint8)
    ztxt = b"comment\0\0" + zlib.compress(b"Z" * 2_500_000)
    return {
        "I1 empty": b"",
        "I2 random bytes": np.random.default_rng(2).bytes(500),
        "I3 HTML": b"<html><script>alert(1)</script></html>",
        "I4 header of 20000 x 20000": raw_png(20_000, 20_000),
        "I5 header of 96 megapixels": raw_png(12_000, 8_000),
        "I5b header of 100 megapixels": raw_png(10_000, 10_000),
        "I6 bomb of 64 megapixels": save(Image.new("L", (8000, 8000)), "PNG"),
        "I6b WebP bomb": save(Image.new("RGB", (7000, 7000)), "WEBP", method=0),
        "I7 no width": raw_png(0, 10),
        "I8 header of 2**31 - 1": raw_png(2**31 - 1, 2**31 - 1),
        "I9 half a JPEG": jpeg[: len(jpeg) // 2],
        "I10 half a PNG": png[: len(png) // 2],
        "I11 wrong checksum": bytes(flipped),
        "I12 text bomb": raw_png(30, 20, before=chunk(b"zTXt", ztxt), body=bytes(20 * 91)),
        "I14 float TIFF with NaN": save(Image.fromarray(np.full((9, 8), np.nan, np.float32)), "TIFF"),
        "I25 one pixel": save(noise[:1, :1], "PNG"),
        "I26 one by 20000": save(Image.new("RGB", (1, 20_000)), "PNG"),
        "I26b 30 by 2000": save(Image.new("RGB", (2000, 30)), "PNG"),
        "I27 seven by seven": save(noise[:7, :7], "PNG"),
        "I32 SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>x</script></svg>',
        "I33 HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        "I34 PDF": b"%PDF-1.7\n" + bytes(100),
        "I34 EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n",
        "I35 JPEG 2000": save(noise, "JPEG2000"),
        "I35 AVIF": save(noise, "AVIF"),
        "I35 PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 90, 100, 8, 3) + bytes(100),
        "I35 FITS": b"SIMPLE  =                    T".ljust(2880),
        "I35 TGA": save(noise, "TGA"),
        "I35 ICO": save(noise, "ICO"),
    }
