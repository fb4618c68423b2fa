"""What the scheduler knows of the data centre, kept current by inventory's events.

Views may come late, twice or out of order: of each thing the one with the highest revision counts.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from openqrm.contracts.host import HostEvent, HostView
from openqrm.contracts.message import Event, Message
from openqrm.contracts.network import NetworkDeleted, NetworkEvent, NetworkView
from openqrm.contracts.partition import PartitionEvent
from openqrm.contracts.placement import PlacedPartition, PlacementProposal, PlacementRequest
from openqrm.contracts.states import HostState, PartitionState
from openqrm.contracts.technology import ExecutorAnnounced, Manifest
from openqrm.scheduler.pipeline import Pipeline
from openqrm.scheduler.reading import PlacementChanged
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.usage import Load, Tally

FOLLOWED: tuple[type[Event], ...] = (HostEvent, PartitionEvent, NetworkEvent, ExecutorAnnounced)
"""The events that the projection is made of, and those derived from them."""

MAX_GONE = 100_000
"""Things that are gone whose last revision is remembered, so that a late event does not bring them back."""


@dataclass(frozen=True, slots=True)
class _Placed:
    revision: int
    hosts: tuple[UUID, ...]
    load: Load


@dataclass(frozen=True, slots=True)
class _Pending:
    host_id: UUID
    load: Load
    until: float


class Projection:
    """Hosts, partitions, networks and technologies as far as placement needs them, and what was proposed just now."""

    def __init__(self, pending_seconds: float = 10.0) -> None:
        self.cluster = Cluster()
        self.sequence = 0
        """Of the last event that it includes."""
        self._partitions: dict[UUID, _Placed] = {}
        self._tally = Tally()
        self._gone: OrderedDict[UUID, int] = OrderedDict()
        self._pending_seconds = pending_seconds
        self._pending: OrderedDict[UUID, _Pending] = OrderedDict()

    # -------------------------------------------------------------------------------------------- keeping current

    def apply(self, event: Message | PlacementChanged) -> None:
        """Take one event in; events that placement does not need are ignored."""
        match event:
            case PlacementChanged():
                self.put_partition(event.partition)
            case HostEvent():
                self.put_host(event.host)
            case NetworkDeleted():
                self.remove_network(event.network)
            case NetworkEvent():
                self.put_network(event.network)
            case ExecutorAnnounced():
                self.put_manifest(event.manifest)
            case _:
                pass

    def put_host(self, view: HostView) -> None:
        """Take in how a host is."""
        hosts = self.cluster.hosts
        row = hosts.row_of.get(view.id)
        if self._is_old(view.id, view.revision, None if row is None else hosts.view(row).revision):
            return
        if view.state is HostState.REMOVED:
            hosts.remove(view.id)
            self._remember_gone(view.id, view.revision)
        else:
            hosts.put(view)
            self._refresh((view.id,))

    def put_partition(self, view: PlacedPartition) -> None:
        """Take in where a partition is and what it takes; one on the move takes it on both hosts."""
        self.put_partitions((view,))

    def put_partitions(self, views: Iterable[PlacedPartition]) -> None:
        """Take in many at once: each host's columns are written once."""
        touched: set[UUID] = set()
        for view in views:
            touched.update(self._place(view))
        self._refresh(touched)

    def _place(self, view: PlacedPartition) -> tuple[UUID, ...]:
        """Take in one partition, but for the columns of its hosts, which are returned."""
        known = self._partitions.get(view.id)
        if self._is_old(view.id, view.revision, known.revision if known else None):
            return ()
        if known:
            self._tally.add(known.hosts, known.load, -1)
        places = tuple({host for host in (view.host_id, view.target_host_id) if host})
        is_gone = view.state is PartitionState.DELETED
        if is_gone:
            self._partitions.pop(view.id, None)
            self._remember_gone(view.id, view.revision)
        else:
            load = Load(view.memory_mib, view.vcpus)
            self._partitions[view.id] = _Placed(view.revision, places, load)
            self._tally.add(places, load)
        pending = self._pending.get(view.id)
        if pending and (is_gone or pending.host_id in places):
            self._drop_pending(view.id)
        return places + known.hosts if known else places

    def put_network(self, view: NetworkView) -> None:
        """Take in which bridges carry a network."""
        known = self.cluster.networks.get(view.id)
        if not self._is_old(view.id, view.revision, known.revision if known else None):
            self.cluster.networks[view.id] = view

    def remove_network(self, view: NetworkView) -> None:
        """Forget a network."""
        self.cluster.networks.pop(view.id, None)
        self._remember_gone(view.id, view.revision)

    def put_manifest(self, manifest: Manifest) -> None:
        """Take in what a technology's driver can do."""
        self.cluster.manifests[manifest.technology] = manifest

    # -------------------------------------------------------------------------------------------- proposing

    def propose(self, request: PlacementRequest, pipeline: Pipeline, now: float) -> PlacementProposal:
        """Choose a host, and count the choice as taken until its event comes or its time is over.

        What the partition itself takes already does not stand in its way. `now`: the monotonic clock, in seconds.
        """
        self._expire(now)
        self._drop_pending(request.partition_id)
        placed = self._partitions.get(request.partition_id)
        if placed:
            self._count(placed.hosts, placed.load, -1)
        try:
            proposal = pipeline.propose(self.cluster, request, self.sequence)
        finally:
            if placed:
                self._count(placed.hosts, placed.load)
        if proposal.host_id and not (placed and proposal.host_id in placed.hosts):
            load = Load(request.memory_mib, request.vcpus, request.disk_mib)
            self._pending[request.partition_id] = _Pending(proposal.host_id, load, now + self._pending_seconds)
            self._count((proposal.host_id,), load)
        return proposal

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._partitions)

    # -------------------------------------------------------------------------------------------- inside

    def _is_old(self, thing: UUID, revision: int, known: int | None) -> bool:
        newest = self._gone.get(thing) if known is None else known
        return newest is not None and revision <= newest

    def _remember_gone(self, thing: UUID, revision: int) -> None:
        self._gone[thing] = revision
        if len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def _count(self, host_ids: tuple[UUID, ...], load: Load, times: int = 1) -> None:
        self._tally.add(host_ids, load, times)
        self._refresh(host_ids)

    def _refresh(self, host_ids: Iterable[UUID]) -> None:
        hosts = self.cluster.hosts
        for host_id in host_ids:
            row = hosts.row_of.get(host_id)
            if row is not None:
                hosts.set_usage(row, self._tally.of(host_id))

    def _drop_pending(self, partition_id: UUID) -> None:
        pending = self._pending.pop(partition_id, None)
        if pending:
            self._count((pending.host_id,), pending.load, -1)

    def _expire(self, now: float) -> None:
        while self._pending:
            partition_id, pending = next(iter(self._pending.items()))
            if pending.until > now:
                return
            self._drop_pending(partition_id)
