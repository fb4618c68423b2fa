"""What a domain's XML takes from its host: options, acceleration, and where its ISOs lie."""

from uuid import UUID

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.contracts.host import HostConnection
from openqrm.contracts.partition import DiskDefinition, PartitionDefinition
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.acceleration import acceleration_of
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_xml import HostSide, is_iso
from openqrm.executor_qemu.images import image_path

OPTIONS = frozenset(
    {
        "acceleration",
        "allow_plain_tcp",
        "bridge",
        "bridge_kind",
        "bridge_uplink",
        "cpu_model",
        "disk_cache",
        "initiator_iqn",
        "migration_tls",
        "nfs_group",
        "nfs_user",
        "vnc_listen",
    }
)
"""The options of a host connection that this driver knows."""


def check_options(connection: HostConnection) -> None:
    """Raise InvalidError for an option that nothing here knows: it would be ignored silently."""
    unknown = sorted(set(connection.options) - OPTIONS)
    if unknown:
        message = f"unknown, known are {', '.join(sorted(OPTIONS))}"
        raise InvalidError(
            f"Host option {', '.join(unknown)}: {message}.",
            fields=tuple(FieldProblem(field=f"connection.options.{name}", message=message) for name in unknown),
        )


def side_of(connection: HostConnection, acceleration: str = "", iso_paths: dict[UUID, str] | None = None) -> HostSide:
    """A host's part in a domain's XML; without `acceleration` it serves for single devices only."""
    options = connection.options
    return HostSide(
        acceleration=acceleration,
        storage_path=connection.storage_path,
        vnc_listen=options.get("vnc_listen", "127.0.0.1"),
        cpu_model=options.get("cpu_model"),
        disk_cache=options.get("disk_cache", "none"),
        bridge_kind=options.get("bridge_kind", "linux"),
        nfs_owner=(options.get("nfs_user", "0"), options.get("nfs_group", "0")),
        initiator_iqn=options.get("initiator_iqn"),
        iso_paths=iso_paths or {},
    )


async def iso_paths(link: HostLink, disks: tuple[DiskDefinition, ...], work: Work) -> dict[UUID, str]:
    """Disk id to the path of its ISO on the host, uploaded where it is not there yet."""
    return {disk.id: await image_path(link, disk.image, work) for disk in disks if is_iso(disk) and disk.image}


async def full_side(link: HostLink, partition: PartitionDefinition, work: Work) -> HostSide:
    """Everything that a whole domain's XML takes from its host."""
    acceleration = await acceleration_of(link)
    return side_of(link.host.connection, acceleration, await iso_paths(link, partition.disks, work))
