"""After a failure: what stands on the host, and after a migration, which side has the partition."""

from dataclasses import dataclass
from uuid import UUID

import structlog

from openqrm.contracts.execution import RunsOn
from openqrm.contracts.partition import ObservedPartition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Driver, Host
from openqrm.driver.executor.deadlines import Deadlines

READ_SECONDS = 10.0

Reading = tuple[ObservedPartition | None, bool]
"""The partition, None when the host does not have it; and whether the host could be read at all."""


async def read_softly(driver: Driver, deadlines: Deadlines, host: Host | None, partition_id: UUID) -> Reading:
    """Read a partition; that this fails, or that there is no host to ask, is an answer, too."""
    if host is None:
        return None, False
    try:
        with deadlines.limit(READ_SECONDS):
            return await driver.observe_partition(host, partition_id), True
    except Exception as error:  # noqa: BLE001 - the first failure is reported, this one only logged
        structlog.get_logger().info("a partition could not be read after a failure", host=host.name, error=str(error))
        return None, False


@dataclass(frozen=True)
class Whereabouts:
    """What both sides of a migration show."""

    source: Reading
    target: Reading

    @property
    def runs_on(self) -> RunsOn:
        """The side that has it, as far as both could be read; a receiving end that has not taken over has nothing."""
        if not (self.source[1] and self.target[1]):
            return RunsOn.UNKNOWN
        at_source, at_target = _stands(self.source), _stands(self.target)
        if at_source and at_target:  # the one that runs has it, unless both or neither do
            at_source, at_target = _runs(self.source), _runs(self.target)
            if at_source == at_target:
                return RunsOn.UNKNOWN
        if not (at_source or at_target):
            return RunsOn.NEITHER
        return RunsOn.SOURCE if at_source else RunsOn.TARGET

    def seen_from(self, runs_on: RunsOn) -> Reading:
        """What the side that has it shows; the source's view when that is not known."""
        return self.target if runs_on is RunsOn.TARGET else self.source


def _stands(reading: Reading) -> bool:
    return reading[0] is not None and reading[0].state is not ObservedState.INCOMING


def _runs(reading: Reading) -> bool:
    return reading[0] is not None and reading[0].state is ObservedState.RUNNING
