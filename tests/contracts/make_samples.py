"""Writes shared/contracts/samples: one realistic sample per message, the same on every run.

Run: .venv/bin/python tests/contracts/make_samples.py
A field gets its value, in this order, from OVERRIDES by subject, from PARTS by model, from NAMED by its name, from its
own default.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

from openqrm.contracts.dead_letter import DeadLetter
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.host import HostConnection, HostFacts, HostStorage, HostView, NumaNode
from openqrm.contracts.image import ImageFormat, ImageView
from openqrm.contracts.message import Kind, Message, all_messages
from openqrm.contracts.network import NetworkView
from openqrm.contracts.operation import OperationView
from openqrm.contracts.partition import (
    BlankDisk,
    DiskBus,
    DiskDefinition,
    DiskSpec,
    DiskView,
    Drift,
    ImageContent,
    ImageDisk,
    NicDefinition,
    NicSpec,
    NicView,
    ObservedDisk,
    ObservedNic,
    ObservedPartition,
    PartitionDefinition,
    PartitionView,
)
from openqrm.contracts.placement import PlacementRequest
from openqrm.contracts.span import Span
from openqrm.contracts.states import OperationState
from openqrm.contracts.technology import Capability, MacRange, Manifest

SAMPLES = Path(__file__).parents[2] / "shared/contracts/samples"

NOON = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)
A_MINUTE_LATER = datetime(2026, 3, 14, 12, 1, 0, tzinfo=UTC)


def fixed_id(number: int) -> UUID:
    """A UUIDv7 of the samples' own moment."""
    return UUID(f"019cec77-6600-7000-8000-{number:012x}")


OPERATION, PARTITION, HOST, TARGET_HOST, NETWORK, IMAGE, DISK, NIC = map(fixed_id, range(1, 9))
SESSION, REQUEST, LETTER, ANOTHER_OPERATION, BLANK_DISK = map(fixed_id, range(9, 14))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MAC = "52:54:00:12:34:56"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

CONNECTION = HostConnection(
    uri="qemu+ssh://root@kvm1/system",
    host_key="SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
    storage_path="/var/lib/openqrm/disks",
    migration_address="10.0.0.11",
)
FACTS = HostFacts(
    hostname="kvm1",
    architecture="x86_64",
    cpu_model="AMD EPYC 7443P 24-Core Processor",
    cpus=48,
    sockets=1,
    cores_per_socket=24,
    threads_per_core=2,
    numa_nodes=(NumaNode(number=0, memory_mib=257_000, cpus=tuple(range(48))),),
    memory_mib=257_000,
    memory_free_mib=200_000,
    acceleration="kvm",
    versions={"libvirt": "9.0.0", "qemu": "7.2.0"},
    bridges=("br0", "br1"),
    storages=(HostStorage(name="disks", path="/var/lib/openqrm", total_mib=3_800_000, free_mib=2_900_000),),
)
IMAGE_SOURCE = ImageDisk(image="debian 12", size_mib=8192)
BLANK_SOURCE = BlankDisk(size_mib=20_480)
IMAGE_CONTENT = ImageContent(
    image_id=IMAGE,
    format=ImageFormat.QCOW2,
    size_bytes=419_430_400,
    virtual_size_mib=2048,
    sha256=SHA256,
    location="https://images.example.org/debian-12.qcow2",
)
SYSTEM_DISK = DiskDefinition(
    id=DISK, target="vda", source=IMAGE_SOURCE, image=IMAGE_CONTENT, bus=DiskBus.VIRTIO, read_only=False
)
DATA_DISK = DiskDefinition(id=BLANK_DISK, target="vdb", source=BLANK_SOURCE, bus=DiskBus.VIRTIO, read_only=False)
NIC_DEFINITION = NicDefinition(id=NIC, network_id=NETWORK, bridge="br0", vlan=120, mac=MAC, model="virtio")
OBSERVED = ObservedPartition(
    id=PARTITION,
    name="web 1",
    state="running",
    epoch=3,
    memory_mib=2048,
    memory_max_mib=4096,
    vcpus=2,
    vcpus_max=4,
    nics=(ObservedNic(mac=MAC, bridge="br0", model="virtio"),),
    disks=(ObservedDisk(target="vda", source=f"/var/lib/openqrm/disks/{DISK}.qcow2", bus="virtio"),),
)
STRANGER = OBSERVED.model_copy(update={"name": "legacy-db", "epoch": None})
PROBLEM = Problem(
    code=ProblemCode.DRIVER_FAILED,
    message="kvm1 could not start web 1: its disk /var/lib/openqrm/disks is full. Make room there and start it again.",
)

PARTITION_VIEW = PartitionView(
    id=PARTITION,
    revision=7,
    name="web 1",
    technology="qemu",
    state="running",
    desired_state="running",
    epoch=3,
    host_id=HOST,
    host_name="kvm1",
    target_host_id=None,
    memory_mib=2048,
    memory_max_mib=4096,
    vcpus=2,
    vcpus_max=4,
    cpu_pins={},
    disks=(DiskView(id=DISK, target="vda", source=IMAGE_SOURCE, bus=DiskBus.VIRTIO, read_only=False),),
    nics=(NicView(id=NIC, network_id=NETWORK, network_name="lan", mac=MAC, model="virtio"),),
    firmware="bios",
    vnc=True,
    tags=("web",),
    host_tags=("ssd",),
    on_crash="restart",
    operation_id=None,
    drift=(),
    created_at=NOON,
    updated_at=A_MINUTE_LATER,
)
OPERATION_VIEW = OperationView(
    id=OPERATION,
    revision=2,
    verb="partition.start",
    target_kind="partition",
    target_id=PARTITION,
    target_name="web 1",
    state=OperationState.RUNNING,
    progress=40,
    step="starting on kvm1",
    cancellable=False,
    cancel_requested=False,
    error=None,
    result={},
    requested_by="anna",
    trace_id=TRACE,
    created_at=NOON,
    ended_at=None,
)

PARTS: dict[type[BaseModel], BaseModel] = {
    type(part): part
    for part in (
        CONNECTION,
        FACTS,
        OBSERVED,
        PROBLEM,
        PARTITION_VIEW,
        OPERATION_VIEW,
        NIC_DEFINITION,
        DATA_DISK,
        NicSpec(network="lan", mac=MAC),
        DiskSpec(source=BLANK_SOURCE),
        HostView(
            id=HOST,
            revision=4,
            name="kvm1",
            technology="qemu",
            state="ready",
            state_reason="",
            connection=CONNECTION,
            tags=("ssd", "rack 4"),
            cpu_overcommit=4.0,
            memory_overcommit=1.0,
            memory_reserve_mib=512,
            facts=FACTS,
            cpus_reserved=2,
            memory_reserved_mib=2048,
            partitions=1,
            operation_id=None,
            last_seen_at=A_MINUTE_LATER,
            created_at=NOON,
            updated_at=A_MINUTE_LATER,
        ),
        NetworkView(
            id=NETWORK,
            revision=2,
            name="lan",
            description="Office network",
            bridge="br0",
            host_bridges={TARGET_HOST: "vmbr0"},
            vlan=120,
            created_at=NOON,
        ),
        ImageView(
            id=IMAGE,
            revision=1,
            name="debian 12",
            description="Debian 12, serial console on",
            format=ImageFormat.QCOW2,
            size_bytes=IMAGE_CONTENT.size_bytes,
            virtual_size_mib=IMAGE_CONTENT.virtual_size_mib,
            sha256=SHA256,
            location=IMAGE_CONTENT.location,
            created_at=NOON,
        ),
        PartitionDefinition(
            id=PARTITION,
            name="web 1",
            technology="qemu",
            epoch=3,
            memory_mib=2048,
            memory_max_mib=4096,
            vcpus=2,
            vcpus_max=4,
            disks=(SYSTEM_DISK,),
            nics=(NIC_DEFINITION,),
        ),
        PlacementRequest(
            partition_id=PARTITION,
            technology="qemu",
            memory_mib=2048,
            vcpus=2,
            host_tags=("ssd",),
            network_ids=(NETWORK,),
            disk_mib=8192,
            # One only: a set of several has no order of its own.
            capabilities=frozenset({Capability.LIFECYCLE}),
        ),
        Manifest(
            technology="qemu",
            title="QEMU/KVM",
            capabilities=frozenset({Capability.LIFECYCLE}),
            unsupported={Capability.POWER: "The power of a host belongs to its own management controller."},
            mac_range=MacRange(first="52:54:00:00:00:00", last="52:54:00:ff:ff:ff"),
            uri_schemes=("qemu", "qemu+ssh"),
            features=frozenset({"live-migration"}),
        ),
        DeadLetter(
            id=LETTER,
            subject="partition.start",
            headers={"ce-id": str(OPERATION), "ce-type": "partition.start"},
            body=b'{"partition": 7}',
            consumer="COMMANDS/inventory",
            deliveries=1,
            error=Problem(
                code=ProblemCode.INVALID,
                message="The message cannot be read: partition: Input should be a valid string. "
                "Its sender must mend it; see the AsyncAPI document.",
            ),
            occurred_at=NOON,
        ),
        Span(
            trace_id=TRACE,
            span_id="00f067aa0ba902b7",
            parent_id=None,
            service="gateway",
            name="POST /partitions/{id}/start",
            start_ns=1_773_489_600_000_000_000,
            end_ns=1_773_489_600_012_000_000,
            error=None,
            attributes={"http.status_code": 202},
        ),
    )
}

NAMED: dict[str, Any] = {
    "bandwidth_mib_s": 200,
    "bridge": "br0",
    "cpu_pins": {0: (4, 5), 1: (6, 7)},
    "data": b"login: ",
    "description": "Office network",
    "disks": (DiskSpec(source=IMAGE_SOURCE),),
    "ended_at": A_MINUTE_LATER,
    "epoch": 3,
    "format": ImageFormat.QCOW2,
    "hard": False,
    "force": False,
    "host": "kvm1",
    "host_bridges": {TARGET_HOST: "vmbr0"},
    "host_id": HOST,
    "host_name": "kvm1",
    "host_tags": ("ssd",),
    "image": "debian 12",
    "image_id": IMAGE,
    "keep": False,
    "kind": "serial",
    "letter_id": LETTER,
    "live": True,
    "location": IMAGE_CONTENT.location,
    "mac": MAC,
    "memory_max_mib": 4096,
    "memory_mib": 2048,
    "name": "web 1",
    "network": "lan",
    "network_id": NETWORK,
    "nics": (NicSpec(network="lan"),),
    "note": "load balancer",
    "number": 12,
    "observed_at": A_MINUTE_LATER,
    "operation_id": OPERATION,
    "partition": "web 1",
    "partition_id": PARTITION,
    "partitions": (OBSERVED,),
    "progress": 40,
    "request_id": REQUEST,
    "requested_by": "anna",
    "resource": "web 1",
    "session_id": SESSION,
    "sha256": SHA256,
    "size_bytes": IMAGE_CONTENT.size_bytes,
    "spans": (PARTS[Span],),
    "start": True,
    "step": "copying memory to kvm2",
    "subject_verb": "partition.start",
    "tags": ("web",),
    "target": "vdb",
    "target_host_id": TARGET_HOST,
    "target_nics": (NIC_DEFINITION.model_copy(update={"bridge": "vmbr0"}),),
    "target_operation_id": ANOTHER_OPERATION,
    "technology": "qemu",
    "timeout_seconds": 120,
    "trace_id": TRACE,
    "vcpus": 2,
    "vcpus_max": 4,
    "version": "0.1.0",
    "virtual_size_mib": IMAGE_CONTENT.virtual_size_mib,
    "vlan": 120,
}


def _partition(**changes: Any) -> dict[str, Any]:
    return {"partition": PARTITION_VIEW.model_copy(update=changes)}


def _host(state: str, reason: str = "") -> dict[str, Any]:
    view = PARTS[HostView].model_copy(update={"state": state, "state_reason": reason})
    return {"host": HostView.model_validate(view.model_dump(warnings=False)), "reason": reason}


def _operation(state: OperationState, **changes: Any) -> dict[str, Any]:
    ended = {} if state is OperationState.RUNNING else {"ended_at": A_MINUTE_LATER}
    return {"operation": OPERATION_VIEW.model_copy(update={"state": state, "revision": 5, **ended, **changes})}


_HOST_NAME = {"name": "kvm1", "tags": ("ssd", "rack 4")}
_STOPPED = {"state": "stopped", "desired_state": "stopped"}
_OBSERVED_STOPPED = OBSERVED.model_copy(update={"state": "stopped"})

OVERRIDES: dict[str, dict[str, Any]] = {
    "bus.lost": {"streams": ("COMMANDS", "EVENTS", "EXECUTIONS"), "operations_failed": 2},
    "execution.failed": {"error": PROBLEM, "observed": _OBSERVED_STOPPED},
    "execution.succeeded": {"facts": None},
    "host.change": _HOST_NAME,
    "host.disconnected": {"reason": "kvm1 does not answer on port 22."},
    "host.enrol": _HOST_NAME,
    "host.enrolled": _host("enrolled"),
    "host.failed": {"proof": "power off read back over IPMI from 10.0.9.11"},
    "host.list": {"state": "ready", "tag": "ssd"},
    "host.lost": _host("unreachable", "kvm1 does not answer on port 22."),
    "host.maintain": {"evacuate": True},
    "host.maintained": _host("maintenance", "new memory modules"),
    "host.removed": _host("removed"),
    "host.returned": _host("ready", "kvm1 answers again; 1 partition was checked."),
    "image.register": {"name": "debian 12", "description": "Debian 12, serial console on"},
    "mac.list": {"state": "quarantined", "technology": "qemu"},
    "network.change": {"name": "lan"},
    "network.create": {"name": "lan"},
    "operation.accepted": _operation(OperationState.RUNNING, revision=1, progress=0, step=""),
    "operation.cancelled": _operation(OperationState.CANCELLED, verb="partition.migrate"),
    "operation.failed": _operation(OperationState.FAILED, error=PROBLEM),
    "operation.list": {"state": "failed", "verb": "partition.start", "target_id": PARTITION},
    "operation.rejected": _operation(
        OperationState.REJECTED,
        progress=0,
        step="",
        error=Problem(
            code=ProblemCode.WRONG_STATE,
            message="web 1 is running; only a stopped or crashed partition can be started.",
            details={"allowed": ["partition.stop", "partition.pause"]},
        ),
    ),
    "operation.succeeded": _operation(OperationState.SUCCEEDED, progress=100, step=""),
    "partition.adopt": {"name": "legacy-db"},
    "partition.crashed": _partition(state="crashed") | {"reason": "crashed"},
    "partition.create": {"nics": (NicSpec(network="lan"),)},
    "partition.created": _partition(**_STOPPED),
    "partition.deleted": _partition(state="deleted", desired_state="deleted", host_id=None, host_name=None),
    "partition.discovered": {"observed": STRANGER},
    "partition.drifted": _partition(drift=(Drift(field="memory_mib", wanted="2048", found="1024"),)),
    "partition.list": {"state": "running", "tag": "web", "name_contains": "web"},
    "partition.migrate": {"host": "kvm2"},
    "partition.migrated": _partition(host_id=TARGET_HOST, host_name="kvm2", epoch=4),
    "partition.observed": {"observed": OBSERVED.model_copy(update={"state": "crashed"}), "reason": "crashed"},
    "partition.paused": _partition(state="paused", desired_state="paused"),
    "partition.pinned": _partition(cpu_pins={0: (4, 5), 1: (6, 7)}),
    "partition.stopped": _partition(**_STOPPED) | {"reason": "shut down by its guest"},
    "partition.vanished": _partition(state="missing"),
    "resource.list": {"kind": "partition", "tag": "web"},
}


def sample_path(subject: str) -> Path:
    """Where a message's sample lies: its subject without braces."""
    return SAMPLES / f"{subject.replace('{', '').replace('}', '')}.json"


def make_sample(model: type[Message]) -> str:
    """The sample of one message as JSON text."""
    overrides = OVERRIDES.get(model.subject, {})
    values = {}
    for name, field in model.model_fields.items():
        if name in overrides:
            values[name] = overrides[name]
            continue
        part = _part(field.annotation)
        if part is not None:
            values[name] = part
        elif name in NAMED and not (model.message_kind is Kind.QUERY and not field.is_required()):
            values[name] = NAMED[name]
        elif field.is_required():
            raise LookupError(f"{model.__name__}.{name}: say in {Path(__file__).name} what a sample has there")
    sample = model.model_validate({name: _plain(value) for name, value in values.items()})
    return json.dumps(json.loads(sample.model_dump_json()), indent=2, ensure_ascii=False) + "\n"


def _part(annotation: Any) -> BaseModel | None:
    """The first of PARTS that a field's type admits."""
    if isinstance(annotation, type) and annotation in PARTS:
        return PARTS[annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((part for arg in get_args(annotation) if (part := _part(arg)) is not None), None)
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(warnings=False)
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return value


def main() -> None:
    """Write every sample and remove those of messages that are gone."""
    SAMPLES.mkdir(exist_ok=True)
    wanted = {sample_path(subject): model for subject, model in all_messages().items()}
    if len(wanted) < len(all_messages()):
        sys.exit("two subjects have the same sample file")
    for orphan in set(SAMPLES.glob("*.json")) - set(wanted):
        orphan.unlink()
    for path, model in wanted.items():
        path.write_text(make_sample(model), "utf-8")
    print(f"{len(wanted)} samples in {SAMPLES}")


if __name__ == "__main__":
    main()
