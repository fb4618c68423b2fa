"""What the kernel knows of a process: CPU seconds, memory, open files. Reads /proc only."""

import os
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
MACHINE = ("(busy)", "(idle)", "(disk)")
"""Of all cores together: seconds at work, with nothing to do, with nothing to do but wait for the disk."""
_FIELDS = ((0, 1, 2, 5, 6, 7), (3,), (4,))


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    """The living children of all threads of a process."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *(one for child in children(pid) for one in tree(child))]


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process with its descendants, ended and waited-for ones included."""
    ticks = 0
    for one in tree(pid):
        try:
            ticks += sum(map(int, _stat(one)[11:15]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / _TICKS


def pss_kib(pid: int) -> int:
    """Proportional set size in KiB: pages shared by n processes count 1/n in each."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def tree_pss_kib(pid: int) -> int:
    """PSS in KiB of a process with its descendants."""
    total = 0
    for one in tree(pid):
        try:
            total += pss_kib(one)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def handles(pid: int) -> int:
    """Open file descriptors of a process with its descendants."""
    total = 0
    for one in tree(pid):
        try:
            total += len(os.listdir(f"/proc/{one}/fd"))  # noqa: PTH208 - only counted
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far, by name; besides, those of this process and of the whole machine (see MACHINE)."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    machine = dict(zip(MACHINE, (sum(int(words[n]) for n in fields) / _TICKS for fields in _FIELDS), strict=True))
    return {name: cpu_seconds(pid) for name, pid in pids.items()} | {"load": sum(os.times()[:2])} | machine


def usage_text(before: Mapping[str, float], after: Mapping[str, float], commands: int, seconds: float) -> str:
    """Who used how much between two `cpu_of`: CPU ms per command of each process, shares of a core, and the rest."""
    used = {name: after[name] - before[name] for name in after}
    busy, idle, disk = (used.pop(name) for name in MACHINE)
    cores = os.cpu_count() or 1
    ordered = sorted(used.items(), key=lambda item: -item[1])
    per_command = ", ".join(f"{name} {value / max(commands, 1) * 1e3:.2f}" for name, value in ordered)
    shares = ", ".join(f"{name} {value / seconds:.0%}" for name, value in ordered)
    total, whole = sum(used.values()), seconds * cores
    return (
        f"CPU ms per command: {per_command}; all {total / max(commands, 1) * 1e3:.2f}\n"
        f"share of one core: {shares}\n"
        f"of {cores} cores: these {total / whole:.0%}, other processes {max(busy - total, 0) / whole:.0%}, "
        f"waiting for the disk {disk / whole:.0%}, idle {idle / whole:.0%}"
    )
