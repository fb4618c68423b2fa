"""The hosts in columns: one row per host, one NumPy array per property, so that a question is a few array operations.

A loop over 10,000 host objects takes longer than a whole placement may; decision 0004 has the figures.
"""

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from openqrm.contracts.host import HostView
from openqrm.contracts.states import HostState
from openqrm.scheduler.membership import Mask, Membership
from openqrm.scheduler.usage import NOTHING, Usage

Numbers = NDArray[np.float64]

FIRST_ROWS = 64
GROWTH = 1.25
NOT_SHARED = -1


class HostColumns:
    """All hosts. Rows of hosts that are gone are empty (`present` is false) until another host gets them."""

    def __init__(self, rows: int = FIRST_ROWS) -> None:
        self.length = 0
        self.count = 0
        self.views: list[HostView | None] = []
        self.row_of: dict[UUID, int] = {}
        self.id_high: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.id_low: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        """The halves of the hosts' ids, which decide between equals."""
        self.present: Mask = np.zeros(0, dtype=np.bool_)
        self.ready: Mask = np.zeros(0, dtype=np.bool_)
        self.bridges_known: Mask = np.zeros(0, dtype=np.bool_)
        self.technology: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        """Index into `technologies`."""
        self.storage_group: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        """The same number: the same shared storage. NOT_SHARED: a storage of its own."""
        self.memory_limit: Numbers = np.zeros(0)
        """MiB that partitions may have in all: less the host's reserve, times its over-commit ratio."""
        self.memory_free: Numbers = np.zeros(0)
        """MiB of the limit that are not taken; below zero when a ratio was lowered."""
        self.cpu_limit: Numbers = np.zeros(0)
        """vCPUs that partitions may have in all: logical CPUs times the over-commit ratio."""
        self.cpu_free: Numbers = np.zeros(0)
        self.disk_free: Numbers = np.zeros(0)
        """MiB free where its disks are made, less what was proposed just now; infinite where nobody knows."""
        self.partitions: Numbers = np.zeros(0)
        self.tags = Membership()
        self.bridges = Membership()
        self.technologies: list[str] = []
        self.bridges_revision = 0
        """Raised when any host's bridges change, or a row changes its host."""
        self._memory_used: Numbers = np.zeros(0)
        self._cpu_used: Numbers = np.zeros(0)
        self._disk_taken: Numbers = np.zeros(0)
        self._disk_reported: Numbers = np.zeros(0)
        self._storage_paths: dict[str, int] = {}
        self._empty_rows: list[int] = []
        self._grow(rows)

    def reserve(self, rows: int) -> None:
        """Make room for so many hosts at once."""
        if rows > self.length:
            self._grow(rows)

    def put(self, view: HostView) -> int:
        """Add a host or replace what is known of it; returns its row. Its usage stays."""
        row = self.row_of.get(view.id)
        if row is None:
            if not self._empty_rows:
                self._grow(int(self.length * GROWTH) + FIRST_ROWS)
            row = self._empty_rows.pop()
            self.row_of[view.id] = row
            self.count += 1
            self.bridges_revision += 1
        self.views[row] = view
        self.id_high[row], self.id_low[row] = view.id.int >> 64, view.id.int & (1 << 64) - 1
        self.present[row] = True
        self.ready[row] = view.state is HostState.READY
        self.technology[row] = self.technology_number(view.technology)
        self.storage_group[row] = self._group(view)
        facts = view.facts
        self.memory_limit[row] = (
            max(facts.memory_mib - view.memory_reserve_mib, 0) * view.memory_overcommit if facts else 0.0
        )
        self.cpu_limit[row] = facts.cpus * view.cpu_overcommit if facts else 0.0
        self._disk_reported[row] = free_disk_mib(view)
        self.bridges_known[row] = bool(facts and facts.bridges)
        self.tags.put(row, view.tags)
        if self.bridges.put(row, facts.bridges if facts else ()):
            self.bridges_revision += 1
        self._derive(row)
        return row

    def remove(self, host_id: UUID) -> None:
        """Forget a host; harmless when it is not there."""
        row = self.row_of.pop(host_id, None)
        if row is None:
            return
        self.count -= 1
        self.views[row] = None
        self.present[row] = False
        self.tags.put(row, ())
        self.bridges.put(row, ())
        self.bridges_revision += 1
        self.set_usage(row, NOTHING)
        self._empty_rows.append(row)

    def set_usage(self, row: int, usage: Usage) -> None:
        """Say how much of a host is taken."""
        self.partitions[row] = usage.partitions
        self._memory_used[row] = usage.memory_mib
        self._cpu_used[row] = usage.vcpus
        self._disk_taken[row] = usage.disk_mib
        self._derive(row)

    def view(self, row: int) -> HostView:
        """The host of a row that has one."""
        view = self.views[row]
        if view is None:
            raise LookupError(f"row {row} has no host")
        return view

    def technology_number(self, technology: str) -> int:
        """The number that stands for a technology in the `technology` column."""
        if technology not in self.technologies:
            self.technologies.append(technology)
        return self.technologies.index(technology)

    def _derive(self, row: int) -> None:
        self.memory_free[row] = self.memory_limit[row] - self._memory_used[row]
        self.cpu_free[row] = self.cpu_limit[row] - self._cpu_used[row]
        self.disk_free[row] = self._disk_reported[row] - self._disk_taken[row]

    def _group(self, view: HostView) -> int:
        if not view.connection.shared_storage:
            return NOT_SHARED
        return self._storage_paths.setdefault(view.connection.storage_path, len(self._storage_paths))

    def _grow(self, length: int) -> None:
        added = length - self.length
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, np.concatenate([column, np.zeros(added, dtype=column.dtype)]))
        self.views.extend([None] * added)
        self._empty_rows = list(range(length - 1, self.length - 1, -1)) + self._empty_rows
        self.length = length


def storage_of(view: HostView) -> tuple[str, int] | None:
    """Path and free MiB of the storage that a host's disks are made on; None when it is not known."""
    if view.facts is None:
        return None
    wanted = f"{view.connection.storage_path}/"
    holding = [storage for storage in view.facts.storages if wanted.startswith(f"{storage.path.rstrip('/')}/")]
    if not holding:
        return None
    nearest = max(holding, key=lambda storage: len(storage.path.rstrip("/")))
    return nearest.path, nearest.free_mib


def free_disk_mib(view: HostView) -> float:
    """MiB free where a host's disks are made; infinite when it is not known."""
    storage = storage_of(view)
    return float("inf") if storage is None else float(storage[1])
