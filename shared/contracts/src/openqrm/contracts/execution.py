"""Executions: routed commands, which inventory sends to the executor of one host, and what comes of them.

Each carries the whole definition as it should be afterwards, so that carrying it out twice does no harm.
"""

from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.errors import Problem
from openqrm.contracts.host import HostConnection, HostFacts
from openqrm.contracts.ids import Technology
from openqrm.contracts.message import EXECUTOR, INVENTORY, Event, RoutedCommand, Sample
from openqrm.contracts.partition import (
    DiskDefinition,
    NicDefinition,
    ObservedPartition,
    PartitionDefinition,
)


class PartitionExecution(RoutedCommand):
    """A routed command on one partition."""

    verb: ClassVar[str] = ""
    starts_it: ClassVar[bool] = False
    """Whether carrying it out can make the partition run: the epoch is then checked with inventory, too."""

    partition: PartitionDefinition


class ExecuteCreatePartition(PartitionExecution, subject="partition.create.{technology}.{host}"):
    """Make its disks and define it; start it if asked."""

    starts_it: ClassVar[bool] = True
    start: bool


class ExecuteStartPartition(PartitionExecution, subject="partition.start.{technology}.{host}"):
    """Start it; one that runs already is left running."""

    starts_it: ClassVar[bool] = True


class ExecuteStopPartition(PartitionExecution, subject="partition.stop.{technology}.{host}"):
    """Stop it at once; one that is stopped already stays so."""


class ExecuteShutdownPartition(PartitionExecution, subject="partition.shutdown.{technology}.{host}"):
    """Ask the guest to shut down and wait until it has."""

    timeout_seconds: int
    force: bool


class ExecuteRebootPartition(PartitionExecution, subject="partition.reboot.{technology}.{host}"):
    """Reboot the guest, or reset it."""

    hard: bool


class ExecutePausePartition(PartitionExecution, subject="partition.pause.{technology}.{host}"):
    """Let its CPUs stand still."""


class ExecuteUnpausePartition(PartitionExecution, subject="partition.unpause.{technology}.{host}"):
    """Let it go on."""


class ExecuteResizePartition(PartitionExecution, subject="partition.resize.{technology}.{host}"):
    """Bring memory and vCPUs to what the definition says, live if it runs."""


class ExecutePinPartition(PartitionExecution, subject="partition.pin.{technology}.{host}"):
    """Bring the pinning to what the definition says."""


class ExecuteMigratePartition(PartitionExecution, subject="partition.migrate.{technology}.{host}"):
    """Move it from this host (`host_id`) to another one of the same technology."""

    starts_it: ClassVar[bool] = True
    target_host_id: UUID
    target_nics: tuple[NicDefinition, ...] = Field(description="The NICs with the target host's bridges")
    live: bool
    bandwidth_mib_s: int | None = None


class ExecuteDeletePartition(PartitionExecution, subject="partition.delete.{technology}.{host}"):
    """Undefine it and delete the disks that were made for it; one that is gone already is fine."""


class ExecuteAttachNic(PartitionExecution, subject="partition.attach_nic.{technology}.{host}"):
    """Add the NIC, now and for the next start."""

    nic: NicDefinition


class ExecuteDetachNic(PartitionExecution, subject="partition.detach_nic.{technology}.{host}"):
    """Remove the NIC, now and for the next start."""

    nic: NicDefinition


class ExecuteMapNic(PartitionExecution, subject="partition.map_nic.{technology}.{host}"):
    """Plug the NIC into the bridge that it names."""

    nic: NicDefinition


class ExecuteAttachDisk(PartitionExecution, subject="partition.attach_disk.{technology}.{host}"):
    """Add the disk, making its volume if it has to be made."""

    disk: DiskDefinition


class ExecuteDetachDisk(PartitionExecution, subject="partition.detach_disk.{technology}.{host}"):
    """Remove the disk; delete the volume if it was made for this partition and is not to be kept."""

    disk: DiskDefinition
    keep: bool


class ExecuteAdoptPartition(PartitionExecution, subject="partition.adopt.{technology}.{host}"):
    """Write the epoch beside a stranger, which makes it ours."""


class HostExecution(RoutedCommand):
    """A routed command on the host itself. The connection comes with it: the executor may not know the host yet."""

    host_name: str
    connection: HostConnection


class ExecuteEnrolHost(HostExecution, subject="host.enrol.{technology}.{host}"):
    """Reach the host, read its facts and what runs on it."""


class ExecutePrepareHost(HostExecution, subject="host.prepare.{technology}.{host}"):
    """Install and configure the hypervisor."""


class ExecuteCancelOperation(RoutedCommand, subject="operation.cancel.{technology}.{host}"):
    """Cancel an execution that runs on this host; `operation_id` is that of the execution."""

    partition_id: UUID | None


class ExecutionOutcome(Event):
    """The end of one routed command."""

    operation_id: UUID
    host_id: UUID
    technology: Technology
    partition_id: UUID | None
    epoch: int | None
    subject_verb: str = Field(description="Such as partition.start")
    observed: ObservedPartition | None = Field(description="The partition as it was seen right afterwards")
    ended_at: AwareDatetime


class ExecutionSucceeded(
    ExecutionOutcome, subject="execution.succeeded", publishers=(EXECUTOR,), consumers=(INVENTORY,)
):
    """It was carried out and checked on the host."""

    facts: HostFacts | None = None
    result: dict[str, Any] = Field(default_factory=dict)


class RunsOn(StrEnum):
    """Which side has the partition after a migration that did not end well."""

    SOURCE = "source"
    TARGET = "target"
    NEITHER = "neither"
    UNKNOWN = "unknown"


class ExecutionFailed(ExecutionOutcome, subject="execution.failed", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """It was not carried out, or not wholly; `observed` says what stands."""

    error: Problem
    runs_on: RunsOn | None = Field(default=None, description="After a migration: where it is now")


class ExecutionProgressed(Sample, subject="execution.progressed", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """A long one came further."""

    model_config = ConfigDict(frozen=True)

    operation_id: UUID
    progress: int = Field(ge=0, le=100)
    step: str


class Change(BaseModel):
    """One thing that host.prepare changed, for the operation's result."""

    model_config = ConfigDict(frozen=True)

    what: str
    before: str | None = None
    after: str
