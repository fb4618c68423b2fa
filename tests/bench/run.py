"""`make bench`: measures the rows, prints the table, writes build/bench.json; see README.md.

Exit status: 0 when every row was measured, whether or not it keeps its goal.
"""

import argparse
import asyncio
import importlib
import json
import os
import resource
import sys
import time
from contextlib import aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.bench import Bench, say
from harness.row import Attempt, Explain, Row, failure
from harness.table import figure, render, verdict

FOLDER = Path(__file__).resolve().parent
RESULT = FOLDER.parents[1] / "build/bench.json"
LIMIT_SECONDS = 600.0
"""For one group; the ones that take longer on purpose say so by a LIMIT_SECONDS of their own."""


def groups() -> list[str]:
    """The names of all groups, in the order in which they are measured: that of their ORDER."""
    names = [path.stem for path in (FOLDER / "rows").glob("*.py") if path.stem != "__init__"]
    found = {name: importlib.import_module(f"rows.{name}") for name in names}
    return sorted((name for name in names if hasattr(found[name], "measure")), key=lambda n: (found[n].ORDER, n))


async def measure_group(name: str, bench: Bench) -> list[Row]:
    """All rows of one group; what keeps it from being measured becomes a failed row."""
    module = importlib.import_module(f"rows.{name}")
    rows: list[Row] = []
    limit = getattr(module, "LIMIT_SECONDS", LIMIT_SECONDS) + bench.flat_seconds
    try:
        async with asyncio.timeout(limit), aclosing(module.measure(bench)) as items:
            async for item in items:
                for row in await item.rows() if isinstance(item, Attempt) else [item]:
                    rows.append(row)
                    await tell(row)
    except Exception as error:  # noqa: BLE001 - a group that cannot be measured must not keep the others from it
        late = TimeoutError(f"the group was not measured within {limit:g} s")
        rows.append(failure(name, late if isinstance(error, TimeoutError) else error))
        await tell(rows[-1])
    for row in rows:
        row.group = name
    if any(row.failed for row in rows):
        await bench.close()  # what is left behind may be broken
    return rows


async def tell(row: Row) -> None:
    """Say what was measured, and look where the time goes if that misses its goal."""
    said = f"FAILED: {row.failed[:300]}" if row.failed else f"{figure(row.value)} {row.unit} {verdict(row)}"
    say(f"{row.name}: {said}")
    if row.met is False and row.explain is not None:
        row.explanation = await explained(row.explain)


async def explained(explain: Explain) -> str:
    """Where the time goes, or why that cannot be told: the figure counts all the same."""
    try:
        return await explain()
    except Exception as error:  # noqa: BLE001 - as it says
        return f"cannot be told: {type(error).__name__}: {error}"[:600]


async def measure(names: list[str], flat_seconds: float) -> list[Row]:
    """All rows of these groups."""
    bench = Bench(flat_seconds)
    rows: list[Row] = []
    try:
        for name in names:
            began = time.monotonic()
            say(f"[{name}]")
            rows += await measure_group(name, bench)
            say(f"[{name}] took {time.monotonic() - began:.0f} s")
            write(rows)
    finally:
        await bench.close()
    return rows


def write(rows: list[Row]) -> None:
    """Keep the result so far."""
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")


def main() -> int:
    """The command line."""
    known = groups()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"which rows: {' '.join(known)} (all)")
    parser.add_argument(
        "--flat-seconds", type=float, default=float(os.environ.get("FLAT_SECONDS") or 120),
        help="how long to look for leaks (%(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    wanted = [word for given in options.groups for word in given.replace(",", " ").split()]
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"there is no {', '.join(unknown)}; there are {' '.join(known)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows = asyncio.run(measure(wanted or known, options.flat_seconds))
    print(render(rows))
    missed = sum(row.met is False and not row.failed for row in rows)
    failed = sum(bool(row.failed) for row in rows)
    print(f"\n{len(rows)} rows, {missed} missed their goal, {failed} failed; {RESULT.relative_to(FOLDER.parents[1])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
