"""What a driver can be able to do: small protocols, composed by the driver and declared in its driver.toml.

Rules that hold for every method, and that the driver contract of openqrm.testkit checks:

- Idempotent: carried out twice, or again after a lost answer, it ends in the same state without an error.
- Desired state: a `PartitionDefinition` says how the partition should be afterwards, whatever the host has now.
- Errors: `HostUnreachableError` or another TemporaryError when trying again makes sense, else a PermanentError whose
  sentence says what happened, to what, and what to do next. Never a bare exception of the hypervisor's library.
- Nothing blocks the event loop: blocking calls run in threads. Cancelling the task (a time-out) leaves the host in
  a state from which the next call succeeds, even when the thread is still stuck in the hypervisor.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from uuid import UUID

from openqrm.contracts.console import Screenshot
from openqrm.contracts.errors import DriverError
from openqrm.contracts.execution import Change, RunsOn
from openqrm.contracts.host import HostConnection, HostFacts
from openqrm.contracts.partition import (
    DiskDefinition,
    NicDefinition,
    ObservedPartition,
    PartitionDefinition,
)


@dataclass(frozen=True)
class Host:
    """A host as a driver is given it."""

    id: UUID
    name: str
    connection: HostConnection


async def _no_progress(percent: int, step: str) -> None:
    pass


@dataclass(frozen=True)
class Work:
    """The execution that a driver's method is part of."""

    operation_id: UUID
    progress: Callable[[int, str], Awaitable[None]] = _no_progress
    """Report how far it is: percent and words. Cheap; the SDK thins it out."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the caller wants it to end; only migrations need to look at it."""


class MigrationError(DriverError):
    """A migration ended without success; `runs_on` says which side has the partition, as read from both hosts."""

    def __init__(self, message: str, runs_on: RunsOn) -> None:
        super().__init__(message)
        self.runs_on = runs_on


@dataclass(frozen=True)
class PartitionChange:
    """A partition changed on its host by itself, or by somebody else's hand."""

    partition_id: UUID
    observed: ObservedPartition | None
    """None: it is gone."""
    reason: str


class ByteChannel(Protocol):
    """A two-way byte stream, such as a serial console."""

    async def read(self) -> bytes:
        """The next bytes; empty when the other side has closed."""

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when they are on their way."""

    async def close(self) -> None:
        """Close it; harmless when repeated."""


@runtime_checkable
class HostAccess(Protocol):
    """Reaching hosts. Every driver has this."""

    async def connect(self, host: Host) -> None:
        """Reach the host and keep reaching it: one supervised connection, re-made when lost.

        Raises HostUnreachableError when it cannot be reached now, PermanentError when it never can like this
        (wrong address, wrong key, wrong certificate, no right).
        """

    async def disconnect(self, host_id: UUID) -> None:
        """Let go of the host; harmless when it is not connected."""

    async def ping(self, host: Host) -> None:
        """Return if the host answers; raise HostUnreachableError if not. Ends within its time-out of 10 s."""

    async def close(self) -> None:
        """Let go of every host and thread; nothing on any host changes."""


@runtime_checkable
class Lifecycle(Protocol):
    """Making, starting, ending and removing partitions. Every driver has this."""

    async def create(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Make the disks that have to be made and define the partition, stopped, with its epoch beside it."""

    async def start(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Define it if the host lost its definition, write the epoch, start it. Running already: fine."""

    async def stop(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """End it at once. Not running already: fine."""

    async def shutdown(self, host: Host, partition: PartitionDefinition, timeout_seconds: int, work: Work) -> None:
        """Ask the guest, and return once it is off. Raises TimedOutError if it is not off in time."""

    async def reboot(self, host: Host, partition: PartitionDefinition, hard: bool, work: Work) -> None:
        """Ask the guest to reboot, or reset it (`hard`). Raises WrongStateError when it does not run."""

    async def delete(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Undefine it and delete the volumes made for it (image and blank disks). Gone already: fine.

        Raises WrongStateError when it runs.
        """


@runtime_checkable
class Observation(Protocol):
    """Reading what is. Every driver has this."""

    async def read_facts(self, host: Host) -> HostFacts:
        """Read what the host has."""

    async def observe(self, host: Host) -> tuple[ObservedPartition, ...]:
        """Every partition on the host, strangers included."""

    async def observe_partition(self, host: Host, partition_id: UUID) -> ObservedPartition | None:
        """One partition; None when the host does not have it."""

    async def watch(self, host: Host, report: Callable[[PartitionChange], Awaitable[None]]) -> None:
        """Report changes as they happen until cancelled. Raises HostUnreachableError when the host is lost."""

    async def mark(self, host: Host, partition: PartitionDefinition) -> None:
        """Write the epoch beside the partition, which makes a stranger ours."""


@runtime_checkable
class Pause(Protocol):
    """Letting a partition stand still in memory."""

    async def pause(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Let its CPUs stand still. Paused already: fine. Raises WrongStateError when it does not run."""

    async def unpause(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Let it go on. Running already: fine."""


@runtime_checkable
class Resize(Protocol):
    """Changing memory and vCPUs."""

    async def resize(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Bring memory, vCPUs and their maxima to the definition: live if it runs, and for the next start."""


@runtime_checkable
class CpuPinning(Protocol):
    """Tying vCPUs to host CPUs."""

    async def pin(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        """Bring the pinning to the definition's `cpu_pins`: live if it runs, and for the next start."""


@runtime_checkable
class Nics(Protocol):
    """Network interfaces, live if the partition runs, and for the next start."""

    async def attach_nic(self, host: Host, partition: PartitionDefinition, nic: NicDefinition, work: Work) -> None:
        """Add it; there already (by MAC): fine."""

    async def detach_nic(self, host: Host, partition: PartitionDefinition, nic: NicDefinition, work: Work) -> None:
        """Remove it (by MAC) and return once the guest let go of it; gone already: fine."""

    async def map_nic(self, host: Host, partition: PartitionDefinition, nic: NicDefinition, work: Work) -> None:
        """Plug it into the bridge that `nic` names, without taking it away from the guest."""


@runtime_checkable
class Disks(Protocol):
    """Disks, live if the partition runs, and for the next start."""

    async def attach_disk(self, host: Host, partition: PartitionDefinition, disk: DiskDefinition, work: Work) -> None:
        """Make its volume if needed and add it; there already (by target): fine."""

    async def detach_disk(
        self, host: Host, partition: PartitionDefinition, disk: DiskDefinition, keep: bool, work: Work
    ) -> None:
        """Remove it and return once the guest let go of it; delete a volume made for it unless `keep`."""


@runtime_checkable
class Migration(Protocol):
    """Moving a partition to another host of the same technology."""

    async def migrate(
        self,
        source: Host,
        target: Host,
        partition: PartitionDefinition,
        target_nics: tuple[NicDefinition, ...],
        live: bool,
        bandwidth_mib_s: int | None,
        work: Work,
    ) -> None:
        """Move it with its disks, live or regular, and check that exactly one side has it.

        `partition.epoch` is the new epoch; it stands on the target afterwards, and nothing of the partition stands
        on the source. Running before, running after; stopped before, stopped after. Found on the target already
        (a repeated command): fine. Ends early when `work.cancelled` is set.

        Raises MigrationError, with the side that has it now, or CancelledError when it was cancelled and still
        runs on the source.
        """


@runtime_checkable
class Console(Protocol):
    """Looking at the guest."""

    async def open_serial(self, host: Host, partition_id: UUID) -> ByteChannel:
        """The serial console of a running partition. A new session takes it over from an older one."""

    async def open_vnc(self, host: Host, partition_id: UUID) -> ByteChannel:
        """The VNC (RFB) stream of a running partition."""

    async def take_screenshot(self, host: Host, partition_id: UUID) -> Screenshot:
        """A picture of a running partition's screen."""


@runtime_checkable
class HostPreparation(Protocol):
    """Making a plain host a hypervisor."""

    async def prepare(self, host: Host, work: Work) -> tuple[Change, ...]:
        """Install and configure what is missing; returns what was changed (nothing, the second time)."""


class Driver(HostAccess, Lifecycle, Observation, Protocol):
    """The least that a driver is; it adds the capabilities that it declares."""
