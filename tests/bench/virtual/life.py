"""Start, resize and stop of real guests, through the API and by bare libvirt in turns."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from harness.row import Goal, Row
from harness.spans import waterfall

from virtual.bare import Twin, pause
from virtual.site import Guest, Laboratory, OperationView

HOST = "kvm1"
MEMORY_MIB = 128
STEPS_MIB = (8, 16, 32)
"""How much memory a resize takes or gives back; the goal is for the middle one."""
AT_ONCE = (1, 2, 4)
CYCLES = 5
RESIZES = 6
SPANS_SECONDS = 1.5


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def life_rows(laboratory: Laboratory) -> Iterator[Row]:
    """Rows for each verb with one guest, then for several guests started and stopped at once."""
    made = laboratory.site.guests(*((f"bench {n}", HOST) for n in range(max(AT_ONCE))), start=False)
    twins = [Twin(laboratory, guest, HOST) for guest in made]
    try:
        for count in AT_ONCE:
            yield from _start_and_stop(laboratory, made[:count], twins[:count])
        yield from _resizes(laboratory, made[0], twins[0])
    finally:
        for twin in twins:
            twin.close()


def _start_and_stop(laboratory: Laboratory, guests: list[Guest], twins: list[Twin]) -> Iterator[Row]:
    took: dict[str, list[float]] = defaultdict(list)
    operations: dict[str, list[OperationView]] = defaultdict(list)
    with ThreadPoolExecutor(len(guests)) as pool:

        def by_api(verb: str) -> None:
            operations[verb] += pool.map(lambda guest: laboratory.do(guest, verb), guests)

        def bare(verb: str) -> None:
            list(pool.map(lambda twin: getattr(twin, verb)(), twins))

        for cycle in range(2 * CYCLES):  # never both at once: a guest that boots takes a core
            who, work = (("by API", by_api), ("bare", bare))[cycle % 2]
            for verb in ("start", "stop"):
                took[f"{verb} {who}"].append(seconds_of(lambda verb=verb, work=work: work(verb)))
    for verb in ("start", "stop"):
        several = f", {len(guests)} at once" if len(guests) > 1 else ""
        yield _row(
            laboratory,
            f"real QEMU {verb} through the API{several}",
            took[f"{verb} by API"],
            took[f"{verb} bare"],
            operations[verb],
            counts=not several,
        )


def _resizes(laboratory: Laboratory, guest: Guest, twin: Twin) -> Iterator[Row]:
    laboratory.do(guest, "start")
    twin.start()
    guest.shell()
    guest.leave()
    twin.resize(MEMORY_MIB - 4)  # returns once the guest has booted
    twin.resize(MEMORY_MIB)
    for step in STEPS_MIB:
        by_api, bare, operations = [], [], list[OperationView]()
        for number in range(RESIZES):
            size = MEMORY_MIB - step if number % 2 == 0 else MEMORY_MIB
            began = time.monotonic()
            operations.append(laboratory.do(guest, "resize", memory_mib=size))
            by_api.append(time.monotonic() - began)
            bare.append(seconds_of(lambda size=size: twin.resize(size)))
        what = f"real QEMU resize by {step} MiB through the API"
        yield _row(laboratory, what, by_api, bare, operations, counts=step == STEPS_MIB[1])
    laboratory.do(guest, "stop")
    twin.stop()


def _row(
    laboratory: Laboratory,
    name: str,
    by_api: list[float],
    bare: list[float],
    done: list[OperationView],
    *,
    counts: bool,
) -> Row:
    async def explain() -> str:
        pause(SPANS_SECONDS)
        return waterfall(laboratory.spans(done[-4:]))

    return Row(
        name,
        statistics.median(by_api) * 1e3,
        "ms",
        "bare libvirt, the same XML, in turns",
        statistics.median(bare) * 1e3,
        Goal(1.1, "<=", "ratio") if counts else None,
        explain=explain,
    )
