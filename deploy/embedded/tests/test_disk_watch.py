"""The disk's room is watched, and each change of it told once."""

from pathlib import Path

from openqrm.embedded.disk_watch import FULL, MIB, NEARLY_FULL, ROOM, DiskWatch
from openqrm.testkit.clock import ManualClock


async def test_it_tells_once_how_full_it_is_and_when_there_is_room_again() -> None:
    said: list[str] = []
    warned: list[str] = []
    mended: list[bool] = []

    async def mend() -> None:
        mended.append(True)

    watch = DiskWatch(Path("/state"), ManualClock(), said.append, warned.append, mend)
    for free in (10 * NEARLY_FULL, NEARLY_FULL - MIB, NEARLY_FULL - 2 * MIB):
        await watch.look(free)
    assert warned == ["the disk of /state is nearly full: 255 MiB are free"]
    for free in (FULL - 1, 0, FULL + 1, 0):
        await watch.look(free)
    assert len(warned) == 2
    assert "is full" in warned[1]
    mended.clear()
    await watch.look(ROOM - 1)
    assert mended == []
    await watch.look(ROOM)
    assert mended == [True]
    assert said == ["there is room again on the disk of /state: 64 MiB"]
    await watch.look(10 * NEARLY_FULL)
    await watch.look(0)
    assert len(warned) == 3, "and when it gets full again, that is told again"


async def test_it_looks_at_the_real_disk(place: Path) -> None:
    clock = ManualClock()
    looked: list[bool] = []

    async def note() -> None:
        looked.append(True)

    watch = DiskWatch(place, clock, print, print, note)
    watch.begin()
    await clock.advance(5)
    await watch.end()
    assert looked
