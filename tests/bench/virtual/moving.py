"""Live migration of real guests on shared storage, through the API and by bare libvirt in turns."""

import statistics
from collections.abc import Iterator

from harness.row import Goal, Row
from harness.spans import waterfall

from virtual.bare import Twin, pause
from virtual.life import SPANS_SECONDS, seconds_of
from virtual.site import Laboratory, OperationView

HOSTS = ("kvm2", "kvm3")
MEMORY_MIB = (128, 256, 512)
ROUNDS = 4


def moving_rows(laboratory: Laboratory) -> Iterator[Row]:
    """A row for each size of a guest; the goal is for the smallest, where openQRM's own share is the largest."""
    for memory in MEMORY_MIB:
        yield _move(laboratory, memory)


def _move(laboratory: Laboratory, memory: int) -> Row:
    guest = laboratory.site.guest(f"moving {memory}", HOSTS[0], memory_mib=memory, start=False)
    twin = Twin(laboratory, guest, HOSTS[0])
    by_api, bare, operations = [], [], list[OperationView]()
    try:
        laboratory.do(guest, "start")
        twin.start()
        guest.shell()
        guest.leave()
        twin.resize(memory - 8)  # returns once the guest has booted
        for number in range(ROUNDS):
            target = HOSTS[(number + 1) % 2]
            by_api.append(
                seconds_of(lambda target=target: operations.append(laboratory.do(guest, "migrate", host=target)))
            )
            bare.append(seconds_of(lambda target=target: twin.migrate(target)))
        laboratory.do(guest, "stop")
    finally:
        twin.close()

    async def explain() -> str:
        pause(SPANS_SECONDS)
        return waterfall(laboratory.spans(operations[-3:]))

    return Row(
        f"live migration through the API, {memory} MiB",
        statistics.median(by_api) * 1e3,
        "ms",
        "bare libvirt, in turns",
        statistics.median(bare) * 1e3,
        Goal(1.1, "<=", "ratio") if memory == MEMORY_MIB[0] else None,
        explain=explain,
    )
