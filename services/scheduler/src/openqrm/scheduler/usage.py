"""How much of each host is taken, kept by host id: a partition may be heard of before its host is."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Load:
    """What one partition takes."""

    memory_mib: int
    vcpus: int
    disk_mib: int = 0
    """Only of a proposal: what a placed partition's disks take shows in what the host reports as free."""


@dataclass(slots=True)
class Usage:
    """What all partitions on one host take."""

    memory_mib: int = 0
    vcpus: int = 0
    disk_mib: int = 0
    partitions: int = 0


NOTHING = Usage()


class Tally:
    """Usage by host."""

    def __init__(self) -> None:
        self._usage: dict[UUID, Usage] = {}

    def of(self, host_id: UUID) -> Usage:
        """What is taken of a host."""
        return self._usage.get(host_id, NOTHING)

    def add(self, host_ids: Iterable[UUID], load: Load, times: int = 1) -> None:
        """Count a load on hosts; with `times` -1, count it no longer."""
        for host_id in host_ids:
            usage = self._usage.setdefault(host_id, Usage())
            usage.memory_mib += times * load.memory_mib
            usage.vcpus += times * load.vcpus
            usage.disk_mib += times * load.disk_mib
            usage.partitions += times
            if not usage.partitions:
                del self._usage[host_id]
