"""The logins that a real installation has made: each may say and hear what docs/access.md says, and nothing else."""

import pytest
from prey import TECHNOLOGY, Prey
from support.access_walk import mistakes
from support.raw_nats import RawNats

ROLES = {
    "inventory": "inventory",
    "scheduler": "scheduler",
    "gateway": "gateway",
    "client": "client",
    "setup": "client",
    f"executor-{TECHNOLOGY}": "executor",
}


@pytest.mark.parametrize("user", ROLES)
async def test_a_login_may_what_the_page_says(prey: Prey, user: str) -> None:
    connection = await RawNats(prey.site.word["nats_url"], user, prey.passwords[user]).open()
    try:
        assert await mistakes(connection, ROLES[user], TECHNOLOGY, in_use=True) == []
    finally:
        await connection.close()


def test_every_login_is_walked(prey: Prey) -> None:
    assert set(prey.passwords) == {*ROLES, "provisioner"}
