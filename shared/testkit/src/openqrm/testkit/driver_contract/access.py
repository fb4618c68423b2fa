"""Reaching hosts, and what the driver declares about itself."""

import asyncio

import pytest

from openqrm.contracts.errors import HostUnreachableError, PermanentError, TemporaryError
from openqrm.contracts.host import HostConnection
from openqrm.contracts.ids import new_id
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import Driver, Host, HostPreparation
from openqrm.driver.manifest import PROTOCOLS, check_manifest
from openqrm.testkit.driver_contract.base import ContractBase, Define, work
from openqrm.testkit.driver_contract.hands import Hands


class AccessContract(ContractBase):
    """Manifest, connecting, losing and preparing hosts."""

    def test_it_has_exactly_what_it_declares(self, driver: Driver, manifest: Manifest) -> None:
        check_manifest(driver, manifest)

    def test_what_it_does_not_declare_it_does_not_have_and_says_why(self, driver: Driver, manifest: Manifest) -> None:
        for capability, protocol in PROTOCOLS.items():
            if capability not in manifest.capabilities:
                assert not isinstance(driver, protocol)
                assert len(manifest.unsupported[capability]) > 10, "the reason is shown to people"
        assert {Capability.LIFECYCLE, Capability.OBSERVATION} <= manifest.capabilities

    async def test_connecting_twice_does_no_harm(self, driver: Driver, host: Host) -> None:
        await driver.connect(host)
        await driver.connect(host)
        await driver.ping(host)

    async def test_disconnecting_twice_does_no_harm(self, driver: Driver, host: Host) -> None:
        await driver.connect(host)
        await driver.disconnect(host.id)
        await driver.disconnect(host.id)
        await driver.disconnect(new_id())
        await driver.connect(host)
        await driver.ping(host)

    async def test_an_address_of_another_kind_is_refused_for_good(self, driver: Driver) -> None:
        wrong = Host(new_id(), "wrong", HostConnection(uri="nonsense://nowhere/x"))
        with pytest.raises(PermanentError):
            await driver.connect(wrong)

    async def test_a_host_that_does_not_answer_is_unreachable(self, driver: Driver, unreachable_host: Host) -> None:
        with pytest.raises(HostUnreachableError):
            await self.in_time(driver.connect(unreachable_host))
        with pytest.raises(TemporaryError):
            await self.in_time(driver.ping(unreachable_host), 15)
        with pytest.raises(TemporaryError):
            await self.in_time(driver.observe(unreachable_host))

    async def test_a_lost_host_is_noticed_and_found_again(
        self, driver: Driver, connected: Host, hands: Hands, define: Define
    ) -> None:
        partition = define()
        await driver.create(connected, partition, work())
        await hands.lose(connected)
        try:
            with pytest.raises(HostUnreachableError):
                await self.in_time(driver.ping(connected), 15)
            with pytest.raises(TemporaryError):
                await self.in_time(driver.start(connected, partition, work()))
        finally:
            await hands.find(connected)
        await self.in_time(driver.connect(connected))
        await driver.ping(connected)
        await driver.start(connected, partition, work())

    async def test_watching_ends_when_the_host_is_lost(self, driver: Driver, connected: Host, hands: Hands) -> None:
        async def ignore(_: object) -> None:
            pass

        watch = asyncio.create_task(driver.watch(connected, ignore))
        try:
            await driver.ping(connected)
            await hands.lose(connected)
            with pytest.raises(HostUnreachableError):
                await self.in_time(watch)
        finally:
            watch.cancel()
            await hands.find(connected)
            await self.in_time(driver.connect(connected))

    async def test_facts_are_sane(self, driver: Driver, connected: Host) -> None:
        facts = await driver.read_facts(connected)
        assert facts.hostname
        assert facts.architecture
        assert facts.cpus >= 1
        assert facts.memory_mib >= 64
        assert facts.memory_free_mib is None or 0 <= facts.memory_free_mib <= facts.memory_mib
        assert all(0 <= storage.free_mib <= storage.total_mib for storage in facts.storages)
        numbered = [cpu for node in facts.numa_nodes for cpu in node.cpus]
        assert len(numbered) == len(set(numbered)), "a CPU belongs to one NUMA node"

    async def test_preparing_twice_changes_nothing_the_second_time(
        self, driver: Driver, manifest: Manifest, plain_host: Host
    ) -> None:
        self.needs(manifest, Capability.HOST_PREPARATION)
        assert isinstance(driver, HostPreparation)
        with pytest.raises((PermanentError, HostUnreachableError)):
            await driver.connect(plain_host)
        assert await driver.prepare(plain_host, work())
        await driver.connect(plain_host)
        assert await driver.prepare(plain_host, work()) == ()
