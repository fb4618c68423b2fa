import struct
import zlib

import pytest

from openqrm.contracts.errors import DriverError
from openqrm.executor_qemu.console import png_of_ppm


def test_a_ppm_becomes_a_png_with_the_same_pixels() -> None:
    pixels = bytes(range(18))
    png = png_of_ppm(b"P6\n# by qemu\n3 2\n255\n" + pixels)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (3, 2)
    start = png.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", png[start - 8 : start - 4])
    assert zlib.decompress(png[start : start + length]) == b"\0" + pixels[:9] + b"\0" + pixels[9:]


@pytest.mark.parametrize("data", [b"", b"P5\n1 1\n255\n\0", b"P6\n2 2\n255\n\0", b"P6\n2", b"P6\n1 1\n65535\n\0\0"])
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(DriverError):
        png_of_ppm(data)
