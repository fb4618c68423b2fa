"""After an hour without the bus at 100 events a second: how soon inventory has caught up, both ways.

What inventory had to tell waits in its outbox; what executors had to tell waits in the stream. A part of the hour is
put there, and the time for all of it follows from the rate, since both are taken one after the other.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any
from uuid import UUID

import nats
from harness.bench import Bench
from harness.processes import cpu_of, usage_text
from harness.profiling import profile
from harness.row import Goal, Row
from harness.stack import Stack

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import EVENTS, service_durable
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.message import INVENTORY, Kind
from openqrm.contracts.partition import ObservedPartition, PartitionObserved
from openqrm.contracts.states import ObservedState
from openqrm.telemetry.tracing import Tracing

ORDER = 6
HOUR_OF_EVENTS = 360_000
WHOLE = bool(os.environ.get("WHOLE_OUTAGE"))
"""Whether to put all of the hour there; takes long."""
TOLD = (1_000, 5_000, HOUR_OF_EVENTS if WHOLE else 25_000)
HEARD = (100, 500, HOUR_OF_EVENTS if WHOLE else 2_000)
PARTITIONS = 500
PATIENCE_SECONDS = 120.0 if not WHOLE else 6000.0
LIMIT_SECONDS = 900.0 if not WHOLE else 15_000.0
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


async def publish_changes(login: dict[str, str], seen: list[dict[str, Any]], count: int, number: int) -> dict[str, Any]:
    """Publish, as the executor does, that partitions were paused and resumed by somebody on their hosts."""
    clock = SystemClock()
    bus = Bus(BusSettings(**login), "executor-fake", clock, Tracing("executor-fake"))
    await bus.connect()
    limit = asyncio.Semaphore(64)

    async def publish(index: int) -> None:
        fields = seen[index % len(seen)]
        paused = (number + index // len(seen)) % 2 == 0
        observed = ObservedPartition.model_validate(
            fields["observed"] | {"state": ObservedState.PAUSED if paused else ObservedState.RUNNING}
        )
        async with limit:
            await bus.publish(
                PartitionObserved(
                    host_id=UUID(fields["host_id"]), partition_id=observed.id, observed=observed, reason="by hand",
                    observed_at=clock.now(),
                )
            )  # fmt: skip

    for start in range(0, count, len(seen)):
        await asyncio.gather(*(publish(index) for index in range(start, min(start + len(seen), count))))
    await bus.stop()
    return {}


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
    user = stack.environment("executor-fake")
    login = {word: user[f"OPENQRM_NATS_{word.upper()}"] for word in ("url", "user", "password")}
    admin = stack.environment("provisioner")
    bus = await nats.connect(
        admin["OPENQRM_NATS_URL"], user=admin["OPENQRM_NATS_USER"], password=admin["OPENQRM_NATS_PASSWORD"]
    )
    try:
        js = bus.jetstream()
        await stack.stop("inventory")
        await bench.load(publish_changes, login=login, seen=seen, count=count, number=number)
        stack.start_service("inventory")

        async def has_begun() -> bool:
            return await pending(js) < count

        await stack.until(has_begun, 60, "inventory reads events again")
        before, left, began = cpu_of(stack.pids), await pending(js), perf_counter()

        async def has_ended() -> bool:
            return await pending(js) == 0

        await stack.until(has_ended, PATIENCE_SECONDS, f"inventory has caught up with {left} events")
        seconds = perf_counter() - began
        return seconds * count / left, usage(before, stack, left, seconds)
    finally:
        await bus.close()


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
        text = await profile({"inventory": stack.pids["inventory"]}, 5.0)
        await task
        return text

    measured: list[tuple[int, float]] = []
    for count in TOLD:
        seconds, note = await told(stack, count)
        measured.append((count, seconds))
        yield Row(f"outage over, inventory's outbox is told: {count:,} events", seconds, "s", note=note)
    yield Row(
        f"catch-up after an hour's outage, telling (by the rate over {TOLD[-1]:,})",
        whole_hour(measured),
        "s",
        goal=Goal(60),
        explain=lambda: look(told(stack, TOLD[-1]), 2.5),
    )
    measured.clear()
    for number, count in enumerate(HEARD):
        seconds, note = await heard(bench, stack, seen, count, number)
        measured.append((count, seconds))
        note = f"each is a change that inventory did not know of\n{note}"
        yield Row(f"outage over, executors' reports are heard: {count:,} events", seconds, "s", note=note)
    yield Row(
        f"catch-up after an hour's outage, hearing (by the rate over {HEARD[-1]:,})",
        whole_hour(measured),
        "s",
        goal=Goal(60),
        explain=lambda: look(heard(bench, stack, seen, HEARD[-1], 1), 6.0),
    )
