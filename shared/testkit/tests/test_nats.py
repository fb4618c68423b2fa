"""The nats-server for tests."""

from pathlib import Path

from openqrm.contracts.host import HostConnected
from openqrm.contracts.ids import new_id
from openqrm.testkit.nats import nats_server


async def test_a_server_keeps_its_streams_when_it_is_killed() -> None:
    async with nats_server(("fake", "other")) as server:
        async with server.jetstream() as js:
            assert {stream.config.name for stream in await js.streams_info()} == {
                "COMMANDS",
                "EXECUTIONS",
                "EVENTS",
                "SPANS",
            }
            assert {consumer.name for consumer in await js.consumers_info("EXECUTIONS")} == {
                "executor-fake",
                "executor-other",
            }
        bus = server.bus("executor-fake")
        await bus.connect()
        await bus.publish(HostConnected(host_id=new_id(), observed_at=bus.clock.now()))
        await bus.stop()
        url = server.url
        await server.kill()
        await server.start()
        assert server.url == url
        async with server.jetstream() as js:
            assert (await js.stream_info("EVENTS")).state.messages == 1
        folder: Path = server._folder
    assert not folder.exists()  # noqa: ASYNC240 - one look in a test


async def test_two_servers_do_not_meet() -> None:
    async with nats_server() as one, nats_server() as other:
        assert one.url != other.url
