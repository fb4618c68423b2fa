import functools
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from qemu_definitions import image

from openqrm.contracts.errors import InvalidError, NotFoundError
from openqrm.contracts.image import ImageFormat
from openqrm.executor_qemu.images import check_header, open_source

SIZE = 64 * 2**20


def qcow2(version: int = 3, backing: int = 0, incompatible: int = 0) -> bytes:
    header = b"QFI\xfb" + struct.pack(">IQIIQ", version, backing, 0, 16, SIZE)
    return header.ljust(72, b"\0") + struct.pack(">Q", incompatible) + b"\0" * 24


def test_the_size_is_read() -> None:
    assert check_header(image(), qcow2()) == SIZE
    assert check_header(image(), qcow2(version=2)) == SIZE
    assert check_header(image(ImageFormat.RAW), b"\0" * 104) == 4096


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (qcow2(backing=400), "base file"),
        (qcow2(incompatible=4), "another file"),
        (qcow2(version=1), "version 1"),
        (b"\0" * 104, "not one"),
        (b"QFI\xfb", "not one"),
    ],
)
def test_an_image_that_reads_other_files_or_is_none_is_refused(header: bytes, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        check_header(image(), header)


@pytest.mark.parametrize("image_format", [ImageFormat.RAW, ImageFormat.ISO])
def test_a_qcow2_image_in_disguise_is_refused(image_format: ImageFormat) -> None:
    with pytest.raises(InvalidError, match="is a qcow2"):
        check_header(image(image_format), qcow2())


def test_files_are_read_and_missing_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a b.img"
    path.write_bytes(b"x")
    with open_source(image(location=path.as_uri())) as source:
        assert source.read() == b"x"
    with pytest.raises(NotFoundError, match="no such file"):
        open_source(image(location=f"file://{tmp_path}/none"))
    with pytest.raises(InvalidError):
        open_source(image(location="ftp://a/b"))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def test_images_are_read_over_http(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x" * 100_000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        with open_source(image(location=f"{base}/a.img")) as source:
            assert source.read() == b"x" * 100_000
        with pytest.raises(NotFoundError, match="404"):
            open_source(image(location=f"{base}/none"))
    finally:
        server.shutdown()
        server.server_close()
