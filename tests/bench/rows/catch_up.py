"""After an hour without the bus at 100 events a second: how soon inventory has caught up, both ways.

What inventory had to tell waits in its outbox; what executors had to tell waits in the stream. A part of the hour is
put there, and the time for all of it follows from the rate of the two largest parts. Beside it stands the least that
it can cost (`outage/floors.py`), measured over as many right afterwards.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import nats
from harness.bench import Bench
from harness.processes import cpu_of, usage_text
from harness.profiling import profile
from harness.row import Goal, Row
from harness.stack import Stack
from outage.floors import hear, tell
from outage.reports import publish_changes

from openqrm.bus.streams import EVENTS, service_durable
from openqrm.contracts.message import INVENTORY, Kind
from openqrm.contracts.partition import PartitionObserved
from openqrm.embedded.postgres import SUPERUSER

ORDER = 6
HOUR_OF_EVENTS = 360_000
WHOLE = bool(os.environ.get("WHOLE_OUTAGE"))
"""Whether to put all of the hour there."""
TOLD = (1_000, 20_000, HOUR_OF_EVENTS if WHOLE else 100_000)
HEARD = (1_000, 20_000, HOUR_OF_EVENTS if WHOLE else 100_000)
PARTITIONS = 500
BEFORE = "the last sequence before the reports"
PATIENCE_SECONDS = 300.0
_COPY = """
INSERT INTO inventory.outbox (key, subject, headers, body, history)
SELECT 'bench ' || i % 1000, e.subject, e.headers || jsonb_build_object('Nats-Msg-Id', m.id, 'ce-id', m.id), e.body,
    true
FROM (SELECT i, gen_random_uuid()::text AS id FROM generate_series(1, $1::int) AS i) AS m
CROSS JOIN (SELECT subject, headers, body FROM inventory.events WHERE subject = 'partition.started'
    ORDER BY sequence DESC LIMIT 1) AS e
"""


async def told(stack: Stack, count: int) -> tuple[float, str]:
    """NATS is away, so many facts wait in the outbox, NATS comes back: seconds until all are published."""
    database = await stack.database()
    try:
        await stack.stop("nats")
        await database.execute(_COPY, count)
        before, began = cpu_of(stack.pids), perf_counter()
        stack.start_nats()

        async def is_empty() -> bool:
            return not await database.fetchval("SELECT EXISTS (SELECT FROM inventory.outbox)")

        await stack.until(is_empty, PATIENCE_SECONDS, "the outbox is empty")
        seconds = perf_counter() - began
        return seconds, usage(before, stack, count, seconds)
    finally:
        await database.close()


def usage(before: dict[str, float], stack: Stack, count: int, seconds: float) -> str:
    """CPU of processes that were there all the time."""
    after = cpu_of(stack.pids)
    return usage_text(
        {n: before.get(n, 0.0) for n in after}, after, count, seconds
    ).replace("per command", "per event")  # fmt: skip


async def what_is_seen(stack: Stack, partitions: list[str]) -> list[dict[str, Any]]:
    """What the executor sees of running partitions, made from what inventory knows of them."""
    found = []
    async with stack.http() as http:
        for partition in partitions:
            view = await http.get(f"/partitions/{partition}")
            observed = {word: view[word] for word in ("id", "name", "epoch", "memory_mib", "memory_max_mib")}
            observed |= {word: view[word] for word in ("vcpus", "vcpus_max")} | {"state": "running"}
            observed["nics"] = [{"mac": n["mac"], "bridge": "br0", "model": n["model"]} for n in view["nics"]]
            observed["disks"] = [{"target": d["target"], "source": "", "bus": d["bus"]} for d in view["disks"]]
            found.append({"host_id": view["host_id"], "observed": observed})
    return found


async def pending(js: nats.js.JetStreamContext) -> int:
    """Events that inventory has not settled yet."""
    info = await js.consumer_info(EVENTS, service_durable(INVENTORY, Kind.EVENT).name)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def heard(bench: Bench, stack: Stack, seen: list[dict[str, Any]], count: int, number: int) -> tuple[float, str]:
    """Inventory is cut off, executors tell so many facts, inventory comes back: seconds until all are settled."""
    bus = await nats.connect(**login(stack, "provisioner"))
    try:
        js = bus.jetstream()
        await stack.stop("inventory")
        stack.kept[BEFORE] = (await js.stream_info(EVENTS)).state.last_seq
        user = stack.environment("executor-fake")
        settings = {word: user[f"OPENQRM_NATS_{word.upper()}"] for word in ("url", "user", "password")}
        await bench.load(publish_changes, login=settings, seen=seen, count=count, number=number)
        stack.start_service("inventory")

        async def has_begun() -> bool:
            return await pending(js) < count

        await stack.until(has_begun, 60, "inventory reads events again")
        before, left, began = cpu_of(stack.pids), await pending(js), perf_counter()

        async def has_ended() -> bool:
            return await pending(js) == 0

        await stack.until(has_ended, PATIENCE_SECONDS, f"inventory has caught up with {left} events")
        seconds = perf_counter() - began
        return seconds * count / max(left, 1), usage(before, stack, left, seconds)
    finally:
        await bus.close()


def login(stack: Stack, user: str) -> dict[str, str]:
    """What nats-py needs to be a user of the stack's NATS."""
    environment = stack.environment(user)
    return {
        "servers": environment["OPENQRM_NATS_URL"],
        "user": environment["OPENQRM_NATS_USER"],
        "password": environment["OPENQRM_NATS_PASSWORD"],
        "inbox_prefix": f"_INBOX_{environment['OPENQRM_NATS_USER']}",
    }


def database(stack: Stack) -> dict[str, str]:
    """What asyncpg needs to be the administrator of inventory's database."""
    return {
        "host": str(stack.postgres.socket_folder),
        "user": SUPERUSER,
        "password": stack.administrator,
        "database": "openqrm_inventory",
    }


async def floor_of_hearing(bench: Bench, stack: Stack, seen: list[dict[str, Any]], count: int) -> float:
    """Seconds for the same messages once more, which are still in the stream, with nothing done about them."""
    found = await bench.load(
        hear, nats_login=login(stack, "provisioner"), database=database(stack), stream=EVENTS,
        subject=PartitionObserved.subject, after=stack.kept[BEFORE], count=count,
        partitions=[fields["observed"]["id"] for fields in seen],
    )  # fmt: skip
    return float(found["seconds"])


def whole_hour(measured: list[tuple[int, float]]) -> float:
    """Seconds for all events of the hour, from the last two of the sizes and their seconds."""
    (fewer, less), (most, longest) = measured[-2:]
    return longest + (HOUR_OF_EVENTS - most) * (longest - less) / (most - fewer)


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Three sizes of each; the goals are for the most, which stands for the hour."""
    stack = await bench.stack("outage")
    partitions = await stack.partitions(await stack.hosts(20), PARTITIONS, start=True)
    seen = await what_is_seen(stack, partitions)
    await stack.stop("executor-fake")  # it must not say meanwhile that things are otherwise

    async def look(work: Any, begin: float) -> str:
        task = asyncio.ensure_future(work)
        await bench.clock.sleep(begin)
        text = await profile(stack.python_pids, 5.0)
        await task
        return text

    measured: list[tuple[int, float]] = []
    for count in TOLD:
        seconds, note = await told(stack, count)
        measured.append((count, seconds))
        yield Row(f"outage over, inventory's outbox is told: {count:,} events", seconds, "s", note=note)
    floor = await bench.load(tell, nats_login=login(stack, INVENTORY), database=database(stack), count=TOLD[-1])
    yield Row(
        f"catch-up after an hour's outage, telling (by the rate over {TOLD[-1]:,})",
        whole_hour(measured),
        "s",
        "bare batches and DELETEs",
        floor["seconds"] * HOUR_OF_EVENTS / TOLD[-1],
        Goal(60),
        explain=lambda: look(told(stack, TOLD[-1]), 2.5),
    )
    measured.clear()
    for number, count in enumerate(HEARD):
        seconds, note = await heard(bench, stack, seen, count, number)
        measured.append((count, seconds))
        note = f"{PARTITIONS} partitions; each is a change that inventory did not know of\n{note}"
        yield Row(f"outage over, executors' reports are heard: {count:,} events", seconds, "s", note=note)
    yield Row(
        f"catch-up after an hour's outage, hearing (by the rate over {HEARD[-1]:,})",
        whole_hour(measured),
        "s",
        "bare pulls, acks and UPDATEs",
        await floor_of_hearing(bench, stack, seen, HEARD[-1]) * HOUR_OF_EVENTS / HEARD[-1],
        Goal(60),
        explain=lambda: look(heard(bench, stack, seen, HEARD[-1], 1), 6.0 + HEARD[-1] / 10_000),
    )
