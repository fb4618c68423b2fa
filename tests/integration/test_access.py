"""Each service's NATS user may say what its role says, and nothing else: every role by every subject."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from openqrm.bus.access import inbox_prefix, rights
from openqrm.bus.streams import STREAM_OF_KIND
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.message import (
    CLIENT,
    EXECUTOR,
    GATEWAY,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    all_messages,
    subject_pattern,
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
CONCRETE = {"{technology}": "qemu", "{host}": "h", "{session}": "s", "{trace}": "t"}


def concrete(template: str) -> str:
    """A subject that a message of this template could go to."""
    return re.sub(r"\{\w+\}", lambda match: CONCRETE[match[0]], template)


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


class Refusals:
    """What the server refused on one connection."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    async def note(self, error: Exception) -> None:
        """Called by the NATS client for each error that the server reports."""
        self.sentences.append(str(error))

    async def are(self, verb: str, subjects: set[str]) -> None:
        """Await that just these are refused: the client tells of each in a task of its own."""
        clock = SystemClock()
        for _ in range(40):
            if self.of(verb) == subjects:
                return
            await clock.sleep(0.05)
        assert self.of(verb) == subjects

    def of(self, verb: str) -> set[str]:
        """The subjects, in lower case as the client tells them, that it refused to let publish or subscribe."""
        pattern = re.compile(rf'permissions violation for {verb} to "([^"]+)"', re.IGNORECASE)
        return {found for sentence in self.sentences for found in pattern.findall(sentence)}


async def login(server: EmbeddedNats, user: str, refusals: Refusals) -> nats.NATS:
    """Connect as one of the users."""
    return await nats.connect(
        server.url, user=user, password=user, inbox_prefix=inbox_prefix(user), error_cb=refusals.note
    )


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_publish_what_its_role_says(server: EmbeddedNats, user: str) -> None:
    role, _ = USERS[user]
    refusals = Refusals()
    connection = await login(server, user, refusals)
    forbidden = set()
    for template, model in all_messages().items():
        kept = model.message_kind in STREAM_OF_KIND
        if role not in model.publishers and not (role == INVENTORY and kept):
            forbidden.add(concrete(template))
        await connection.publish(concrete(template), b"")
    await connection.flush()
    await asyncio.wait_for(connection.drain(), 10)
    await refusals.are("publish", forbidden)


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_hear_what_its_role_says(server: EmbeddedNats, user: str) -> None:
    role, technology = USERS[user]
    refusals = Refusals()
    connection = await login(server, user, refusals)
    forbidden = set()
    for model in all_messages().values():
        pattern = subject_pattern(model, technology or "*")
        if role not in model.consumers or model.message_kind in STREAM_OF_KIND:
            forbidden.add(pattern)
        await connection.subscribe(pattern)
    foreign_inbox = f"{inbox_prefix('somebody-else')}.>"
    await connection.subscribe(foreign_inbox)
    await connection.flush()
    await refusals.are("subscription", forbidden | {foreign_inbox.lower()})
    await connection.close()


async def test_no_service_takes_events_out_of_inventorys_consumer(server: EmbeddedNats) -> None:
    refusals = Refusals()
    connection = await login(server, GATEWAY, refusals)
    stolen = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.inventory"
    await connection.publish(stolen, b"1")
    await connection.flush()
    await refusals.are("publish", {stolen.lower()})
    await connection.close()


async def test_an_executor_hears_nothing_of_another_technology(server: EmbeddedNats) -> None:
    refusals = Refusals()
    connection = await login(server, "executor-qemu", refusals)
    await connection.subscribe("partition.open_console.xen.h")
    await connection.publish("$JS.API.CONSUMER.MSG.NEXT.EXECUTIONS.executor-xen", b"1")
    await connection.flush()
    await refusals.are("subscription", {"partition.open_console.xen.h"})
    await refusals.are("publish", {"$js.api.consumer.msg.next.executions.executor-xen"})
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
