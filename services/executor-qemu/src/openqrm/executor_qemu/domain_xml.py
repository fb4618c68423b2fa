"""A partition's definition as libvirt's domain XML. Pure.

Choices, and why:

- Machine: `pc` with BIOS, because it boots fastest under emulation and every slot of it takes hot-plugged devices;
  `q35` with UEFI, with free root ports for hot-plug.
- CPU: `host-model` with KVM; `qemu64` under emulation, the fastest there and the same on every host.
  The host's option `cpu_model` replaces either.
- Memory: <memory> is the ceiling, <currentMemory> what the balloon leaves the guest.
- Disks: cache none, so that a live migration is safe. Aliases of ours, so that a device is found again.
- NICs without option ROM, unless there is nothing else to boot from: it costs time at every start.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from uuid import UUID

from openqrm.contracts.errors import FieldProblem, InvalidError, UnsupportedError
from openqrm.contracts.image import ImageFormat
from openqrm.contracts.partition import (
    BlankDisk,
    BlockDisk,
    DiskBus,
    DiskDefinition,
    DiskProtocol,
    FileDisk,
    Firmware,
    ImageDisk,
    NetworkDisk,
    NicDefinition,
    PartitionDefinition,
)
from openqrm.executor_qemu.metadata import Marks, with_marks
from openqrm.executor_qemu.naming import disk_alias, nic_alias, secret_id, volume_name

HOTPLUG_ROOT_PORTS = 16
_IDE_UNITS = 4
_DEFAULT_PORTS = {DiskProtocol.ISCSI: 3260, DiskProtocol.NFS: None, DiskProtocol.NBD: 10809}


@dataclass(frozen=True)
class HostSide:
    """What of a domain's XML comes from its host."""

    acceleration: str
    """kvm or tcg."""
    storage_path: str
    vnc_listen: str = "127.0.0.1"
    cpu_model: str | None = None
    disk_cache: str = "none"
    bridge_kind: str = "linux"
    """linux or openvswitch."""
    nfs_owner: tuple[str, str] = ("0", "0")
    """User and group that NFS disks are read as."""
    initiator_iqn: str | None = None
    iso_paths: dict[UUID, str] = field(default_factory=dict)
    """Disk id to the path of its ISO on the host."""


def is_iso(disk: DiskDefinition) -> bool:
    """Whether the disk is a CD-ROM made of an ISO image."""
    return isinstance(disk.source, ImageDisk) and disk.image is not None and disk.image.format is ImageFormat.ISO


def is_made(disk: DiskDefinition) -> bool:
    """Whether the disk has a volume of its own that we make and delete."""
    return isinstance(disk.source, ImageDisk | BlankDisk) and not is_iso(disk)


def target_index(target: str) -> int:
    """The number that a device name ends in: 0 for vda, 25 for vdz, 26 for vdaa."""
    letters = target[2:]
    if len(target) < 3 or not letters.isascii() or not letters.isalpha() or not letters.islower():
        message = f"{target} is no device name such as vda"
        raise InvalidError(f"The disk target {message}.", fields=(FieldProblem(field="target", message=message),))
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def render_domain(partition: PartitionDefinition, name: str, host: HostSide, marks: Marks) -> str:
    """The whole domain; `name` is libvirt's name for it."""
    kvm = host.acceleration == "kvm"
    domain = ET.Element("domain", {"type": "kvm" if kvm else "qemu"})
    _text(domain, "name", name)
    _text(domain, "uuid", str(partition.id))
    _text(domain, "title", partition.name)
    with_marks(domain, marks)
    _render_size(domain, partition)
    _render_machine(domain, partition, host)
    devices = ET.SubElement(domain, "devices")
    _render_controllers(devices, partition)
    order = _boot_order(partition)
    for disk in partition.disks:
        devices.append(render_disk(disk, partition, host, order.get(disk.target)))
    for nic in partition.nics:
        devices.append(render_nic(nic, host, order.get(nic.mac), bootable=not partition.disks))
    _render_consoles(devices, partition, host)
    _render_helpers(devices, partition)
    return ET.tostring(domain, encoding="unicode")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _render_size(domain: ET.Element, partition: PartitionDefinition) -> None:
    _text(domain, "memory", str(partition.memory_max_mib), unit="MiB")
    _text(domain, "currentMemory", str(partition.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(partition.vcpus_max), placement="static", current=str(partition.vcpus))
    if partition.cpu_pins:
        domain.append(render_pins(partition))


def render_pins(partition: PartitionDefinition) -> ET.Element:
    """The pinning as <cputune>; pins of vCPUs beyond the ceiling are left out."""
    tune = ET.Element("cputune")
    for vcpu, cpus in sorted(partition.cpu_pins.items()):
        if cpus and vcpu < partition.vcpus_max:
            ET.SubElement(tune, "vcpupin", {"vcpu": str(vcpu), "cpuset": ",".join(map(str, sorted(cpus)))})
    return tune


def _render_machine(domain: ET.Element, partition: PartitionDefinition, host: HostSide) -> None:
    uefi = partition.firmware is Firmware.UEFI
    system = ET.SubElement(domain, "os", {"firmware": "efi"} if uefi else {})
    _text(system, "type", "hvm", arch="x86_64", machine="q35" if uefi else "pc")
    if uefi:
        firmware = ET.SubElement(system, "firmware")
        ET.SubElement(firmware, "feature", {"enabled": "no", "name": "secure-boot"})
    features = ET.SubElement(domain, "features")
    for feature in ("acpi", "apic"):
        ET.SubElement(features, feature)
    if host.cpu_model or host.acceleration != "kvm":
        cpu = ET.SubElement(domain, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
        _text(cpu, "model", host.cpu_model or "qemu64", fallback="forbid")
    else:
        cpu = ET.SubElement(domain, "cpu", {"mode": "host-model", "check": "partial"})
    ET.SubElement(cpu, "topology", {"sockets": "1", "cores": str(partition.vcpus_max), "threads": "1"})
    clock = ET.SubElement(domain, "clock", {"offset": "utc"})
    ET.SubElement(clock, "timer", {"name": "rtc", "tickpolicy": "catchup"})
    ET.SubElement(clock, "timer", {"name": "pit", "tickpolicy": "delay"})
    ET.SubElement(clock, "timer", {"name": "hpet", "present": "no"})
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    # Ended by a panic, it is seen as crashed; what follows is inventory's to say.
    _text(domain, "on_crash", "destroy")


def _render_controllers(devices: ET.Element, partition: PartitionDefinition) -> None:
    if any(disk.bus is DiskBus.SCSI for disk in partition.disks):
        ET.SubElement(devices, "controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})
    if partition.firmware is Firmware.UEFI:
        ET.SubElement(devices, "controller", {"type": "pci", "index": "0", "model": "pcie-root"})
        for _ in range(HOTPLUG_ROOT_PORTS + len(partition.disks) + len(partition.nics)):
            ET.SubElement(devices, "controller", {"type": "pci", "model": "pcie-root-port"})


def _boot_order(partition: PartitionDefinition) -> dict[str, int]:
    """Disks first, then CD-ROMs (an empty disk does not boot, so an installer behind it does), then the network."""
    disks = [disk.target for disk in partition.disks if not is_iso(disk)]
    isos = [disk.target for disk in partition.disks if is_iso(disk)]
    return {name: number for number, name in enumerate([*disks, *isos, *(nic.mac for nic in partition.nics)], 1)}


def volume_path(partition: PartitionDefinition, disk: DiskDefinition, storage_path: str) -> str:
    """Where the volume of a made disk lies on the host."""
    source = disk.source
    if not isinstance(source, ImageDisk | BlankDisk):
        raise TypeError(f"{disk.target} has no volume of its own")
    return f"{storage_path.rstrip('/')}/{volume_name(partition.id, disk.id, source.format)}"


def render_disk(
    disk: DiskDefinition, partition: PartitionDefinition, host: HostSide, order: int | None = None
) -> ET.Element:
    """One disk or CD-ROM."""
    cdrom = is_iso(disk)
    index = target_index(disk.target)
    source = disk.source
    kind = {BlockDisk: "block", NetworkDisk: "network"}.get(type(source), "file")
    element = ET.Element("disk", {"type": kind, "device": "cdrom" if cdrom else "disk"})
    layout = "raw" if cdrom or isinstance(source, BlockDisk) else source.format.value
    driver = {"name": "qemu", "type": layout, "cache": host.disk_cache}
    if not cdrom:
        driver["discard"] = "unmap"
    ET.SubElement(element, "driver", driver)
    match source:
        case ImageDisk() if cdrom:
            ET.SubElement(element, "source", {"file": host.iso_paths[disk.id]})
        case ImageDisk() | BlankDisk():
            ET.SubElement(element, "source", {"file": volume_path(partition, disk, host.storage_path)})
        case FileDisk():
            ET.SubElement(element, "source", {"file": source.path})
        case BlockDisk():
            ET.SubElement(element, "source", {"dev": source.device})
        case NetworkDisk():
            element.append(_render_network_source(disk, source, host))
    ET.SubElement(element, "target", {"dev": disk.target, "bus": _bus(disk, partition, cdrom, index)})
    ET.SubElement(element, "alias", {"name": disk_alias(disk)})
    if disk.read_only or cdrom:
        ET.SubElement(element, "readonly")
    if order is not None:
        ET.SubElement(element, "boot", {"order": str(order)})
    return element


def _bus(disk: DiskDefinition, partition: PartitionDefinition, cdrom: bool, index: int) -> str:
    uefi = partition.firmware is Firmware.UEFI
    if cdrom and disk.bus is DiskBus.VIRTIO:  # there is no virtio CD-ROM
        return "sata" if uefi or index >= _IDE_UNITS else "ide"
    if disk.bus is DiskBus.IDE and (uefi or index >= _IDE_UNITS):
        reason = "a UEFI partition has no IDE controller" if uefi else "an IDE controller has four places, hda to hdd"
        raise InvalidError(
            f"Disk {disk.target} cannot be on the IDE bus: {reason}. Use virtio, scsi or sata.",
            fields=(FieldProblem(field="disk.bus", message=reason),),
        )
    return disk.bus.value


def _render_network_source(disk: DiskDefinition, source: NetworkDisk, host: HostSide) -> ET.Element:
    element = ET.Element("source", {"protocol": source.protocol.value})
    if source.volume:
        element.set("name", source.volume)
    server = {"name": source.server}
    port = source.port or _DEFAULT_PORTS[source.protocol]
    if port is not None:
        server["port"] = str(port)
    ET.SubElement(element, "host", server)
    if source.protocol is DiskProtocol.NFS:
        user, group = host.nfs_owner
        ET.SubElement(element, "identity", {"user": f"+{user}", "group": f"+{group}"})
    if source.protocol is DiskProtocol.ISCSI:
        if host.initiator_iqn:
            ET.SubElement(ET.SubElement(element, "initiator"), "iqn", {"name": host.initiator_iqn})
        if source.username is not None:
            auth = ET.SubElement(element, "auth", {"username": source.username})
            ET.SubElement(auth, "secret", {"type": "iscsi", "uuid": str(secret_id(disk.id))})
    return element


def render_secret(disk: DiskDefinition) -> str:
    """The libvirt secret for a network disk's password; ephemeral, so that the host keeps it in memory only."""
    element = ET.Element("secret", {"ephemeral": "yes", "private": "yes"})
    _text(element, "uuid", str(secret_id(disk.id)))
    usage = ET.SubElement(element, "usage", {"type": "iscsi"})
    _text(usage, "target", f"openqrm-{disk.id}")
    return ET.tostring(element, encoding="unicode")


def render_nic(nic: NicDefinition, host: HostSide, order: int | None = None, *, bootable: bool = False) -> ET.Element:
    """One network interface."""
    element = ET.Element("interface", {"type": "bridge"})
    ET.SubElement(element, "mac", {"address": nic.mac})
    ET.SubElement(element, "source", {"bridge": nic.bridge})
    if host.bridge_kind == "openvswitch":
        ET.SubElement(element, "virtualport", {"type": "openvswitch"})
    if nic.vlan is not None:
        if host.bridge_kind != "openvswitch":
            raise UnsupportedError(
                f"NIC {nic.mac} is in VLAN {nic.vlan}, and a Linux bridge cannot tag single NICs. Map the network to a "
                "bridge of its own on this host (such as one on eth0.42) and leave the VLAN out, "
                "or set the host's option bridge_kind=openvswitch."
            )
        ET.SubElement(ET.SubElement(element, "vlan"), "tag", {"id": str(nic.vlan)})
    ET.SubElement(element, "model", {"type": nic.model})
    ET.SubElement(element, "alias", {"name": nic_alias(nic.mac)})
    if not bootable:
        ET.SubElement(element, "rom", {"enabled": "no"})
    elif order is not None:
        ET.SubElement(element, "boot", {"order": str(order)})
    return element


def _render_consoles(devices: ET.Element, partition: PartitionDefinition, host: HostSide) -> None:
    serial = ET.SubElement(devices, "serial", {"type": "pty"})
    ET.SubElement(serial, "target", {"port": "0"})
    console = ET.SubElement(devices, "console", {"type": "pty"})
    ET.SubElement(console, "target", {"type": "serial", "port": "0"})
    if partition.vnc:
        graphics = {"type": "vnc", "port": "-1", "autoport": "yes", "sharePolicy": "force-shared"}
        element = ET.SubElement(devices, "graphics", graphics)
        ET.SubElement(element, "listen", {"type": "address", "address": host.vnc_listen})
        ET.SubElement(devices, "input", {"type": "tablet", "bus": "virtio"})
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", {"type": "vga", "vram": "16384"})


def _render_helpers(devices: ET.Element, partition: PartitionDefinition) -> None:
    channel = ET.SubElement(devices, "channel", {"type": "unix"})
    ET.SubElement(channel, "target", {"type": "virtio", "name": "org.qemu.guest_agent.0"})
    balloon = ET.SubElement(devices, "memballoon", {"model": "virtio"})
    ET.SubElement(balloon, "stats", {"period": "5"})
    rng = ET.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")
    if partition.firmware is Firmware.BIOS:
        ET.SubElement(devices, "panic", {"model": "isa"})


# --------------------------------------------------------------------------------------------- changes to XML


def with_size(xml: str, partition: PartitionDefinition) -> str:
    """A stopped domain's XML with the definition's memory, vCPUs, maxima and pins."""
    domain = ET.fromstring(xml)  # noqa: S314 - from the host's libvirt, which we trust with root's guests
    for tag in ("memory", "currentMemory", "maxMemory", "vcpu", "vcpus", "cputune/vcpupin"):
        parent = domain.find("cputune") if tag.startswith("cputune/") else domain
        for old in domain.findall(tag):
            if parent is not None:
                parent.remove(old)
    _text(domain, "memory", str(partition.memory_max_mib), unit="MiB")
    _text(domain, "currentMemory", str(partition.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(partition.vcpus_max), placement="static", current=str(partition.vcpus))
    topology = domain.find("cpu/topology")
    if topology is not None:
        for name in ("sockets", "dies", "clusters", "threads"):
            if name in topology.attrib:
                topology.set(name, "1")
        topology.set("cores", str(partition.vcpus_max))
    tune = domain.find("cputune")
    if tune is None:
        tune = ET.SubElement(domain, "cputune")
    tune.extend(render_pins(partition))
    if len(tune) == 0:
        domain.remove(tune)
    return ET.tostring(domain, encoding="unicode")


def for_target(
    xml: str,
    marks: Marks,
    bridges: dict[str, NicDefinition],
    paths: dict[str, str],
    host: HostSide,
) -> str:
    """A domain's XML as it is to be on the host that it moves to.

    `bridges`: MAC to the NIC with the target's bridge; `paths`: path of a file on the source to that on the target.
    """
    domain = ET.fromstring(xml)  # noqa: S314 - as above
    with_marks(domain, marks)
    for interface in domain.findall("devices/interface"):
        mac = interface.find("mac")
        nic = bridges.get(mac.get("address", "").lower()) if mac is not None else None
        if nic is not None:
            remap_nic(interface, nic, host)
    for source in domain.findall("devices/disk/source"):
        path = source.get("file")
        if path in paths:
            source.set("file", paths[path])
    for graphics in domain.findall("devices/graphics[@type='vnc']"):
        graphics.attrib.pop("listen", None)
        for listen in graphics.findall("listen"):
            if listen.get("type") == "address":
                listen.set("address", host.vnc_listen)
    return ET.tostring(domain, encoding="unicode")


def remap_nic(interface: ET.Element, nic: NicDefinition, host: HostSide) -> None:
    """Plug an <interface>, as read from the host, into the NIC's bridge."""
    wanted = render_nic(nic, host)
    interface.set("type", "bridge")
    for tag in ("source", "vlan", "virtualport", "target"):
        for old in interface.findall(tag):
            interface.remove(old)
    for tag in ("source", "virtualport", "vlan"):
        new = wanted.find(tag)
        if new is not None:
            interface.append(new)
