"""What has to be done to make a host a hypervisor: decided from what was found on it. Pure."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from openqrm.contracts.errors import FieldProblem, InvalidError, UnsupportedError

PACKAGES = ("qemu-system-x86", "qemu-utils", "libvirt-daemon-system", "libvirt-clients")
"""The same names on Debian and Ubuntu."""

OPTIONAL_PACKAGES = ("qemu-block-extra", "ovmf")
"""For network disks and UEFI: a host that cannot get them is a hypervisor all the same."""

SUPPORTED = ("debian", "ubuntu")
_MAX_BRIDGE_NAME = 15


class NetworkManager(StrEnum):
    """What keeps a host's network configuration."""

    NETPLAN = "netplan"
    NETWORKD = "systemd-networkd"
    IFUPDOWN = "ifupdown"
    NONE = "none"


@dataclass(frozen=True)
class Found:
    """What was read off the host."""

    os_id: str
    os_like: str
    os_name: str
    root: bool
    missing_packages: tuple[str, ...]
    systemd: bool
    libvirt_answers: bool
    virtlogd_runs: bool
    bridge_exists: bool
    network_manager: NetworkManager
    uplink_exists: bool
    storage_exists: bool
    uplink_addresses: tuple[str, ...] = ()
    uplink_gateway: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What the host's connection asks for."""

    bridge: str
    uplink: str | None
    storage_path: str


@dataclass(frozen=True)
class Step:
    """One thing to do, and how to say what it changed."""

    title: str
    command: str
    what: str
    before: str | None
    after: str
    stdin: str | None = None
    changes: bool = True
    """Whether it is worth mentioning."""
    optional: bool = False
    """Whether the rest goes on when it fails."""


def check_bridge_name(name: str) -> None:
    """Raise InvalidError for a name that the kernel does not take."""
    allowed = name.replace("-", "").replace("_", "").replace(".", "")
    if not (allowed.isascii() and allowed.isalnum() and len(name) <= _MAX_BRIDGE_NAME):
        message = f"'{name}' is no interface name: up to {_MAX_BRIDGE_NAME} letters, digits, dots and dashes"
        raise InvalidError(
            f"The bridge cannot be made: {message}.",
            fields=(FieldProblem(field="connection.options.bridge", message=message, limit=str(_MAX_BRIDGE_NAME)),),
        )


def plan(found: Found, wanted: Wanted) -> tuple[Step, ...]:
    """The steps, in order; none when everything is there."""
    if found.os_id not in SUPPORTED and not any(name in found.os_like.split() for name in SUPPORTED):
        raise UnsupportedError(
            f"The host runs {found.os_name or 'an unknown system'}; only Debian and Ubuntu can be prepared. "
            "Install QEMU and libvirt there by hand, then enrol it."
        )
    if not found.root:
        raise UnsupportedError(
            "Preparing a host needs root: use root in its address, such as qemu+ssh://root@HOST/system."
        )
    check_bridge_name(wanted.bridge)
    if wanted.uplink is not None:
        check_bridge_name(wanted.uplink)
    required = tuple(name for name in found.missing_packages if name in PACKAGES)
    optional = tuple(name for name in found.missing_packages if name in OPTIONAL_PACKAGES)
    steps: list[Step] = []
    if required or optional:
        steps.append(_package_lists(optional=not required))
    if required:
        steps.append(_packages(required, optional=False))
    if optional:
        steps.append(_packages(optional, optional=True))
    if not found.libvirt_answers or required:
        steps += _services(found)
    if not found.storage_exists:
        steps.append(_storage(wanted))
    if not found.bridge_exists:
        steps += _bridge(found, wanted)
    return tuple(steps)


_APT = "DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2"


def _package_lists(optional: bool) -> Step:
    title = "reading the package lists"
    return Step(title, f"{_APT} update", "package lists", None, "updated", changes=False, optional=optional)


def _packages(missing: tuple[str, ...], optional: bool) -> Step:
    names = " ".join(missing)
    keep = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
    return Step(
        f"installing {names}",
        f"{_APT} -y {keep} --no-install-recommends install {names}",
        f"packages {names}",
        "not installed",
        "installed",
        optional=optional,
    )


def _services(found: Found) -> list[Step]:
    if found.systemd:
        # Socket activation where the distribution has it; the monolithic daemon is the default of Debian and Ubuntu.
        command = "systemctl enable --now virtlogd.socket libvirtd.socket libvirtd.service"
        return [Step("starting libvirt", command, "libvirt", "not running", "enabled and started by systemd")]
    steps = []
    if not found.virtlogd_runs:
        steps.append(
            Step(
                "starting virtlogd",
                "mkdir -p /run/libvirt && virtlogd -d >/dev/null 2>&1 </dev/null",
                "virtlogd",
                "not running",
                "started",
            )
        )
    after = "started; nothing on this host starts it after a reboot, as there is no systemd"
    steps.append(Step("starting libvirtd", "libvirtd -d >/dev/null 2>&1 </dev/null", "libvirtd", "not running", after))
    return steps


def _storage(wanted: Wanted) -> Step:
    return Step(
        "making the storage folder",
        f"install -d -m 0711 {_quoted(wanted.storage_path)}",
        f"folder {wanted.storage_path}",
        "missing",
        "made",
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# ------------------------------------------------------------------------------------------------------ bridge


def _bridge(found: Found, wanted: Wanted) -> list[Step]:
    if wanted.uplink is not None and not found.uplink_exists:
        message = f"the host has no interface {wanted.uplink}"
        raise InvalidError(
            f"The bridge {wanted.bridge} cannot be made: {message}.",
            fields=(FieldProblem(field="connection.options.bridge_uplink", message=message),),
        )
    now = _bridge_now(found, wanted)
    behind = "without an uplink" if wanted.uplink is None else f"with uplink {wanted.uplink}"
    step = Step(f"making bridge {wanted.bridge}", now, f"bridge {wanted.bridge}", "missing", f"made {behind}")
    # Written before it is made: a host that loses its network in between still has it after a reboot.
    return [*_persistent_bridge(found, wanted), step]


def _bridge_now(found: Found, wanted: Wanted) -> str:
    bridge, uplink = wanted.bridge, wanted.uplink
    commands = [f"ip link add {bridge} type bridge", f"ip link set {bridge} up"]
    if uplink is not None:
        # One command line, since the address that we came in by moves to the bridge.
        commands += [f"ip link set {uplink} master {bridge}", f"ip addr flush dev {uplink}"]
        commands += [f"ip addr add {_address(address)} dev {bridge}" for address in found.uplink_addresses]
        if found.uplink_gateway is not None:
            gateway = ipaddress.ip_address(found.uplink_gateway)
            commands.append(f"ip route replace default via {gateway} dev {bridge}")
    return " && ".join(commands)


def _address(text: str) -> str:
    return str(ipaddress.ip_interface(text))


def _persistent_bridge(found: Found, wanted: Wanted) -> list[Step]:
    manager = found.network_manager
    if manager is NetworkManager.NONE:
        what = f"configuration of bridge {wanted.bridge}"
        after = "not written: the host has none of netplan, systemd-networkd, ifupdown; the bridge goes with a reboot"
        return [Step(f"looking for what configures {wanted.bridge}", "true", what, None, after)]
    return [
        Step(
            f"writing {path}",
            f"umask 077 && mkdir -p {path.rpartition('/')[0]} && cat > {path} && chmod {mode} {path}",
            f"file {path}",
            "missing",
            f"bridge {wanted.bridge} for {manager}",
            stdin="\n".join(lines) + "\n",
        )
        for path, mode, lines in bridge_files(found, wanted)
    ]


def bridge_files(found: Found, wanted: Wanted) -> list[tuple[str, str, list[str]]]:
    """Path, mode and lines of each file that makes the bridge at every boot."""
    match found.network_manager:
        case NetworkManager.NETPLAN:
            return [_netplan(found, wanted)]
        case NetworkManager.NETWORKD:
            return _networkd(found, wanted)
        case _:
            return [_ifupdown(found, wanted)]


def _netplan(found: Found, wanted: Wanted) -> tuple[str, str, list[str]]:
    bridge, uplink = wanted.bridge, wanted.uplink
    lines = ["network:", "  version: 2"]
    if uplink is not None:
        lines += ["  ethernets:", f"    {uplink}:", "      dhcp4: false", "      dhcp6: false"]
    lines += ["  bridges:", f"    {bridge}:", f"      interfaces: [{uplink or ''}]"]
    if found.uplink_addresses:
        addresses = ", ".join(f'"{_address(address)}"' for address in found.uplink_addresses)
        lines.append(f"      addresses: [{addresses}]")
        if found.uplink_gateway is not None:
            lines += ["      routes:", "        - to: default", f"          via: {found.uplink_gateway}"]
    elif uplink is not None:
        lines.append("      dhcp4: true")
    return f"/etc/netplan/90-openqrm-{bridge}.yaml", "0600", lines


def _networkd(found: Found, wanted: Wanted) -> list[tuple[str, str, list[str]]]:
    bridge, uplink = wanted.bridge, wanted.uplink
    base = f"/etc/systemd/network/10-openqrm-{bridge}"
    network = ["[Match]", f"Name={bridge}", "", "[Network]", "ConfigureWithoutCarrier=yes"]
    if found.uplink_addresses:
        network += [f"Address={_address(address)}" for address in found.uplink_addresses]
        if found.uplink_gateway is not None:
            network.append(f"Gateway={found.uplink_gateway}")
    elif uplink is not None:
        network.append("DHCP=yes")
    else:
        network.append("LinkLocalAddressing=no")
    files = [
        (f"{base}.netdev", "0644", ["[NetDev]", f"Name={bridge}", "Kind=bridge"]),
        (f"{base}.network", "0644", network),
    ]
    if uplink is not None:
        # Earlier in the alphabet than the host's own file for the uplink: the first match counts.
        port = ["[Match]", f"Name={uplink}", "", "[Network]", f"Bridge={bridge}"]
        files.append((f"/etc/systemd/network/05-openqrm-{bridge}-port.network", "0644", port))
    return files


def _ifupdown(found: Found, wanted: Wanted) -> tuple[str, str, list[str]]:
    bridge, uplink = wanted.bridge, wanted.uplink
    lines = [f"auto {bridge}"]
    if found.uplink_addresses:
        first, *others = map(_address, found.uplink_addresses)
        lines += [f"iface {bridge} inet static", f"    address {first}"]
        if found.uplink_gateway is not None:
            lines.append(f"    gateway {found.uplink_gateway}")
        lines += [f"    up ip addr add {address} dev {bridge}" for address in others]
    else:
        lines.append(f"iface {bridge} inet {'dhcp' if uplink is not None else 'manual'}")
    # Plain ip commands: they work without the package bridge-utils.
    lines.append(f"    pre-up ip link show {bridge} >/dev/null 2>&1 || ip link add {bridge} type bridge")
    if uplink is not None:
        lines.append(f"    pre-up ip addr flush dev {uplink}; ip link set {uplink} up master {bridge}")
    lines.append(f"    up ip link set {bridge} up")
    return f"/etc/network/interfaces.d/openqrm-{bridge}", "0644", lines
