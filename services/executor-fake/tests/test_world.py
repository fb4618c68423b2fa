"""The simulated hosts themselves, on virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from openqrm.contracts.errors import HostUnreachableError, InvalidError
from openqrm.contracts.host import HostConnection
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Host, Work
from openqrm.executor_fake.driver import FakeDriver
from openqrm.executor_fake.world import FakeWorld
from openqrm.testkit.clock import ManualClock
from openqrm.testkit.definitions import partition_definition

WORK = Work(new_id())


def fake(name: str, words: str = "", **more: Any) -> Host:
    return Host(new_id(), name, HostConnection(uri=f"fake://{name}{words}", **more))


async def run(driver: FakeDriver, host: Host, **changes: Any) -> PartitionDefinition:
    partition = partition_definition("fake", **changes)
    await driver.create(host, partition, WORK)
    await driver.start(host, partition, WORK)
    return partition


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def driver(clock: ManualClock) -> FakeDriver:
    return FakeDriver(FakeWorld(clock), clock)


def state(driver: FakeDriver, host: Host, partition: PartitionDefinition) -> ObservedState:
    found = driver.world.host(host.connection).get(partition.id)
    assert found
    return found.state


async def test_a_host_is_what_its_address_says(driver: FakeDriver) -> None:
    host = fake("h1", "?cpus=8&memory_mib=1024&numa_nodes=2", options={"bridges": "lan", "cpus": "6"})
    facts = await driver.read_facts(host)
    assert (facts.cpus, facts.memory_mib, facts.bridges) == (6, 1024, ("lan",))
    assert [node.cpus for node in facts.numa_nodes] == [(0, 1, 2), (3, 4, 5)]
    with pytest.raises(InvalidError, match="Known words"):
        await driver.connect(fake("h2", "?colour=red"))


async def test_a_guest_ends_when_its_name_says_so(driver: FakeDriver, clock: ManualClock) -> None:
    host = fake("h1")
    crashes = await run(driver, host, name="a !crash-after=5")
    ends = await run(driver, host, name="b !off-after=7")
    await clock.advance(4)
    assert state(driver, host, crashes) is ObservedState.RUNNING
    await clock.advance(1)
    assert state(driver, host, crashes) is ObservedState.CRASHED
    await driver.start(host, crashes, WORK)
    await clock.advance(2)
    assert state(driver, host, ends) is ObservedState.STOPPED
    await driver.stop(host, crashes, WORK)
    await clock.advance(60)
    assert state(driver, host, crashes) is ObservedState.STOPPED, "the timer of a start ends with the run"


async def test_latency_and_slowness_take_virtual_time(driver: FakeDriver, clock: ManualClock) -> None:
    host = fake("h1", "?latency_ms=500")
    task = asyncio.create_task(run(driver, host, name="a !start-slow=10"))
    await clock.advance(10.9)
    assert not task.done()
    await clock.advance(0.2)
    await task


async def test_hanging_ends_with_recovery_or_with_the_connection(driver: FakeDriver, clock: ManualClock) -> None:
    host = fake("h1")
    there = driver.world.host(host.connection)
    there.hang("ping")
    ping = asyncio.create_task(driver.ping(host))
    await clock.settle()
    assert not ping.done()
    await driver.observe(host)
    there.recover()
    await ping
    there.hang()
    observe = asyncio.create_task(driver.observe(host))
    await clock.settle()
    there.lose()
    with pytest.raises(HostUnreachableError):
        await observe


async def test_a_power_cut_ends_everything_and_tells_nobody(driver: FakeDriver) -> None:
    host = fake("h1")
    partition = await run(driver, host)
    there = driver.world.host(host.connection)
    there.cut_power()
    with pytest.raises(HostUnreachableError):
        await driver.ping(host)
    there.restore_power()
    await driver.ping(host)
    assert state(driver, host, partition) is ObservedState.STOPPED


async def test_running_twice_is_noticed(driver: FakeDriver) -> None:
    first, second = fake("h1"), fake("h2")
    partition = await run(driver, first)
    driver.world.host(first.connection).lose()
    await driver.create(second, partition, WORK)
    await driver.start(second, partition, WORK)
    assert driver.world.running_twice() == {partition.id: ["h1", "h2"]}
    assert len(driver.world.ran_twice) == 1
    driver.world.host(first.connection).switch_off(partition.id)
    assert driver.world.running_twice() == {}


async def test_a_crash_in_the_midst_of_a_migration_is_not_undone(driver: FakeDriver, clock: ManualClock) -> None:
    first, second = fake("h1"), fake("h2")
    partition = await run(driver, first)
    newer = partition.model_copy(update={"epoch": 2})
    move = asyncio.create_task(driver.migrate(first, second, newer, (), True, 1, WORK))
    await clock.advance(5)
    driver.world.host(first.connection).crash(partition.id)
    await clock.advance(1)
    with pytest.raises(Exception, match="ended by itself"):
        await move
    assert state(driver, first, partition) is ObservedState.CRASHED
    assert driver.world.host(second.connection).get(partition.id) is None


@pytest.mark.parametrize("lost", ["h1", "h2"])
async def test_a_power_cut_in_the_midst_of_a_migration(driver: FakeDriver, clock: ManualClock, lost: str) -> None:
    first, second = fake("h1"), fake("h2")
    partition = await run(driver, first)
    newer = partition.model_copy(update={"epoch": 2})
    move = asyncio.create_task(driver.migrate(first, second, newer, (), True, 1, WORK))
    await clock.advance(5)
    driver.world.host(lost).cut_power()
    await clock.advance(1)
    with pytest.raises(Exception, match=r"lost|ended by itself"):
        await move
    driver.world.host(lost).restore_power()
    again = asyncio.create_task(driver.migrate(first, second, newer, (), True, None, WORK))
    await clock.advance(5)
    await again
    expected = ObservedState.STOPPED if lost == "h1" else ObservedState.RUNNING
    assert state(driver, second, partition) is expected
    assert driver.world.host(first.connection).get(partition.id) is None


async def test_hosts_in_files_outlive_the_world(tmp_path: Path, clock: ManualClock) -> None:
    host = fake("h-1.example:22")
    driver = FakeDriver(FakeWorld(clock, tmp_path), clock)
    partition = await run(driver, host)
    later = FakeDriver(FakeWorld(clock, tmp_path), clock)
    assert state(later, host, partition) is ObservedState.RUNNING
    await later.stop(host, partition, WORK)
    assert state(driver, host, partition) is ObservedState.STOPPED, "two processes see one truth"


async def test_a_change_that_fails_half_way_is_not_kept(tmp_path: Path, clock: ManualClock) -> None:
    host = fake("h1", "?storage_mib=100")
    driver = FakeDriver(FakeWorld(clock, tmp_path), clock)
    await run(driver, host)
    there = driver.world.host(host.connection)
    with pytest.raises(ValueError, match="half way"), there.change() as content:
        content.partitions.clear()
        raise ValueError("half way")
    assert len(there.observe()) == 1


async def test_ten_thousand_hosts_are_cheap(driver: FakeDriver) -> None:
    hosts = [fake(f"h{number}") for number in range(10_000)]
    for host in hosts:
        await driver.connect(host)
        await driver.read_facts(host)
        assert await driver.observe(host) == ()
    assert len(driver.world.hosts) == 10_000
