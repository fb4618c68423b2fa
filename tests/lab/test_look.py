"""What a guest shows: its screen, and both its consoles."""

import struct
import zlib
from collections.abc import Iterator

import pytest
from product import Guest, Screen, SerialConsole, Site, expect_refusal, wait_until
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=["kvm1", "kvm2"], ids=["by TLS", "by SSH"])
def guest(site: Site, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A running guest on a host of each transport."""
    made = site.guest(f"shown on {request.param}", request.param)
    made.shell()
    yield made
    made.leave()


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose parts are whole."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position = 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind_and_data = png[position + 4 : position + 8 + length]
        (checksum,) = struct.unpack(">I", png[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(kind_and_data)
        position += 12 + length
    assert position == len(png)
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_a_screenshot_is_a_picture_of_its_screen(site: Site, guest: Guest) -> None:
    answer = site.gateway.request("GET", f"{guest.path}/screenshot")
    assert answer.media_type == "image/png"
    width, height = size_of(answer.body)
    assert 640 <= width <= 1920
    assert 400 <= height <= 1200
    assert len(answer.body) > 500


def test_vnc_speaks_rfb_and_tells_the_screens_size(site: Site, guest: Guest) -> None:
    with Screen(site.lab, site.gateway, guest.id) as screen:
        assert screen.read(12).startswith(b"RFB 003.008\n")
        screen.write(b"RFB 003.008\n")
        kinds = screen.read(2)
        assert kinds[-1] == 1  # no further password: the ticket was the password
        screen.write(b"\x01")
        assert screen.read(4) == b"\0\0\0\0"
        screen.write(b"\x01")
        width, height = struct.unpack(">HH", screen.read(24)[:4])
        assert width >= 640
        assert height >= 400


def test_a_ticket_opens_one_console_once(site: Site, guest: Guest) -> None:
    answer = site.gateway.request("POST", f"{guest.path}/console-tickets", {"kind": "serial"}).json()
    with SerialConsole(site.lab, site.gateway, guest.id, path=answer["path"]) as console:
        assert console.login().run("echo here") == "here"
    with (
        pytest.raises(InvalidStatus, match="403"),
        SerialConsole(site.lab, site.gateway, guest.id, path=answer["path"]) as console,
    ):
        console.send("\n")


def test_much_text_comes_whole_and_in_order(guest: Guest) -> None:
    text = guest.run("seq 1 5000", 60)
    assert text.split() == [str(number) for number in range(1, 5001)]


def test_a_stopped_one_shows_nothing(site: Site, guest: Guest) -> None:
    shell = guest.shell()
    guest.do("stop")
    wait_until(lambda: not shell.is_open(), 10, "the console was closed")
    with expect_refusal(409, "stopped", "start"):
        site.gateway.request("POST", f"{guest.path}/console-tickets", {"kind": "serial"})
    with expect_refusal(409, "stopped"):
        site.gateway.request("GET", f"{guest.path}/screenshot")
