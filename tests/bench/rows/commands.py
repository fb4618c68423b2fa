"""Commands per second through HTTP with many in flight, the whole stack and the load on this machine."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from functools import partial
from time import perf_counter
from typing import Any

from harness.bench import Bench
from harness.floor import FLOOR, floor_of
from harness.http import HttpConnection
from harness.processes import cpu_of, usage_text
from harness.row import Attempt, Goal, Row
from harness.stack import Stack

ORDER = 2
HOSTS = 50
IN_FLIGHT = (1, 10, 100)
SECONDS = 8.0
FLOOR_SECONDS = 3.0
WARM_UP_SECONDS = 2.0
CYCLE = ("start", "pause", "unpause", "stop")


async def drive(
    port: int, token: str, pids: dict[str, int], partitions: list[str], in_flight: int, seconds: float,
    warm_up: float = WARM_UP_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """Keep so many commands in flight, each on a partition of its own; count those that succeeded in the window.

    Every partition is stopped before and after. Returns the count, the seconds, latencies, failures and CPU seconds.
    """
    ends: list[tuple[float, float]] = []
    failures: list[str] = []
    over = asyncio.Event()

    async def work(partition: str) -> None:
        async with HttpConnection(port, token) as http:
            while not over.is_set():
                for verb in CYCLE:
                    began = perf_counter()
                    try:
                        await http.command("POST", f"/partitions/{partition}/{verb}")
                    except RuntimeError as error:
                        failures.append(f"{error}\n{await story(http, partition)}")
                        await http.send("POST", f"/api/v1/partitions/{partition}/stop?wait=60")
                        break
                    now = perf_counter()
                    ends.append((now, now - began))

    async with asyncio.TaskGroup() as group:
        for partition in partitions[:in_flight]:
            group.create_task(work(partition))
        with_timeout = asyncio.create_task(over.wait())
        await asyncio.wait((with_timeout,), timeout=warm_up)
        began, cpu_before = perf_counter(), cpu_of(pids)
        await asyncio.wait((with_timeout,), timeout=seconds)
        ended, cpu_after = perf_counter(), cpu_of(pids)
        over.set()
    took = [latency for at, latency in ends if began <= at <= ended]
    return {
        "commands": len(took),
        "seconds": ended - began,
        "median": statistics.median(took) if took else 0.0,
        "p95": statistics.quantiles(took, n=20)[18] if len(took) > 1 else 0.0,
        "failed": len(failures),
        "failures": failures[:2],
        "cpu_before": cpu_before,
        "cpu_after": cpu_after,
    }


async def story(http: HttpConnection, partition: str) -> str:
    """What was told of a partition last, for whoever wonders why a command failed."""
    page = await http.get(f"/events?resource={partition}&last=1000&limit=1000")
    lines = [
        f"{event['time']} {event['subject']} {event['data'].get('reason') or ''} "
        f"{(event['data'].get('partition') or event['data'].get('operation') or {}).get('state', '')}"
        for event in page["items"][-14:]
    ]
    return "\n".join(lines)


def flaw_of(result: dict[str, Any]) -> str:
    """What went wrong with commands of a run, if anything did."""
    if not result["failed"]:
        return ""
    return f"{result['failed']} commands did not succeed, such as: {result['failures'][0]}"


async def drive_floor(port: int, in_flight: int, seconds: float) -> float:
    """Requests per second of the floor with so many in flight."""
    ends: list[float] = []
    end = perf_counter() + seconds

    async def work() -> None:
        async with HttpConnection(port) as http:
            while perf_counter() < end:
                status, _ = await http.send("POST", "/", b"x" * 1000)
                assert status == 200
                ends.append(perf_counter())

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return sum(at <= end for at in ends) / seconds


def note_of(result: dict[str, Any]) -> str:
    """Latencies and CPU of one run."""
    usage = usage_text(result["cpu_before"], result["cpu_after"], result["commands"], result["seconds"])
    return f"median {result['median'] * 1e3:.0f} ms, p95 {result['p95'] * 1e3:.0f} ms\n{usage}"


async def stopped_partitions(stack: Stack, count: int) -> list[str]:
    """Stopped partitions on HOSTS hosts, made once for each stack."""
    known: list[str] | None = stack.kept.get("commands")
    if known is None or len(known) < count:
        known = stack.kept["commands"] = await stack.partitions(await stack.hosts(HOSTS), count, start=False)
    return known


async def measured(
    bench: Bench, stack: Stack, floor_port: int, partitions: list[str], name: str, in_flight: int
) -> Row:
    """The load, and the floor with as much in flight."""
    arguments = {**stack.access(), "partitions": partitions, "in_flight": in_flight}
    result = await bench.load(drive, **arguments, seconds=SECONDS)
    floor = await bench.load(drive_floor, port=floor_port, in_flight=in_flight, seconds=FLOOR_SECONDS)

    async def again() -> dict[str, Any]:
        return await bench.load(drive, **arguments, seconds=SECONDS)

    return Row(
        name,
        result["commands"] / result["seconds"],
        "/s",
        FLOOR,
        floor,
        Goal(150, ">=") if in_flight == max(IN_FLIGHT) else None,
        note=note_of(result),
        flaw=flaw_of(result),
        explain=bench.profiled(stack, again),
    )


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """A row for each number in flight; the goal is for the most."""
    stack = await bench.stack()
    partitions = await stopped_partitions(stack, max(IN_FLIGHT))
    async with floor_of(stack) as floor_port:
        for in_flight in IN_FLIGHT:
            name = f"commands per second, {in_flight} in flight"
            yield Attempt(name, partial(measured, bench, stack, floor_port, partitions, name, in_flight))
