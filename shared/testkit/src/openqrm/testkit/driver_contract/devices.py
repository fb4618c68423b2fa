"""NICs and disks, while the partition runs and while it does not."""

import pytest

from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.partition import PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import Disks, Driver, Host, Nics
from openqrm.testkit.definitions import disk_definition, nic_definition
from openqrm.testkit.driver_contract.base import ContractBase, Define, new_mac, work
from openqrm.testkit.driver_contract.hands import Hands

BOTH = pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])


class DevicesContract(ContractBase):
    """Attaching, detaching and mapping."""

    @BOTH
    async def test_nics(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest, runs: bool
    ) -> None:
        self.needs(manifest, Capability.NICS)
        assert isinstance(driver, Nics)
        partition = await self.ready(driver, connected, hands, define(), runs)
        first, second = hands.bridges[:2]
        nic = nic_definition(new_mac(hands), first)
        for _ in range(2):
            await driver.attach_nic(connected, partition, nic, work())
            assert await self.bridges(driver, connected, partition) == {nic.mac: first}
        moved = nic.model_copy(update={"bridge": second})
        for _ in range(2):
            await driver.map_nic(connected, partition, moved, work())
            assert await self.bridges(driver, connected, partition) == {nic.mac: second}
        for _ in range(2):
            await driver.detach_nic(connected, partition, moved, work())
            assert await self.bridges(driver, connected, partition) == {}
        expected = ObservedState.RUNNING if runs else ObservedState.STOPPED
        assert await self.state(driver, connected, partition.id) is expected

    async def test_nics_outlast_a_stop(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.NICS)
        assert isinstance(driver, Nics)
        partition = await self.running(driver, connected, define())
        nic = nic_definition(new_mac(hands), hands.bridges[0])
        await driver.attach_nic(connected, partition, nic, work())
        await driver.stop(connected, partition, work())
        assert nic.mac in await self.bridges(driver, connected, partition)

    async def test_nics_are_made_with_the_partition(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.NICS)
        nics = tuple(nic_definition(new_mac(hands), bridge) for bridge in hands.bridges[:2])
        partition = await self.running(driver, connected, define(nics=nics))
        assert await self.bridges(driver, connected, partition) == {nic.mac: nic.bridge for nic in nics}

    async def test_a_bridge_that_is_not_there_is_refused(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest
    ) -> None:
        self.needs(manifest, Capability.NICS)
        assert isinstance(driver, Nics)
        partition = await self.running(driver, connected, define())
        with pytest.raises(OpenQrmError):
            await driver.attach_nic(connected, partition, nic_definition(new_mac(hands), "br-nowhere"), work())
        assert await self.bridges(driver, connected, partition) == {}

    @BOTH
    @pytest.mark.parametrize("keep", [False, True], ids=["delete", "keep"])
    async def test_disks(
        self, driver: Driver, connected: Host, hands: Hands, define: Define, manifest: Manifest, runs: bool, keep: bool
    ) -> None:
        self.needs(manifest, Capability.DISKS)
        assert isinstance(driver, Disks)
        partition = await self.ready(driver, connected, hands, define(), runs)
        disk = disk_definition("vdb", 8)
        for _ in range(2):
            await driver.attach_disk(connected, partition, disk, work())
            assert await self.targets(driver, connected, partition) == ["vda", "vdb"]
        assert len(await hands.volumes(connected, partition.id)) == 2
        for _ in range(2):
            await driver.detach_disk(connected, partition, disk, keep, work())
            assert await self.targets(driver, connected, partition) == ["vda"]
        assert len(await hands.volumes(connected, partition.id)) == (2 if keep else 1)
        if keep:  # leave nothing behind
            await driver.attach_disk(connected, partition, disk, work())
            await driver.detach_disk(connected, partition, disk, False, work())

    async def ready(
        self, driver: Driver, host: Host, hands: Hands, partition: PartitionDefinition, runs: bool
    ) -> PartitionDefinition:
        """Create it, and start it if asked."""
        await driver.create(host, partition, work())
        if runs:
            if not hands.guest_listens:
                pytest.skip("the guest does not give devices back")
            await driver.start(host, partition, work())
            await hands.booted(host, partition.id)
        return partition

    async def bridges(self, driver: Driver, host: Host, partition: PartitionDefinition) -> dict[str, str | None]:
        """Bridge by address, as seen on the host."""
        return {nic.mac: nic.bridge for nic in (await self.found(driver, host, partition.id)).nics}

    async def targets(self, driver: Driver, host: Host, partition: PartitionDefinition) -> list[str]:
        """The disks as seen on the host."""
        return sorted(disk.target for disk in (await self.found(driver, host, partition.id)).disks)
