"""What is on the hosts, asked of the hosts themselves."""

import asyncio
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.executor_fake.world import FakeWorld

_EPOCH = "{https://openqrm.org/xmlns/libvirt/partition/1}"
_KIB_PER_MIB = 1024
VIRSH_SECONDS = 20
QEMU_STATES = {"running": "running", "paused": "paused", "shut off": "stopped", "crashed": "crashed"}


@dataclass(frozen=True)
class Seen:
    """One partition on one host."""

    host: str
    id: UUID
    name: str
    state: str
    epoch: int | None
    memory_mib: int
    vcpus: int
    nics: tuple[tuple[str, str], ...]
    """MAC and bridge of each, sorted."""
    disks: int
    starts: int | None = None
    """How often it was started or reset, where the host counts that."""


def look_at_fakes(folder: Path, hosts: Iterable[str], clock: Clock) -> tuple[list[Seen], dict[str, int]]:
    """All partitions on fake hosts, and the number of volumes on each."""
    world = FakeWorld(clock, folder)
    seen, volumes = [], {}
    for name in hosts:
        content = world.host(name).read()
        volumes[name] = len(content.volumes)
        for partition in content.partitions.values():
            size = partition.live or partition.size
            nics = tuple(sorted((nic.mac, nic.bridge) for nic in partition.nics))
            seen.append(
                Seen(
                    host=name,
                    id=partition.id,
                    name=partition.name,
                    state=partition.state.value,
                    epoch=partition.epoch,
                    memory_mib=size.memory_mib,
                    vcpus=size.vcpus,
                    nics=nics,
                    disks=len(partition.disks),
                    starts=partition.starts,
                )
            )
    return seen, volumes


async def look_at_qemus(lab: Any, hosts: Iterable[str]) -> tuple[list[Seen], list[str]]:
    """All domains on QEMU hosts, as virsh tells on each; and a sentence for each host whose virsh does not answer."""
    found = await asyncio.gather(
        *(asyncio.to_thread(_look_at_qemu, lab, host) for host in hosts), return_exceptions=True
    )
    seen: list[Seen] = []
    silent = []
    for host, answer in zip(hosts, found, strict=True):
        if isinstance(answer, BaseException):
            silent.append(f"virsh on {host} says nothing: {answer}")
        else:
            seen += answer
    return seen, silent


def _look_at_qemu(lab: Any, host: str) -> list[Seen]:
    def virsh(*arguments: str) -> str:
        said: str = lab.run(host, ["timeout", str(VIRSH_SECONDS), "virsh", "-q", *arguments])
        return said

    domains = virsh("list", "--all", "--uuid").split()
    return [read_domain(host, virsh("domstate", uuid).strip(), virsh("dumpxml", uuid)) for uuid in domains]


def read_domain(host: str, state: str, xml: str) -> Seen:
    """A domain from virsh's words. Pure."""
    domain = ElementTree.fromstring(xml)  # noqa: S314 - of our own lab
    mark = domain.find(f"metadata/{_EPOCH}partition")
    vcpu = domain.find("vcpu")
    assert vcpu is not None
    nics = []
    for interface in domain.iterfind("devices/interface"):
        mac, source = interface.find("mac"), interface.find("source")
        assert mac is not None and source is not None
        nics.append((str(mac.get("address")), str(source.get("bridge"))))
    return Seen(
        host=host,
        id=UUID(domain.findtext("uuid")),
        name=str(domain.findtext("name")),
        state=QEMU_STATES.get(state, state),
        epoch=int(mark.get("epoch", 0)) if mark is not None else None,
        memory_mib=int(domain.findtext("currentMemory") or 0) // _KIB_PER_MIB,
        vcpus=int(vcpu.get("current", vcpu.text or "0")),
        nics=tuple(sorted(nics)),
        disks=len(domain.findall("devices/disk[@device='disk']")),
    )
