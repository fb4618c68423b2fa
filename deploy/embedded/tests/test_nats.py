"""The embedded NATS, for real."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from openqrm.contracts.clock import SystemClock
from openqrm.embedded.errors import StartError
from openqrm.embedded.nats import EmbeddedNats, NatsUser

ADMIN = NatsUser("admin", 'a$dm"in', [">"], [">"])
ASKER = NatsUser("asker", "k", ["question"], ["_INBOX.>"])
ANSWERER = NatsUser("answerer", "w", [], ["question"], allow_responses=True)


@asynccontextmanager
async def connected(server: EmbeddedNats, user: NatsUser, errors: list[str] | None = None) -> AsyncIterator[Client]:
    async def note(error: Exception) -> None:
        if errors is not None:
            errors.append(str(error))

    client = await nats.connect(
        server.url, user=user.name, password=user.password, allow_reconnect=False, connect_timeout=2, error_cb=note
    )
    try:
        yield client
    finally:
        await client.close()


async def test_messages_and_port_survive_a_restart(place: Path, clock: SystemClock) -> None:
    server = EmbeddedNats(place / "nats", [ADMIN], clock, port=None)
    await server.start()
    try:
        port = server.port
        async with connected(server, ADMIN) as client:
            stream = client.jetstream()
            await stream.add_stream(name="EVENTS", subjects=["host.>"])
            await stream.publish("host.failed", b"h-7")
        await server.stop()
        begin = clock.monotonic()
        await server.start()
        assert clock.monotonic() - begin < 3
        assert server.port == port
        async with connected(server, ADMIN) as client:
            assert (await client.jetstream().get_msg("EVENTS", 1)).data == b"h-7"
        assert "sync_interval" in (place / "nats" / "nats.conf").read_text()
        assert (place / "nats" / "nats.conf").stat().st_mode & 0o777 == 0o600
    finally:
        await server.stop()


async def test_it_listens_on_the_loopback_only(place: Path, clock: SystemClock) -> None:
    server = EmbeddedNats(place / "nats", [ADMIN], clock, port=None)
    await server.start()
    try:
        assert server.pid is not None
        addresses = {connection.laddr for connection in psutil.Process(server.pid).net_connections()}
        assert addresses == {("127.0.0.1", server.port)}
    finally:
        await server.stop()


async def test_a_stranger_gets_nothing(place: Path, clock: SystemClock) -> None:
    server = EmbeddedNats(place / "nats", [ADMIN], clock, port=None)
    await server.start()
    try:
        for user in (NatsUser("admin", "wrong", [], []), NatsUser("", "", [], [])):
            with pytest.raises((nats.errors.Error, OSError)):
                async with connected(server, user):
                    pass
    finally:
        await server.stop()


async def test_rights_end_where_the_lists_end(place: Path, clock: SystemClock) -> None:
    server = EmbeddedNats(place / "nats", [ADMIN, ASKER, ANSWERER], clock, port=None)
    await server.start()
    refusals: list[str] = []

    async def answer(message: Msg) -> None:
        await message.respond(b"42")

    try:
        async with (
            connected(server, ADMIN) as admin,
            connected(server, ASKER, refusals) as asker,
            connected(server, ANSWERER, refusals) as answerer,
        ):
            seen = await admin.subscribe("forbidden")
            asked = await answerer.subscribe("question", cb=answer)
            await answerer.flush()
            assert (await asker.request("question", b"?", timeout=2)).data == b"42"
            assert refusals == []
            await answerer.publish("forbidden", b"an empty list is no right")
            await asker.publish("forbidden", b"not in the list")
            await answerer.subscribe("private")
            await asker.flush()
            await answerer.flush()
            await admin.flush()
            with pytest.raises(nats.errors.TimeoutError):
                await seen.next_msg(timeout=0.2)
            await asked.unsubscribe()
        assert len([refusal for refusal in refusals if "permissions violation" in refusal.lower()]) == 3
    finally:
        await server.stop()


async def test_a_port_in_use_is_named_with_its_holder(place: Path, clock: SystemClock) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StartError, match=rf"port {port} for NATS is in use by .* \(process {os.getpid()}\)"):
            await EmbeddedNats(place / "nats", [ADMIN], clock, port=port).start()


async def test_a_recorded_port_that_was_taken_is_replaced(place: Path, clock: SystemClock) -> None:
    server = EmbeddedNats(place / "nats", [ADMIN], clock, port=None)
    await server.start()
    await server.stop()
    before = server.port
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", before))
        holder.listen()
        await server.start()
        assert server.port != before
        await server.stop()


KILLED = """
import asyncio, sys
from pathlib import Path
from openqrm.contracts.clock import SystemClock
from openqrm.embedded.nats import EmbeddedNats, NatsUser

async def main() -> None:
    server = EmbeddedNats(Path(sys.argv[1]), [NatsUser("a", "b", [">"], [">"])], SystemClock(), port=int(sys.argv[2]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def start_and_kill(folder: Path, port: int) -> int:
    """Start NATS in another process, kill that one, return the process id that NATS had."""
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(port)], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        return int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_kill_of_the_parent_does_not_block_the_next_start(place: Path, clock: SystemClock) -> None:
    port = free_port()
    pid = start_and_kill(place / "nats", port)
    server = EmbeddedNats(place / "nats", [ADMIN], clock, port=port)
    await server.start()
    try:
        assert server.pid != pid
    finally:
        await server.stop()


async def test_a_server_that_is_left_over_is_replaced(place: Path, clock: SystemClock) -> None:
    port = free_port()
    deaths: list[str] = []
    first = EmbeddedNats(place / "nats", [ADMIN], clock, port=port, on_death=deaths.append)
    second = EmbeddedNats(place / "nats", [ADMIN], clock, port=port)
    await first.start()
    try:
        await second.start()
        assert len(deaths) == 1
    finally:
        await first.stop()
        await second.stop()


async def test_a_broken_store_is_reported(place: Path, clock: SystemClock) -> None:
    (place / "nats").mkdir()
    (place / "nats" / "jetstream").write_text("a file")
    with pytest.raises(StartError, match=r"NATS cannot use .*jetstream"):
        await EmbeddedNats(place / "nats", [ADMIN], clock, port=None).start()
