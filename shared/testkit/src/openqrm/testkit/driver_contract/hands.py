"""Somebody else's hands on a host: what the contract does there behind the driver's back."""

# ruff: noqa: ARG002 - overridden by those who can

from typing import NoReturn
from uuid import UUID

import pytest

from openqrm.driver.capabilities import Host


class Hands:
    """Overridden by each driver's tests; what is not overridden cannot be done there, and its tests are skipped."""

    bridges: tuple[str, ...] = ()
    """Two bridges that every host of the tests has."""
    guest_listens = False
    """Whether the guest that a new partition boots shuts down, reboots and gives devices back when it is asked."""
    news_seconds = 5.0
    """Within so many seconds `watch` reports what happens on a host."""
    disk_formats: tuple[str, ...] = ("qcow2", "raw")
    mac_prefix = "02:fa:4e:00:00:"
    """The first five bytes of the addresses that the contract gives to NICs."""

    async def booted(self, host: Host, partition_id: UUID) -> None:
        """Wait until the guest of a partition that was just started listens; only asked when guests do."""

    async def crash(self, host: Host, partition_id: UUID) -> None:
        """End a running partition as a crash would."""
        _cannot("crash a partition")

    async def stop_by_hand(self, host: Host, partition_id: UUID) -> None:
        """Stop a running partition with the hypervisor's own tools."""
        _cannot("stop a partition by hand")

    async def undefine_by_hand(self, host: Host, partition_id: UUID) -> None:
        """Remove a stopped partition's definition, not its disks, with the hypervisor's own tools."""
        _cannot("remove a partition by hand")

    async def make_stranger(self, host: Host, name: str) -> UUID:
        """Make a partition with the hypervisor's own tools, stopped or running; returns its id."""
        _cannot("make a stranger")

    async def remove_stranger(self, host: Host, partition_id: UUID) -> None:
        """Remove it again."""
        _cannot("remove a stranger")

    async def lose(self, host: Host) -> None:
        """Cut the host off the network; what runs on it goes on."""
        _cannot("cut a host off the network")

    async def find(self, host: Host) -> None:
        """Put it back."""
        _cannot("put a host back on the network")

    async def volumes(self, host: Host, partition_id: UUID) -> set[str]:
        """What was made on the host's storage for a partition."""
        _cannot("list volumes")

    async def cpu_pins(self, host: Host, partition_id: UUID) -> dict[int, tuple[int, ...]]:
        """The host CPUs of each vCPU that is pinned."""
        _cannot("read the pinning")

    async def boots(self, host: Host, partition_id: UUID) -> int:
        """How often the guest has booted; only differences count."""
        _cannot("count boots")


def _cannot(what: str) -> NoReturn:
    pytest.skip(f"this driver's tests cannot {what}")
