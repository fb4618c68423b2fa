"""Reads a host, and says whether there is anything to tell.

Between two readings the news come from `watch` and from executions. They are noted, so that a reading neither reports
them a second time nor, when it began before them, undoes them.
"""

from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.contracts.host import HostFacts, HostObserved
from openqrm.contracts.partition import ObservedPartition
from openqrm.driver.capabilities import Driver, Host
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.settings import ExecutorSettings

FREE_STEPS = 10
"""Free space counts as changed when it passes from one tenth of the whole to another: it changes all the time."""


class HostReader:
    """What was last seen on one host."""

    def __init__(self, driver: Driver, clock: Clock, deadlines: Deadlines, settings: ExecutorSettings) -> None:
        self._driver = driver
        self._clock = clock
        self._deadlines = deadlines
        self._settings = settings
        self._facts: HostFacts | None = None
        self._partitions: dict[UUID, ObservedPartition] = {}
        self._told_at = clock.monotonic()
        self._wish = 1
        """Counts how often everything was to be told."""
        self._read_for = self._told_for = 0
        """Which wish the last reading, and the last that was told, began after."""
        self._notes: dict[UUID, tuple[float, ObservedPartition | None]] = {}

    def begin(self) -> None:
        """The host was connected (again), say: the next reading that begins is told whole."""
        self._wish += 1

    def note(self, partition_id: UUID, observed: ObservedPartition | None) -> None:
        """A partition was seen outside of a reading, and that is told by others."""
        self._notes[partition_id] = (self._clock.monotonic(), observed)
        if observed is None:
            self._partitions.pop(partition_id, None)
        else:
            self._partitions[partition_id] = observed

    async def read(self, host: Host) -> HostObserved | None:
        """Read the host; None when there is nothing new and it is not time to tell everything.

        Raises what the driver raises, TimeoutError when it takes too long.
        """
        began, observed_at = self._clock.monotonic(), self._clock.now()
        self._read_for = self._wish
        with self._deadlines.limit(self._settings.observe_timeout):
            facts = await self._driver.read_facts(host)
            seen = {partition.id: partition for partition in await self._driver.observe(host)}
        for partition_id, (noted_at, noted) in self._notes.items():
            if noted_at < began:
                continue
            if noted is None:
                seen.pop(partition_id, None)
            else:
                seen[partition_id] = noted
        self._notes = {key: note for key, note in self._notes.items() if note[0] >= began}
        due = self._told_for < self._read_for or began - self._told_at >= self._settings.full_observation_interval
        if not due and seen == self._partitions and self._facts and comparable(facts) == comparable(self._facts):
            return None
        return HostObserved(host_id=host.id, facts=facts, partitions=tuple(seen.values()), observed_at=observed_at)

    def told(self, event: HostObserved) -> None:
        """That reading was published."""
        self._facts = event.facts
        self._partitions = {partition.id: partition for partition in event.partitions}
        for partition_id, (_, noted) in self._notes.items():
            if noted is None:
                self._partitions.pop(partition_id, None)
            else:
                self._partitions[partition_id] = noted
        self._told_at, self._told_for = self._clock.monotonic(), self._read_for


def comparable(facts: HostFacts) -> HostFacts:
    """The facts without what changes all the time."""
    storages = tuple(
        storage.model_copy(update={"free_mib": storage.free_mib * FREE_STEPS // max(storage.total_mib, 1)})
        for storage in facts.storages
    )
    return facts.model_copy(update={"memory_free_mib": None, "storages": storages})
