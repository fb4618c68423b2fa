"""Tying vCPUs to host CPUs."""

from typing import Any

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.contracts.partition import PartitionDefinition
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_reading import parse_xml
from openqrm.executor_qemu.domain_xml import with_size
from openqrm.executor_qemu.domains import LIVE, called, need

_HOST_CPUS_FIELD = 2


def host_cpus(connection: Any) -> int:
    """How many logical CPUs the host has. Blocking."""
    return int(connection.getInfo()[_HOST_CPUS_FIELD])


async def check_pins(link: HostLink, partition: PartitionDefinition) -> None:
    """Raise InvalidError for a vCPU that the partition cannot have, or a CPU that the host does not have."""
    if not partition.cpu_pins:
        return
    cpus = await link.call("count the host's CPUs", host_cpus)
    problems = pin_problems(partition, cpus)
    if problems:
        raise InvalidError(
            f"The pinning of {called(partition)} does not fit host '{link.host.name}': {problems[0].message}.",
            fields=problems,
        )


def pin_problems(partition: PartitionDefinition, cpus: int) -> tuple[FieldProblem, ...]:
    """What is wrong with a partition's pins on a host with this many CPUs."""
    problems = []
    for vcpu, pins in sorted(partition.cpu_pins.items()):
        field = f"cpu_pins.{vcpu}"
        if not 0 <= vcpu < partition.vcpus_max:
            last = partition.vcpus_max - 1
            message = f"there is no vCPU {vcpu}, the last one is {last}"
            problems.append(FieldProblem(field=field, message=message, limit=str(last)))
        beyond = [cpu for cpu in pins if not 0 <= cpu < cpus]
        if beyond:
            message = f"there is no host CPU {beyond[0]}, the last one is {cpus - 1}"
            problems.append(FieldProblem(field=field, message=message, limit=str(cpus - 1)))
    return tuple(problems)


def cpu_map(cpus: tuple[int, ...] | None, count: int) -> tuple[bool, ...]:
    """CPU numbers as libvirt's map of the host's CPUs; none: all of them."""
    return tuple(not cpus or number in cpus for number in range(count))


def pin_live(connection: Any, partition: PartitionDefinition, domain: Any, online: int) -> None:
    """Pin the vCPUs that a running domain has now. Blocking."""
    count = host_cpus(connection)
    for vcpu in range(online):
        domain.pinVcpuFlags(vcpu, cpu_map(partition.cpu_pins.get(vcpu), count), LIVE)


async def pin(link: HostLink, partition: PartitionDefinition) -> None:
    """Bring the pinning to the definition."""
    await check_pins(link, partition)

    def run(connection: Any) -> None:
        sight = need(connection, partition)
        if sight.active:
            vcpu = parse_xml(sight.xml).find("vcpu")
            online = 1 if vcpu is None else int(vcpu.get("current") or vcpu.text or 1)
            pin_live(connection, partition, sight.domain, online)
        if sight.config_xml is not None:
            connection.defineXML(with_size(sight.config_xml, partition))

    await link.call(f"pin the vCPUs of {called(partition)}", run)
