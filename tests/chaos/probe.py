"""Afterwards everything has to work: a new operation of each kind goes through."""

import asyncio
from typing import Any

from chaos.plan import FAKE_HOSTS, QEMU_HOSTS
from chaos.site import Site
from openqrm.contracts.ids import new_id

ANSWER_SECONDS = 90.0


async def hangs(site: Site) -> list[str]:
    """A sentence for each service or kind of operation that does not go through."""
    site.client.until = site.client.now + ANSWER_SECONDS
    probes = [_partition(site, "fake", FAKE_HOSTS), _house(site)]
    if site.lab:
        probes.append(_partition(site, "qemu", QEMU_HOSTS))
    results = await asyncio.gather(*probes, return_exceptions=True)
    return [
        f"afterwards this does not go through: {result!r}" for result in results if isinstance(result, BaseException)
    ]


async def _partition(site: Site, technology: str, hosts: tuple[str, ...]) -> None:
    """Every verb, on a partition that the scheduler places."""
    for host in hosts:
        if (await site.client.get(f"/hosts/{host}"))["state"] == "maintenance":
            await site.do("host.activate", "POST", f"/hosts/{host}/activate", {})
    identity = str(new_id())
    path = f"/partitions/{identity}"
    name = f"probe {technology}"
    small: dict[str, Any] = {
        "name": name,
        "partition_id": identity,
        "technology": technology,
        "memory_mib": 64,
        "memory_max_mib": 128,
        "vcpus_max": 2,
        "nics": [{"network": "default"}],
        "start": True,
    }
    attached = {"disk": {"source": {"kind": "blank", "size_mib": 16}}}
    running = [("pause", {}), ("unpause", {}), ("reboot", {"hard": True}), ("migrate", {}), ("stop", {})]
    stopped = [("pin", {"cpu_pins": {"0": [0]}}), ("resize", {"memory_mib": 128}), ("migrate", {"live": False})]

    async def do(verb: str, method: str, where: str, body: dict[str, Any] | None) -> None:
        await site.do(f"partition.{verb}", method, where, body, identity)

    await do("create", "POST", "/partitions", small)
    await do("attach_nic", "POST", f"{path}/nics", {"nic": {"network": "backup"}})
    for verb, body in running + stopped:
        await do(verb, "POST", f"{path}/{verb}", body)
    await do("attach_disk", "POST", f"{path}/disks", attached)
    view = await site.client.get(path)
    mac = view["nics"][-1]["mac"]
    await do("map_nic", "PUT", f"{path}/nics/{mac}/network", {"network": "default"})
    await do("detach_nic", "DELETE", f"{path}/nics/{mac}", None)
    await do("detach_disk", "DELETE", f"{path}/disks/{view['disks'][-1]['target']}", None)
    await do("change", "PATCH", path, {"tags": ["probed"]})
    await do("start", "POST", f"{path}/start", {})
    if technology == "fake":
        await do("shutdown", "POST", f"{path}/shutdown", {"timeout_seconds": 10})
    await do("delete", "DELETE", f"{path}?force=true", None)


async def _house(site: Site) -> None:
    """What is asked of networks and hosts."""
    await site.do("network.create", "POST", "/networks", {"name": "probe", "bridge": "br2"})
    await site.do("network.change", "PATCH", "/networks/probe", {"bridge": "br1"})
    await site.do("network.delete", "DELETE", "/networks/probe", None)
    host = {"name": "spare-probe", "technology": "fake", "connection": {"uri": "fake://spare-probe?memory_mib=512"}}
    await site.do("host.enrol", "POST", "/hosts", host)
    for verb, body in (("maintain", {}), ("activate", {})):
        await site.do(f"host.{verb}", "POST", f"/hosts/spare-probe/{verb}", body)
    await site.do("host.change", "PATCH", "/hosts/spare-probe", {"tags": ["probed"]})
    await site.do("host.remove", "DELETE", "/hosts/spare-probe", None)
