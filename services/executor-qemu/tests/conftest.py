"""Makes the shared definitions importable, and reads recorded output."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from private_libvirtd import PrivateLibvirtd, skip_unless_possible  # noqa: E402 - found by the line above


@pytest.fixture
def recorded() -> Callable[[str], str]:
    """The recorded output of a tool, by file name."""
    return lambda name: (HERE / "recorded" / name).read_text("utf-8")


@pytest.fixture(scope="session")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateLibvirtd]:
    """A libvirtd of the tests' own."""
    skip_unless_possible()
    daemon = PrivateLibvirtd(tmp_path_factory.mktemp("libvirtd"))
    yield daemon
    daemon.close()
