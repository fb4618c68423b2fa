"""libvirt's domain XML, as what we know about a partition. Pure."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from uuid import UUID

import libvirt

from openqrm.contracts.partition import ObservedDisk, ObservedNic, ObservedPartition
from openqrm.contracts.states import ObservedState
from openqrm.executor_qemu.metadata import Marks, read_marks

_BYTES = {
    "b": 1,
    "bytes": 1,
    "KB": 10**3,
    "k": 2**10,
    "KiB": 2**10,
    "MB": 10**6,
    "M": 2**20,
    "MiB": 2**20,
    "GB": 10**9,
    "G": 2**30,
    "GiB": 2**30,
    "TB": 10**12,
    "T": 2**40,
    "TiB": 2**40,
}


def parse_xml(xml: str) -> ET.Element:
    """XML from a host's libvirt, which we trust with root's guests."""
    return ET.fromstring(xml)  # noqa: S314


def mib_of(element: ET.Element | None) -> int | None:
    """A memory size in MiB; libvirt's unit is KiB unless it says another."""
    if element is None or not element.text:
        return None
    return int(element.text) * _BYTES[element.get("unit", "KiB")] // 2**20


def observed_state(state: int, reason: int, persistent: bool) -> ObservedState:
    """libvirt's state and reason as ours."""
    if state == libvirt.VIR_DOMAIN_SHUTOFF:
        crashed = reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
        return ObservedState.CRASHED if crashed else ObservedState.STOPPED
    if state == libvirt.VIR_DOMAIN_CRASHED:
        return ObservedState.CRASHED
    if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
        # The receiving end is made persistent only once it is complete.
        receiving = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
        if state == libvirt.VIR_DOMAIN_PAUSED and not persistent and reason in receiving:
            return ObservedState.INCOMING
        if reason == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP:
            return ObservedState.RUNNING
        return ObservedState.PAUSED
    return ObservedState.RUNNING


def read_nics(domain: ET.Element) -> tuple[ObservedNic, ...]:
    """The network interfaces."""
    found = []
    for interface in domain.findall("devices/interface"):
        mac, source, model = interface.find("mac"), interface.find("source"), interface.find("model")
        if mac is None:
            continue
        bridge = None if source is None else source.get("bridge") or source.get("network") or source.get("dev")
        found.append(
            ObservedNic(
                mac=mac.get("address", "").lower(),
                bridge=bridge,
                model=None if model is None else model.get("type"),
            )
        )
    return tuple(found)


def disk_source(disk: ET.Element) -> str:
    """Where a disk's bytes are: a path, a device, pool/volume or protocol://host:port/name; empty for no medium."""
    source = disk.find("source")
    if source is None:
        return ""
    if protocol := source.get("protocol"):
        server = source.find("host")
        name = "" if server is None else server.get("name", "")
        port = "" if server is None or not server.get("port") else f":{server.get('port')}"
        return f"{protocol}://{name}{port}/{source.get('name', '').lstrip('/')}"
    if pool := source.get("pool"):
        return f"{pool}/{source.get('volume', '')}"
    return source.get("file") or source.get("dev") or source.get("dir") or ""


def read_disks(domain: ET.Element) -> tuple[ObservedDisk, ...]:
    """The disks and CD-ROMs."""
    found = []
    for disk in domain.findall("devices/disk"):
        target = disk.find("target")
        if target is not None:
            found.append(ObservedDisk(target=target.get("dev", ""), source=disk_source(disk), bus=target.get("bus")))
    return tuple(found)


@dataclass(frozen=True)
class Size:
    """Memory in MiB and vCPUs of a domain."""

    memory_mib: int | None
    memory_max_mib: int | None
    vcpus: int | None
    vcpus_max: int | None


def read_size(domain: ET.Element) -> Size:
    """What a domain has and may have."""
    memory_max = mib_of(domain.find("memory"))
    vcpu = domain.find("vcpu")
    vcpus_max = int(vcpu.text) if vcpu is not None and vcpu.text else None
    current = None if vcpu is None else vcpu.get("current")
    return Size(
        memory_mib=mib_of(domain.find("currentMemory")) or memory_max,
        memory_max_mib=memory_max,
        vcpus=int(current) if current else vcpus_max,
        vcpus_max=vcpus_max,
    )


def read_partition(
    xml: str, state: int, reason: int, persistent: bool, config_xml: str | None = None
) -> ObservedPartition:
    """A domain as a partition seen on its host.

    With `config_xml`, its definition for the next start, the memory of one of ours is what its balloon is set to:
    while the guest's driver is not up yet, or where it has none, the balloon itself still stands at the ceiling.
    """
    domain = parse_xml(xml)
    marks: Marks | None = read_marks(domain)
    size = read_size(domain)
    vcpus, memory_mib = size.vcpus, size.memory_mib
    if marks is not None and config_xml is not None:
        memory_mib = read_size(parse_xml(config_xml)).memory_mib
    if marks is not None and marks.guest_vcpus is not None and vcpus is not None:
        vcpus = min(vcpus, marks.guest_vcpus)
    return ObservedPartition(
        id=UUID(domain.findtext("uuid", "")),
        name=domain.findtext("title") or domain.findtext("name", ""),
        state=observed_state(state, reason, persistent),
        epoch=None if marks is None else marks.epoch,
        memory_mib=memory_mib,
        memory_max_mib=size.memory_max_mib,
        vcpus=vcpus,
        vcpus_max=size.vcpus_max,
        nics=read_nics(domain),
        disks=read_disks(domain),
    )


def find_nic(xml: str, mac: str) -> ET.Element | None:
    """The <interface> with this MAC address."""
    for interface in parse_xml(xml).findall("devices/interface"):
        found = interface.find("mac")
        if found is not None and found.get("address", "").lower() == mac.lower():
            return interface
    return None


def find_disk(xml: str, target: str) -> ET.Element | None:
    """The <disk> with this target."""
    for disk in parse_xml(xml).findall("devices/disk"):
        found = disk.find("target")
        if found is not None and found.get("dev") == target:
            return disk
    return None


@dataclass(frozen=True)
class Display:
    """Where a domain's VNC server listens on its host."""

    address: str
    port: int


def read_display(xml: str) -> Display | None:
    """The VNC display of a running domain; None when it has none."""
    for graphics in parse_xml(xml).findall("devices/graphics[@type='vnc']"):
        port = int(graphics.get("port", "-1"))
        if port > 0:
            return Display(address=graphics.get("listen") or "127.0.0.1", port=port)
    return None


def is_emulated(xml: str) -> bool:
    """Whether a domain runs under TCG, that is without KVM."""
    return parse_xml(xml).get("type") == "qemu"


def disk_paths(xml: str) -> dict[str, str]:
    """Target to path, of the disks that are files."""
    found = {}
    for disk in parse_xml(xml).findall("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is not None and source is not None and source.get("file"):
            found[target.get("dev", "")] = source.get("file", "")
    return found


def own_volumes(xml: str, partition_id: UUID, storage_path: str) -> frozenset[str]:
    """Names of the volumes in our folder that were made for this partition and that the domain uses."""
    folder = storage_path.rstrip("/") + "/"
    names = (path.removeprefix(folder) for path in disk_paths(xml).values() if path.startswith(folder))
    return frozenset(name for name in names if name.startswith(f"{partition_id}-") and "/" not in name)
