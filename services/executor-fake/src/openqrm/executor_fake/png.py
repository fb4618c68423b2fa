"""Makes a PNG picture of one colour with nothing but zlib. Pure."""

import struct
import zlib


def plain_png(width: int, height: int, red: int = 0, green: int = 0, blue: int = 0) -> bytes:
    """A picture of `width` x `height` pixels, 8 bits per colour."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = b"\0" + bytes((red, green, blue)) * width
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(row * height))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
