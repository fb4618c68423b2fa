"""The shell, the screen and the picture of a fake guest."""

import struct
import zlib

import pytest

from openqrm.executor_fake.png import plain_png
from openqrm.executor_fake.rfb import HEIGHT, WIDTH, BlackScreen, RfbError
from openqrm.executor_fake.shell import Shell, Wish


def test_the_shell_echoes_and_answers() -> None:
    shell = Shell("web")
    assert shell.feed(b"echo hi\r\n") == b"echo hi\r\nhi\r\n# "
    assert shell.feed(b"hostx\x7fname\n") == b"hostx\b \bname\r\nweb\r\n# "
    assert b"not found" in shell.feed(b"vim\r")
    assert shell.wish is None
    assert shell.feed(b"poweroff\r").endswith(b"bye\r\n# ")
    assert shell.wish is Wish.POWER_OFF


def test_the_screen_byte_by_byte() -> None:
    screen = BlackScreen("web")
    assert screen.greeting() == b"RFB 003.008\n"
    pixel_format = struct.pack(">B3xBBBBHHHBBB3x", 0, 16, 16, 0, 1, 31, 63, 31, 11, 5, 0)
    encodings = struct.pack(">BxHi", 2, 1, 0)
    request = struct.pack(">BBHHHH", 3, 0, 0, 0, WIDTH, HEIGHT)
    again = struct.pack(">BBHHHH", 3, 1, 0, 0, WIDTH, HEIGHT)
    key = struct.pack(">BBxxI", 4, 1, 0x61)
    pointer = struct.pack(">BBHH", 5, 0, 1, 1)
    cut = struct.pack(">BxxxI", 6, 3) + b"abc"
    said = b"RFB 003.008\n\x01\x01" + pixel_format + encodings + key + pointer + cut + request + again
    answer = b"".join(screen.feed(bytes([byte])) for byte in said)
    assert answer[:2] == b"\x01\x01"
    assert answer[2:6] == bytes(4)
    assert struct.unpack(">HH", answer[6:10]) == (WIDTH, HEIGHT)
    assert answer[26:33] == struct.pack(">I", 3) + b"web"
    update = answer[33:]
    assert update[:4] == b"\0\0\0\x01"
    assert len(update) == 4 + 12 + WIDTH * HEIGHT * 2, "16 bits per pixel, as asked for; and only once"


def test_nonsense_is_refused() -> None:
    with pytest.raises(RfbError):
        BlackScreen("web").feed(b"GET / HTTP/1.1\r\n")


def test_the_picture_is_a_png() -> None:
    picture = plain_png(3, 2, 1, 2, 3)
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    size, kind = struct.unpack(">I4s", picture[8:16])
    assert (size, kind) == (13, b"IHDR")
    assert struct.unpack(">II", picture[16:24]) == (3, 2)
    start = picture.index(b"IDAT") + 4
    length = struct.unpack(">I", picture[start - 8 : start - 4])[0]
    assert zlib.decompress(picture[start : start + length]) == (b"\0" + b"\x01\x02\x03" * 3) * 2
