"""Reads off a host what the plan needs to know: one shell script, and a pure parser of its output."""

import shlex

from openqrm.executor_qemu.prepare.plan import OPTIONAL_PACKAGES, PACKAGES, Found, NetworkManager, Wanted

_SCRIPT = """
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin; export PATH
. /etc/os-release 2>/dev/null
echo "os_id=$ID"; echo "os_like=$ID_LIKE"; echo "os_name=$PRETTY_NAME"
echo "uid=$(id -u)"
for package in {packages}; do
    dpkg-query -W -f='${{Status}}' "$package" 2>/dev/null | grep -q '^install ok installed' || echo "missing=$package"
done
[ -d /run/systemd/system ] && echo systemd=yes
timeout 10 virsh -q -c qemu:///system version >/dev/null 2>&1 && echo libvirt=yes
pidof virtlogd >/dev/null 2>&1 && echo virtlogd=yes
[ -d /sys/class/net/{bridge} ] && echo bridge=yes
if command -v netplan >/dev/null 2>&1 && ls /etc/netplan/*.yaml >/dev/null 2>&1; then echo manager=netplan
elif systemctl -q is-active systemd-networkd 2>/dev/null; then echo manager=systemd-networkd
elif [ -f /etc/network/interfaces ] && grep -qs 'interfaces.d' /etc/network/interfaces; then echo manager=ifupdown
else echo manager=none; fi
[ -d {storage} ] && echo storage=yes
"""

_UPLINK_SCRIPT = """
[ -d /sys/class/net/{uplink} ] && echo uplink=yes
ip -o addr show dev {uplink} scope global 2>/dev/null | awk '{{print "address=" $4}}'
ip route show default dev {uplink} 2>/dev/null | awk '$2 == "via" {{print "gateway=" $3; exit}}'
true
"""


def probe_script(wanted: Wanted) -> str:
    """The script for a POSIX shell; it changes nothing."""
    script = _SCRIPT.format(
        packages=" ".join((*PACKAGES, *OPTIONAL_PACKAGES)),
        bridge=shlex.quote(wanted.bridge),
        storage=shlex.quote(wanted.storage_path),
    )
    if wanted.uplink is not None:
        script += _UPLINK_SCRIPT.format(uplink=shlex.quote(wanted.uplink))
    return script + "true\n"


def read_found(output: str) -> Found:
    """Parse the script's output."""
    values: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values.setdefault(name, []).append(value.strip())

    def one(name: str) -> str:
        return values.get(name, [""])[0]

    gateway = one("gateway")
    return Found(
        os_id=one("os_id"),
        os_like=one("os_like"),
        os_name=one("os_name"),
        root=one("uid") == "0",
        missing_packages=tuple(values.get("missing", ())),
        systemd=one("systemd") == "yes",
        libvirt_answers=one("libvirt") == "yes",
        virtlogd_runs=one("virtlogd") == "yes",
        bridge_exists=one("bridge") == "yes",
        network_manager=NetworkManager(one("manager") or "none"),
        uplink_exists=one("uplink") == "yes",
        storage_exists=one("storage") == "yes",
        uplink_addresses=tuple(values.get("address", ())),
        uplink_gateway=gateway or None,
    )
