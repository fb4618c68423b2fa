"""Who is in the lab, and where."""

import hashlib
import os
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from qemu_lab.errors import LabError

DEFAULT_FOLDER = Path("/var/tmp/openqrm-lab")  # noqa: S108 - on disk, unlike /tmp; guests' images do not fit into RAM
MOST_HYPERVISORS = 9
NETWORKS = ("mgmt", "san")  # eth0 and eth1 of each host


class Role(StrEnum):
    """What a member of the lab does."""

    CONTROLLER = "controller"  # a network namespace only: the product under test runs in it
    STORAGE = "storage"
    HYPERVISOR = "hypervisor"
    BARE = "bare"  # sshd and nothing else: to be prepared by the product


@dataclass(frozen=True)
class Member:
    """One machine of the lab."""

    name: str
    role: Role
    number: int

    @property
    def address(self) -> str:
        """On the management network."""
        return f"10.77.0.{self.number}"

    @property
    def san_address(self) -> str:
        """On the storage network."""
        return f"10.77.1.{self.number}"

    @property
    def uuid(self) -> str:
        """The host's own UUID, the same in every run: libvirt refuses to migrate between hosts that share one."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.lab.openqrm"))


def members(hypervisors: int) -> dict[str, Member]:
    """The members by name: ctl, sto, kvm1 to kvmN, bare."""
    if not 0 <= hypervisors <= MOST_HYPERVISORS:
        raise LabError(f"a lab has 0 to {MOST_HYPERVISORS} hypervisors, not {hypervisors}")
    everyone = [Member("ctl", Role.CONTROLLER, 1), Member("sto", Role.STORAGE, 21)]
    everyone += [Member(f"kvm{n}", Role.HYPERVISOR, 10 + n) for n in range(1, hypervisors + 1)]
    everyone += [Member("bare", Role.BARE, 31)]
    return {member.name: member for member in everyone}


@dataclass(frozen=True)
class Folder:
    """The lab's folder on disk: OPENQRM_LAB, else /var/tmp/openqrm-lab. Two labs in two folders do not meet."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Folder":
        """The folder the environment names."""
        return cls(Path(os.environ.get("OPENQRM_LAB") or DEFAULT_FOLDER).resolve())

    @property
    def tag(self) -> str:
        """Tells this lab's namespaces and cgroups from those of a lab in another folder."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:4]

    def namespace(self, name: str) -> str:
        """The name of a member's network namespace."""
        return f"oqlab-{self.tag}-{name}"

    @property
    def description(self) -> Path:
        """The file that says who is in the running lab."""
        return self.path / "lab.json"

    @property
    def keys(self) -> Path:
        """SSH keys and certificates."""
        return self.path / "keys"

    @property
    def shared(self) -> Path:
        """What the hosts see as /lab/shared."""
        return self.path / "shared"

    def host(self, name: str) -> Path:
        """A host's own part."""
        return self.path / "hosts" / name
