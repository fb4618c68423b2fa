"""The lab's wires: a switch in a namespace of its own, with a management and a storage network.

Every member is plugged into both. No namespace has a default route or forwards, so nothing of the lab leaves the
machine.
"""

from collections.abc import Iterable

from qemu_lab.plan import NETWORKS, Folder, Member, Role
from qemu_lab.shell import run

SWITCH = "sw"


def namespaces(folder: Folder) -> list[str]:
    """The names of this lab's network namespaces that exist."""
    # 'ip netns list' may append '(id: 3)'.
    names = [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line.strip()]
    return [name for name in names if name.startswith(folder.namespace(""))]


def create(folder: Folder, members: Iterable[Member]) -> None:
    """Makes the switch and plugs every member in."""
    switch = folder.namespace(SWITCH)
    _namespace(switch)
    _ip(
        switch, [line for network in NETWORKS for line in (f"link add {network} type bridge", f"link set {network} up")]
    )
    for member in members:
        _plug_in(folder, member)


def remove(folder: Folder) -> None:
    """Takes away every namespace of the lab, and with them the wires."""
    for name in namespaces(folder):
        run(["ip", "netns", "delete", name])


def set_link(folder: Folder, host: str, network: str, up: bool) -> None:
    """Plugs or pulls the cable between a host and a network ('mgmt' or 'san'), at the switch."""
    _ip(folder.namespace(SWITCH), [f"link set {_port(host, network)} {'up' if up else 'down'}"])


def _port(host: str, network: str) -> str:
    return f"{host}-{network}"


def _namespace(name: str) -> None:
    run(["ip", "netns", "add", name])
    run(
        ["ip", "netns", "exec", name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv4.ip_forward=0"]
    )
    _ip(name, ["link set lo up"])


def _plug_in(folder: Folder, member: Member) -> None:
    own, switch = folder.namespace(member.name), folder.namespace(SWITCH)
    _namespace(own)
    lines = []
    for index, network in enumerate(NETWORKS):
        port = _port(member.name, network)
        lines += [f"link add {port} type veth peer name eth{index} netns {own}", f"link set {port} master {network} up"]
    _ip(switch, lines)
    lines = ["link set eth0 up", "link set eth1 up", f"addr add {member.san_address}/24 dev eth1"]
    if member.role is Role.HYPERVISOR:
        # br0 carries the host's address and its guests' NICs; br1 leads nowhere, for guests put on another network.
        lines += ["link add br0 type bridge", "link set eth0 master br0", "link set br0 up"]
        lines += ["link add br1 type bridge", "link set br1 up", f"addr add {member.address}/24 dev br0"]
    else:
        lines += [f"addr add {member.address}/24 dev eth0"]
    _ip(own, lines)


def _ip(namespace: str, lines: list[str]) -> None:
    run(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")
