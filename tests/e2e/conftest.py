"""One openQRM on the fake technology for all tests that only use it, and folders for those that start their own."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from installation import Client, Installation, new_folder

HOSTS = ("h1", "h2")


@pytest.fixture(scope="session")
async def site() -> AsyncIterator[Installation]:
    """It runs, with two large fake hosts, the network `default` on br0 and the network `backup` on br1."""
    site = Installation(new_folder(), {"OPENQRM_EXECUTOR_DEFAULT_TIMEOUT": "3", "OPENQRM_FAKE_FOLDER": None})
    await site.start()
    client = site.client()
    for name in HOSTS:
        connection = {"uri": f"fake://{name}?cpus=512&memory_mib=4194304"}
        await client.run("POST", "/hosts", {"name": name, "technology": "fake", "connection": connection})
    await client.run("POST", "/networks", {"name": "backup", "bridge": "br1"})
    yield site
    assert await site.interrupt() == 0
    await site.close()


@pytest.fixture
def admin(site: Installation) -> Client:
    """The administrator."""
    return site.client()


@pytest.fixture
async def own(request: pytest.FixtureRequest) -> AsyncIterator[Installation]:
    """An installation of the test's own, not started."""
    installation = Installation(new_folder())
    yield installation
    await installation.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return str(request.node.name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may pass through."""
    import shutil

    made = new_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)
