"""What a seed stands for: which operations are asked for, and which fault strikes whom, when and for how long."""

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

FAKE_HOSTS = ("f1", "f2", "f3")
QEMU_HOSTS = ("kvm1", "kvm2")
NETWORKS = ("default", "backup")
FIRST_FAULT_SECONDS = 2.0
LONGEST_SECONDS = 30.0


class Victim(StrEnum):
    """Who is struck."""

    NATS = "nats"
    POSTGRES = "postgres"
    INVENTORY = "inventory"
    SCHEDULER = "scheduler"
    GATEWAY = "gateway"
    EXECUTOR_FAKE = "executor-fake"
    EXECUTOR_QEMU = "executor-qemu"
    LIBVIRTD = "libvirtd"
    GUEST = "guest"
    HOST = "host"


class Way(StrEnum):
    """How."""

    KILL = "kill -9"
    STOP = "SIGSTOP"
    CUT_BUS = "its connection to NATS is broken"
    HOLD_BUS = "its connection to NATS hangs"
    CUT_DATABASE = "its connection to PostgreSQL is broken"
    HOLD_DATABASE = "its connection to PostgreSQL hangs"
    CUT_LINK = "its cable is pulled"


_BUS = (Way.CUT_BUS, Way.HOLD_BUS)
_DATABASE = (Way.CUT_DATABASE, Way.HOLD_DATABASE)
WAYS: dict[Victim, tuple[Way, ...]] = {
    Victim.NATS: (Way.KILL, Way.STOP),
    Victim.POSTGRES: (Way.KILL, Way.STOP),
    Victim.INVENTORY: (Way.KILL, Way.STOP, *_BUS, *_DATABASE),
    Victim.SCHEDULER: (Way.KILL, Way.STOP, *_BUS),
    Victim.GATEWAY: (Way.KILL, Way.STOP, *_BUS, *_DATABASE),
    Victim.EXECUTOR_FAKE: (Way.KILL, Way.STOP, *_BUS),
    Victim.EXECUTOR_QEMU: (Way.KILL, Way.STOP, *_BUS),
    Victim.LIBVIRTD: (Way.KILL, Way.STOP),
    Victim.GUEST: (Way.KILL, Way.STOP),
    Victim.HOST: (Way.CUT_LINK,),
}
OF_QEMU = frozenset({Victim.EXECUTOR_QEMU, Victim.LIBVIRTD, Victim.GUEST, Victim.HOST})


@dataclass(frozen=True)
class Fault:
    """One stroke of the axe; times in seconds from the beginning of the load."""

    at: float
    victim: Victim
    way: Way
    seconds: float
    """How long it lasts; 0 for a kill, after which the supervisor starts the victim again."""
    which: int = 0
    """Chooses among several: the host, and the guest on it."""

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s  {self.victim}: {self.way}{lasts}"


@dataclass(frozen=True)
class Step:
    """One operation that an actor asks for, on its partition of the moment or on something of its own."""

    verb: str
    body: dict[str, Any] = field(default_factory=dict)
    pause: float = 0.0
    """Seconds before it is asked for."""
    waits: bool = True
    """Whether its end is awaited before the next one is asked for."""


@dataclass(frozen=True)
class Life:
    """A partition from its creation to its deletion, or to the end of the round."""

    name: str
    technology: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that follows from a seed."""

    seed: int
    seconds: float
    """How long operations are asked for and faults strike."""
    faults: tuple[Fault, ...]
    lives: dict[str, tuple[Life, ...]]
    """By actor: the lives that it leads one after the other, begun anew (with other names) when there is time left."""
    with_qemu: bool

    @property
    def technologies(self) -> tuple[str, ...]:
        """The technologies whose executors run."""
        return ("fake", "qemu") if self.with_qemu else ("fake",)


def make_plan(
    seed: int,
    *,
    seconds: float,
    with_qemu: bool,
    longest: float = LONGEST_SECONDS,
    kills_only: int = 0,
    strikes: bool = True,
    actors: int = 12,
) -> Plan:
    """The plan of a seed.

    Every victim is struck at least once. `kills_only`: instead everybody is killed once, and so many of the other
    faults come on top. `longest`: seconds that a fault lasts at the most. `strikes=False`: no faults.
    """
    random = Random(f"axe {seed}")  # noqa: S311 - a plan, not a secret
    victims = [victim for victim in Victim if with_qemu or victim not in OF_QEMU]
    if kills_only:
        strokes = [(victim, Way.KILL) for victim in victims]
        others = [(victim, way) for victim in victims for way in WAYS[victim] if way is not Way.KILL]
        strokes += random.sample(others, kills_only)
    else:
        strokes = [(victim, random.choice(WAYS[victim])) for victim in victims]
        every = [(victim, way) for victim in victims for way in WAYS[victim]]
        strokes += random.sample(every, max(2, len(victims) // 2))
    random.shuffle(strokes)
    if not strikes:
        strokes.clear()
    faults = [
        _fault(
            random, victim, way, FIRST_FAULT_SECONDS + (seconds - FIRST_FAULT_SECONDS) * part / len(strokes), longest
        )
        for part, (victim, way) in enumerate(strokes)
    ]
    lives = {f"fake-{n}": _lives(Random(f"{seed} fake {n}"), f"a{n}", "fake") for n in range(actors)}  # noqa: S311
    if with_qemu:
        lives |= {f"qemu-{n}": _lives(Random(f"{seed} qemu {n}"), f"q{n}", "qemu") for n in range(2)}  # noqa: S311
    return Plan(seed, seconds, tuple(sorted(faults, key=lambda fault: fault.at)), lives, with_qemu)


def _fault(random: Random, victim: Victim, way: Way, at: float, longest: float) -> Fault:
    # Mostly short, now and then as long as it may be.
    lasts = 0.0 if way is Way.KILL else max(0.5, longest * random.random() ** 2)
    return Fault(at + random.uniform(0, 1.5), victim, way, round(lasts, 1), random.randrange(1000))


# ------------------------------------------------------------------------------------------------ the load


def _lives(random: Random, name: str, technology: str, count: int = 40) -> tuple[Life, ...]:
    return tuple(_life(random, f"{name}-{number}", technology) for number in range(count))


def _life(random: Random, name: str, technology: str) -> Life:
    hosts = FAKE_HOSTS if technology == "fake" else QEMU_HOSTS
    start = random.random() < 0.5
    body: dict[str, Any] = {
        "name": name,
        "technology": technology,
        "memory_mib": 64,
        "memory_max_mib": 256 if technology == "fake" else 64,
        "vcpus": 1,
        "vcpus_max": 4,
        "nics": [{"network": random.choice(NETWORKS)}],
        "disks": [{"source": {"kind": "blank", "size_mib": 16}}],
        "start": start,
        "host": random.choice([None, *hosts]),
    }
    state = "running" if start else "stopped"
    steps = [Step("create", body, random.uniform(0, 0.3))]
    for _ in range(random.randint(5, 9)):
        verb = random.choice(_possible(state, technology))
        body = _body(random, verb, hosts, technology)
        called_off = verb == "migrate" and random.random() < 0.3
        waits = not called_off and (verb in _CHANGE_STATE or random.random() < 0.8)
        steps.append(Step(verb, body, random.uniform(0, 0.3), waits))
        if called_off:
            steps.append(Step("cancel", {}, random.uniform(0, 0.3), waits=False))
        state = _STATE_AFTER.get(verb, state)
    if random.random() < 0.7:
        steps.append(Step("delete", {}, random.uniform(0, 0.3)))
    return Life(name, technology, tuple(steps))


_CHANGE_STATE = frozenset(
    {"start", "stop", "shutdown", "reboot", "pause", "unpause", "migrate", "detach_nic", "map_nic", "detach_disk"}
)
_STATE_AFTER = {
    "start": "running",
    "stop": "stopped",
    "shutdown": "stopped",
    "pause": "paused",
    "unpause": "running",
}
_ANY = ("change", "attach_nic", "attach_disk", "migrate")
_AT_REST = (*_ANY, "start", "start", "resize", "pin", "detach_nic", "map_nic", "detach_disk")
_POSSIBLE = {
    "stopped": _AT_REST,
    "running": (*_ANY, "stop", "shutdown", "reboot", "pause", "resize", "pin", "detach_nic", "map_nic", "detach_disk"),
    "paused": (*_ANY, "unpause", "unpause", "stop"),
}
_NEED_A_GUEST = frozenset({"shutdown", "resize", "detach_nic", "detach_disk"})
"""What needs an operating system in a QEMU guest that runs; ours have none."""


def _possible(state: str, technology: str) -> tuple[str, ...]:
    verbs = _POSSIBLE[state]
    if technology == "qemu" and state != "stopped":
        verbs = tuple(verb for verb in verbs if verb not in _NEED_A_GUEST)
    return verbs


def _body(random: Random, verb: str, hosts: tuple[str, ...], technology: str) -> dict[str, Any]:
    match verb:
        case "change":
            return {"tags": [f"t{random.randrange(100)}"]}
        case "resize":
            size = {"memory_mib": random.choice([64, 96, 128, 256]), "vcpus": random.choice([1, 2, 4])}
            if technology == "qemu":  # without a guest that inflates its balloon, memory below the maximum is not seen
                del size["memory_mib"]
            return size
        case "pin":
            return {"cpu_pins": {"0": [random.randrange(2)]}}
        case "attach_nic":
            return {"nic": {"network": random.choice(NETWORKS)}}
        case "map_nic":
            return {"network": random.choice(NETWORKS)}
        case "attach_disk":
            return {"disk": {"source": {"kind": "blank", "size_mib": 16}}}
        case "migrate":
            return {"host": random.choice([None, *hosts]), "live": random.random() < 0.7}
        case "reboot":
            return {"hard": True}
        case "shutdown":
            return {"timeout_seconds": 10, "force": True}
    return {}
