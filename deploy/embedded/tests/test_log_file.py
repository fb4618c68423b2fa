"""The log never stands in the way."""

import os
from pathlib import Path

import pytest

from openqrm.embedded.log_file import LogFile


def test_it_is_for_its_owner_only_and_is_continued(place: Path) -> None:
    path = place / "openqrm.log"
    path.write_text("before\n")
    path.chmod(0o644)
    with LogFile(path) as log:
        print("a line: ä, and half a character: \udc80", file=log, flush=True)
    assert path.read_bytes() == "before\na line: ä, and half a character: ?\n".encode()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_large_one_is_put_aside(place: Path) -> None:
    path = place / "openqrm.log"
    with LogFile(path, limit_bytes=100) as log:
        for number in range(30):
            log.write(f"line {number:04}\n")
    assert path.with_name("openqrm.log.1").stat().st_size <= 100
    assert path.read_text().endswith("line 0029\n")


def test_no_room_on_the_disk_is_no_error() -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("needs /dev/full")
    log = LogFile(Path("/dev/full"))
    assert log.write("lost\n") == 5
    log.close()
