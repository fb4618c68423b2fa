from collections.abc import Callable

import pytest

from openqrm.executor_qemu.facts import (
    parse_cpu_list,
    read_capabilities,
    read_interface_kind,
    read_processor,
    version_of,
)
from openqrm.executor_qemu.lifecycle import offers_uefi

Recorded = Callable[[str], str]


def test_capabilities(recorded: Recorded) -> None:
    found = read_capabilities(recorded("libvirt-9.0.0-capabilities.xml"))
    assert (found.architecture, found.cpu_model) == ("x86_64", "Intel Broadwell")
    assert [(node.number, node.cpus) for node in found.numa_nodes] == [(0, (0, 1))]
    assert found.numa_nodes[0].memory_mib > 1000


def test_uefi(recorded: Recorded) -> None:
    xml = recorded("libvirt-9.0.0-domcapabilities-q35.xml")
    assert offers_uefi(xml)
    assert not offers_uefi(xml.replace("<value>efi</value>", ""))


def test_a_bridge_is_known_by_its_kind(recorded: Recorded) -> None:
    assert read_interface_kind(recorded("libvirt-9.0.0-interface-bridge.xml")) == "bridge"


def test_the_processor_has_a_name_or_not() -> None:
    assert read_processor("<sysinfo><processor><entry name='version'> Xeon  </entry></processor></sysinfo>") == "Xeon"
    assert read_processor("<sysinfo/>") == ""


def test_versions() -> None:
    assert version_of(9_000_000) == "9.0.0"
    assert version_of(7_002_022) == "7.2.22"


@pytest.mark.parametrize(("text", "numbers"), [("", ()), ("0", (0,)), ("0-2,8\n", (0, 1, 2, 8))])
def test_cpu_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == numbers
