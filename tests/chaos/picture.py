"""Everything that the oracle looks at, taken once all is quiet."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from chaos.looking import Seen, look_at_fakes, look_at_qemus
from chaos.plan import QEMU_HOSTS
from chaos.site import Site
from chaos.stream import Happening, read_events

QUIET_STATES = frozenset({"running", "stopped", "paused", "crashed", "missing"})
"""Whether one may be missing is another question."""
HOST_QUIET_STATES = frozenset({"ready", "maintenance"})


@dataclass
class Picture:
    """What is."""

    partitions: list[dict[str, Any]] = field(default_factory=list)
    hosts: list[dict[str, Any]] = field(default_factory=list)
    macs: list[dict[str, Any]] = field(default_factory=list)
    networks: list[dict[str, Any]] = field(default_factory=list)
    strangers: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    volumes: dict[str, int] = field(default_factory=dict)
    events: list[Happening] = field(default_factory=list)
    outbox: int = 0
    unrest: list[str] = field(default_factory=list)
    """What did not come to rest."""


async def outbox_rows(site: Site) -> int:
    """Messages that were committed and not published yet; -1 while the database does not answer."""
    with suppress(OSError, asyncpg.PostgresError, TimeoutError):
        connection = await asyncpg.connect(site.stack.postgres.dsn("openqrm_inventory"), timeout=5)
        try:
            return int(await connection.fetchval("select count(*) from inventory.outbox"))
        finally:
            await connection.close()
    return -1


async def _unrest(site: Site) -> list[str]:
    client = site.client
    found = [f"the operation {promise} has not ended" for promise in site.ledger.open()]
    found += [
        f"the operation {o['verb']} of {o['target_name']} ({o['id']}) is {state}: {o['step']}"
        for state in ("running", "queued", "waiting")
        for o in await client.all("/operations", state=state)
    ]
    found += [
        f"the partition {p['name']} is {p['state']} (operation {p['operation_id']})"
        for p in await client.all("/partitions")
        if p["state"] not in QUIET_STATES or p["operation_id"] or p["target_host_id"]
    ]
    found += [
        f"the host {h['name']} is {h['state']}: {h['state_reason']} (operation {h['operation_id']})"
        for h in await client.all("/hosts")
        if (h["state"] not in HOST_QUIET_STATES and not h["name"].startswith("spare-")) or h["operation_id"]
    ]
    if rows := await outbox_rows(site):
        found.append(f"{rows} messages wait in the outbox")
    return found


async def come_to_rest(site: Site, seconds: float) -> list[str]:
    """Wait until nothing is being done any more; what still is when the time is over."""
    limit = site.client.now + seconds
    quiet_before = False
    while True:
        for promise in site.ledger.open():
            answer = await site.client.get(f"/operations/{promise.operation_id}")
            if answer is not None:
                promise.told = type(promise.told).model_validate(answer) if promise.told else None
        unrest = await _unrest(site)
        if not unrest and quiet_before:
            return []
        if site.client.now > limit:
            return unrest
        quiet_before = not unrest
        await site.clock.sleep(0.5 if unrest else 3.5)  # by then every host was read once more


async def take_picture(site: Site, seconds: float) -> Picture:
    """Wait for rest, so many seconds at the most, then look at everything."""
    unrest = await come_to_rest(site, seconds)
    client = site.client
    seen, volumes = look_at_fakes(site.stack.fake_hosts, site.fake_hosts, site.clock)
    if site.lab:
        there, silent = await look_at_qemus(site.lab, QEMU_HOSTS)
        seen += there
        unrest += silent
    async with asyncio.timeout(60):
        return Picture(
            partitions=await client.all("/partitions"),
            hosts=await client.all("/hosts"),
            macs=await client.all("/macs"),
            networks=await client.all("/networks"),
            strangers=await client.all("/strangers"),
            dead_letters=await client.all("/dead-letters"),
            seen=seen,
            volumes=volumes,
            events=await read_events(site.stack),
            outbox=await outbox_rows(site),
            unrest=unrest,
        )
