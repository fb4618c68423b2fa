"""Starts libvirtd.sh, for tests on real guests without a real host."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

NEEDED = ("libvirtd", "qemu-system-x86_64", "unshare", "ip")
_START_SECONDS = 20


def skip_unless_possible() -> None:
    """Skip where there is no root, no libvirtd, no QEMU or no namespaces."""
    missing = [name for name in NEEDED if shutil.which(name, path=os.defpath + ":/usr/sbin:/sbin") is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing or NEEDED)}")
    if subprocess.run(["unshare", "-m", "-n", "-p", "-f", "true"], check=False).returncode != 0:
        pytest.skip("needs the right to make namespaces")


class PrivateLibvirtd:
    """One libvirtd with guests of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = Path(__file__).with_name("libvirtd.sh")
        command = ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc", "/bin/bash", str(script)]
        self._process = subprocess.Popen([*command, str(folder)], stdin=subprocess.DEVNULL)
        self.wait()

    @property
    def uri(self) -> str:
        """The address for the driver."""
        return f"qemu:///system?socket={self.folder}/run/libvirt-sock"

    def wait(self) -> None:
        """Return once it answers."""
        end = time.monotonic() + _START_SECONDS
        command = ["virsh", "-q", "-c", f"qemu+unix:///system?mode=direct&socket={self.folder}/run/libvirt-sock", "uri"]
        while subprocess.run(command, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > end:
                raise TimeoutError((self.folder / "libvirtd.log").read_text("utf-8"))

    def virsh(self, *arguments: str) -> str:
        """Run virsh on it."""
        uri = f"qemu+unix:///system?mode=direct&socket={self.folder}/run/libvirt-sock"
        return subprocess.run(["virsh", "-q", "-c", uri, *arguments], capture_output=True, text=True, check=True).stdout

    def _children(self) -> dict[int, str]:
        """Process numbers, as seen from outside, of everything inside."""
        found: dict[int, str] = {}
        waiting = [self._process.pid]
        while waiting:
            number = waiting.pop()
            for task in Path(f"/proc/{number}/task").glob("*/children"):
                for child in map(int, task.read_text().split()):
                    found[child] = Path(f"/proc/{child}/comm").read_text().strip()
                    waiting.append(child)
        return found

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to every process inside with this name; how many there were."""
        hit = [process for process, comm in self._children().items() if comm.startswith(name)]
        for process in hit:
            os.kill(process, number)
        return len(hit)

    def kill_libvirtd(self) -> None:
        """Kill it hard and keep it down; guests run on."""
        (self.folder / "down").touch()
        assert self.signal("libvirtd", signal.SIGKILL) == 1

    def start_libvirtd(self) -> None:
        """Bring it back."""
        (self.folder / "down").unlink()
        self.wait()

    def close(self) -> None:
        """End it with all its guests."""
        self._process.kill()
        self._process.wait()
