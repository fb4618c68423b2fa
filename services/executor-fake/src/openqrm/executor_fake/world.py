"""All fake hosts. They outlive drivers: within the process always, beyond it when they are kept in a folder."""

from collections import defaultdict
from pathlib import Path
from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import PermanentError, ProblemCode
from openqrm.contracts.host import HostConnection
from openqrm.contracts.states import ObservedState
from openqrm.executor_fake.address import host_name, host_plan
from openqrm.executor_fake.host import FakeHost
from openqrm.executor_fake.state import HostContent
from openqrm.executor_fake.store import HostStore


class FakeWorld:
    """Hosts by the name in their address; each is made when it is first looked for."""

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self.hosts: dict[str, FakeHost] = {}
        self.ran_twice: list[str] = []
        """A sentence for each time that a partition was started while it ran on another host, too."""
        self._clock = clock
        self._folder = folder
        self._started_on: defaultdict[UUID, set[str]] = defaultdict(set)
        """By partition: the hosts on which it was ever started, so that not all need to be asked."""

    def host(self, connection: HostConnection | str) -> FakeHost:
        """The host that a connection or a plain name leads to. Raises InvalidError for what is no address."""
        if isinstance(connection, str):
            connection = HostConnection(uri=f"fake://{connection}")
        name = host_name(connection)
        if name not in self.hosts:
            plan = host_plan(connection)
            store = HostStore(self._folder, name, HostContent(prepared=plan.prepared))
            self.hosts[name] = FakeHost(name, plan, store, self._clock)
        return self.hosts[name]

    def admit(self, connection: HostConnection) -> FakeHost:
        """The host, if it takes connections. Raises PermanentError when it never will like this."""
        host = self.host(connection)
        if host.plan.refuse:
            raise PermanentError(
                f"Fake host {host.name} refuses the connection: {host.plan.refuse}", code=ProblemCode.FORBIDDEN
            )
        return host

    def began(self, host: FakeHost, partition_id: UUID) -> None:
        """A partition was started on a host. Takes note when that is one too many."""
        partition = host.get(partition_id)
        if partition is None:
            return
        host.began(partition)
        places = self._started_on[partition_id]
        places.add(host.name)
        others = [name for name in sorted(places - {host.name}) if _runs(self.hosts[name], partition_id)]
        if others:
            self.ran_twice.append(f"{partition.name!r} was started on {host.name} while it ran on {', '.join(others)}")

    def runs_on(self, partition_id: UUID) -> list[FakeHost]:
        """The hosts on which a partition's CPUs run right now; more than one must never be."""
        return [host for host in self.hosts.values() if _runs(host, partition_id)]

    def running_twice(self) -> dict[UUID, list[str]]:
        """Every partition that runs on more than one host right now, with their names."""
        places: dict[UUID, list[str]] = defaultdict(list)
        for host in self.hosts.values():
            for partition in host.read().partitions.values():
                if partition.state is ObservedState.RUNNING:
                    places[partition.id].append(host.name)
        return {partition_id: names for partition_id, names in places.items() if len(names) > 1}

    def stop(self) -> None:
        """Nothing happens by itself any more."""
        for host in self.hosts.values():
            host.stop_timers()


def _runs(host: FakeHost, partition_id: UUID) -> bool:
    partition = host.get(partition_id)
    return partition is not None and partition.state is ObservedState.RUNNING


_shared: dict[Path | None, FakeWorld] = {}


def shared_world(clock: Clock, folder: Path | None) -> FakeWorld:
    """The one world of this process for a folder, or for none."""
    return _shared.setdefault(folder, FakeWorld(clock, folder))
