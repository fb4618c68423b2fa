"""Pausing, resizing and pinning."""

import pytest

from openqrm.contracts.errors import PermanentError, WrongStateError
from openqrm.contracts.states import ObservedState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import CpuPinning, Driver, Host, Pause, Resize
from openqrm.testkit.driver_contract.base import ContractBase, Define, work
from openqrm.testkit.driver_contract.hands import Hands


class RunningContract(ContractBase):
    """Changes of a partition that runs, and of one that does not."""

    async def test_pausing(self, driver: Driver, connected: Host, define: Define, manifest: Manifest) -> None:
        self.needs(manifest, Capability.PAUSE)
        assert isinstance(driver, Pause)
        partition = define()
        await driver.create(connected, partition, work())
        with pytest.raises(WrongStateError):
            await driver.pause(connected, partition, work())
        await driver.start(connected, partition, work())
        for _ in range(2):
            await driver.pause(connected, partition, work())
            assert await self.state(driver, connected, partition.id) is ObservedState.PAUSED
        for _ in range(2):
            await driver.unpause(connected, partition, work())
            assert await self.state(driver, connected, partition.id) is ObservedState.RUNNING

    async def test_a_paused_one_can_be_stopped(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.PAUSE)
        assert isinstance(driver, Pause)
        partition = await self.running(driver, connected, define())
        await driver.pause(connected, partition, work())
        await driver.stop(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is ObservedState.STOPPED

    async def test_resizing_while_it_is_stopped(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.RESIZE)
        assert isinstance(driver, Resize)
        partition = define(memory_mib=128, memory_max_mib=256, vcpus=1, vcpus_max=2)
        await driver.create(connected, partition, work())
        bigger = partition.model_copy(update={"memory_mib": 192, "memory_max_mib": 384, "vcpus": 3, "vcpus_max": 4})
        for _ in range(2):
            await driver.resize(connected, bigger, work())
            found = await self.found(driver, connected, partition.id)
            assert (found.memory_mib, found.memory_max_mib) == (192, 384)
            assert (found.vcpus, found.vcpus_max) == (3, 4)
        await driver.start(connected, bigger, work())
        found = await self.found(driver, connected, partition.id)
        assert (found.state, found.memory_mib, found.vcpus) == (ObservedState.RUNNING, 192, 3)

    async def test_resizing_while_it_runs(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.RESIZE)
        assert isinstance(driver, Resize)
        if not hands.guest_listens:
            pytest.skip("the guest does not take or give memory and CPUs")
        partition = await self.running(
            driver, connected, define(memory_mib=128, memory_max_mib=256, vcpus=1, vcpus_max=2)
        )
        await hands.booted(connected, partition.id)
        bigger = partition.model_copy(update={"memory_mib": 192, "vcpus": 2})
        for _ in range(2):
            await driver.resize(connected, bigger, work())
            found = await self.found(driver, connected, partition.id)
            assert (found.state, found.memory_mib, found.vcpus) == (ObservedState.RUNNING, 192, 2)
        with pytest.raises(PermanentError):
            await driver.resize(
                connected, partition.model_copy(update={"memory_mib": 512, "memory_max_mib": 512}), work()
            )

    async def test_pinning(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.CPU_PINNING)
        assert isinstance(driver, CpuPinning)
        partition = await self.running(driver, connected, define())
        pinned = partition.model_copy(update={"cpu_pins": {0: (0,)}})
        for _ in range(2):
            await driver.pin(connected, pinned, work())
            assert await hands.cpu_pins(connected, partition.id) == {0: (0,)}
        await driver.pin(connected, partition, work())
        assert await hands.cpu_pins(connected, partition.id) == {}
        with pytest.raises(PermanentError):
            await driver.pin(connected, partition.model_copy(update={"cpu_pins": {0: (100_000,)}}), work())
