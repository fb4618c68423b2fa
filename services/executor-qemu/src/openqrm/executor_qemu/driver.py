"""The QEMU driver: every capability of the driver SDK, carried out through libvirt."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.contracts.console import Screenshot
from openqrm.contracts.execution import Change
from openqrm.contracts.host import HostFacts
from openqrm.contracts.partition import DiskDefinition, NicDefinition, ObservedPartition, PartitionDefinition
from openqrm.driver.capabilities import ByteChannel, Host, PartitionChange, Work
from openqrm.executor_qemu import console, disks, facts, lifecycle, nics, observation, pinning, resize
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.migration import Move, migrate
from openqrm.executor_qemu.prepare.run import prepare_host
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.sides import check_options
from openqrm.executor_qemu.tunnels import TransportLoop


class QemuDriver:
    """QEMU/KVM hosts through libvirt. What each method does and raises is said in the SDK's protocols."""

    def __init__(self, settings: QemuSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._transport: TransportLoop | None = None
        self._links: dict[UUID, HostLink] = {}
        self._changing = asyncio.Lock()

    # -------------------------------------------------------------------------------------------- reaching hosts

    async def _link(self, host: Host) -> HostLink:
        """The link to the host, made anew when its address or its options changed."""
        link = self._links.get(host.id)
        if link is not None and link.host == host:
            return link
        async with self._changing:
            link = self._links.get(host.id)
            if link is not None and link.host == host:
                return link
            check_options(host.connection)
            if self._transport is None:
                self._transport = TransportLoop()
            fresh = HostLink(host, self._settings, self._clock, self._transport)
            self._links[host.id] = fresh
            if link is not None:
                await link.close()
            return fresh

    async def connect(self, host: Host) -> None:
        await (await self._link(host)).connect()

    async def disconnect(self, host_id: UUID) -> None:
        link = self._links.get(host_id)
        if link is not None:  # it stays: a migration may hold it
            await link.hang_up()

    async def ping(self, host: Host) -> None:
        await (await self._link(host)).ping()

    async def close(self) -> None:
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.close()

    # ------------------------------------------------------------------------------------------------- lifecycle

    async def create(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        await lifecycle.create(await self._link(host), partition, work)

    async def start(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        await lifecycle.start(await self._link(host), partition, work)

    async def stop(self, host: Host, partition: PartitionDefinition, work: Work) -> None:  # noqa: ARG002 - protocol
        await lifecycle.stop(await self._link(host), partition)

    async def shutdown(
        self,
        host: Host,
        partition: PartitionDefinition,
        timeout_seconds: int,
        work: Work,  # noqa: ARG002 - protocol
    ) -> None:
        await lifecycle.shutdown(await self._link(host), partition, timeout_seconds)

    async def reboot(
        self,
        host: Host,
        partition: PartitionDefinition,
        hard: bool,
        work: Work,  # noqa: ARG002 - protocol
    ) -> None:
        await lifecycle.reboot(await self._link(host), partition, hard)

    async def delete(self, host: Host, partition: PartitionDefinition, work: Work) -> None:  # noqa: ARG002 - protocol
        await lifecycle.delete(await self._link(host), partition)

    async def pause(self, host: Host, partition: PartitionDefinition, work: Work) -> None:  # noqa: ARG002 - protocol
        await lifecycle.pause(await self._link(host), partition)

    async def unpause(self, host: Host, partition: PartitionDefinition, work: Work) -> None:  # noqa: ARG002 - protocol
        await lifecycle.unpause(await self._link(host), partition)

    # ----------------------------------------------------------------------------------------------- observation

    async def read_facts(self, host: Host) -> HostFacts:
        return await facts.read_facts(await self._link(host))

    async def observe(self, host: Host) -> tuple[ObservedPartition, ...]:
        return await observation.observe(await self._link(host))

    async def observe_partition(self, host: Host, partition_id: UUID) -> ObservedPartition | None:
        return await observation.observe_partition(await self._link(host), partition_id)

    async def watch(self, host: Host, report: Callable[[PartitionChange], Awaitable[None]]) -> None:
        await observation.watch(await self._link(host), report)

    async def mark(self, host: Host, partition: PartitionDefinition) -> None:
        await lifecycle.mark(await self._link(host), partition)

    # ---------------------------------------------------------------------------------------- resize and pinning

    async def resize(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        await resize.resize(await self._link(host), partition, work)

    async def pin(self, host: Host, partition: PartitionDefinition, work: Work) -> None:  # noqa: ARG002 - protocol
        await pinning.pin(await self._link(host), partition)

    # ------------------------------------------------------------------------------------------- NICs and disks

    async def attach_nic(
        self,
        host: Host,
        partition: PartitionDefinition,
        nic: NicDefinition,
        work: Work,  # noqa: ARG002 - protocol
    ) -> None:
        await nics.attach_nic(await self._link(host), partition, nic)

    async def detach_nic(
        self,
        host: Host,
        partition: PartitionDefinition,
        nic: NicDefinition,
        work: Work,  # noqa: ARG002 - protocol
    ) -> None:
        await nics.detach_nic(await self._link(host), partition, nic)

    async def map_nic(
        self,
        host: Host,
        partition: PartitionDefinition,
        nic: NicDefinition,
        work: Work,  # noqa: ARG002 - protocol
    ) -> None:
        await nics.map_nic(await self._link(host), partition, nic)

    async def attach_disk(self, host: Host, partition: PartitionDefinition, disk: DiskDefinition, work: Work) -> None:
        await disks.attach_disk(await self._link(host), partition, disk, work)

    async def detach_disk(
        self,
        host: Host,
        partition: PartitionDefinition,
        disk: DiskDefinition,
        keep: bool,
        work: Work,  # noqa: ARG002 - protocol
    ) -> None:
        await disks.detach_disk(await self._link(host), partition, disk, keep)

    # ------------------------------------------------------------------------------------------------ migration

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
        by_mac = {nic.mac: nic for nic in target_nics}
        links = await self._link(source), await self._link(target)
        await migrate(Move(*links, partition, by_mac, live, bandwidth_mib_s, work))

    # -------------------------------------------------------------------------------------------------- console

    async def open_serial(self, host: Host, partition_id: UUID) -> ByteChannel:
        return await console.open_serial(await self._link(host), partition_id)

    async def open_vnc(self, host: Host, partition_id: UUID) -> ByteChannel:
        return await console.open_vnc(await self._link(host), partition_id)

    async def take_screenshot(self, host: Host, partition_id: UUID) -> Screenshot:
        return await console.take_screenshot(await self._link(host), partition_id)

    # ---------------------------------------------------------------------------------------------- preparation

    async def prepare(self, host: Host, work: Work) -> tuple[Change, ...]:
        check_options(host.connection)
        return await prepare_host(host, self._settings, work)


def create_driver(clock: Clock, settings: QemuSettings | None = None) -> QemuDriver:
    """The driver, as the SDK's service makes it; settings left out come from the environment."""
    return QemuDriver(settings or QemuSettings(), clock)
