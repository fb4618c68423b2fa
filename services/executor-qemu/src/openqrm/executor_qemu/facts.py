"""What a host has, read off its libvirt. The parsers are pure."""

import logging
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.host import HostFacts, HostStorage, NumaNode
from openqrm.executor_qemu.acceleration import KVM, acceleration_of
from openqrm.executor_qemu.addresses import Transport
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_reading import mib_of, parse_xml
from openqrm.executor_qemu.lifecycle import offers_uefi
from openqrm.executor_qemu.pools import ensure_pool

_log = logging.getLogger(__name__)

FEATURES = frozenset({"live-migration", "memory-balloon", "vcpu-hotplug", "nic-hotplug", "disk-hotplug"})
_LOCAL_FOLDER = Path("/sys/class/net")
_MIB = 2**20


def version_of(number: int) -> str:
    """libvirt's version number as people write it: 9000000 is 9.0.0."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """A kernel's list of CPUs, such as `0-3,8`, as numbers."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


@dataclass(frozen=True)
class Capabilities:
    """What a host's capabilities XML says."""

    architecture: str
    cpu_model: str
    numa_nodes: tuple[NumaNode, ...]


def read_capabilities(xml: str) -> Capabilities:
    """Parse virConnectGetCapabilities."""
    host = parse_xml(xml).find("host")
    if host is None:
        return Capabilities("", "", ())
    model, vendor = host.findtext("cpu/model", ""), host.findtext("cpu/vendor", "")
    nodes = tuple(
        NumaNode(
            number=int(cell.get("id", "0")),
            memory_mib=mib_of(cell.find("memory")) or 0,
            cpus=tuple(sorted(int(cpu.get("id", "0")) for cpu in cell.findall("cpus/cpu"))),
        )
        for cell in host.findall("topology/cells/cell")
    )
    return Capabilities(host.findtext("cpu/arch", ""), " ".join(filter(None, (vendor, model))), nodes)


def read_processor(xml: str) -> str:
    """The processor's own name in virConnectGetSysinfo; empty when the firmware has none."""
    entry = parse_xml(xml).find("processor/entry[@name='version']")
    return (entry.text or "").strip() if entry is not None else ""


def read_interface_kind(xml: str) -> str:
    """Whether virInterfaceGetXMLDesc describes a bridge, an ethernet, ..."""
    return parse_xml(xml).get("type", "")


def _cpu_model(connection: Any, capabilities: Capabilities) -> str:
    try:
        return read_processor(connection.getSysinfo(0)) or capabilities.cpu_model
    except libvirt.libvirtError:  # a machine without SMBIOS
        return capabilities.cpu_model


def _bridges(connection: Any) -> set[str]:
    found: set[str] = set()
    try:
        for interface in connection.listAllInterfaces(0):
            if read_interface_kind(interface.XMLDesc(0)) == "bridge":
                found.add(interface.name())
    except (libvirt.libvirtError, ET.ParseError) as error:  # libvirt built without the interface driver
        _log.debug("no list of interfaces: %s", error)
    try:
        for network in connection.listAllNetworks(0):
            if network.isActive():
                found.add(network.bridgeName())
    except libvirt.libvirtError as error:
        _log.debug("no list of networks: %s", error)
    return found


def _storage(connection: Any, path: str) -> HostStorage | None:
    try:
        pool = ensure_pool(connection, path)
        _state, total, _used, free = pool.info()
    except libvirt.libvirtError as error:
        _log.warning("the storage folder %s cannot be used: %s", path, error)
        return None
    return HostStorage(name=pool.name(), path=path, total_mib=total // _MIB, free_mib=free // _MIB)


def _offers_uefi(connection: Any) -> bool:
    try:
        return offers_uefi(connection.getDomainCapabilities(None, "x86_64", "q35", None, 0))
    except libvirt.libvirtError:
        return False


async def read_facts(link: HostLink) -> HostFacts:
    """Read what the host has; the storage folder is made if it is not there."""
    path = link.host.connection.storage_path

    def read(connection: Any) -> HostFacts:
        capabilities = read_capabilities(connection.getCapabilities())
        _model, _memory, cpus, _mhz, nodes, sockets, cores, threads = connection.getInfo()
        memory_mib = sum(node.memory_mib for node in capabilities.numa_nodes) or int(_memory)
        bridges = _bridges(connection)
        if link.line.address.transport is Transport.LOCAL and _LOCAL_FOLDER.is_dir():
            bridges |= {entry.parent.name for entry in _LOCAL_FOLDER.glob("*/bridge")}
        storage = _storage(connection, path)
        versions = {"libvirt": version_of(connection.getLibVersion()), "qemu": version_of(connection.getVersion())}
        return HostFacts(
            hostname=connection.getHostname(),
            architecture=capabilities.architecture,
            cpu_model=_cpu_model(connection, capabilities),
            cpus=cpus,
            sockets=max(sockets * max(nodes, 1), 1),
            cores_per_socket=max(cores, 1),
            threads_per_core=max(threads, 1),
            numa_nodes=capabilities.numa_nodes,
            memory_mib=memory_mib,
            memory_free_mib=connection.getFreeMemory() // _MIB,
            versions=versions,
            bridges=tuple(sorted(bridges)),
            storages=() if storage is None else (storage,),
            features=FEATURES | ({"uefi"} if _offers_uefi(connection) else set()),
        )

    facts = await link.call("read the host's facts", read)
    try:
        acceleration = await acceleration_of(link)
    except OpenQrmError as error:
        # A host without usable storage can be enrolled and then prepared; its partitions are refused until then.
        _log.warning("host %s: KVM was not probed: %s", link.host.name, error)
        acceleration = ""
    return facts.model_copy(
        update={
            "acceleration": acceleration,
            "features": facts.features | ({KVM} if acceleration == KVM else set()),
        }
    )
