"""Each service's NATS user may say and hear what docs/access.md says, and nothing else: every user by every subject."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from support.access_walk import STREAMS, SUBJECTS, mistakes
from support.raw_nats import RawNats

from openqrm.bus.access import rights
from openqrm.bus.streams import stream_configs
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.message import (
    CLIENT,
    EXECUTOR,
    GATEWAY,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    all_messages,
)
from openqrm.embedded.account import service_account
from openqrm.embedded.nats import EmbeddedNats, NatsUser
from openqrm.embedded.state import StateFolder

USERS = {
    INVENTORY: (INVENTORY, None),
    SCHEDULER: (SCHEDULER, None),
    GATEWAY: (GATEWAY, None),
    HA_MONITOR: (HA_MONITOR, None),
    CLIENT: (CLIENT, None),
    "executor-qemu": (EXECUTOR, "qemu"),
}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    """The embedded NATS with the users of an installation, and no service that could be disturbed."""
    folder = tmp_path_factory.mktemp("nats")
    for path in (folder, *folder.parents[:3]):
        path.chmod(0o711)
    state = StateFolder(folder / "state", await service_account(), refuse_below=0, warn_below=0)
    state.open()
    users = []
    for user, (role, technology) in USERS.items():
        allowed = rights(role, user, technology)
        users.append(
            NatsUser(
                user,
                user,
                allowed.publish,
                allowed.subscribe,
                allow_responses=True,
                publish_deny=allowed.publish_denied,
            )
        )
    running = EmbeddedNats(state.nats, users, SystemClock(), port=None)
    await running.start()
    yield running
    await running.stop()
    state.close()


def test_the_page_has_every_subject_and_stream_and_no_other() -> None:
    assert set(SUBJECTS) == set(all_messages())
    assert set(STREAMS) == {config.name for config in stream_configs(1)}


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_what_the_page_says(server: EmbeddedNats, user: str) -> None:
    role, technology = USERS[user]
    connection = await RawNats(server.url, user, user).open()
    try:
        assert await mistakes(connection, role, technology or "qemu") == []
    finally:
        await connection.close()


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_a_wrong_password_gets_nothing(server: EmbeddedNats, password: str) -> None:
    async def ignore(_error: Exception) -> None:
        pass

    with pytest.raises((nats.errors.Error, ConnectionError)):
        await nats.connect(
            server.url, user=INVENTORY, password=password, allow_reconnect=False, error_cb=ignore, connect_timeout=5
        )


async def test_it_listens_on_loopback_only(server: EmbeddedNats) -> None:
    listening = {
        socket.inet_ntoa(bytes.fromhex(line.split()[1].split(":")[0])[::-1])
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]  # noqa: ASYNC240 - not on a disk
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == server.port
    }
    assert listening == {"127.0.0.1"}
