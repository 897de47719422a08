"""Picture files that no everyday library writes, byte by byte."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def png(pixels, *, bits=8, colour=None, extra=()):
    """A PNG file of ``pixels`` (H, W) or (H, W, C); ``extra`` chunks (name, bytes) stand behind the pixels."""
    pixels = np.atleast_3d(pixels)
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour is None else colour
    kind = ">u2" if bits == 16 else "u1"
    rows = b"".join(b"\0" + row.astype(kind).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), *extra, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks
    )


def tiff(pixels, *, photometric=1, tags=()):
    """A little-endian TIFF file of 16-bit ``pixels`` (H, W) or (H, W, C) in one strip; ``tags``: further (number, short)."""
    data = pixels.astype("<u2").tobytes()
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    entries = {256: width, 257: height, 258: 16, 259: 1, 262: photometric, 273: 8, 277: channels, 278: height, **dict(tags)}
    start = 8 + len(data)
    long_bits = b""
    if channels > 1:
        long_bits = struct.pack(f"<{channels}H", *[16] * channels)
        entries[258] = start
        start += len(long_bits) + len(long_bits) % 2
    listed = b""
    for number, value in sorted({**entries, 279: len(data)}.items()):
        count = channels if number == 258 and channels > 1 else 1
        kind = 3 if number not in (273, 279) else 4
        listed += struct.pack("<HHI", number, kind, count) + struct.pack("<I", value)
    directory = struct.pack("<H", len(entries) + 1) + listed + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, start) + data + long_bits.ljust(start - 8 - len(data), b"\0") + directory


def upright(stored, orientation):
    """What a viewer shows of ``stored`` (H, W, ...) under an orientation, by the words of the EXIF standard (tag 274)."""
    first_row, first_column = {1: "TL", 2: "TR", 3: "BR", 4: "BL", 5: "LT", 6: "RT", 7: "RB", 8: "LB"}[orientation]
    if first_row in "LR":  # the first row of the stored pixels is a side of the picture
        picture = stored.swapaxes(0, 1)
        picture = picture[:, ::-1] if first_row == "R" else picture
        return picture[::-1] if first_column == "B" else picture
    picture = stored[::-1] if first_row == "B" else stored
    return picture[:, ::-1] if first_column == "R" else picture
