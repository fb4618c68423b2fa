"""Disks: attached and detached, while the partition runs or not."""

import xml.etree.ElementTree as ET
from typing import Any

import libvirt

from openqrm.contracts.partition import DiskBus, DiskDefinition, PartitionDefinition
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.devices import DEVICE_SECONDS, attach, detach
from openqrm.executor_qemu.domain_reading import find_disk, parse_xml
from openqrm.executor_qemu.domain_xml import is_made, render_disk
from openqrm.executor_qemu.domains import Sight, called, need, write_marks
from openqrm.executor_qemu.metadata import Marks
from openqrm.executor_qemu.passwords import ensure_secrets, forget_secrets
from openqrm.executor_qemu.sides import iso_paths, side_of
from openqrm.executor_qemu.volumes import check_size, delete_volumes, existing_volumes, make_disk_volume


async def attach_disk(link: HostLink, partition: PartitionDefinition, disk: DiskDefinition, work: Work) -> None:
    """Make its volume if needed and add it, found by its target if it is there already."""
    check_size(disk)
    sight = await link.call(f"read {called(partition)}", lambda connection: need(connection, partition))
    if is_made(disk):
        await _make(link, partition, disk, sight, work)
    side = side_of(link.host.connection, iso_paths=await iso_paths(link, (disk,), work))
    xml = ET.tostring(render_disk(disk, partition, side), encoding="unicode")

    def run(connection: Any) -> None:
        ensure_secrets(connection, (disk,))
        if disk.bus is DiskBus.SCSI:
            attach(connection, partition, _find_scsi_controller, _SCSI_CONTROLLER)
        try:
            attach(connection, partition, lambda text: find_disk(text, disk.target), xml)
        except libvirt.libvirtError:
            if all(find_disk(text, disk.target) is None for _flag, text in need(connection, partition).scopes()):
                forget_secrets(connection, (disk,))
            raise

    await link.call(f"attach disk {disk.target} to {called(partition)}", run, DEVICE_SECONDS)


_SCSI_CONTROLLER = "<controller type='scsi' index='0' model='virtio-scsi'/>"


def _find_scsi_controller(xml: str) -> ET.Element | None:
    return parse_xml(xml).find("devices/controller[@type='scsi']")


async def _make(link: HostLink, partition: PartitionDefinition, disk: DiskDefinition, sight: Sight, work: Work) -> None:
    disk_id = str(disk.id)
    marks = sight.marks or Marks(partition.epoch)
    if disk_id not in marks.making and disk_id in await existing_volumes(link, partition, (disk,)):
        return

    def note(wanted: Marks) -> Any:
        return lambda connection: write_marks(need(connection, partition), wanted)

    doing = f"mark {called(partition)}"
    await link.call(doing, note(marks.with_making(disk_id)))
    await make_disk_volume(link, partition, disk, work)
    await link.call(doing, note(marks.without_making(disk_id)))


async def detach_disk(link: HostLink, partition: PartitionDefinition, disk: DiskDefinition, keep: bool) -> None:
    """Remove it, then its volume unless it is to be kept."""
    await detach(link, partition, lambda text: find_disk(text, disk.target), f"disk {disk.target}")
    await link.call(
        f"forget the password of disk {disk.target}", lambda connection: forget_secrets(connection, (disk,))
    )
    if not keep:
        await delete_volumes(link, partition, (disk,))
