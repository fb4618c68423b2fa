"""Hosts, partitions and requests to test with; only what a test is about has to be said."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from openqrm.contracts.host import HostConnection, HostFacts, HostStorage, HostView
from openqrm.contracts.network import NetworkView
from openqrm.contracts.placement import PlacedPartition, PlacementProposal, PlacementRequest
from openqrm.contracts.states import HostState, PartitionState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.scheduler.pipeline import Pipeline
from openqrm.scheduler.projection import Projection

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MULTIPLIERS = {"cpu_balance": 1.0, "memory_balance": 1.0, "spread": 0.5}


def _host(number: int, **changes: Any) -> HostView:
    facts = changes.pop("facts", {})
    connection = {"uri": f"qemu+ssh://root@kvm{number}/system"} | changes.pop("connection", {})
    values = {
        "id": UUID(int=number),
        "revision": 1,
        "name": f"kvm{number}",
        "technology": "qemu",
        "state": HostState.READY,
        "state_reason": "",
        "connection": HostConnection(**connection),
        "tags": (),
        "cpu_overcommit": 2.0,
        "memory_overcommit": 1.0,
        "memory_reserve_mib": 1000,
        "facts": None
        if facts is None
        else HostFacts(
            **{
                "hostname": f"kvm{number}",
                "architecture": "x86_64",
                "cpu_model": "EPYC",
                "cpus": 8,
                "memory_mib": 9000,
                "bridges": ("br0",),
                "storages": (HostStorage(name="disks", path="/var/lib/openqrm", total_mib=9000, free_mib=5000),),
            }
            | facts
        ),
        "cpus_reserved": 0,
        "memory_reserved_mib": 0,
        "partitions": 0,
        "operation_id": None,
        "last_seen_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return HostView(**values | changes)


def _partition(number: int, host: int | None = None, **changes: Any) -> PlacedPartition:
    values = {
        "id": UUID(int=1_000_000 + number),
        "revision": 1,
        "state": PartitionState.RUNNING,
        "host_id": UUID(int=host) if host else None,
        "target_host_id": None,
        "memory_mib": 1000,
        "vcpus": 2,
    }
    return PlacedPartition(**values | changes)


def _request(number: int = 0, **changes: Any) -> PlacementRequest:
    values = {"partition_id": UUID(int=1_000_000 + number), "technology": None, "memory_mib": 1000, "vcpus": 2}
    return PlacementRequest(**values | changes)


def _network(number: int, **changes: Any) -> NetworkView:
    values = {
        "id": UUID(int=5_000_000 + number),
        "revision": 1,
        "name": f"lan{number}",
        "description": "",
        "bridge": f"br{number}",
        "host_bridges": {},
        "vlan": None,
        "created_at": NOW,
    }
    return NetworkView(**values | changes)


def _manifest(technology: str, *capabilities: Capability, **unsupported: str) -> Manifest:
    return Manifest(
        technology=technology,
        title=technology.upper(),
        capabilities=frozenset(capabilities),
        unsupported={Capability(name.replace("_", "-")): why for name, why in unsupported.items()},
        uri_schemes=("x",),
    )


@pytest.fixture
def make_host() -> Callable[..., HostView]:
    """make_host(number, **fields): 8,000 MiB and 16 vCPUs for partitions, 5,000 MiB for disks, on br0."""
    return _host


@pytest.fixture
def make_partition() -> Callable[..., PlacedPartition]:
    """make_partition(number, host number, **fields): 1,000 MiB and 2 vCPUs."""
    return _partition


@pytest.fixture
def make_request() -> Callable[..., PlacementRequest]:
    """make_request(partition number, **fields): 1,000 MiB and 2 vCPUs."""
    return _request


@pytest.fixture
def make_network() -> Callable[..., NetworkView]:
    """make_network(number, **fields): lan<number> on br<number>."""
    return _network


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    """make_manifest(technology, *capabilities, missing_one="why")."""
    return _manifest


@pytest.fixture
def projection() -> Projection:
    """An empty one."""
    return Projection()


@pytest.fixture
def pipeline() -> Pipeline:
    """As the settings make it by default."""
    return Pipeline(MULTIPLIERS)


@pytest.fixture
def propose(projection: Projection, pipeline: Pipeline) -> Callable[..., PlacementProposal]:
    """propose(partition number, now=seconds, **request fields) on the projection."""

    def ask(number: int = 0, now: float = 0.0, **changes: Any) -> PlacementProposal:
        return projection.propose(_request(number, **changes), pipeline, now)

    return ask


@pytest.fixture
def refusal(propose: Callable[..., PlacementProposal]) -> Callable[..., tuple[str, str]]:
    """refusal(**request fields): filter and reason by which the only host is refused."""

    def ask(**changes: Any) -> tuple[str, str]:
        proposal = propose(**changes)
        assert proposal.host_id is None
        assert len(proposal.refusals) == 1
        only = proposal.refusals[0]
        assert proposal.refused_by == {only.filter: 1}
        return only.filter, only.reason

    return ask
