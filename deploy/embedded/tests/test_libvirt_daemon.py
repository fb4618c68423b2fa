"""libvirt where nobody starts it, with a real guest, on a private machine (namespaces; root only)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openqrm.contracts.clock import SystemClock
from openqrm.embedded import libvirt_daemon
from openqrm.embedded.libvirt_daemon import LibvirtDaemon

HERE = Path(__file__).parent
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(shutil.which("libvirtd", path="/usr/sbin") is None, reason="libvirtd is not installed")
def test_a_guest_outlives_openqrm(place: Path) -> None:
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("this container may not make namespaces")
    command = [*UNSHARE, str(HERE / "private_machine.sh"), sys.executable, str(HERE / "guest_outlives_openqrm.py")]
    result = subprocess.run([*command, str(place)], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip().endswith("the guest survived"), result.stdout + result.stderr


async def test_a_machine_without_qemu_says_so(place: Path, clock: SystemClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_daemon, "_PATH", str(place))
    ability = await LibvirtDaemon(place, clock).start()
    assert not ability.available
    assert ability.reason == "the program qemu-system-x86_64 is missing: install the package qemu-system-x86"


@pytest.mark.parametrize(
    ("refusal", "root", "systemd", "reason"),
    [
        ("Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied", False, True, "usermod -aG"),
        ("authentication unavailable: no polkit agent", False, True, "usermod -aG libvirt"),
        ("No such file or directory", False, True, "sudo systemctl enable --now libvirtd"),
        ("No such file or directory", False, False, "only root can start it"),
    ],
)
async def test_what_a_user_without_rights_is_told(
    place: Path,
    clock: SystemClock,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
    root: bool,
    systemd: bool,
    reason: str,
) -> None:
    async def refuse(self: LibvirtDaemon) -> str:
        return refusal

    monkeypatch.setattr(LibvirtDaemon, "_refusal", refuse)
    monkeypatch.setattr(libvirt_daemon.shutil, "which", lambda *_, **__: "/usr/bin/true")
    monkeypatch.setattr(libvirt_daemon.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(libvirt_daemon, "_has_systemd", lambda: systemd)
    ability = await LibvirtDaemon(place, clock).start()
    assert not ability.available
    assert reason in ability.reason
