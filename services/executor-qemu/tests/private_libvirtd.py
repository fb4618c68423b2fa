"""Starts libvirtd.sh, for tests on real guests without a real host."""

import ctypes
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

    def __init__(self, folder: Path, beside: "PrivateLibvirtd | None" = None) -> None:
        """`beside` another one, it shares that one's network, so that guests can move between them."""
        self.folder = folder
        script = Path(__file__).with_name("libvirtd.sh")
        network = ["-n"] if beside is None else []
        enter = [] if beside is None else ["nsenter", f"--net=/proc/{beside._process.pid}/ns/net"]
        command = [*enter, "unshare", "-m", "-u", "-p", *network, "-f", "--kill-child", "--mount-proc"]
        name = f"host{0 if beside is None else 1}"
        self._process = subprocess.Popen(
            [*command, "/bin/bash", str(script), str(folder), name], stdin=subprocess.DEVNULL
        )
        self.wait()

    def enter_network(self) -> None:
        """Put the calling thread into its network, so that it reaches displays that listen on the loopback there."""
        with Path(f"/proc/{self._process.pid}/ns/net").open() as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")

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

    def kill_guest(self, words: str) -> None:
        """Kill the QEMU process whose command line has these words."""
        for process, comm in self._children().items():
            if comm.startswith("qemu-system") and words in Path(f"/proc/{process}/cmdline").read_text(errors="replace"):
                os.kill(process, signal.SIGKILL)
                return
        raise LookupError(words)

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
