"""The files in which one host's root differs from the machine's."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from qemu_lab.keys import Keys
from qemu_lab.plan import Member, Role

SSHD_CONFIG = """\
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
MaxStartups 100
Subsystem sftp internal-sftp
"""
# auth "none" on the Unix socket: there is no polkit here. Keepalive: a silent client is given up after 9 s.
LIBVIRTD_CONF = """\
listen_tcp = 1
listen_tls = 1
listen_addr = "0.0.0.0"
auth_tcp = "none"
auth_tls = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
host_uuid = "{uuid}"
keepalive_interval = 3
keepalive_count = 3
log_filters = "3:qemu 3:libvirt 4:object 4:json 4:event"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
# No mount namespace and no security driver per guest: both want more of the machine than a namespace has.
QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
namespaces = [ ]
vnc_listen = "0.0.0.0"
migration_address = "0.0.0.0"
keepalive_interval = 3
keepalive_count = 3
"""
# The machine's own keys, domains, networks, pools and images are none of the hosts' business.
HIDDEN = (
    "etc/libvirt/qemu",
    "etc/libvirt/secrets",
    "etc/libvirt/storage",
    "etc/pki",
    "root",
    "var/lib/libvirt/images",
    "var/lib/libvirt/qemu",
    "var/log/libvirt",
)
DEFAULT_NETWORK = Path("usr/share/libvirt/networks/default.xml")


def write_host_files(upper: Path, member: Member, members: Iterable[Member], keys: Keys) -> None:
    """Fills the empty upper layer of a host's root."""
    for path in HIDDEN:
        _hide(upper, path)
    etc = upper / "etc"
    _write(etc / "hostname", f"{member.name}\n")
    _write(etc / "machine-id", member.uuid.replace("-", "") + "\n")
    _write(etc / "resolv.conf", "")
    names = [f"{other.address} {other.name}\n{other.san_address} {other.name}-san\n" for other in members]
    _write(etc / "hosts", "127.0.0.1 localhost\n" + "".join(names))
    _write(etc / "ssh/lab_sshd_config", SSHD_CONFIG)
    _write(etc / "ssh/lab_host_key", keys.host_key(member.name).read_text(), 0o600)
    public = keys.ssh_key.with_suffix(".pub").read_text()
    _write(upper / "root/.ssh/authorized_keys", public, 0o600)
    if member.role is Role.HYPERVISOR:
        _prepared(upper, member, keys)
    elif member.role is Role.BARE:
        _as_installed(etc / "libvirt/qemu/networks")


def _prepared(upper: Path, member: Member, keys: Keys) -> None:
    """What a hypervisor host has once it is prepared: libvirt listens, and the hosts know each other."""
    etc = upper / "etc"
    _write(etc / "libvirt/libvirtd.conf", LIBVIRTD_CONF.format(uuid=member.uuid))
    _write(etc / "libvirt/qemu.conf", QEMU_CONF)
    _write(upper / "root/.ssh/id_ed25519", keys.ssh_key.read_text(), 0o600)
    _write(upper / "root/.ssh/known_hosts", keys.known_hosts.read_text())
    pki = keys.pki(member.name)
    _write(etc / "pki/CA/cacert.pem", (pki / "cacert.pem").read_text())
    _write(etc / "pki/qemu/ca-cert.pem", (pki / "cacert.pem").read_text())
    for end in ("server", "client"):
        certificate, key = (pki / f"{end}cert.pem").read_text(), (pki / f"{end}key.pem").read_text()
        _write(etc / f"pki/libvirt/{end}cert.pem", certificate)
        _write(etc / f"pki/libvirt/private/{end}key.pem", key, 0o600)
        # for TLS that QEMU itself speaks: migration, NBD, VNC
        _write(etc / f"pki/qemu/{end}-cert.pem", certificate)
        _write(etc / f"pki/qemu/{end}-key.pem", key, 0o600)


def _as_installed(networks: Path) -> None:
    """libvirt's default network, as its package leaves it: it is started with libvirtd."""
    default = Path("/") / DEFAULT_NETWORK
    if default.exists():
        (networks / "autostart").mkdir(parents=True)
        shutil.copyfile(default, networks / "default.xml")
        (networks / "autostart/default.xml").symlink_to("/etc/libvirt/qemu/networks/default.xml")


def _hide(upper: Path, path: str) -> None:
    """Makes a directory empty and independent of the machine's."""
    _directories(upper, Path(path))
    if Path("/", path).exists():
        shutil.copymode(Path("/", path), upper / path)
    os.setxattr(upper / path, "trusted.overlay.opaque", b"y")


def _directories(upper: Path, path: Path) -> None:
    """Makes a directory and its parents; 0755, whatever the umask: the upper layer's mode is the one that counts."""
    for part in [*reversed(path.parents), path]:
        if not (upper / part).exists():
            (upper / part).mkdir()
            (upper / part).chmod(0o755)


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    file.chmod(mode)
    file.write_text(text)
