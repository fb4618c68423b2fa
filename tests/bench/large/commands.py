"""Commands per second beside a large inventory, in turns with the same load beside a small one."""

from harness.bench import Bench
from harness.row import Goal, Row
from harness.stack import Stack
from rows.commands import drive, flaw_of, note_of, stopped_partitions

from large.fill import SIZES, Size

IN_FLIGHT = 100
SECONDS = 6.0
ROUNDS = 3


async def commands_row(bench: Bench, stack: Stack, size: Size) -> Row:
    """Small, large, small, large …: the same partitions on the same hosts in both."""
    small = await bench.stack()
    rounds = ROUNDS if size == SIZES[-1] else 1
    rates: dict[str, list[float]] = {"small": [], "large": []}
    results = {}
    flaws: list[str] = []
    for _ in range(rounds):
        for name, one in (("small", small), ("large", stack)):
            partitions = await stopped_partitions(one, IN_FLIGHT)
            arguments = {**one.access(), "partitions": partitions, "in_flight": IN_FLIGHT, "seconds": SECONDS}
            result = results[name] = await bench.load(drive, **arguments)
            flaws += [flaw_of(result)] if result["failed"] else []
            rates[name].append(result["commands"] / result["seconds"])

    async def again() -> object:
        return await bench.load(drive, **arguments)

    return Row(
        f"commands per second, {IN_FLIGHT} in flight: {size}",
        sum(rates["large"]) / rounds,
        "/s",
        "the small case, in turns",
        sum(rates["small"]) / rounds,
        Goal(0.9, ">=", "ratio") if size == SIZES[-1] else None,
        flaw="\n".join(flaws),
        note=f"large: {note_of(results['large'])}\nsmall: {note_of(results['small'])}",
        explain=bench.profiled(stack, again),
    )
