"""The states of partitions, hosts and operations. Which may follow which is inventory's to say."""

from enum import StrEnum


class PartitionState(StrEnum):
    """What a partition is doing, as far as inventory knows."""

    CREATING = "creating"
    """Its disks and its definition are being made on a host."""
    STOPPED = "stopped"
    """Defined on a host, not running."""
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    """In memory, its CPUs stand still."""
    UNPAUSING = "unpausing"
    STOPPING = "stopping"
    REBOOTING = "rebooting"
    MIGRATING = "migrating"
    DELETING = "deleting"
    DELETED = "deleted"
    CRASHED = "crashed"
    """It ended by itself, not by a wish of ours or of its guest."""
    MISSING = "missing"
    """Its host answers and does not have it."""
    UNKNOWN = "unknown"
    """Its host does not answer, or an operation on it ended without a clear outcome."""


class DesiredState(StrEnum):
    """What a partition should be doing."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    DELETED = "deleted"


class ObservedState(StrEnum):
    """What an executor sees a partition doing on its host."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    CRASHED = "crashed"
    INCOMING = "incoming"
    """The receiving end of a migration that has not taken over yet."""


class HostState(StrEnum):
    """What a host can be used for."""

    ENROLLING = "enrolling"
    """Its executor is being asked to reach it for the first time."""
    ENROLLED = "enrolled"
    """Reached, but its hypervisor is not ready; `host.prepare` makes it so."""
    PREPARING = "preparing"
    READY = "ready"
    """Takes partitions."""
    DRAINING = "draining"
    """Its partitions are being moved away, before maintenance."""
    MAINTENANCE = "maintenance"
    """Takes no new partitions; those on it keep running."""
    UNREACHABLE = "unreachable"
    """Does not answer. Nothing on it is started elsewhere without a proof."""
    FAILED = "failed"
    """Declared dead, with proof."""
    RETURNING = "returning"
    """Answers again; its stale partitions are being dealt with."""
    REMOVING = "removing"
    REMOVED = "removed"


class OperationState(StrEnum):
    """How far one requested change has come."""

    QUEUED = "queued"
    """Behind another operation on the same partition or host."""
    WAITING = "waiting"
    """For capacity, because the caller asked to wait."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    """Refused before anything was done."""


FINAL_OPERATION_STATES = frozenset(
    {OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED, OperationState.REJECTED}
)
