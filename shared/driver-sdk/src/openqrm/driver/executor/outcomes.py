"""Says how an execution ended: ExecutionSucceeded or ExecutionFailed, with what stands on the host afterwards."""

from typing import Any
from uuid import UUID

import structlog

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import CancelledError, DriverError, OpenQrmError, PermanentError, Problem, TemporaryError
from openqrm.contracts.execution import (
    ExecuteMigratePartition,
    ExecutionFailed,
    ExecutionSucceeded,
    PartitionExecution,
    RunsOn,
)
from openqrm.contracts.host import HostFacts
from openqrm.contracts.partition import ObservedPartition
from openqrm.driver.capabilities import Driver, Host, MigrationError
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.hosts import Hosts
from openqrm.driver.executor.verbs import Execution, subject_verb_of
from openqrm.driver.executor.whereabouts import Whereabouts, read_softly

PUBLISH_ATTEMPTS = 3
PUBLISH_RETRY_SECONDS = 0.5
MAX_MESSAGE = 10_000
"""Characters of an error's sentence when the whole outcome is too large for the bus."""

Outcome = ExecutionSucceeded | ExecutionFailed


class Outcomes:
    """Makes outcomes and publishes them."""

    def __init__(self, driver: Driver, bus: Bus, clock: Clock, hosts: Hosts, deadlines: Deadlines) -> None:
        self._driver = driver
        self._bus = bus
        self._clock = clock
        self._hosts = hosts
        self._deadlines = deadlines
        self._log = structlog.get_logger(service=bus.service)

    def success(
        self, command: Execution, observed: ObservedPartition | None, facts: HostFacts | None, result: dict[str, Any]
    ) -> Outcome:
        """It was carried out and checked."""
        return ExecutionSucceeded(
            **self._about(command), observed=observed, facts=facts, result=result, ended_at=self._clock.now()
        )

    async def failure(self, command: Execution, host_name: str, error: Exception) -> Outcome:
        """It was not; reads what stands on the host, or after a migration on both."""
        problem = self._problem(command, host_name, error)
        runs_on: RunsOn | None = None
        reading: tuple[ObservedPartition | None, bool] = None, True
        if isinstance(command, ExecuteMigratePartition):
            found = Whereabouts(
                await self._read(command.host_id, command), await self._read(command.target_host_id, command)
            )
            runs_on = _told_by(error) or found.runs_on
            reading = found.seen_from(runs_on)
        elif isinstance(command, PartitionExecution):
            reading = await self._read(command.host_id, command)
        observed, readable = reading
        if not readable:  # "not there" and "could not look" are both None
            problem = problem.model_copy(update={"details": {**problem.details, "observed": "unreadable"}})
        self._log.warning(
            "an execution failed", verb=subject_verb_of(type(command)), host=host_name, error=problem.message
        )
        return ExecutionFailed(
            **self._about(command), observed=observed, error=problem, runs_on=runs_on, ended_at=self._clock.now()
        )

    async def publish(self, outcome: Outcome) -> None:
        """Publish it. Raises TemporaryError when the bus does not take it: the command then comes again."""
        try:
            await self._publish(outcome)
        except PermanentError as error:  # too large
            self._log.error("an outcome was cut short", reason=error.message)
            await self._publish(_cut_short(outcome, error))

    async def _publish(self, outcome: Outcome) -> None:
        for attempt in range(1, PUBLISH_ATTEMPTS + 1):
            try:
                await self._bus.publish(outcome, about=outcome.partition_id or outcome.host_id)
            except TemporaryError:
                if attempt == PUBLISH_ATTEMPTS:
                    raise
                await self._clock.sleep(PUBLISH_RETRY_SECONDS * attempt)
            else:
                return

    async def _read(self, host_id: UUID, command: PartitionExecution) -> tuple[ObservedPartition | None, bool]:
        supervisor = self._hosts.get(host_id)
        host: Host | None = supervisor.host if supervisor and supervisor.is_connected else None
        return await read_softly(self._driver, self._deadlines, host, command.partition.id)

    def _problem(self, command: Execution, host_name: str, error: Exception) -> Problem:
        if isinstance(error, OpenQrmError):
            return error.problem()
        verb = subject_verb_of(type(command))
        self._log.error("the driver failed unexpectedly", verb=verb, host=host_name, exc_info=error)
        return DriverError(
            f"{verb} on host {host_name} failed in the driver: {type(error).__name__}: {error}. "
            "The executor's log has the details."
        ).problem()

    @staticmethod
    def _about(command: Execution) -> dict[str, Any]:
        partition = command.partition if isinstance(command, PartitionExecution) else None
        return {
            "operation_id": command.operation_id,
            "host_id": command.host_id,
            "technology": command.technology,
            "partition_id": partition.id if partition else None,
            "epoch": partition.epoch if partition else None,
            "subject_verb": subject_verb_of(type(command)),
        }


def _cut_short(outcome: Outcome, error: PermanentError) -> Outcome:
    if isinstance(outcome, ExecutionSucceeded):
        return outcome.model_copy(update={"result": {"cut_short": error.message}, "facts": None})
    problem = Problem(code=outcome.error.code, message=outcome.error.message[:MAX_MESSAGE])
    return outcome.model_copy(update={"error": problem})


def _told_by(error: Exception) -> RunsOn | None:
    if isinstance(error, MigrationError):
        return error.runs_on
    return RunsOn.SOURCE if isinstance(error, CancelledError) else None
