"""Moving a partition: afterwards exactly one side has it, and that is the side that is told."""

import asyncio

import pytest

from openqrm.contracts.errors import CancelledError
from openqrm.contracts.execution import RunsOn
from openqrm.contracts.partition import NicDefinition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import Driver, Host, Migration, MigrationError, Work
from openqrm.testkit.definitions import nic_definition
from openqrm.testkit.driver_contract.base import ContractBase, Define, new_mac, work
from openqrm.testkit.driver_contract.hands import Hands


class MigrationContract(ContractBase):
    """Migrations between two hosts."""

    @pytest.mark.parametrize("live", [True, False], ids=["live", "regular"])
    @pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
    async def test_moving(
        self,
        driver: Driver,
        connected: Host,
        second_host: Host,
        hands: Hands,
        define: Define,
        manifest: Manifest,
        live: bool,
        runs: bool,
    ) -> None:
        migration = self.migration(driver, manifest)
        await driver.connect(second_host)
        partition = define()
        await driver.create(connected, partition, work())
        if runs:
            await driver.start(connected, partition, work())
        percents: list[int] = []

        async def progress(percent: int, step: str) -> None:
            assert step
            percents.append(percent)

        newer = partition.model_copy(update={"epoch": 2})
        try:
            for _ in range(2):  # the second time it is there already
                await self.in_time(
                    migration.migrate(connected, second_host, newer, (), live, None, work(progress=progress))
                )
                found = await self.found(driver, second_host, partition.id)
                assert found.state is (ObservedState.RUNNING if runs else ObservedState.STOPPED)
                assert found.epoch == 2
                assert await driver.observe_partition(connected, partition.id) is None
            assert all(0 <= percent <= 100 for percent in percents)
            assert await hands.volumes(second_host, partition.id)
            if not connected.connection.shared_storage:
                assert not await hands.volumes(connected, partition.id)
        finally:
            await self.remove(driver, second_host, newer)

    async def test_its_nics_get_the_target_s_bridges(
        self, driver: Driver, connected: Host, second_host: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        migration = self.migration(driver, manifest)
        self.needs(manifest, Capability.NICS)
        await driver.connect(second_host)
        first, second = hands.bridges[:2]
        nic = nic_definition(new_mac(hands), first)
        partition = await self.running(driver, connected, define(nics=(nic,)))
        newer = partition.model_copy(update={"epoch": 2})
        try:
            moved = nic.model_copy(update={"bridge": second})
            await self.in_time(migration.migrate(connected, second_host, newer, (moved,), True, None, work()))
            found = await self.found(driver, second_host, partition.id)
            assert [(seen.mac, seen.bridge) for seen in found.nics] == [(nic.mac, second)]
        finally:
            await self.remove(driver, second_host, newer)

    async def test_a_target_that_cannot_take_it_leaves_it_where_it_is(
        self, driver: Driver, connected: Host, second_host: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        migration = self.migration(driver, manifest)
        self.needs(manifest, Capability.NICS)
        await driver.connect(second_host)
        nic = nic_definition(new_mac(hands), hands.bridges[0])
        partition = await self.running(driver, connected, define(nics=(nic,)))
        nowhere: tuple[NicDefinition, ...] = (nic.model_copy(update={"bridge": "br-nowhere"}),)
        with pytest.raises(MigrationError) as caught:
            await self.in_time(
                migration.migrate(
                    connected,
                    second_host,
                    partition.model_copy(update={"epoch": 2}),
                    nowhere,
                    True,
                    None,
                    work(),
                )
            )
        assert caught.value.runs_on is RunsOn.SOURCE
        await self.stayed(driver, connected, second_host, partition)

    async def test_cancelling_leaves_it_where_it_is(
        self, driver: Driver, connected: Host, second_host: Host, define: Define, manifest: Manifest
    ) -> None:
        migration = self.migration(driver, manifest)
        await driver.connect(second_host)
        partition = await self.running(driver, connected, define())
        cancelled = asyncio.Event()

        async def progress(_percent: int, _step: str) -> None:
            cancelled.set()

        with pytest.raises(CancelledError):
            await self.in_time(
                migration.migrate(
                    connected,
                    second_host,
                    partition.model_copy(update={"epoch": 2}),
                    (),
                    True,
                    1,
                    Work(work().operation_id, progress, cancelled),
                )
            )
        await self.stayed(driver, connected, second_host, partition)

    async def test_a_task_that_is_cancelled_can_be_repeated(
        self, driver: Driver, connected: Host, second_host: Host, define: Define, manifest: Manifest
    ) -> None:
        migration = self.migration(driver, manifest)
        await driver.connect(second_host)
        partition = await self.running(driver, connected, define())
        newer = partition.model_copy(update={"epoch": 2})
        begun = asyncio.Event()

        async def progress(_percent: int, _step: str) -> None:
            begun.set()

        task = asyncio.create_task(
            migration.migrate(connected, second_host, newer, (), True, 1, work(progress=progress))
        )
        await self.in_time(begun.wait())
        task.cancel()
        await asyncio.wait({task})
        try:
            await self.in_time(migration.migrate(connected, second_host, newer, (), True, None, work()))
            assert await self.state(driver, second_host, partition.id) is ObservedState.RUNNING
            assert await driver.observe_partition(connected, partition.id) is None
        finally:
            await self.remove(driver, second_host, newer)

    def migration(self, driver: Driver, manifest: Manifest) -> Migration:
        """The driver as one that can migrate; skips the test when it cannot."""
        self.needs(manifest, Capability.MIGRATION)
        assert isinstance(driver, Migration)
        return driver

    async def stayed(self, driver: Driver, source: Host, target: Host, partition: PartitionDefinition) -> None:
        """It runs on the source, and nothing of it is on the target."""
        assert await self.state(driver, source, partition.id) is ObservedState.RUNNING
        assert await driver.observe_partition(target, partition.id) is None
