"""The scheduler's start: its projection from inventory's lists, over reading the same rows straight from PostgreSQL."""

import statistics
from time import perf_counter

from harness.profiling import profile
from harness.row import Goal, Row
from harness.stack import Stack

from large.fill import SIZES, Size
from large.stack import restart_scheduler

_ROWS = """
SELECT r.id, r.revision, r.state, p.host_id, p.target_host_id, r.memory_mib, r.cpus
FROM inventory.resources r JOIN inventory.partitions p ON p.id = r.id WHERE r.state NOT IN ('deleted', 'removed')
"""
ROUNDS = 3
SLOW_SECONDS = 10.0
"""What takes longer is measured once: a second look would tell nothing new."""
PROFILE_SECONDS = 5.0


async def rebuild_row(stack: Stack, size: Size) -> Row:
    """Build it a few times, and read the bare rows in turns with it."""
    took, bare = [], []
    database = await stack.database()
    try:
        for _ in range(ROUNDS):
            took.append(await restart_scheduler(stack))
            began = perf_counter()
            await database.fetch(_ROWS)
            bare.append(perf_counter() - began)
            if took[0] > SLOW_SECONDS:
                break
    finally:
        await database.close()

    async def explain() -> str:
        await stack.stop("scheduler")
        stack.start_service("scheduler")
        await stack.clock.sleep(2.0)  # until Python has imported what the service is made of
        return await profile({n: stack.pids[n] for n in ("scheduler", "inventory")}, PROFILE_SECONDS)

    return Row(
        f"rebuild of the scheduler's projection: {size}",
        statistics.median(took),
        "s",
        "floor: the bare rows by asyncpg",
        statistics.median(bare),
        Goal(5) if size == SIZES[-1] else None,
        explain=explain,
    )
