"""The lab as a whole."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from qemu_lab import cgroups, network, requirements
from qemu_lab.controller import ControllerConnection, in_namespace
from qemu_lab.errors import LabError
from qemu_lab.hosts import Hosts, joining
from qemu_lab.keys import Keys
from qemu_lab.plan import NETWORKS, Folder, Member, Role, members
from qemu_lab.shell import eventually, run

CONTROLLER = "ctl"
STORAGE = "sto"
BARE = "bare"
SSH_PORT, TCP_PORT, TLS_PORT = 22, 16509, 16514
ANSWER_SECONDS = 20.0
T = TypeVar("T")
Network = Literal["mgmt", "san"]


class Lab:
    """One lab, running or not. Every method may be called from any process: what runs is found again by its cgroups.

    The product under test belongs into the controller's network ('ctl'): every host is there, the machine's own network
    is not.
    """

    def __init__(self, folder: Folder | None = None) -> None:
        self._folder = folder or Folder.from_environment()
        self._cgroups = cgroups.detect(self._folder.tag)
        self._keys = Keys(self._folder.keys)
        self._hosts = Hosts(self._folder, self._cgroups, self._keys)

    # --- up and down ----------------------------------------------------------------------------

    def up(self, hypervisors: int = 3, *, kvm: bool = False) -> bool:
        """Brings the lab up; False if it already ran like this. What is left of an earlier one is removed first.

        In a lab that runs, frozen hosts are thawed and cables plugged in. If a host is off or silent, all is made anew.
        With `kvm` the hosts get the machine's /dev/kvm; without it they emulate, as everywhere else. Raises LabError
        naming what is missing or which host failed.
        """
        requirements.check()
        if self._runs(hypervisors, kvm):
            return False
        self.down()
        everyone = members(hypervisors)
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._folder.shared.mkdir()
        self._folder.description.write_text(json.dumps({"hypervisors": hypervisors, "kvm": kvm}))
        self._keys.create(everyone.values())
        network.create(self._folder, everyone.values())
        self._cgroups.create(CONTROLLER)
        for member in self.hosts:
            self._hosts.create(member, everyone.values())
            self._hosts.start(member, kvm=kvm)
        for member in self.hosts:
            self._wait_for(member)
        return True

    def down(self) -> None:
        """Ends every process of the lab and removes its namespaces, mounts, cgroups and files.

        Harmless if there is no lab. Raises LabError if something is left.
        """
        names = self._cgroups.names()
        for name in names:
            self._hosts.kill(name)
        for name in names:
            self._cgroups.remove(name)
        self._cgroups.remove_all()
        network.remove(self._folder)
        for mount in reversed(self._mounts()):
            run(["umount", mount])
        if left := self.leftovers():
            raise LabError(f"the lab is down, except for {', '.join(left)}")
        for path in (self._folder.path / "hosts", self._folder.keys, self._folder.shared):
            if path.exists():
                shutil.rmtree(path)
        self._folder.description.unlink(missing_ok=True)
        if self._folder.path.is_dir() and not any(self._folder.path.iterdir()):
            self._folder.path.rmdir()

    def leftovers(self) -> list[str]:
        """What exists of the lab outside its folder: cgroups, namespaces, mounts."""
        groups = [str(tree) for tree in self._cgroups.trees() if tree.is_dir()]
        return groups + network.namespaces(self._folder) + self._mounts()

    # --- who is there ---------------------------------------------------------------------------

    @property
    def members(self) -> dict[str, Member]:
        """The running lab's members by name; LabError if no lab is up."""
        return members(int(self._description()["hypervisors"]))

    @property
    def hosts(self) -> list[Member]:
        """All members with processes of their own, in the order they are started in."""
        return [member for member in self.members.values() if member.role is not Role.CONTROLLER]

    @property
    def hypervisors(self) -> list[Member]:
        """The hosts that libvirt runs on."""
        return [member for member in self.members.values() if member.role is Role.HYPERVISOR]

    @property
    def shared(self) -> Path:
        """The folder that the hosts see as /lab/shared, from outside."""
        return self._folder.shared

    @property
    def ssh_key(self) -> Path:
        """The private key that every host accepts for root."""
        return self._keys.ssh_key

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys, in OpenSSH's known_hosts form."""
        return self._keys.known_hosts

    def pki(self, name: str = CONTROLLER) -> Path:
        """A member's certificates for libvirt's `pkipath`: {ca,client,server}cert.pem and {client,server}key.pem."""
        return self._keys.pki(name)

    def local(self, name: str) -> Path:
        """The folder that the host sees as /lab/local, from outside."""
        return self._folder.host(name) / "disk"

    def uri(self, name: str, transport: Literal["tcp", "tls", "ssh"] = "tcp") -> str:
        """The libvirt URI of a host, as the controller reaches it."""
        address = self._member(name).address
        if transport == "tls":
            return f"qemu+tls://{address}/system?pkipath={self.pki()}"
        if transport == "ssh":
            return f"qemu+ssh://root@{address}/system?keyfile={self.ssh_key}&no_verify=1&no_tty=1"
        return f"qemu+tcp://{address}/system"

    def is_on(self, name: str) -> bool:
        """Whether the host has power; a frozen one has."""
        return self._hosts.init(self._member(name).name) is not None

    # --- the controller -------------------------------------------------------------------------

    @property
    def controller_namespace(self) -> Path:
        """The controller's network namespace, for setns(2) or nsenter --net=."""
        return Path("/run/netns") / self._folder.namespace(CONTROLLER)

    def controller_command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command as the controller; down() ends it and all that it started."""
        into = ["nsenter", f"--net={self.controller_namespace}"]
        return joining(self._cgroups.entrances(CONTROLLER), [*into, *arguments])

    def popen_in_controller(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        cwd: Path | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Starts a command in the controller's network; `env` is added to this process's environment.

        The Popen's pid is the command's own: the programs in between replace themselves.
        """
        return subprocess.Popen(
            self.controller_command(arguments),
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def in_controller(self, action: Callable[[], T]) -> T:
        """Runs a function of this process in the controller's network, in a thread; returns what it returns."""
        return in_namespace(self.controller_namespace, action)

    def http(self, port: int, host: str = "127.0.0.1", timeout: float = 10.0) -> ControllerConnection:
        """An HTTP connection to a server that listens in the controller's network."""
        return ControllerConnection(self.controller_namespace, host, port, timeout)

    def answers(self, address: str, port: int, timeout: float = 1.0) -> bool:
        """Whether something accepts a TCP connection from the controller."""

        def connect() -> bool:
            try:
                socket.create_connection((address, port), timeout).close()
            except OSError:
                return False
            return True

        return self.in_controller(connect)

    # --- inside the hosts -----------------------------------------------------------------------

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command inside a host, or in the controller's network."""
        if self._member(name).role is Role.CONTROLLER:
            return self.controller_command(arguments)
        return self._hosts.entering(name, arguments)

    def run(self, name: str, arguments: Sequence[str], text: str | None = None) -> str:
        """Runs a command inside a host and returns its output; LabError if it fails."""
        return run(self.command(name, arguments), text)

    # --- faults ---------------------------------------------------------------------------------

    def power_cut(self, name: str, *, silent: bool = True) -> None:
        """Cuts a host's power: all its processes end at once, its disks keep what was written.

        `silent` pulls the cables first, as a real power cut does; otherwise the kernel still closes the connections.
        """
        self._host(name)
        if silent:
            self._set_links(name, up=False)
        self._hosts.kill(name)

    def start(self, name: str) -> None:
        """Gives a host its power back, cables plugged in, and waits until it answers; harmless if it is on."""
        member = self._host(name)
        self._set_links(name, up=True)
        self._hosts.start(member, kvm=bool(self._description()["kvm"]))
        self._wait_for(member)

    def freeze(self, name: str) -> None:
        """Stops every process of a host at once, its guests included: it hangs, its connections stay open."""
        self._host(name)
        self._cgroups.set_frozen(name, frozen=True)

    def thaw(self, name: str) -> None:
        """Lets a frozen host go on."""
        self._host(name)
        self._cgroups.set_frozen(name, frozen=False)

    def link(self, name: str, *, up: bool, net: Network = "mgmt") -> None:
        """Plugs or pulls the cable between a member and a network."""
        network.set_link(self._folder, self._member(name).name, net, up)

    def kill_libvirtd(self, name: str) -> None:
        """kill -9; the guests run on."""
        self.run(name, ["sh", "-c", "kill -9 $(cat /run/libvirtd.pid)"])

    def start_libvirtd(self, name: str) -> None:
        """Starts libvirtd on a host and waits until it answers; harmless if it runs."""
        self.run(name, ["sh", "-c", "kill -0 $(cat /run/libvirtd.pid) 2>/dev/null || libvirtd -d --listen"])
        self._wait_for_port(self._host(name), TCP_PORT)

    def kill_guest(self, name: str, domain: str, signal: str = "KILL") -> None:
        """Sends a signal to a guest's QEMU process: KILL ends it, STOP hangs it, CONT lets it go on."""
        self.run(name, ["sh", "-c", 'kill -s "$1" "$(cat "/run/libvirt/qemu/$2.pid")"', "sh", signal, domain])

    # --- inner parts ----------------------------------------------------------------------------

    def _set_links(self, name: str, *, up: bool) -> None:
        for net in NETWORKS:
            network.set_link(self._folder, name, net, up)

    def _member(self, name: str) -> Member:
        everyone = self.members
        if name not in everyone:
            raise LabError(f"the lab has no {name}, only {', '.join(everyone)}")
        return everyone[name]

    def _host(self, name: str) -> Member:
        member = self._member(name)
        if member.role is Role.CONTROLLER:
            raise LabError(f"{name} is no host: it has a network and no processes of its own")
        return member

    def _wait_for(self, member: Member) -> None:
        self._hosts.wait_until_started(member)
        for port in self._ports(member):
            self._wait_for_port(member, port)

    @staticmethod
    def _ports(member: Member) -> list[int]:
        """Where the host answers as long as its daemons run."""
        return [SSH_PORT, TCP_PORT, TLS_PORT] if member.role is Role.HYPERVISOR else [SSH_PORT]

    def _wait_for_port(self, member: Member, port: int) -> None:
        if not eventually(lambda: self.answers(member.address, port), ANSWER_SECONDS):
            raise LabError(f"{member.name} does not answer on port {port}")

    def _description(self) -> dict[str, int | bool]:
        try:
            description: dict[str, int | bool] = json.loads(self._folder.description.read_text())
        except (OSError, ValueError) as error:
            raise LabError(f"no lab is up in {self._folder.path}") from error
        return description

    def _runs(self, hypervisors: int, kvm: bool) -> bool:
        """Whether this very lab is up and every host of it answers, once thawed and plugged in."""
        try:
            description = self._description()
        except LabError:
            return False
        if description != {"hypervisors": hypervisors, "kvm": kvm} or not self.controller_namespace.exists():
            return False
        if not all(self.is_on(host.name) for host in self.hosts):
            return False
        for host in self.hosts:
            self._cgroups.set_frozen(host.name, frozen=False)
            self._set_links(host.name, up=True)
        return all(self.answers(host.address, port) for host in self.hosts for port in self._ports(host))

    def _mounts(self) -> list[str]:
        """The mounts below the lab's folder, outermost first."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        # mountinfo writes a blank as \040
        points = [point.encode().decode("unicode_escape") for point in points]
        return [point for point in points if Path(point).is_relative_to(self._folder.path)]
