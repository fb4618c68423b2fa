"""The embedded shape: NATS dies and its store with it. It comes back with new streams, and every client is told."""

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import httpx
from installation import Installation, new_folder

from openqrm.testkit.waiting import eventually, eventually_async


@pytest.fixture
async def site() -> AsyncIterator[Installation]:
    """It runs, with one host."""
    site = Installation(new_folder())
    await site.start()
    await site.client().run("POST", "/hosts", {"name": "h1", "technology": "fake", "connection": {"uri": "fake://h1"}})
    yield site
    await site.close()


async def _is_healthy(site: Installation) -> bool:
    try:
        return (await site.client().request("GET", "/health")).status_code == 200
    except httpx.TransportError:
        return False


async def test_the_store_is_gone(site: Installation) -> None:
    client = site.client()
    await client.partition("before", start=True)
    since = (await client.get("/events"))["last"]
    following = await site.cli_process("--output", "json", "events", "--follow", "--since", str(since))
    assert following.stdout is not None
    assert following.stderr is not None
    try:
        await client.partition("heard of")
        assert b"sequence" in await following.stdout.readline()
        site.child("nats-server").kill()
        for folder in (site.state / "nats" / "jetstream").iterdir():
            shutil.rmtree(folder)
        await eventually(lambda: "NATS runs again" in site.said, 60, "it is started again")
        await eventually_async(lambda: _is_healthy(site), 30, "all is well again")

        async def is_told() -> bool:
            events = await client.get("/events", subject="bus.lost")
            return len(events["items"]) == 1

        await eventually_async(is_told, 30, "that something is lost is an event")
        page = await client.get("/events", since=since)
        assert "no longer kept" in page["gap"], "no number means two events"
        assert page["first_available"] > since
        while b"bus.lost" not in (line := await following.stdout.readline()):
            assert line, "it follows on"
    finally:
        following.kill()
        await following.wait()
    said = (await following.stderr.read()).decode()
    assert "has lost what it kept" in said or "no longer kept" in said, said
    status = await site.cli("status")
    assert status.status == 0, status
    await client.becomes("/partitions/before", state="running")
    made = await client.partition("afterwards", start=True)
    await client.becomes(f"/partitions/{made['id']}", state="running")
    assert "NATS LOST WHAT IT HAD KEPT" in site.log
