"""Reading what is on a host, strangers and foreign changes included."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from openqrm.contracts.ids import new_id
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Driver, Host, PartitionChange
from openqrm.testkit.driver_contract.base import ContractBase, Define, work
from openqrm.testkit.driver_contract.hands import Hands
from openqrm.testkit.waiting import eventually


class ObservationContract(ContractBase):
    """Observation, watching and marking."""

    async def test_what_is_not_there_is_none(self, driver: Driver, connected: Host) -> None:
        assert await driver.observe_partition(connected, new_id()) is None

    async def test_all_and_one_agree(self, driver: Driver, connected: Host, define: Define) -> None:
        stopped = define()
        await driver.create(connected, stopped, work())
        runs = await self.running(driver, connected, define())
        seen = {found.id: found for found in await driver.observe(connected)}
        for partition in (stopped, runs):
            assert seen[partition.id] == await driver.observe_partition(connected, partition.id)

    async def test_a_stranger_is_seen_and_can_be_made_ours(
        self, driver: Driver, connected: Host, hands: Hands, define: Define
    ) -> None:
        stranger = await hands.make_stranger(connected, "a stranger & <co>")
        try:
            found = await self.found(driver, connected, stranger)
            assert found.epoch is None
            assert stranger in {partition.id for partition in await driver.observe(connected)}
            await driver.mark(connected, define(id=stranger, name="adopted", disks=(), epoch=4))
            assert (await self.found(driver, connected, stranger)).epoch == 4
        finally:
            await hands.remove_stranger(connected, stranger)

    async def test_a_crash_is_reported(self, driver: Driver, connected: Host, hands: Hands, define: Define) -> None:
        partition = await self.running(driver, connected, define())
        async with self.watching(driver, connected) as changes:
            await hands.crash(connected, partition.id)
            await self.report_of(changes, hands, partition.id, _in(ObservedState.CRASHED, ObservedState.STOPPED))
        assert await self.state(driver, connected, partition.id) in (ObservedState.CRASHED, ObservedState.STOPPED)
        await driver.start(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is ObservedState.RUNNING

    async def test_a_stop_by_hand_is_reported(
        self, driver: Driver, connected: Host, hands: Hands, define: Define
    ) -> None:
        partition = await self.running(driver, connected, define())
        async with self.watching(driver, connected) as changes:
            await hands.stop_by_hand(connected, partition.id)
            await self.report_of(changes, hands, partition.id, _in(ObservedState.STOPPED))
        assert await self.state(driver, connected, partition.id) is ObservedState.STOPPED

    async def test_a_new_stranger_is_reported(self, driver: Driver, connected: Host, hands: Hands) -> None:
        async with self.watching(driver, connected) as changes:
            stranger = await hands.make_stranger(connected, "new here")
            try:
                await self.report_of(changes, hands, stranger, lambda change: change.observed is not None)
            finally:
                await hands.remove_stranger(connected, stranger)
            await self.report_of(changes, hands, stranger, lambda change: change.observed is None)

    @asynccontextmanager
    async def watching(self, driver: Driver, host: Host) -> AsyncIterator[list[PartitionChange]]:
        """Collect what `watch` reports."""
        changes: list[PartitionChange] = []

        async def report(change: PartitionChange) -> None:
            changes.append(change)

        watch = asyncio.create_task(driver.watch(host, report))
        for _ in range(3):
            await driver.ping(host)  # the watch has begun once the host has answered what came after it
        try:
            yield changes
            assert not watch.done(), "watching ends only by being cancelled or when the host is lost"
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def report_of(
        self,
        changes: list[PartitionChange],
        hands: Hands,
        partition_id: UUID,
        fits: Callable[[PartitionChange], bool],
    ) -> None:
        """Wait for a report on a partition that fits."""
        await eventually(
            lambda: any(change.partition_id == partition_id and fits(change) for change in changes),
            hands.news_seconds,
            f"a report on {partition_id}; there were {changes}",
        )


def _in(*states: ObservedState) -> Callable[[PartitionChange], bool]:
    return lambda change: change.observed is not None and change.observed.state in states
