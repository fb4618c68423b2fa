"""The volumes of a partition's own disks: made, looked for, deleted."""

from collections.abc import Callable
from typing import Any

import libvirt

from openqrm.contracts.errors import DriverError, FieldProblem, InvalidError, TemporaryError
from openqrm.contracts.partition import BlankDisk, DiskDefinition, ImageDisk, PartitionDefinition
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_xml import is_made
from openqrm.executor_qemu.domains import called
from openqrm.executor_qemu.errors import RETRY_BUSY_SECONDS, code_of, translate
from openqrm.executor_qemu.images import ensure_image
from openqrm.executor_qemu.naming import volume_name
from openqrm.executor_qemu.pools import delete_volume, ensure_pool, find_pool, find_volume, make_volume, volume_xml

MIB = 2**20

_CLONE_BYTES_PER_SECOND = 10 * MIB
"""A disk slower than this is treated as hanging."""
_CLONE_BASE_SECONDS = 120.0
_REFRESH_SECONDS = 60.0
_BUSY_ATTEMPTS = 20
_BUSY_WAIT_SECONDS = 0.5
_BUSY = ("asynchronous jobs", "still being allocated")
"""What libvirt says of a pool or a volume that another call, maybe one that was given up, is still at work on."""


def volume_of(partition: PartitionDefinition, disk: DiskDefinition) -> str:
    """The name of a made disk's volume."""
    source = disk.source
    if not isinstance(source, ImageDisk | BlankDisk):
        raise TypeError(f"{disk.target} has no volume of its own")
    return volume_name(partition.id, disk.id, source.format)


async def _once_idle(
    link: HostLink, doing: str, function: Callable[[Any], object], timeout: float | None = None
) -> None:
    """Call libvirt once nothing else is at work on the pool or the volume."""

    def attempt(connection: Any) -> bool:
        try:
            function(connection)
        except libvirt.libvirtError as error:
            if any(words in str(error) for words in _BUSY):
                return False
            raise
        return True

    for _ in range(_BUSY_ATTEMPTS):
        if await link.call(doing, attempt, timeout):
            return
        await link.clock.sleep(_BUSY_WAIT_SECONDS)
    raise TemporaryError(
        f"Could not {doing} on host '{link.host.name}': its storage is busy with something else.",
        retry_after=RETRY_BUSY_SECONDS,
    )


async def refresh_pool(link: HostLink) -> None:
    """Let the host's libvirt see files that came into the pool without it."""
    path = link.host.connection.storage_path
    await _once_idle(
        link, f"read the folder {path}", lambda connection: ensure_pool(connection, path).refresh(0), _REFRESH_SECONDS
    )


async def existing_volumes(
    link: HostLink, partition: PartitionDefinition, disks: tuple[DiskDefinition, ...]
) -> frozenset[str]:
    """Ids of those of the disks whose volume is there."""
    names = {str(disk.id): volume_of(partition, disk) for disk in disks if is_made(disk)}
    if not names:
        return frozenset()
    if link.host.connection.shared_storage:
        await refresh_pool(link)
    path = link.host.connection.storage_path

    def find(connection: Any) -> frozenset[str]:
        pool = ensure_pool(connection, path)
        return frozenset(disk_id for disk_id, name in names.items() if find_volume(pool, name) is not None)

    return await link.call(f"look for the volumes of {called(partition)}", find)


def check_size(disk: DiskDefinition) -> None:
    """Raise InvalidError when a disk is to be smaller than the image that it is made from."""
    source = disk.source
    if isinstance(source, ImageDisk) and disk.image is not None and source.size_mib is not None:
        least = disk.image.virtual_size_mib
        if source.size_mib < least:
            message = f"{source.size_mib} MiB is less than the image's own {least} MiB"
            raise InvalidError(
                f"Disk {disk.target}: {message}.",
                fields=(FieldProblem(field=f"disks.{disk.target}.size_mib", message=message, limit=str(least)),),
            )


async def make_disk_volume(link: HostLink, partition: PartitionDefinition, disk: DiskDefinition, work: Work) -> None:
    """Make a made disk's volume anew: an unfinished one of the same name is deleted first."""
    check_size(disk)
    source, name = disk.source, volume_of(partition, disk)
    path = link.host.connection.storage_path
    doing = f"make the volume of disk {disk.target} of {called(partition)}"
    await _once_idle(link, f"{doing} anew", lambda connection: delete_volume(ensure_pool(connection, path), name))
    if isinstance(source, BlankDisk):
        size, layout = source.size_mib * MIB, source.format.value
        await link.call(doing, lambda connection: make_volume(ensure_pool(connection, path), name, layout, size))
        return
    if disk.image is None or not isinstance(source, ImageDisk):
        raise DriverError(f"Could not {doing}: the command says nothing about the image's content.")
    image_volume = await ensure_image(link, disk.image, work)
    await work.progress(80, f"copying the image to disk {disk.target}")
    wanted = source.size_mib * MIB if source.size_mib else 0
    layout = source.format.value

    def clone(connection: Any) -> None:
        pool = ensure_pool(connection, path)
        origin = pool.storageVolLookupByName(image_volume)
        capacity = origin.info()[1]
        volume = pool.createXMLFrom(volume_xml(name, layout, capacity), origin, 0)
        if wanted > volume.info()[1]:
            volume.resize(wanted, 0)

    # A connection of its own: a clone may take minutes, and the host's other calls are to go on meanwhile.
    limit = _CLONE_BASE_SECONDS + disk.image.virtual_size_mib * MIB / _CLONE_BYTES_PER_SECOND
    async with link.dedicated() as session:
        try:
            await session.run(clone, limit)
        except libvirt.libvirtError as error:
            raise translate(code_of(error), str(error), doing, link.host.name, session.lost) from error
        except TimeoutError:
            raise TemporaryError(
                f"Host '{link.host.name}' did not {doing} within {limit:.0f} s.", retry_after=RETRY_BUSY_SECONDS
            ) from None


async def delete_volumes(
    link: HostLink,
    partition: PartitionDefinition,
    disks: tuple[DiskDefinition, ...],
    others: frozenset[str] = frozenset(),
) -> None:
    """Delete the volumes that were made for these disks, and `others` by name; gone already is fine."""
    names = sorted(others | {volume_of(partition, disk) for disk in disks if is_made(disk)})
    if not names:
        return
    if link.host.connection.shared_storage:
        await refresh_pool(link)
    path = link.host.connection.storage_path

    def delete(connection: Any) -> None:
        pool = find_pool(connection, path)
        if pool is None:
            return
        if not pool.isActive():
            pool = ensure_pool(connection, path)
        for name in names:
            delete_volume(pool, name)

    await _once_idle(link, f"delete the volumes of {called(partition)}", delete)
