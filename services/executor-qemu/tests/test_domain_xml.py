import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from qemu_definitions import DISK_ID, MAC, PARTITION_ID, disk, image_disk, iso_disk, nic, partition

from openqrm.contracts.errors import InvalidError, UnsupportedError
from openqrm.contracts.partition import (
    BlockDisk,
    DiskBus,
    DiskFormat,
    DiskProtocol,
    FileDisk,
    Firmware,
    NetworkDisk,
    PartitionDefinition,
)
from openqrm.executor_qemu.domain_reading import parse_xml, read_partition
from openqrm.executor_qemu.domain_xml import (
    HostSide,
    for_target,
    render_disk,
    render_domain,
    render_nic,
    render_secret,
    target_index,
    with_size,
)
from openqrm.executor_qemu.metadata import Marks, read_marks

TCG = HostSide(acceleration="tcg", storage_path="/disks", iso_paths={DISK_ID: "/disks/image.iso"})
KVM = replace(TCG, acceleration="kvm")


def rendered(definition: PartitionDefinition, host: HostSide = TCG) -> ET.Element:
    return parse_xml(render_domain(definition, "name", host, Marks(definition.epoch)))


def text(domain: ET.Element, path: str) -> str | None:
    return domain.findtext(path)


def attribute(element: ET.Element, path: str, name: str) -> str | None:
    found = element.find(path)
    assert found is not None, path
    return found.get(name)


@pytest.mark.parametrize("name", ["a b", "Büro \"1\" & <x> 'y'", "日本", "x" * 200])
def test_any_name_comes_back_as_it_was(name: str) -> None:
    definition = partition(name=name, disks=(image_disk(),), nics=(nic(),))
    xml = render_domain(definition, "name", TCG, Marks(3))
    seen = read_partition(xml, 5, 0, True)
    assert (seen.id, seen.name, seen.epoch) == (PARTITION_ID, name, 3)
    assert (seen.memory_mib, seen.memory_max_mib, seen.vcpus, seen.vcpus_max) == (128, 256, 1, 4)
    assert seen.nics[0].mac == MAC


def test_acceleration_chooses_type_and_cpu() -> None:
    assert rendered(partition()).get("type") == "qemu"
    assert text(rendered(partition()), "cpu/model") == "qemu64"
    assert rendered(partition(), KVM).get("type") == "kvm"
    assert attribute(rendered(partition(), KVM), "cpu", "mode") == "host-model"
    assert text(rendered(partition(), replace(KVM, cpu_model="Nehalem")), "cpu/model") == "Nehalem"


def test_firmware_chooses_the_machine() -> None:
    assert attribute(rendered(partition()), "os/type", "machine") == "pc"
    uefi = rendered(partition(firmware=Firmware.UEFI))
    assert attribute(uefi, "os/type", "machine") == "q35"
    assert attribute(uefi, "os", "firmware") == "efi"
    assert len(uefi.findall("devices/controller[@model='pcie-root-port']")) >= 16


def test_pins() -> None:
    pins = rendered(partition(cpu_pins={0: (1, 0), 2: (), 9: (0,)})).findall("cputune/vcpupin")
    assert [(pin.get("vcpu"), pin.get("cpuset")) for pin in pins] == [("0", "0,1")]


def test_disks_boot_before_cdroms_and_the_network_only_without_disks() -> None:
    domain = rendered(partition(disks=(iso_disk("vda"), disk("vdb", id=PARTITION_ID)), nics=(nic(),)))
    order = {
        found.find("target").get("dev"): found.find("boot").get("order")  # type: ignore[union-attr]
        for found in domain.findall("devices/disk")
    }
    assert order == {"vdb": "1", "vda": "2"}
    assert domain.find("devices/interface/boot") is None
    assert attribute(domain, "devices/interface/rom", "enabled") == "no"
    diskless = rendered(partition(nics=(nic(),)))
    assert attribute(diskless, "devices/interface/boot", "order") == "1"
    assert diskless.find("devices/interface/rom") is None


def test_an_iso_is_a_cdrom_on_a_bus_that_has_cdroms() -> None:
    element = render_disk(iso_disk("vdb"), partition(), TCG)
    assert element.get("device") == "cdrom"
    assert attribute(element, "target", "bus") == "ide"
    assert attribute(element, "source", "file") == "/disks/image.iso"
    assert element.find("readonly") is not None
    assert attribute(render_disk(iso_disk("vdg"), partition(), TCG), "target", "bus") == "sata"
    uefi = partition(firmware=Firmware.UEFI)
    assert attribute(render_disk(iso_disk("vdb"), uefi, TCG), "target", "bus") == "sata"


def test_ide_has_four_places_and_is_not_there_with_uefi() -> None:
    with pytest.raises(InvalidError, match="four"):
        render_disk(disk("hde", bus=DiskBus.IDE), partition(), TCG)
    with pytest.raises(InvalidError, match="UEFI"):
        render_disk(disk("hda", bus=DiskBus.IDE), partition(firmware=Firmware.UEFI), TCG)


def source_of(source: Any, host: HostSide = TCG) -> ET.Element:
    return render_disk(disk("vdb", source), partition(), host)


def test_files_and_devices() -> None:
    file = source_of(FileDisk(path="/srv/a 'b' & c.img", format=DiskFormat.RAW))
    assert attribute(file, "source", "file") == "/srv/a 'b' & c.img"
    block = source_of(BlockDisk(device="/dev/vg/lv"))
    assert (block.get("type"), attribute(block, "source", "dev")) == ("block", "/dev/vg/lv")


def test_network_disks() -> None:
    iscsi = NetworkDisk(protocol=DiskProtocol.ISCSI, server="s", volume="iqn.x/1", username="u", password="p")
    element = source_of(iscsi)
    assert attribute(element, "source", "name") == "iqn.x/1"
    assert attribute(element, "source/host", "port") == "3260"
    assert attribute(element, "source/auth", "username") == "u"
    assert "p" not in [value for node in element.iter() for value in node.attrib.values()]
    uuid = parse_xml(render_secret(disk("vdb", iscsi))).findtext("uuid")
    assert attribute(element, "source/auth/secret", "uuid") == uuid
    nbd = source_of(NetworkDisk(protocol=DiskProtocol.NBD, server="s", volume="e", port=1))
    assert attribute(nbd, "source/host", "port") == "1"
    nfs = source_of(NetworkDisk(protocol=DiskProtocol.NFS, server="s", volume="/a"))
    assert attribute(nfs, "source/identity", "user") == "+0"


def test_a_vlan_needs_open_vswitch() -> None:
    with pytest.raises(UnsupportedError, match="VLAN 42"):
        render_nic(nic(vlan=42), TCG)
    element = render_nic(nic(vlan=42), replace(TCG, bridge_kind="openvswitch"))
    assert attribute(element, "vlan/tag", "id") == "42"
    assert attribute(element, "virtualport", "type") == "openvswitch"


@pytest.mark.parametrize(("target", "index"), [("vda", 0), ("sdz", 25), ("vdaa", 26), ("hdb", 1)])
def test_targets_are_counted(target: str, index: int) -> None:
    assert target_index(target) == index


@pytest.mark.parametrize("target", ["", "vd", "vd1", "VDA", "vdä"])
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(InvalidError):
        target_index(target)


def test_a_stopped_domain_gets_another_size(recorded: Callable[[str], str]) -> None:
    wanted = partition(memory_mib=512, memory_max_mib=1024, vcpus=2, vcpus_max=6, cpu_pins={1: (0,)})
    domain = parse_xml(with_size(recorded("libvirt-9.0.0-stopped.xml"), wanted))
    seen = read_partition(ET.tostring(domain, encoding="unicode"), 5, 0, True)
    assert (seen.memory_mib, seen.memory_max_mib, seen.vcpus, seen.vcpus_max) == (512, 1024, 2, 6)
    assert attribute(domain, "cpu/topology", "cores") == "6"
    assert attribute(domain, "cputune/vcpupin", "cpuset") == "0"
    assert len(domain.findall("devices/disk")) == 1


def test_a_domain_is_adapted_to_the_host_that_it_moves_to(recorded: Callable[[str], str]) -> None:
    xml = recorded("libvirt-9.0.0-running.xml")
    path = attribute(parse_xml(xml), "devices/disk/source", "file")
    assert path is not None
    target = replace(TCG, vnc_listen="10.0.0.1")
    moved = parse_xml(for_target(xml, Marks(9), {MAC: nic(bridge="br7")}, {path: "/there/x.qcow2"}, target))
    marks = read_marks(moved)
    assert marks is not None
    assert marks.epoch == 9
    assert attribute(moved, "devices/interface/source", "bridge") == "br7"
    assert moved.find("devices/interface/target") is None
    assert attribute(moved, "devices/disk/source", "file") == "/there/x.qcow2"
    assert attribute(moved, "devices/graphics/listen", "address") == "10.0.0.1"
