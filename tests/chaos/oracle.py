"""Says what is wrong, knowing only what the client was told and what anybody can see. Pure."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from chaos.ledger import Ledger, Promise
from chaos.looking import Seen
from chaos.model import Possible, World, pins
from chaos.picture import Picture
from chaos.stream import Happening
from openqrm.contracts.operation import OperationEvent
from openqrm.contracts.partition import PartitionEvent
from openqrm.contracts.states import FINAL_OPERATION_STATES, OperationState

DONE = {
    "partition.create": "partition.created",
    "partition.start": "partition.started",
    "partition.stop": "partition.stopped",
    "partition.shutdown": "partition.stopped",
    "partition.reboot": "partition.rebooted",
    "partition.pause": "partition.paused",
    "partition.unpause": "partition.unpaused",
    "partition.resize": "partition.resized",
    "partition.pin": "partition.pinned",
    "partition.migrate": "partition.migrated",
    "partition.delete": "partition.deleted",
    "partition.attach_nic": "partition.nic_attached",
    "partition.detach_nic": "partition.nic_detached",
    "partition.map_nic": "partition.nic_mapped",
    "partition.attach_disk": "partition.disk_attached",
    "partition.detach_disk": "partition.disk_detached",
    "host.enrol": "host.enrolled",
    "host.activate": "host.activated",
    "host.remove": "host.removed",
    "host.prepare": "host.prepared",
    "network.create": "network.created",
    "network.change": "network.changed",
    "network.delete": "network.deleted",
}
"""The one event that tells the effect of a verb."""
_ENDS = frozenset(f"operation.{state.value}" for state in FINAL_OPERATION_STATES)
_CLIENT = "admin"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and whom it is about."""

    sentence: str
    about: frozenset[UUID] = field(default_factory=frozenset)


def judge(ledger: Ledger, picture: Picture) -> list[Finding]:
    """Everything that is wrong; empty when all is well."""
    findings = [Finding(sentence) for sentence in ledger.complaints]
    findings += [Finding(f"it did not come to rest: {sentence}") for sentence in picture.unrest]
    for check in (_ends, _told, _unasked, _order, _effects, _starts, _on_hosts, _twice, _reservations, _addresses):
        findings += check(ledger, picture)
    findings += [
        Finding(f"a dead letter: {letter['subject']} at {letter['consumer']}: {letter['error']['message']}")
        for letter in picture.dead_letters
    ]
    if picture.outbox:
        findings.append(Finding(f"the outbox holds {picture.outbox} messages"))
    return findings


def _finding(sentence: str, *about: UUID | str | None) -> Finding:
    return Finding(sentence, frozenset(UUID(str(each)) for each in about if each is not None))


# ------------------------------------------------------------------------------------------------ operations and events


def _operation_events(picture: Picture) -> dict[UUID, list[Happening]]:
    found: dict[UUID, list[Happening]] = defaultdict(list)
    for happening in picture.events:
        if isinstance(happening.event, OperationEvent):
            found[happening.event.operation.id].append(happening)
    return found


def _ends(ledger: Ledger, picture: Picture) -> list[Finding]:
    """Every acknowledged operation ended, as was told, and the stream tells each beginning and each end once."""
    told = _operation_events(picture)
    findings = []
    for promise in ledger.promises.values():
        identity = promise.operation_id
        subjects = [happening.subject for happening in told[identity]]
        if promise.acknowledged and not promise.ended:
            findings.append(_finding(f"acknowledged, and never ended: {promise}", identity))
            continue
        if not promise.acknowledged and not subjects:
            continue  # refused before it was an operation, or never acknowledged: nothing was promised
        rejected = subjects.count("operation.rejected")
        begun = subjects.count("operation.accepted") + rejected
        ends = [happening for happening in told[identity] if happening.subject in _ENDS]
        if begun != 1 or len(ends) != 1:
            findings.append(
                _finding(f"the stream tells {begun} beginnings and {len(ends)} ends of {promise}: {subjects}", identity)
            )
        elif promise.acknowledged and ends[0].view.state is not promise.state:
            findings.append(
                _finding(f"the client was told another end than the stream: {ends[0].view.state}, {promise}", identity)
            )
    return findings


def _told(ledger: Ledger, picture: Picture) -> list[Finding]:
    """The effect of each operation that succeeded is told once, and none of those that were refused."""
    told: Counter[tuple[UUID, str]] = Counter()
    for happening in picture.events:
        operation_id = getattr(happening.event, "operation_id", None)
        if operation_id is not None:
            told[operation_id, happening.subject] += 1
    findings = []
    for promise in ledger.promises.values():
        done = DONE.get(promise.verb)
        if done is None or not promise.verb.startswith("partition."):
            continue
        count = told[promise.operation_id, done]
        # One that failed may have left what it was to make, or to end; that is a fact, and told as one.
        most = 0 if promise.refused is not None or promise.state is OperationState.REJECTED else 1
        least = 1 if promise.state is OperationState.SUCCEEDED else 0
        if not least <= count <= most:
            findings.append(_finding(f"{done} is told {count} times of {promise}", promise.operation_id))
    return findings


def _unasked(ledger: Ledger, picture: Picture) -> list[Finding]:
    """No operation of the client that it did not ask for."""
    return [
        _finding(f"nobody asked for {events[-1]}", identity, events[0].view.target_id)
        for identity, events in _operation_events(picture).items()
        if identity not in ledger.promises and events[0].view.requested_by == _CLIENT
    ]


def _order(_ledger: Ledger, picture: Picture) -> list[Finding]:
    """The revision of each thing goes up by one with each event about it."""
    last: dict[UUID, int] = {}
    findings = []
    for happening in picture.events:
        view = happening.view
        if view is None:
            continue
        expected = last.get(view.id, 0) + 1
        if view.revision != expected:
            findings.append(_finding(f"a gap in the events: revision {expected} should be here: {happening}", view.id))
        last[view.id] = max(view.revision, last.get(view.id, 0))
    for thing in (*picture.partitions, *picture.hosts):
        told = last.get(UUID(thing["id"]))
        if told != thing["revision"]:
            sentence = f"{thing['name']} has revision {thing['revision']}, the stream ends at {told}"
            findings.append(_finding(sentence, thing["id"]))
    return findings


# ------------------------------------------------------------------------------------------------ effects


def _possible(ledger: Ledger, picture: Picture) -> dict[UUID, Possible]:
    """By partition: what it may be, by all ends of operations on it in the order in which the stream tells them."""
    found: dict[UUID, Possible] = defaultdict(Possible)
    for happening in picture.events:
        event = happening.event
        if isinstance(event, PartitionEvent):
            if happening.subject == "partition.crashed":
                found[event.partition.id].crashed()
            elif happening.subject == "partition.stopped" and event.operation_id is None:
                found[event.partition.id].stopped_by_itself()
            elif event.partition.target_host_id is None and event.reason.startswith("its migration broke off"):
                found[event.partition.id].moved()
        elif isinstance(event, OperationEvent) and happening.subject in _ENDS:
            operation = event.operation
            if operation.target_id is None or not operation.verb.startswith("partition."):
                continue
            possible = found[operation.target_id]
            promise = ledger.promises.get(operation.id)
            verb = operation.verb.removeprefix("partition.")
            if promise is None and operation.requested_by == _CLIENT:
                continue  # told by itself: nobody asked for it
            body, hints = (promise.body or {}, promise.hints) if promise else ({}, {})
            if operation.state is OperationState.SUCCEEDED:
                possible.succeeded(verb, body, hints)
            elif operation.state is not OperationState.REJECTED:
                possible.failed(verb, body, hints)
    return found


def _effects(ledger: Ledger, picture: Picture) -> list[Finding]:
    """Each partition is in inventory what the operations on it should have made of it."""
    networks = {network["id"]: network["name"] for network in picture.networks}
    known = {UUID(p["id"]): p for p in picture.partitions}
    findings = []
    for identity, possible in _possible(ledger, picture).items():
        view = known.get(identity)
        found = _as_world(view, networks) if view else World()
        if not possible.fits(found):
            name = view["name"] if view else identity
            findings.append(
                _finding(f"inventory has {name} as {found}, what was told allows {_few(possible)}", identity)
            )
    findings += [
        _finding(f"nobody asked for the partition {p['name']}", p["id"])
        for p in picture.partitions
        if not ledger.of(p["id"])
    ]
    return findings + _house(ledger, picture)


def _house(ledger: Ledger, picture: Picture) -> list[Finding]:
    """Networks and spare hosts: what was made and removed again is gone, what was only made is there."""
    findings = []
    for noun, things in (("network", picture.networks), ("host", picture.hosts)):
        names = Counter(thing["name"] for thing in things)
        last: dict[str, Promise] = {}
        for promise in ledger.promises.values():
            if promise.verb in (f"{noun}.create", f"{noun}.enrol", f"{noun}.delete", f"{noun}.remove"):
                name = str((promise.body or {}).get("name") or promise.path.rpartition("/")[2])
                if promise.state is OperationState.SUCCEEDED:
                    last[name] = promise
                elif promise.acknowledged:
                    last.pop(name, None)  # one that failed may have left it or not
        for name, promise in last.items():
            wanted = 0 if promise.verb.endswith(("delete", "remove")) else 1
            if names[name] != wanted:
                findings.append(
                    _finding(f"there are {names[name]} {noun}s {name} after {promise}", promise.operation_id)
                )
    return findings


def _as_world(view: dict[str, Any], networks: dict[str, str]) -> World:
    return World(
        exists=True,
        state=view["state"],
        memory_mib=view["memory_mib"],
        vcpus=view["vcpus"],
        cpu_pins=pins(view["cpu_pins"]),
        networks=tuple(sorted(networks.get(nic["network_id"], "?") for nic in view["nics"])),
        disks=len(view["disks"]),
        tags=tuple(view["tags"]),
        host=view["host_name"],
    )


def _few(possible: Possible) -> str:
    worlds = sorted(map(str, possible.worlds))
    more = f" and {len(worlds) - 3} more" if len(worlds) > 3 else ""
    return (" or ".join(worlds[:3]) + more) or "nothing: what was told contradicts itself"


# ------------------------------------------------------------------------------------------------ hosts


def _starts(ledger: Ledger, picture: Picture) -> list[Finding]:
    """Each start and each reset took place once, where the host counts them."""
    certain: Counter[UUID] = Counter()
    perhaps: Counter[UUID] = Counter()
    for happening in picture.events:
        if happening.subject not in _ENDS:
            continue
        operation = happening.view
        promise = ledger.promises.get(operation.id)
        body = (promise.body if promise else None) or {}
        starts = {
            "partition.create": body.get("start", False),
            "partition.start": True,
            "partition.reboot": True,
            "partition.adopt": True,  # somebody started it by hand
            "partition.migrate": not body.get("live", True),
        }.get(operation.verb, False)
        if starts and operation.state is OperationState.SUCCEEDED:
            certain[operation.target_id] += 1
        elif starts and operation.state is not OperationState.REJECTED:
            perhaps[operation.target_id] += 1
    return [
        _finding(
            f"{seen.name} was started or reset {seen.starts} times on its hosts, asked for were {certain[seen.id]}"
            f" to {certain[seen.id] + perhaps[seen.id]}",
            seen.id,
        )
        for seen in picture.seen
        if seen.starts is not None
        and seen.id not in ledger.strangers
        and not certain[seen.id] <= seen.starts <= certain[seen.id] + perhaps[seen.id]
    ]


def _on_hosts(ledger: Ledger, picture: Picture) -> list[Finding]:
    """What inventory says of each partition stands on its host, once; and hosts have nothing else."""
    bridges = {network["id"]: network["bridge"] for network in picture.networks}
    on: dict[UUID, list[Seen]] = defaultdict(list)
    for seen in picture.seen:
        on[seen.id].append(seen)
    # A migration that came to nothing raised the epoch in inventory alone.
    not_moved = {
        happening.view.target_id
        for happening in picture.events
        if happening.subject in ("operation.failed", "operation.cancelled")
        and happening.view.verb == "partition.migrate"
    }
    findings = []
    for view in picture.partitions:
        places = on.pop(UUID(view["id"]), [])
        here = [seen for seen in places if seen.host == view["host_name"]]
        if len(places) > 1:
            findings.append(_finding(f"{view['name']} is on several hosts: {_where(places)}", view["id"]))
        if view["state"] == "missing" and not places:
            continue
        if len(here) != 1:
            findings.append(
                _finding(f"{view['name']} should be on {view['host_name']}, it is on {_where(places)}", view["id"])
            )
            continue
        if UUID(view["id"]) in not_moved and here[0].epoch is not None and here[0].epoch < view["epoch"]:
            here = [replace(here[0], epoch=view["epoch"])]
        findings += _compare(view, here[0], bridges)
    for identity, places in on.items():
        if identity in ledger.strangers and len(places) == 1:
            continue  # not adopted yet
        findings.append(
            _finding(f"inventory knows nothing of {places[0].name}, which is on {_where(places)}", identity)
        )
    for host, volumes in picture.volumes.items():
        disks = sum(seen.disks for seen in picture.seen if seen.host == host)
        if disks != volumes:
            findings.append(Finding(f"the host {host} has {volumes} volumes, the partitions on it have {disks} disks"))
    findings += [
        _finding(f"a stranger on {stranger['host_name']}: {stranger['observed']['name']}", stranger["observed"]["id"])
        for stranger in picture.strangers
        if UUID(stranger["observed"]["id"]) not in ledger.strangers
    ]
    return findings


def _where(places: list[Seen]) -> str:
    return ", ".join(f"{seen.host} ({seen.state}, epoch {seen.epoch})" for seen in places) or "no host"


def _compare(view: dict[str, Any], seen: Seen, bridges: dict[str, str]) -> list[Finding]:
    drift = {entry["field"] for entry in view["drift"]}
    wanted = {
        "state": view["state"],
        "epoch": view["epoch"],
        "memory_mib": view["memory_mib"],
        "vcpus": view["vcpus"],
        "nics": tuple(sorted((nic["mac"], bridges[nic["network_id"]]) for nic in view["nics"])),
        "disks": len(view["disks"]),
    }
    return [
        _finding(f"{view['name']} on {seen.host}: {name} is {getattr(seen, name)}, inventory says {value}", view["id"])
        for name, value in wanted.items()
        if getattr(seen, name) != value and not any(name in entry or entry in name for entry in drift)
    ]


def _twice(_ledger: Ledger, picture: Picture) -> list[Finding]:
    """No name and no MAC address is given out twice."""
    findings = []
    for what, things in (("partitions", picture.partitions), ("hosts", picture.hosts), ("networks", picture.networks)):
        for name, count in Counter(thing["name"] for thing in things).items():
            if count > 1:
                findings.append(Finding(f"{count} {what} are called {name}"))
    in_inventory = [(nic["mac"], p["id"]) for p in picture.partitions for nic in p["nics"]]
    on_hosts = {(mac, str(seen.id)) for seen in picture.seen for mac, _ in seen.nics}
    for macs in (in_inventory, sorted(on_hosts)):
        owners: dict[str, list[str]] = defaultdict(list)
        for mac, owner in macs:
            owners[mac].append(owner)
        findings += [
            _finding(f"the address {mac} is in use {len(ids)} times", *ids)
            for mac, ids in owners.items()
            if len(ids) > 1
        ]
    return findings


# ------------------------------------------------------------------------------------------------ inventory with itself


def _reservations(_ledger: Ledger, picture: Picture) -> list[Finding]:
    """What hosts say to have reserved is what the partitions placed on them take."""
    wanted: dict[str, Counter[str]] = defaultdict(Counter)
    for view in picture.partitions:
        for host_id in (view["host_id"], view["target_host_id"]):
            if host_id:
                wanted[host_id].update(memory=view["memory_mib"], cpus=view["vcpus"], partitions=1)
    findings = []
    for host in picture.hosts:
        has = (host["memory_reserved_mib"], host["cpus_reserved"], host["partitions"])
        needs = tuple(wanted[host["id"]][word] for word in ("memory", "cpus", "partitions"))
        if has != needs:
            findings.append(
                _finding(
                    f"{host['name']} has {has} reserved (MiB, vCPUs, partitions), its partitions take {needs}",
                    host["id"],
                )
            )
    return findings


def _addresses(_ledger: Ledger, picture: Picture) -> list[Finding]:
    """Each NIC's address is allocated to its partition, and no partition holds one that it does not use."""
    held = {
        mac["mac"]: mac["partition_id"] for mac in picture.macs if mac["state"] == "allocated" and mac["partition_id"]
    }
    used = {nic["mac"]: view["id"] for view in picture.partitions for nic in view["nics"]}
    return [
        _finding(
            f"the address {mac} is allocated to {held.get(mac)} and used by {used.get(mac)}",
            held.get(mac),
            used.get(mac),
        )
        for mac in sorted(held.keys() | used.keys())
        if held.get(mac) != used.get(mac)
    ]
