"""Making, starting, ending and removing partitions, and the epoch beside them."""

import asyncio

import pytest

from openqrm.contracts.errors import PermanentError, TimedOutError, WrongStateError
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Driver, Host
from openqrm.testkit.driver_contract.base import ContractBase, Define, work
from openqrm.testkit.driver_contract.hands import Hands

RUNNING, STOPPED = ObservedState.RUNNING, ObservedState.STOPPED

NAMES = (
    "with a space",
    "Übergröße 東京 🚀",
    "x" * 200,
    "ü" * 200,
    'quo\'te "double" `back`',
    "<b>&amp; $HOME; rm -rf / #",
    "../../etc/passwd",
    "-starts-with-a-dash",
    "%s %n {x}",
    "\\back\\slash",
)


class LifecycleContract(ContractBase):
    """From creation to deletion."""

    async def test_a_whole_life(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = define()
        assert await driver.observe_partition(connected, partition.id) is None
        await driver.create(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is STOPPED
        await driver.start(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is RUNNING
        await driver.stop(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is STOPPED
        await driver.delete(connected, partition, work())
        assert await driver.observe_partition(connected, partition.id) is None

    async def test_every_verb_twice_is_once(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = define()
        for verb, state in (
            (driver.create, STOPPED),
            (driver.start, RUNNING),
            (driver.create, RUNNING),
            (driver.stop, STOPPED),
            (driver.delete, None),
        ):
            await verb(connected, partition, work())
            await verb(connected, partition, work())
            assert await self.state(driver, connected, partition.id) is state, verb
        assert [p.id for p in await driver.observe(connected)].count(partition.id) == 0

    async def test_it_is_what_was_defined(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = define(memory_mib=128, memory_max_mib=256, vcpus=1, vcpus_max=2)
        await self.running(driver, connected, partition)
        found = await self.found(driver, connected, partition.id)
        assert found.memory_mib == 128
        assert found.memory_max_mib == 256
        assert found.vcpus == 1
        assert found.vcpus_max == 2
        assert [disk.target for disk in found.disks] == ["vda"]
        assert found.id == partition.id

    async def test_starting_brings_back_a_lost_definition(
        self, driver: Driver, connected: Host, hands: Hands, define: Define
    ) -> None:
        partition = define()
        await driver.create(connected, partition, work())
        await hands.undefine_by_hand(connected, partition.id)
        assert await driver.observe_partition(connected, partition.id) is None
        await driver.start(connected, partition, work())
        found = await self.found(driver, connected, partition.id)
        assert (found.state, found.epoch) == (RUNNING, partition.epoch)

    async def test_a_running_partition_is_not_deleted(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = await self.running(driver, connected, define())
        with pytest.raises(WrongStateError):
            await driver.delete(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is RUNNING

    async def test_deleting_removes_its_own_volumes_and_no_others(
        self, driver: Driver, connected: Host, hands: Hands, define: Define
    ) -> None:
        partition, neighbour = define(), define()
        await driver.create(connected, partition, work())
        await driver.create(connected, neighbour, work())
        assert await hands.volumes(connected, partition.id)
        await driver.delete(connected, partition, work())
        assert not await hands.volumes(connected, partition.id)
        assert await hands.volumes(connected, neighbour.id)

    async def test_stopping_what_is_not_there_is_fine(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = define()
        await driver.stop(connected, partition, work())
        await driver.delete(connected, partition, work())
        assert await driver.observe_partition(connected, partition.id) is None

    async def test_shutting_down(self, driver: Driver, connected: Host, hands: Hands, define: Define) -> None:
        partition = await self.running(driver, connected, define())
        if not hands.guest_listens:
            with pytest.raises(TimedOutError):
                await driver.shutdown(connected, partition, 1, work())
            assert await self.state(driver, connected, partition.id) is RUNNING
            return
        await hands.booted(connected, partition.id)
        await driver.shutdown(connected, partition, 60, work())
        assert await self.state(driver, connected, partition.id) is STOPPED
        await driver.shutdown(connected, partition, 60, work())
        assert await self.state(driver, connected, partition.id) is STOPPED

    @pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
    async def test_rebooting(self, driver: Driver, connected: Host, hands: Hands, define: Define, hard: bool) -> None:
        partition = define()
        await driver.create(connected, partition, work())
        with pytest.raises(WrongStateError):
            await driver.reboot(connected, partition, hard, work())
        await driver.start(connected, partition, work())
        if not (hard or hands.guest_listens):
            return
        if hands.guest_listens:
            await hands.booted(connected, partition.id)
        boots = await hands.boots(connected, partition.id)
        await driver.reboot(connected, partition, hard, work())
        assert await self.state(driver, connected, partition.id) is RUNNING
        assert await hands.boots(connected, partition.id) == boots + 1

    @pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
    async def test_any_name(self, driver: Driver, connected: Host, define: Define, name: str) -> None:
        partition = await self.running(driver, connected, define(name=name))
        assert await self.state(driver, connected, partition.id) is RUNNING
        assert partition.id in {found.id for found in await driver.observe(connected)}
        await driver.stop(connected, partition, work())
        await driver.delete(connected, partition, work())
        assert await driver.observe_partition(connected, partition.id) is None

    async def test_two_of_the_same_name_are_two(self, driver: Driver, connected: Host, define: Define) -> None:
        one = await self.running(driver, connected, define(name="twin"))
        other = await self.running(driver, connected, define(name="twin"))
        await driver.stop(connected, one, work())
        assert await self.state(driver, connected, one.id) is STOPPED
        assert await self.state(driver, connected, other.id) is RUNNING

    async def test_many_at_once_on_one_host(self, driver: Driver, connected: Host, define: Define) -> None:
        async def live(partition: PartitionDefinition) -> None:
            await self.running(driver, connected, partition)
            assert await self.state(driver, connected, partition.id) is RUNNING
            await driver.stop(connected, partition, work())
            await driver.delete(connected, partition, work())
            assert await driver.observe_partition(connected, partition.id) is None

        await asyncio.gather(*(live(define()) for _ in range(8)))

    # -------------------------------------------------------------------------------------------- epochs

    async def test_the_epoch_is_written_and_stays(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = define(epoch=3)
        await driver.create(connected, partition, work())
        assert (await self.found(driver, connected, partition.id)).epoch == 3
        later = partition.model_copy(update={"epoch": 5})
        await driver.start(connected, later, work())
        assert (await self.found(driver, connected, partition.id)).epoch == 5
        await driver.stop(connected, later, work())
        assert (await self.found(driver, connected, partition.id)).epoch == 5
        latest = partition.model_copy(update={"epoch": 7})
        await driver.mark(connected, latest)
        await driver.mark(connected, latest)
        assert (await self.found(driver, connected, partition.id)).epoch == 7

    async def test_starting_what_runs_raises_its_epoch(self, driver: Driver, connected: Host, define: Define) -> None:
        partition = await self.running(driver, connected, define())
        await driver.start(connected, partition.model_copy(update={"epoch": 2}), work())
        assert (await self.found(driver, connected, partition.id)).epoch == 2

    async def test_marking_what_is_not_there_fails_for_good(
        self, driver: Driver, connected: Host, define: Define
    ) -> None:
        with pytest.raises(PermanentError):
            await driver.mark(connected, define(id=new_id()))
