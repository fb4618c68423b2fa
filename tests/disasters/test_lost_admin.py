"""Nobody has an administrator's token or password any more; whoever owns the state folder gets in again."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from installation import Installation, new_folder


@pytest.fixture
async def site() -> AsyncIterator[Installation]:
    """It runs."""
    site = Installation(new_folder())
    await site.start()
    yield site
    await site.close()


async def test_a_new_token_and_password(site: Installation) -> None:
    old_password = site.password
    await site.interrupt()
    (site.state / "admin-token").unlink()
    (site.state / "admin-password").unlink()
    wish = site.state / "admin-token.reset"
    wish.touch()
    await site.start()
    assert not wish.exists(), "once is enough"
    assert site.password != old_password
    whoami = await site.client().get("/whoami")
    assert (whoami["user"], whoami["role"]) == ("admin", "admin")
    assert (site.state / "admin-token").stat().st_mode & 0o077 == 0
    opened = await site.browser().request("POST", "/session", {"user": "admin", "password": site.password})
    assert opened.status_code < 300, opened.text
