"""Calls that are cancelled on their way, and calls on what is not there: the next call always succeeds."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.states import ObservedState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import Driver, Host, Pause
from openqrm.testkit.driver_contract.base import ContractBase, Define, work

DELAYS = (0.0, 0.002, 0.02, 0.2)
"""Seconds after which a call is cancelled: before it has begun, in its midst, perhaps after its end."""


class AttemptsContract(ContractBase):
    """Interrupted and misplaced calls."""

    @pytest.mark.parametrize("delay", DELAYS)
    async def test_a_cancelled_creation_can_be_repeated(
        self, driver: Driver, connected: Host, define: Define, delay: float
    ) -> None:
        partition = define()
        await self.interrupt(lambda: driver.create(connected, partition, work()), delay)
        await driver.create(connected, partition, work())
        await driver.start(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is ObservedState.RUNNING

    @pytest.mark.parametrize("delay", DELAYS)
    async def test_a_cancelled_start_can_be_repeated(
        self, driver: Driver, connected: Host, define: Define, delay: float
    ) -> None:
        partition = define()
        await driver.create(connected, partition, work())
        await self.interrupt(lambda: driver.start(connected, partition, work()), delay)
        await driver.start(connected, partition, work())
        assert await self.state(driver, connected, partition.id) is ObservedState.RUNNING

    @pytest.mark.parametrize("delay", DELAYS)
    async def test_a_cancelled_stop_and_deletion_can_be_repeated(
        self, driver: Driver, connected: Host, define: Define, delay: float
    ) -> None:
        partition = await self.running(driver, connected, define())
        await self.interrupt(lambda: driver.stop(connected, partition, work()), delay)
        await driver.stop(connected, partition, work())
        await self.interrupt(lambda: driver.delete(connected, partition, work()), delay)
        await driver.delete(connected, partition, work())
        assert await driver.observe_partition(connected, partition.id) is None

    async def test_errors_are_ours(self, driver: Driver, connected: Host, define: Define, manifest: Manifest) -> None:
        missing = define()
        with pytest.raises(OpenQrmError) as caught:
            await driver.reboot(connected, missing, True, work())
        assert len(caught.value.message) > 20, "a sentence that a person can act on"
        if Capability.PAUSE in manifest.capabilities:
            assert isinstance(driver, Pause)
            with pytest.raises(OpenQrmError):
                await driver.pause(connected, missing, work())

    async def interrupt(self, call: Callable[[], Awaitable[None]], delay: float) -> None:
        """Begin a call and cancel it after a while."""
        task = asyncio.ensure_future(call())
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await asyncio.wait({task})
        task.cancel()
        with suppress(asyncio.CancelledError):
            await self.in_time(task)
