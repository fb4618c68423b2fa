"""One partition made by a test: its guest from inside, its record from above, its process on the host."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from openqrm.contracts.operation import OperationView
from openqrm.contracts.partition import PartitionView
from product.console import SerialConsole
from product.gateway import PATIENCE_SECONDS, segment

if TYPE_CHECKING:
    from product.site import Site


class Guest:
    """A partition that runs the demonstration image."""

    def __init__(self, site: "Site", partition_id: UUID, name: str) -> None:
        self._site = site
        self.id = partition_id
        self.name = name
        self._console: SerialConsole | None = None

    # ------------------------------------------------------------------------------------------ from above

    @property
    def path(self) -> str:
        """Its path below the API."""
        return f"/partitions/{self.id}"

    def view(self) -> PartitionView:
        """As inventory knows it."""
        return self._site.gateway.partition(self.id)

    @property
    def state(self) -> str:
        """Its state as inventory knows it."""
        return self.view().state.value

    @property
    def host(self) -> str:
        """The name of the host that inventory has it on."""
        name = self.view().host_name
        assert name is not None, f"{self.name} is on no host"
        return name

    def do(self, verb: str, *, seconds: float = PATIENCE_SECONDS, **body: Any) -> OperationView:
        """Carry out a verb to its success."""
        return self._site.gateway.finish(self.begin(verb, **body), seconds)

    def begin(self, verb: str, **body: Any) -> OperationView:
        """Ask for a verb, and return at once."""
        return self._site.gateway.begin("POST", f"{self.path}/{verb}", body)

    def delete(self, *, force: bool = False) -> OperationView:
        """Remove it."""
        return self._site.gateway.do("DELETE", self.path, force="true" if force else "false")

    def attach_nic(self, network: str) -> str:
        """Add a NIC; returns its address."""
        before = {nic.mac for nic in self.view().nics}
        self._site.gateway.do("POST", f"{self.path}/nics", {"nic": {"network": network}})
        (mac,) = {nic.mac for nic in self.view().nics} - before
        return mac

    def detach_nic(self, mac: str) -> None:
        """Remove a NIC."""
        self._site.gateway.do("DELETE", f"{self.path}/nics/{segment(mac)}")

    def map_nic(self, mac: str, network: str) -> None:
        """Plug a NIC into another network."""
        self._site.gateway.do("PUT", f"{self.path}/nics/{segment(mac)}/network", {"network": network})

    def attach_disk(self, source: Mapping[str, Any], **more: Any) -> str:
        """Add a disk; returns its name in the guest."""
        before = {disk.target for disk in self.view().disks}
        self._site.gateway.do("POST", f"{self.path}/disks", {"disk": {"source": dict(source), **more}})
        (target,) = {disk.target for disk in self.view().disks} - before
        return target

    def detach_disk(self, target: str, *, keep: bool = False) -> None:
        """Remove a disk."""
        self._site.gateway.do("DELETE", f"{self.path}/disks/{target}", keep="true" if keep else "false")

    # ------------------------------------------------------------------------------------------ from inside

    def shell(self) -> SerialConsole:
        """Its console, logged in; opened again where it was lost."""
        if self._console is None:
            self._console = SerialConsole(self._site.lab, self._site.gateway, self.id)
        return self._console.login()

    def run(self, command: str, seconds: float = 30.0) -> str:
        """Run a command in it, over its console."""
        return self.shell().run(command, seconds)

    def leave(self) -> None:
        """Close its console."""
        if self._console is not None:
            self._console.close()

    # ------------------------------------------------------------------------------------------ on the hosts

    @property
    def running_on(self) -> list[str]:
        """The hosts on which libvirt says that its CPUs run: more than one would be the worst of all faults."""
        return self._seen_on("--state-running")

    @property
    def defined_on(self) -> list[str]:
        """The hosts that know it at all."""
        return self._seen_on("--all")

    def _seen_on(self, state: str) -> list[str]:
        lab = self._site.lab
        names = [host for host in self._site.libvirt_hosts if lab.is_on(host)]
        return [name for name in names if str(self.id) in lab.run(name, ["virsh", "-q", "list", "--uuid", state])]

    def domain(self, host: str) -> str:
        """What libvirt calls it there."""
        return self._site.lab.run(host, ["virsh", "-q", "domname", str(self.id)]).strip()

    def process(self, host: str) -> int | None:
        """The number of its QEMU process, as the host sees it; None while libvirt keeps none for it."""
        file = f"/run/libvirt/qemu/{self.domain(host)}.pid"
        number = self._site.lab.run(host, ["sh", "-c", 'cat "$1" 2>&- || true', "process", file])
        return int(number) if number else None

    def epoch_on(self, host: str) -> int:
        """The epoch that is written beside it there."""
        uri = "https://openqrm.org/xmlns/libvirt/partition/1"
        text = self._site.lab.run(host, ["virsh", "-q", "metadata", str(self.id), uri])
        return int(text.split('epoch="', 1)[1].split('"', 1)[0])
