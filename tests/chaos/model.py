"""What a partition may be by all that was told of it: every world that is possible. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class World:
    """One way in which a partition can be."""

    exists: bool = False
    state: str = "stopped"
    memory_mib: int = 0
    vcpus: int = 0
    cpu_pins: tuple[tuple[int, tuple[int, ...]], ...] = ()
    networks: tuple[str, ...] = ()
    """Of each NIC, sorted."""
    disks: int = 0
    tags: tuple[str, ...] = ()
    host: str | None = None
    """None: any."""

    def matches(self, other: "World") -> bool:
        """Whether a partition that is like `other` is like this."""
        if not self.exists:
            return not other.exists
        return replace(self, host=self.host and other.host) == replace(other, host=self.host and other.host)


def pins(mapping: Mapping[Any, Any]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """A mapping of vCPUs to CPUs that can be compared."""
    return tuple(sorted((int(vcpu), tuple(cpus)) for vcpu, cpus in mapping.items()))


def after(world: World, verb: str, body: Mapping[str, Any], hints: Mapping[str, Any]) -> World | None:
    """The world once an operation was carried out in it; None when it could not have been."""
    if verb not in ("create", "adopt") and not world.exists:
        return None
    match verb:
        case "create":
            return World(
                exists=True,
                state="running" if body.get("start") else "stopped",
                memory_mib=body["memory_mib"],
                vcpus=body["vcpus"],
                networks=tuple(sorted(nic["network"] for nic in body.get("nics", ()))),
                disks=len(body.get("disks", ())),
                host=body.get("host"),
            )
        case "adopt":
            return World(exists=True, state="running", memory_mib=hints["memory_mib"], vcpus=1, host=hints["host"])
        case "delete":
            return World()
        case "start" | "reboot" | "unpause":
            return replace(world, state="running")
        case "stop" | "shutdown":
            return replace(world, state="stopped")
        case "pause":
            return replace(world, state="paused")
        case "resize":
            return replace(
                world, memory_mib=body.get("memory_mib", world.memory_mib), vcpus=body.get("vcpus", world.vcpus)
            )
        case "pin":
            return replace(world, cpu_pins=pins(body["cpu_pins"]))
        case "change":
            return replace(world, tags=tuple(body.get("tags", world.tags)))
        case "migrate":
            return replace(world, host=body.get("host"))
        case "attach_nic":
            return replace(world, networks=tuple(sorted((*world.networks, body["nic"]["network"]))))
        case "attach_disk":
            return replace(world, disks=world.disks + 1)
        case "detach_disk":
            return replace(world, disks=world.disks - 1) if world.disks else None
        case "detach_nic" | "map_nic":
            if hints["network"] not in world.networks:
                return None
            left = list(world.networks)
            left.remove(hints["network"])
            if verb == "map_nic":
                left.append(body["network"])
            return replace(world, networks=tuple(sorted(left)))
    raise ValueError(f"nobody knows what {verb} does")


class Possible:
    """All worlds that what was told so far allows."""

    def __init__(self) -> None:
        self.worlds = {World()}

    def succeeded(self, verb: str, body: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
        """An operation did what it should, once."""
        self.worlds = {new for world in self.worlds if (new := after(world, verb, body, hints)) is not None}

    def failed(self, verb: str, body: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
        """An operation ended without success: it did what it should, or nothing."""
        before = set(self.worlds)
        self.succeeded(verb, body, hints)
        if verb == "create":  # its host was lost in the middle: whether it is there was seen later
            self.worlds |= {replace(world, state=state) for world in self.worlds for state in ("stopped", "missing")}
        self.worlds |= before
        if verb in ("start", "stop", "shutdown", "reboot"):
            self.worlds |= {
                replace(world, state=state) for world in before for state in ("stopped", "running", "crashed")
            }

    def crashed(self) -> None:
        """It ended by itself; its policy may start it again."""
        self.worlds |= {replace(world, state=state) for world in self.worlds for state in ("crashed", "running")}

    def stopped_by_itself(self) -> None:
        """It was seen stopped."""
        self.worlds |= {replace(world, state="stopped") for world in self.worlds}

    def moved(self) -> None:
        """It was moved by somebody else, to wherever that was."""
        self.worlds = {replace(world, host=None) for world in self.worlds}

    def fits(self, found: World) -> bool:
        """Whether a partition may be as it was found."""
        return any(world.matches(found) for world in self.worlds)
