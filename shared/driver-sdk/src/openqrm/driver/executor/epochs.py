"""Refuses a command that a newer placement of its partition has overtaken, so that no partition ever runs twice.

What the host has is asked before every command. A command that can make the partition run is also checked with
inventory when it came twice or is not fresh: it may have slept in a queue, in a process that was frozen, or among the
dead letters, while the partition was placed anew.
"""

from datetime import timedelta

import structlog

from openqrm.bus.bus import Bus
from openqrm.bus.delivery import Delivery
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import NotFoundError, PermanentError, ProblemCode, StaleEpochError, TemporaryError
from openqrm.contracts.execution import ExecuteMigratePartition, PartitionExecution
from openqrm.contracts.partition import GetPlacement, ObservedPartition, Placement
from openqrm.driver.capabilities import Driver, Host
from openqrm.driver.executor.gates import SetAside
from openqrm.driver.executor.verbs import subject_verb_of

FRESH = timedelta(seconds=5)
"""Younger than this a first delivery is believed: it is less than any failover takes."""


class EpochGuard:
    """Checks commands against host and inventory."""

    def __init__(self, driver: Driver, bus: Bus, clock: Clock, retry_after: float) -> None:
        self._driver = driver
        self._bus = bus
        self._clock = clock
        self._retry_after = retry_after
        self._log = structlog.get_logger(service=bus.service)

    async def check(self, command: PartitionExecution, delivery: Delivery, host: Host, target: Host | None) -> None:
        """Raise StaleEpochError when the command must not be carried out, SetAside when nobody can tell now."""
        await self._check_host(command, host)
        if target is not None:
            await self._check_host(command, target)
        if command.starts_it and (delivery.deliveries > 1 or not self._is_fresh(delivery)):
            await self._check_inventory(command, host)

    def _is_fresh(self, delivery: Delivery) -> bool:
        """Whether it was sent just now; not when it was replayed, nor when the clocks disagree."""
        now = self._clock.now()
        moments = (delivery.published_at, delivery.sent_at or delivery.published_at)
        return all(abs(now - moment) <= FRESH for moment in moments)

    async def _check_host(self, command: PartitionExecution, host: Host) -> None:
        found: ObservedPartition | None = await self._driver.observe_partition(host, command.partition.id)
        if found is not None and found.epoch is not None and found.epoch > command.partition.epoch:
            raise self._refusal(command, host, f"that host has it with epoch {found.epoch}")

    async def _check_inventory(self, command: PartitionExecution, host: Host) -> None:
        try:
            placement: Placement = await self._bus.request(GetPlacement(partition_id=command.partition.id))
        except TemporaryError as error:
            raise SetAside(
                f"{subject_verb_of(type(command))} on {host.name} waits: {error.message}", retry_after=self._retry_after
            ) from error
        except PermanentError as error:
            if isinstance(error, NotFoundError) or error.code is ProblemCode.NOT_FOUND:
                raise self._refusal(command, host, "inventory does not know the partition any more") from error
            raise
        if placement.epoch > command.partition.epoch:
            raise self._refusal(command, host, f"inventory has placed it with epoch {placement.epoch}")
        runs_on = command.target_host_id if isinstance(command, ExecuteMigratePartition) else command.host_id
        if runs_on not in (placement.host_id, placement.target_host_id):
            raise self._refusal(command, host, f"inventory has placed it on host {placement.host_id}")

    def _refusal(self, command: PartitionExecution, host: Host, why: str) -> StaleEpochError:
        verb = subject_verb_of(type(command))
        partition = command.partition
        self._log.error(
            "STALE EPOCH: a command was refused",
            verb=verb,
            host=host.name,
            partition=str(partition.id),
            epoch=partition.epoch,
            why=why,
        )
        return StaleEpochError(
            f"{verb} of {partition.name!r} on host {host.name} was refused: the command has epoch {partition.epoch}, "
            f"{why}. A newer placement exists; nothing was done here. Look at the partition and ask again if needed.",
            details={"epoch": partition.epoch},
        )
