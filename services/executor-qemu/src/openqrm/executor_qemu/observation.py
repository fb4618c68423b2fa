"""Reading every partition of a host, and reporting what changes by itself."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

from openqrm.contracts.partition import ObservedPartition
from openqrm.driver.capabilities import PartitionChange
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domains import find_domain, look, observe_domain
from openqrm.executor_qemu.naming import PROBE_NAME_PREFIX
from openqrm.executor_qemu.resize import clear_guest_vcpus
from openqrm.executor_qemu.sessions import REBOOTED

_OBSERVE_SECONDS = 60.0


async def observe(link: HostLink) -> tuple[ObservedPartition, ...]:
    """Every partition on the host, strangers included."""

    def read(connection: Any) -> tuple[ObservedPartition, ...]:
        domains = [d for d in connection.listAllDomains(0) if not d.name().startswith(PROBE_NAME_PREFIX)]
        return tuple(seen for seen in map(observe_domain, domains) if seen is not None)

    return await link.call("list the partitions", read, _OBSERVE_SECONDS)


async def observe_partition(link: HostLink, partition_id: UUID) -> ObservedPartition | None:
    """One partition, or None."""

    def read(connection: Any) -> ObservedPartition | None:
        domain = find_domain(connection, partition_id)
        return None if domain is None else observe_domain(domain)

    return await link.call(f"read partition {partition_id}", read)


async def watch(link: HostLink, report: Callable[[PartitionChange], Awaitable[None]]) -> None:
    """Report changes until cancelled; our own commands change things, too, and are reported like any other."""

    async for batch in link.news():
        for text, reason in batch.items():
            partition_id = UUID(text)
            if reason == REBOOTED:
                await link.call("note a reboot", partial(_note_reboot, partition_id=partition_id))
            observed = await observe_partition(link, partition_id)
            await report(PartitionChange(partition_id=partition_id, observed=observed, reason=reason))


def _note_reboot(connection: Any, partition_id: UUID) -> None:
    sight = look(connection, partition_id)
    if sight is not None and sight.active:
        clear_guest_vcpus(sight)
