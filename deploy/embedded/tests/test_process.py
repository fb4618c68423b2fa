"""A supervised child: ready, stopped in order, mourned when it dies by itself."""

import asyncio
import signal
from pathlib import Path

import pytest

from openqrm.contracts.clock import SystemClock
from openqrm.embedded.errors import StartError
from openqrm.embedded.process import Child, ChildSpec, telling_line


def shell(place: Path, script: str, patience: float = 0.3) -> ChildSpec:
    return ChildSpec(
        name="the child",
        argv=["/bin/sh", "-c", script],
        log=place / "child.log",
        environment={"PATH": "/usr/bin:/bin"},
        stop=((signal.SIGTERM, patience),),
    )


async def at_once() -> bool:
    return True


async def never() -> bool:
    return False


async def test_a_child_starts_and_stops(place: Path, clock: SystemClock) -> None:
    deaths: list[str] = []
    child = Child(shell(place, "exec sleep 60"), clock, deaths.append)
    await child.start(at_once, within=5)
    assert child.pid is not None
    await child.stop()
    await child.stop()
    assert child.pid is None
    assert deaths == []


async def test_readiness_is_waited_for(place: Path, clock: SystemClock) -> None:
    ready = place / "ready"

    async def exists() -> bool:
        return ready.exists()

    child = Child(shell(place, f"sleep 0.1; : > {ready}; exec sleep 60"), clock)
    await child.start(exists, within=5)
    assert ready.exists()
    await child.stop()


async def test_a_stubborn_child_is_killed(place: Path, clock: SystemClock) -> None:
    ready = place / "ready"

    async def exists() -> bool:
        return ready.exists()

    child = Child(shell(place, f"trap '' TERM; : > {ready}; while :; do sleep 0.05; done"), clock)
    await child.start(exists, within=5)
    await child.stop()
    assert child.pid is None


async def test_a_child_that_ends_at_its_start_is_quoted(place: Path, clock: SystemClock) -> None:
    (place / "child.log").write_text("FATAL: of yesterday\n")
    child = Child(shell(place, "echo FATAL: no right; echo bye; exit 3"), clock)
    with pytest.raises(StartError, match=r"the child ended at its start: FATAL: no right \(log: .*child\.log\)"):
        await child.start(never, within=5)


async def test_a_child_that_is_never_ready_is_ended(place: Path, clock: SystemClock) -> None:
    child = Child(shell(place, "exec sleep 60"), clock)
    with pytest.raises(StartError, match="was not ready after 0 s"):
        await child.start(never, within=0.1)
    assert child.pid is None


async def test_an_unexpected_death_is_told_once(place: Path, clock: SystemClock) -> None:
    deaths: list[str] = []
    told = asyncio.Event()

    def on_death(sentence: str) -> None:
        deaths.append(sentence)
        told.set()

    child = Child(shell(place, "sleep 0.1; echo PANIC: why; exit 7"), clock, on_death)
    await child.start(at_once, within=5)
    await asyncio.wait_for(told.wait(), 5)
    await child.stop()
    assert len(deaths) == 1
    assert "ended unexpectedly (exit status 7): PANIC: why" in deaths[0]


async def test_a_missing_program(place: Path, clock: SystemClock) -> None:
    spec = ChildSpec(name="X", argv=["/does/not/exist"], log=place / "log")
    with pytest.raises(StartError, match=r"X ended at its start: .*No such file"):
        await Child(spec, clock).start(never, within=5)


def test_the_telling_line() -> None:
    assert telling_line(["FATAL:  the database system is starting up", "LOG: done", ""]) == "LOG: done"
    assert telling_line(["a", "PANIC: b", "c"]) == "PANIC: b"
    assert telling_line([]) == ""
