"""One page of every documented list, by each filter and each sort, through HTTP."""

import statistics
from collections.abc import Iterator
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

import asyncpg
from harness.bench import Bench
from harness.http import HttpConnection
from harness.row import Goal, Row
from harness.stack import Stack

from large.bare import bare_page
from large.fill import SIZES, Size
from openqrm.contracts.host import HostSort
from openqrm.contracts.partition import PartitionSort

ROUNDS, FEWER_ROUNDS = 5, 2
_TARGET = "a0000000-0000-0000-0000-000000000007"


def wishes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and query of every page."""
    for sort in PartitionSort:
        for more in (
            {}, {"descending": "true"}, {"state": "running"}, {"state": "crashed"}, {"state": "deleted"},
            {"tag": "all"}, {"tag": "customer 7"}, {"tag": "none"}, {"technology": "xen"}, {"technology": "vmware"},
            {"host": "host 000077"}, {"name": "PARTITION"}, {"name": "zzz"},
        ):  # fmt: skip
            yield "/partitions", {"sort": sort.value, **more}
    yield "/partitions", {"name": "00001", "state": "running", "technology": "xen", "tag": "all"}
    for host_sort in HostSort:
        for more in ({}, {"state": "unreachable"}, {"tag": "rack 7"}):
            yield "/hosts", {"sort": host_sort.value, **more}
    for more in ({"name": "000077"}, {"technology": "xen"}):
        yield "/hosts", more
    for more in ({}, {"kind": "partition"}, {"kind": "physical"}, {"tag": "customer 7"}):
        yield "/resources", more
    for more in (
        {}, {"state": "failed"}, {"state": "succeeded"}, {"verb": "host.prepare"},
        {"verb": "partition.start", "state": "failed"}, {"target_id": _TARGET},
        {"target_id": _TARGET, "state": "succeeded"},
    ):  # fmt: skip
        yield "/operations", more


async def later_page(http: HttpConnection, sort: str) -> str:
    """The address of a page after the first 1,500 partitions, or the last of a small inventory."""
    first = address = f"/partitions?sort={sort}&descending=true"
    for _ in range(3):
        page = await http.get(f"{address}&limit=500")
        if page["next_cursor"] is None:
            break
        address = f"{first}&cursor={page['next_cursor']}"
    return address


async def read_pages(
    port: int, token: str, pids: dict[str, int], database: dict[str, Any], rounds: int
) -> dict[str, Any]:
    """Read every page so many times, and its rows by SQL after each; seconds of each by its address."""
    found: dict[str, list[float]] = {}
    bare: list[float] = []
    pages = [(f"{path}?{urlencode(query)}", bare_page(path, query)) for path, query in wishes()]
    connection = await asyncpg.connect(**database)
    await connection.execute("SET search_path TO inventory")
    async with HttpConnection(port, token) as http:
        for sort in PartitionSort:
            rows = bare_page("/partitions", {"sort": sort.value, "descending": "true"})
            pages.append((await later_page(http, sort.value), rows))
        for _ in range(rounds):
            for address, (statement, arguments) in pages:
                began = perf_counter()
                await http.get(address)
                found.setdefault(address, []).append(perf_counter() - began)
                began = perf_counter()
                await connection.fetch(statement, *arguments)
                bare.append(perf_counter() - began)
    await connection.close()
    return {"pages": found, "bare": bare}


async def pages_row(bench: Bench, stack: Stack, size: Size) -> Row:
    """The 95th percentile over all pages."""
    arguments = {**stack.access(), "database": stack.database_access()}
    result = await bench.load(read_pages, **arguments, rounds=ROUNDS if size == SIZES[-1] else FEWER_ROUNDS)
    pages: dict[str, list[float]] = result["pages"]
    every = [seconds for each in pages.values() for seconds in each]
    slowest = sorted(((statistics.median(each), address) for address, each in pages.items()), reverse=True)
    worst = "\n".join(f"{seconds * 1e3:6.1f} ms  GET {address}" for seconds, address in slowest[:4])

    async def again() -> dict[str, Any]:
        return await bench.load(read_pages, **arguments, rounds=1)

    return Row(
        f"one page (100 items), any filter and sort, p95: {size.partitions:,} partitions",
        statistics.quantiles(every, n=20)[18] * 1e3,
        "ms",
        "floor: the page's rows by bare SQL, p95",
        statistics.quantiles(result["bare"], n=20)[18] * 1e3,
        Goal(50) if size == SIZES[-1] else None,
        note=f"{len(pages)} different pages, {len(every)} reads; median {statistics.median(every) * 1e3:.1f} ms; "
        f"the slowest, by their medians:\n{worst}",
        explain=bench.profiled(stack, again),
    )
