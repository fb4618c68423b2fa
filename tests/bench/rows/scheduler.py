"""The scheduler alone, without a bus: placements per second, and the latency of one.

Each placement is what the service does per request: read the JSON, propose, write the JSON of the answer.
"""

import cProfile
import gc
import json
import pstats
import random
import statistics
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from harness.bench import Bench
from harness.row import Attempt, Goal, Row

from openqrm.contracts.host import HostConnection, HostFacts, HostStorage, HostView
from openqrm.contracts.network import NetworkView
from openqrm.contracts.partition import BlankDisk, CrashPolicy, DiskBus, DiskView, Firmware, NicView, PartitionView
from openqrm.contracts.placement import MAX_EXPLAINED, PlacedPartition, PlacementRequest, ProposePlacement
from openqrm.contracts.states import DesiredState, HostState, PartitionState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.scheduler.pipeline import Pipeline
from openqrm.scheduler.projection import Projection

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NETWORK = UUID(int=7 << 100)
ORDER = 8
SIZES = (1_000, 10_000, 100_000)
MULTIPLIERS = {"cpu_balance": 1.0, "memory_balance": 1.0, "spread": 0.5}
PLACEMENTS = 2000
IN_TURN = 100
"""So many placements, then the floor as often."""
PARTITIONS = 100_000
SEED = 20260101
FLOOR = "floor: JSON and one pass of NumPy"


def host(number: int, rng: random.Random) -> HostView:
    """A host of a mixed data centre: two technologies, a few not ready, half with fast disks."""
    return HostView(
        id=UUID(int=(1 << 120) + number),
        revision=1,
        name=f"kvm{number}",
        technology="qemu" if number % 10 else "xen",
        state=HostState.MAINTENANCE if rng.random() < 0.02 else HostState.READY,
        state_reason="",
        connection=HostConnection(uri=f"qemu+ssh://root@kvm{number}/system"),
        tags=("ssd", f"rack-{number % 50}") if rng.random() < 0.5 else (f"rack-{number % 50}",),
        cpu_overcommit=4.0,
        memory_overcommit=1.0,
        memory_reserve_mib=512,
        facts=HostFacts(
            hostname=f"kvm{number}",
            architecture="x86_64",
            cpu_model="EPYC",
            cpus=rng.choice((32, 64, 128)),
            memory_mib=rng.choice((131072, 262144, 524288)),
            bridges=("br0", "br1"),
            storages=(HostStorage(name="disks", path="/var/lib/openqrm", total_mib=4_000_000, free_mib=2_000_000),),
        ),
        cpus_reserved=0,
        memory_reserved_mib=0,
        partitions=0,
        operation_id=None,
        last_seen_at=NOW,
        created_at=NOW,
        updated_at=NOW,
    )


def partition(number: int, host_id: UUID, rng: random.Random) -> PartitionView:
    """A running partition with one disk and one NIC."""
    memory, vcpus = rng.choice((512, 2048, 8192)), rng.choice((1, 2, 4))
    return PartitionView(
        id=UUID(int=(2 << 120) + number),
        revision=3,
        name=f"web {number}",
        technology="qemu",
        state=PartitionState.RUNNING,
        desired_state=DesiredState.RUNNING,
        epoch=1,
        host_id=host_id,
        host_name="kvm",
        target_host_id=None,
        memory_mib=memory,
        memory_max_mib=memory,
        vcpus=vcpus,
        vcpus_max=vcpus,
        cpu_pins={},
        disks=(
            DiskView(
                id=UUID(int=number), target="vda", source=BlankDisk(size_mib=8192), bus=DiskBus.VIRTIO, read_only=False
            ),
        ),
        nics=(
            NicView(
                id=UUID(int=number),
                network_id=NETWORK,
                network_name="lan",
                mac=f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
                model="virtio",
            ),
        ),
        firmware=Firmware.BIOS,
        vnc=True,
        tags=("web",),
        host_tags=(),
        on_crash=CrashPolicy.RESTART,
        operation_id=None,
        drift=(),
        created_at=NOW,
        updated_at=NOW,
    )


def placed(view: PartitionView) -> PlacedPartition:
    """What the scheduler reads of a partition."""
    return PlacedPartition.model_validate(view.model_dump())


def request(number: int, rng: random.Random) -> PlacementRequest:
    """What a new partition asks for."""
    return PlacementRequest(
        partition_id=UUID(int=(3 << 120) + number),
        technology="qemu" if rng.random() < 0.9 else None,
        memory_mib=rng.choice((512, 2048, 8192)),
        vcpus=rng.choice((1, 2, 4)),
        host_tags=("ssd",) if rng.random() < 0.3 else (),
        network_ids=(NETWORK,),
        disk_mib=8192,
        capabilities=frozenset({Capability.LIFECYCLE}),
    )


def projection_of(hosts: list[HostView]) -> Projection:
    """A projection of these hosts, one network, two technologies."""
    projection = Projection()
    for technology in ("qemu", "xen"):
        manifest = Manifest(
            technology=technology, title=technology, capabilities=frozenset({Capability.LIFECYCLE}), uri_schemes=("x",)
        )
        projection.put_manifest(manifest)
    projection.put_network(
        NetworkView(
            id=NETWORK,
            revision=1,
            name="lan",
            description="",
            bridge="br0",
            host_bridges={hosts[0].id: "br1"},
            vlan=None,
            created_at=NOW,
        )
    )
    for view in hosts:
        projection.put_host(view)
    return projection


class Bare:
    """The floor of a placement: JSON is read, three columns are compared, the best is taken, JSON is written.

    The answer is as long as the scheduler's, but made beforehand, but for the host that was chosen.
    """

    def __init__(self, projection: Projection) -> None:
        columns = projection.cluster.hosts
        self._memory, self._cpus = columns.memory_free.copy(), columns.cpu_free.copy()
        self._open = columns.ready & columns.present
        self._rest = [{"host_id": str(UUID(int=n)), "host_name": "kvm", "total": 0.5} for n in range(MAX_EXPLAINED)]

    def place(self, body: str) -> str:
        """One placement."""
        wanted = json.loads(body)["request"]
        fits = self._open & (self._memory >= wanted["memory_mib"]) & (self._cpus >= wanted["vcpus"])
        best = int(np.argmax(np.where(fits, self._memory, -1.0)))
        self._memory[best] -= wanted["memory_mib"]
        self._cpus[best] -= wanted["vcpus"]
        return json.dumps({"host": best, "scores": self._rest})


def place(hosts: int, profiled: bool) -> dict[str, Any]:
    """Propose PLACEMENTS times in a data centre of this size; seconds of each, or where the time went."""
    rng = random.Random(SEED)  # noqa: S311 - test data, not a secret
    views = [host(number, rng) for number in range(hosts)]
    projection = projection_of(views)
    for number in range(min(hosts * 10, PARTITIONS)):
        projection.put_partition(placed(partition(number, rng.choice(views).id, rng)))
    pipeline = Pipeline(MULTIPLIERS, MAX_EXPLAINED)
    bodies = [ProposePlacement(request=request(n, rng)).model_dump_json() for n in range(PLACEMENTS)]
    bare = Bare(projection)
    seconds, floors = [], []
    gc.collect()
    gc.freeze()
    profiler = cProfile.Profile()
    if profiled:
        profiler.enable()
    for begin in range(0, len(bodies), IN_TURN):
        for body in bodies[begin : begin + IN_TURN]:
            started = time.perf_counter()
            query = ProposePlacement.model_validate_json(body)
            # A clock that stands still: proposals pile up as in a burst.
            projection.propose(query.request, pipeline, 0.0).model_dump_json()
            seconds.append(time.perf_counter() - started)
        for body in bodies[begin : begin + IN_TURN]:
            started = time.perf_counter()
            bare.place(body)
            floors.append(time.perf_counter() - started)
    profiler.disable()
    return {"seconds": seconds, "floors": floors, "functions": _slowest(profiler) if profiled else []}


def _slowest(profiler: cProfile.Profile) -> list[str]:
    found = pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    total = sum(figures[2] for _, figures in found)
    slowest = sorted(((figures[2], place) for place, figures in found), reverse=True)[:8]
    return [f"{own / total:.0%} {name} ({file.rpartition('/')[2]})" for own, (file, _, name) in slowest]


async def measured(bench: Bench, hosts: int) -> list[Row]:
    """Throughput and latency in a data centre of this size."""
    result = await bench.load(place, hosts=hosts, profiled=False)
    seconds, floors = result["seconds"], result["floors"]

    async def explain() -> str:
        return "own time: " + ", ".join((await bench.load(place, hosts=hosts, profiled=True))["functions"])

    return [
        Row(
            f"scheduler alone, placements per second: {hosts:,} hosts",
            len(seconds) / sum(seconds),
            "/s",
            FLOOR,
            len(floors) / sum(floors),
            Goal(1000, ">=") if hosts == 10_000 else None,
            explain=explain,
        ),
        Row(
            f"scheduler alone, p99 of a placement: {hosts:,} hosts",
            _p99(seconds) * 1e3,
            "ms",
            FLOOR,
            _p99(floors) * 1e3,
            Goal(10) if hosts == 100_000 else None,
            note=f"median {statistics.median(seconds) * 1e3:.2f} ms, longest {max(seconds) * 1e3:.2f} ms",
            explain=explain,
        ),
    ]


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """Two rows for each size: throughput's goal is at 10,000 hosts, latency's at 100,000."""
    for hosts in SIZES:
        yield Attempt(f"scheduler alone: {hosts:,} hosts", partial(measured, bench, hosts))
