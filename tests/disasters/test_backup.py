"""The state folder is put back from an old copy, without NATS's store: hosts are right, nothing runs twice."""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from installation import Installation, Json, new_folder

from openqrm.testkit.waiting import eventually_async

pytestmark = pytest.mark.usefixtures("site")


@pytest.fixture
async def site() -> AsyncIterator[Installation]:
    """It runs, with two hosts, which outlive it."""
    site = Installation(new_folder())
    await site.start()
    for name in ("h1", "h2"):
        host = {"name": name, "technology": "fake", "connection": {"uri": f"fake://{name}"}}
        await site.client().run("POST", "/hosts", host)
    yield site
    await site.close()


def _on_host(site: Installation, name: str) -> dict[str, Json]:
    """Partitions by name, as the host has them."""
    content = json.loads((site.fake_hosts / f"{name}.json").read_text())
    return {partition["name"]: partition for partition in content["partitions"].values()}


async def test_restored_from_a_copy(site: Installation) -> None:
    client = site.client()
    for name in ("stays", "moves"):
        await client.partition(name, host="h1", start=True)
    await site.interrupt()
    copy = site.folder / "copy"
    subprocess.run(["cp", "-a", str(site.state), str(copy)], check=True)  # noqa: ASYNC221 - nothing else runs
    await site.start()
    client = site.client()
    await client.run("POST", "/partitions/moves/migrate", {"host": "h2"})
    await client.partition("made since", host="h1", start=True)
    await site.interrupt()
    shutil.rmtree(site.state)
    copy.rename(site.state)
    shutil.rmtree(site.state / "nats" / "jetstream")
    await site.start()
    client = site.client()
    await client.becomes("/partitions/stays", state="running")
    await client.becomes("/partitions/moves", state="missing")

    async def strangers() -> set[str]:
        return {item["observed"]["name"] for item in (await client.get("/strangers"))["items"]}

    async def both_are_strangers() -> bool:
        return await strangers() == {"moves", "made since"}

    await eventually_async(both_are_strangers, 30, "what came since is shown")
    assert (await client.get("/events", subject="bus.lost"))["items"], "it is told that NATS is another one"
    assert _on_host(site, "h2")["moves"]["state"] == "running"
    assert "moves" not in _on_host(site, "h1"), "nobody started it where it was"
    # To start it where the copy has it would make two of it. It is forgotten there and taken over here.
    problem = await client.refused("POST", "/partitions/moves/start")
    assert "h2" in problem["detail"], problem
    lost = await client.get("/partitions/moves")
    await client.run("DELETE", "/partitions/moves", params={"force": "true"})
    await client.run("POST", f"/hosts/h2/strangers/{lost['id']}/adopt")
    await client.becomes(f"/partitions/{lost['id']}", state="running", host_name="h2")
    made = await client.partition("afterwards", start=True)
    await client.becomes(f"/partitions/{made['id']}", state="running")
