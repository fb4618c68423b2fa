"""One cgroup per host, with which a host is found, frozen and ended as a whole.

Cgroup version 1 has a tree per controller, version 2 a single one; most machines have version 2 today. Both are kept
behind the same methods. The cgroup is the lab's register of its processes: whatever is in it was started by the lab,
and nothing else is ever ended.
"""

import os
import signal
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path

from qemu_lab.errors import LabError
from qemu_lab.shell import eventually

ROOT = Path("/sys/fs/cgroup")
GONE_SECONDS = 10.0
# Those libvirt uses, plus the freezer.
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "blkio", "devices", "freezer", "pids")
V2_CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids")


class Cgroups(ABC):
    """The cgroups of one lab."""

    def __init__(self, root: Path, tag: str) -> None:
        self._root = root
        self._group = f"openqrm-lab-{tag}"

    @abstractmethod
    def trees(self) -> list[Path]:
        """The lab's own group in every tree."""

    @abstractmethod
    def create(self, host: str) -> None:
        """Makes the host's group; harmless if it is there."""

    @abstractmethod
    def entrances(self, host: str, *, first: bool = False) -> list[Path]:
        """The files into which a process writes '0' to join the host; `first` for the process that becomes the host."""

    @abstractmethod
    def set_frozen(self, host: str, frozen: bool) -> None:
        """Stops or continues every process of the host at once; harmless if there is no such group."""

    @abstractmethod
    def settle(self, host: str, launcher: int) -> None:
        """Called once the host's first process runs: puts the process that started it where it is in nobody's way."""

    @property
    @abstractmethod
    def mounts(self) -> str:
        """What the host mounts on its /sys/fs/cgroup: 'v2', or 'v1' and the trees' names."""

    def _kill_at_once(self, host: str) -> None:
        for process in self.processes(host):
            _kill(process)

    def names(self) -> set[str]:
        """The hosts that have a group."""
        return {path.name for tree in self.trees() if tree.is_dir() for path in tree.iterdir() if path.is_dir()}

    def processes(self, host: str) -> set[int]:
        """Every process of the host, as numbered outside."""
        found: set[int] = set()
        for group, _, files in os.walk(self._register(host)):
            if "cgroup.procs" in files:
                found.update(_processes_of(Path(group) / "cgroup.procs"))
        return found

    def kill(self, host: str) -> None:
        """Ends every process of the host and waits until they are gone."""
        # A process frozen under version 1 dies only when it thaws.
        self.set_frozen(host, frozen=False)

        def gone() -> bool:
            # More than once, for those that were being born.
            self._kill_at_once(host)
            return not self.processes(host)

        if not eventually(gone, GONE_SECONDS):
            raise LabError(f"processes of {host} do not die: {sorted(self.processes(host))}")

    def remove(self, host: str) -> None:
        """Takes away the host's group, ending what is in it. What cannot be removed stays, for down() to report."""
        for tree in self.trees():

            def removed(group: Path = tree / host) -> bool:
                # A command that was on its way in while the host was ended.
                self._kill_at_once(host)
                return _removed(group)

            eventually(removed, GONE_SECONDS)

    def remove_all(self) -> None:
        """Takes away the lab's own groups, whose hosts must be gone by now."""
        for tree in self.trees():
            eventually(partial(_removed, tree), GONE_SECONDS)

    def _register(self, host: str) -> Path:
        return self.trees()[0] / host


class CgroupsV1(Cgroups):
    """A tree per controller; the freezer's is the register of processes."""

    @property
    def _names(self) -> list[str]:
        # 'cpu' and 'cpuacct' may be two names of one tree, mounted as 'cpu,cpuacct'.
        present = {(self._root / name).resolve().name for name in V1_CONTROLLERS if (self._root / name).is_dir()}
        return sorted(present, key=lambda name: (name != "freezer", name))

    def trees(self) -> list[Path]:
        return [self._root / name / self._group for name in self._names]

    def create(self, host: str) -> None:
        for tree in self.trees():
            for group in (tree, tree / host):
                group.mkdir(exist_ok=True)
                if "cpuset" in tree.parent.name.split(","):
                    # A new cpuset is empty, and nobody can join it.
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (group / file).write_text((group.parent / file).read_text())

    def entrances(self, host: str, *, first: bool = False) -> list[Path]:
        return [tree / host / "cgroup.procs" for tree in self.trees()]

    def set_frozen(self, host: str, frozen: bool) -> None:
        file = self._register(host) / "freezer.state"
        if file.exists():
            file.write_text("FROZEN" if frozen else "THAWED")

    def settle(self, host: str, launcher: int) -> None:
        """Nothing to do: version 1 lets processes stand in an inner group."""

    @property
    def mounts(self) -> str:
        return "v1 " + " ".join(self._names)


class CgroupsV2(Cgroups):
    """One tree. A group that hands controllers on must hold no process itself, so a host's processes are in 'init'."""

    def trees(self) -> list[Path]:
        return [self._root / self._group]

    def create(self, host: str) -> None:
        tree = self.trees()[0]
        for group in (tree, tree / host, tree / host / "init", tree / "launchers"):
            group.mkdir(exist_ok=True)
        for group in (self._root, tree):
            available = (group / "cgroup.controllers").read_text().split()
            for controller in V2_CONTROLLERS:
                if controller in available:
                    self._hand_on(group, controller)

    @staticmethod
    def _hand_on(group: Path, controller: str) -> None:
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # In a container the root may hold processes itself. The hosts run without the controller, and its limits.
            return

    def entrances(self, host: str, *, first: bool = False) -> list[Path]:
        # The host's cgroup namespace is rooted where its first process stands; that one moves on to 'init' by itself.
        group = self._register(host)
        return [(group if first else group / "init") / "cgroup.procs"]

    def set_frozen(self, host: str, frozen: bool) -> None:
        file = self._register(host) / "cgroup.freeze"
        if file.exists():
            file.write_text("1" if frozen else "0")

    def settle(self, host: str, launcher: int) -> None:
        try:
            (self.trees()[0] / "launchers" / "cgroup.procs").write_text(str(launcher))
        except ProcessLookupError:
            return  # it ended in the meantime, which is what its host's readiness check reports

    def names(self) -> set[str]:
        return super().names() - {"launchers"}

    @property
    def mounts(self) -> str:
        return "v2"

    def _kill_at_once(self, host: str) -> None:
        file = self._register(host) / "cgroup.kill"  # since Linux 5.14
        if file.exists():
            file.write_text("1")
        else:
            super()._kill_at_once(host)


def detect(tag: str, root: Path = ROOT) -> Cgroups:
    """The machine's cgroups; LabError if there are none.

    OPENQRM_LAB_CGROUPS=v2 takes the version 2 tree of a machine that has both, which comes without controllers.
    """
    if (root / "cgroup.controllers").exists():
        return CgroupsV2(root, tag)
    if os.environ.get("OPENQRM_LAB_CGROUPS") == "v2" and (root / "unified" / "cgroup.controllers").exists():
        return CgroupsV2(root / "unified", tag)
    if (root / "freezer").is_dir():
        return CgroupsV1(root, tag)
    raise LabError(f"{root} has neither a cgroup version 2 tree nor a version 1 freezer")


def _processes_of(file: Path) -> set[int]:
    try:
        return {int(line) for line in file.read_text().split()}
    except OSError:
        return set()  # the group was removed just now


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _removed(tree: Path) -> bool:
    """Removes a group with its inner groups; False as long as one of them is in use."""
    for group, _, _ in os.walk(tree, topdown=False):
        try:
            Path(group).rmdir()
        except OSError:
            return False  # a process that just ended counts a moment longer
    return True
