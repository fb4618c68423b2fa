"""The disk with the state folder fills up while commands come: what was accepted is kept, and goes on without a person.

The disk is a small one of its own, in a mount namespace of its own; NATS and PostgreSQL are both on it.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from installation import SERVING, Client, Installation, Json, is_root, new_folder

from openqrm.contracts.ids import new_id
from openqrm.testkit.waiting import eventually, eventually_async

DISK_MIB = 640
MIB = 1024 * 1024
SECONDS_FULL = 4.0

pytestmark = pytest.mark.skipif(not is_root(), reason="needs root: it mounts a disk")


class SmallDisk(Installation):
    """An installation whose state folder is a small disk that only it sees."""

    def __init__(self) -> None:
        super().__init__(new_folder())
        self.mount = self.folder / "disk"
        self.mount.mkdir(mode=0o711)
        self.environment["OPENQRM_STATE"] = str(self.mount)

    async def start(self, **environment: str) -> None:
        """Mount and start."""
        mount = f"mount -t tmpfs -o size={DISK_MIB}m,mode=0711 openqrm-test '{self.mount}'"
        self.launch(
            "unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mount} && exec "$@"', "sh", **environment
        )
        await eventually(lambda: SERVING in self.said or not self.runs, 90, "openQRM serves")
        assert self.process is not None
        assert self.runs, f"it ended at once: {self.said} {self.complained}"
        self.state = Path(f"/proc/{self.process.pid}/root{self.mount}")

    @property
    def token(self) -> str:
        """The first administrator's."""
        return (self.state / "admin-token").read_text().strip()

    @property
    def free(self) -> int:
        """Bytes."""
        status = os.statvfs(self.state)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Take all that is free, to the last byte."""
        with (self.state / "ballast").open("ab", buffering=0) as file:
            for size in (MIB, 4096):
                try:
                    while True:
                        file.write(b"\x00" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        """Give it back."""
        (self.state / "ballast").unlink()


@pytest.fixture
async def site() -> AsyncIterator[SmallDisk]:
    """It runs, with one large host."""
    site = SmallDisk()
    await site.start()
    host = {"name": "h1", "technology": "fake", "connection": {"uri": "fake://h1?cpus=512&memory_mib=4194304"}}
    await site.client().run("POST", "/hosts", host)
    yield site
    await site.close()


class Asked:
    """What clients asked for, and what they were told."""

    def __init__(self) -> None:
        self.bodies: dict[str, Json] = {}
        self.accepted: set[str] = set()
        self.answers: Counter[int] = Counter()

    async def ask(self, client: Client) -> None:
        """Ask for one partition more; any answer is a sentence."""
        key = str(new_id())
        self.bodies[key] = {"name": f"asked {len(self.bodies)}", "memory_mib": 16, "start": True}
        await self.send(client, key)

    async def send(self, client: Client, key: str) -> None:
        """Send, again perhaps; the operation's id is the key."""
        response = await client.request("POST", "/partitions", self.bodies[key], headers={"Idempotency-Key": key})
        self.answers[response.status_code] += 1
        if response.status_code in (200, 202):
            assert response.json()["id"] == key
            self.accepted.add(key)
        else:
            assert response.status_code in (503, 507), response.text
            assert len(response.json()["detail"]) > 20


async def _ask_until(stop: asyncio.Event, asked: Asked, client: Client) -> None:
    while not stop.is_set():
        try:
            await asked.ask(client)
        except httpx.TransportError:
            asked.answers[0] += 1


async def _works(site: SmallDisk) -> bool:
    try:
        response = await site.client().request("GET", "/health")
    except httpx.TransportError:
        return False
    return response.status_code == 200


async def test_full_while_commands_come(site: SmallDisk) -> None:
    client = site.client()
    before = await client.partition("before", start=True)
    asked, stop = Asked(), asyncio.Event()
    asking = [asyncio.create_task(_ask_until(stop, asked, site.client())) for _ in range(3)]
    await eventually(lambda: len(asked.accepted) > 10, 30, "commands come")
    await asyncio.to_thread(site.fill)
    await eventually(lambda: "is full: nothing can be changed until there is room" in site.complained, 20, "it is told")
    site.fill()  # what was freed meanwhile
    await site.clock.sleep(SECONDS_FULL)
    stop.set()
    site.make_room()
    await asyncio.gather(*asking)
    await eventually(lambda: "there is room again" in site.said, 20, "that is told, too")
    await eventually_async(lambda: _works(site), 60, "all is well, and nobody did anything")

    async def is_taken(key: str) -> bool:
        if key not in asked.accepted:
            await asked.send(client, key)
        return key in asked.accepted

    for key in asked.bodies:
        await eventually_async(lambda key=key: is_taken(key), 60, "what was refused can be asked for again")  # type: ignore[misc]

    async def has_ended(key: str) -> bool:
        response = await client.request("GET", f"/operations/{key}", params={"wait": 30})
        return response.status_code == 200 and response.json()["ended_at"] is not None

    for key in asked.bodies:
        await eventually_async(lambda key=key: has_ended(key), 90, f"{asked.bodies[key]} comes to its end")  # type: ignore[misc]
    ended = {key: await client.get(f"/operations/{key}") for key in asked.bodies}
    assert Counter(operation["state"] for operation in ended.values()) == {"succeeded": len(ended)}, [
        operation for operation in ended.values() if operation["state"] != "succeeded"
    ]
    found = (await client.get("/partitions", name="asked", limit=500))["items"]
    assert len(found) == len(asked.bodies), "each was made once"
    assert {partition["state"] for partition in found} == {"running"}
    await client.becomes(f"/partitions/{before['id']}", state="running")
    assert (await client.get("/dead-letters"))["items"] == []
