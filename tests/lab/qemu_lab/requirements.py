"""What the lab needs of the machine, checked before anything is started."""

import os
import shutil
from pathlib import Path

from qemu_lab.errors import LabError

COMMANDS = {
    "ganesha.nfsd": "nfs-ganesha",
    "ip": "iproute2",
    "libvirtd": "libvirt-daemon-system",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rpcbind": "rpcbind",
    "rpcinfo": "rpcbind",
    "setsid": "util-linux",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "sysctl": "procps",
    "tgtadm": "tgt",
    "tgtd": "tgt",
    "unshare": "util-linux",
    "virsh": "libvirt-clients",
    "virtlogd": "libvirt-daemon-system",
}
LIBRARIES = {
    "/usr/lib/*/ganesha/libfsalvfs.so": "nfs-ganesha-vfs",
    "/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so": "libvirt-daemon-driver-qemu",
    "/usr/lib/*/qemu/block-iscsi.so": "qemu-block-extra",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages() -> list[str]:
    """The distribution packages that are not there."""
    wanted = {package for command, package in COMMANDS.items() if shutil.which(command, path=PATH) is None}
    wanted |= {package for pattern, package in LIBRARIES.items() if not list(Path("/").glob(pattern.lstrip("/")))}
    return sorted(wanted)


def check() -> None:
    """Raises LabError with the reason if the lab cannot run here."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes namespaces, mounts and cgroups")
    if missing := missing_packages():
        raise LabError(f"missing packages: {' '.join(missing)} (tests/lab/install.sh installs them)")
    kernel = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    if "overlay" not in kernel and not _module_there("overlay"):
        raise LabError("this kernel has no overlay file system")
    if not Path("/dev/net/tun").exists():
        raise LabError("this kernel has no /dev/net/tun, which guests' NICs need")


def _module_there(name: str) -> bool:
    return any(Path("/lib/modules").joinpath(os.uname().release).rglob(f"{name}.ko*"))
