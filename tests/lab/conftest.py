"""The running lab, for every test below this folder that is marked `lab`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from qemu_lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A lab with three hypervisors. One that ran before stays up; otherwise it ends with the session."""
    running = Lab()
    brought_up = running.up()
    yield running
    if brought_up:
        running.down()
