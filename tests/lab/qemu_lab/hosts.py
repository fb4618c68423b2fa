"""Starting a host, finding it again, entering it and ending it."""

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from qemu_lab import storage
from qemu_lab.cgroups import Cgroups
from qemu_lab.errors import LabError
from qemu_lab.files import write_host_files
from qemu_lab.keys import Keys
from qemu_lab.plan import Folder, Member, Role
from qemu_lab.requirements import PATH
from qemu_lab.shell import eventually, run

CODE = Path(__file__).resolve().parent
START_SECONDS = 60.0
# What a host changes on its root lies in RAM; guests' disks belong into /lab/local or /lab/shared.
UPPER_SIZE = "1g"
# Directories that a machine may keep on file systems of their own: an overlay of / does not show what is mounted in it.
SUBMOUNTS = ("/usr", "/var", "/var/lib", "/var/cache", "/var/log", "/opt", "/srv")
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
# Joins cgroups ($1: how many files follow) and becomes the command behind them.
JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 > "$1" || exit 125; shift; n=$((n - 1)); done; exec "$@"'


def joining(entrances: Sequence[Path], arguments: Sequence[str]) -> list[str]:
    """A command line that joins cgroups first, so that the lab knows the process as its own."""
    return ["/bin/sh", "-c", JOIN, "lab", str(len(entrances)), *map(str, entrances), *arguments]


class Hosts:
    """The hosts of one lab: all members but the controller."""

    def __init__(self, folder: Folder, cgroups: Cgroups, keys: Keys) -> None:
        self._folder = folder
        self._cgroups = cgroups
        self._keys = keys

    def create(self, member: Member, members: Iterable[Member]) -> None:
        """Gives the host its disks: the upper layer of its root, and /lab/local."""
        host = self._folder.host(member.name)
        for name in ("root", "upper", "disk"):
            (host / name).mkdir(parents=True)
        # A file system of its own, because an upper layer must not lie below its lower one. It is mounted out here and
        # not inside the host, so that the host's root outlives a power cut.
        run(["mount", "-t", "tmpfs", "-o", f"mode=755,size={UPPER_SIZE}", f"lab-{member.name}", str(host / "upper")])
        (host / "upper/root").mkdir(mode=0o755)
        write_host_files(host / "upper/root", member, members, self._keys)

    def start(self, member: Member, *, kvm: bool) -> None:
        """Starts the host and returns as soon as its process 1 exists; `wait_until_started` waits for the rest."""
        if self.init(member.name) is not None:
            return
        name = member.name
        self._cgroups.create(name)
        environment = {
            **ENVIRONMENT,
            **(storage.environment() if member.role is Role.STORAGE else {}),
            "LAB_HOST": str(self._folder.host(name)),
            "LAB_SHARED": str(self._folder.shared),
            "LAB_CODE": str(CODE),
            "LAB_CGROUPS": self._cgroups.mounts,
            "LAB_SUBMOUNTS": " ".join(path for path in SUBMOUNTS if os.path.ismount(path)),
            "LAB_KVM": "kvm" if kvm and Path("/dev/kvm").exists() else "",
        }
        namespaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]
        command = ["nsenter", f"--net=/run/netns/{self._folder.namespace(name)}", "unshare", *namespaces]
        command += ["/bin/bash", str(CODE / "hostinit.sh"), name, member.role]
        with (self._folder.host(name) / "init.log").open("a") as log:
            # setsid --fork: the host belongs to nobody, it goes on when the program that started it ends.
            subprocess.run(
                ["setsid", "--fork", *joining(self._cgroups.entrances(name, first=True), command)],
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        if not eventually(lambda: self.init(name) is not None, START_SECONDS):
            raise LabError(f"{name} did not start: {self._last_words(name)}")
        if launcher := self._launcher(name):
            self._cgroups.settle(name, launcher)

    def wait_until_started(self, member: Member) -> None:
        """Waits until the host has started its daemons; LabError with its last words if one failed."""

        def started() -> bool:
            init = self.init(member.name)
            if init is None:
                raise LabError(f"{member.name} died while it started: {self._last_words(member.name)}")
            return self._started(init) is not None

        if not eventually(started, START_SECONDS):
            raise LabError(f"{member.name} did not start its daemons: {self._last_words(member.name)}")
        if self._started(self.init(member.name)) != "0":
            raise LabError(f"a daemon of {member.name} failed: {self._last_words(member.name)}")

    def kill(self, name: str) -> None:
        """Ends every process of the host at once."""
        self._cgroups.kill(name)

    def init(self, name: str) -> int | None:
        """The host's process 1, as numbered outside; None if the host is off."""
        depth = len(_numbers(os.getpid()))
        for process in self._cgroups.processes(name):
            numbers = _numbers(process)
            if len(numbers) == depth + 1 and numbers[-1] == 1:
                return process
        return None

    def entering(self, name: str, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command inside the host."""
        init = self.init(name)
        if init is None:
            raise LabError(f"{name} is off")
        environment = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
        into = [
            "nsenter",
            "-t",
            str(init),
            "-m",
            "-u",
            "-i",
            "-p",
            "-n",
            "-C",
            "--root",
            "--wdns=/",
            "env",
            *environment,
        ]
        return joining(self._cgroups.entrances(name), [*into, *arguments])

    def _launcher(self, name: str) -> int | None:
        depth = len(_numbers(os.getpid()))
        return next((pid for pid in self._cgroups.processes(name) if len(_numbers(pid)) == depth), None)

    def _started(self, init: int | None) -> str | None:
        try:
            text = Path(f"/proc/{init}/root/run/lab/started").read_text().strip()
        except OSError:
            return None
        return text or None

    def _last_words(self, name: str) -> str:
        lines = (self._folder.host(name) / "init.log").read_text(errors="replace").strip().splitlines()
        return json.dumps(lines[-3:])


def _numbers(process: int) -> list[int]:
    """A process's numbers, from the namespace we see it in to its own innermost one; empty if it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return []
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "NSpid:")
    return [int(number) for number in line.split()[1:]]
