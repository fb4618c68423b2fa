"""A small data centre: the lab's hosts, enrolled in the running product through its gateway."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from qemu_lab import Lab, LabError
from qemu_lab.shell import run

from openqrm.contracts.operation import OperationView
from openqrm.contracts.states import HostState
from product.gateway import Gateway, OperationFailedError, RefusedError, segment
from product.guest import Guest
from product.running import HTTP_PORT, Product
from product.waiting import wait_until

IMAGE = "demo"
BRIDGED, ISOLATED = "default", "isolated"
"""The networks: br0, which leads to the other hosts, and br1, which leads nowhere."""
DISKS = {
    "kvm1": "/lab/local/disks",
    "kvm2": "/lab/shared/disks",
    "kvm3": "/lab/shared/disks",
    "bare": "/lab/local/disks",
}
"""Where each host keeps disks of partitions."""
MEMORY_MIB = 128
NETWORKS: tuple[Literal["mgmt", "san"], ...] = ("mgmt", "san")
NOISE = (
    "/dev/kvm",
    "SMBIOS",
    "'kvm' is not supported",
    "already exists with uuid",
    "high-privileges",
    "non-properly terminated",
    "End of file while reading",
)
"""What libvirt complains about in every lab."""


class Site:
    """The running lab, the running product, and what tests do with both."""

    def __init__(self, lab: Lab, product: Product) -> None:
        self.lab = lab
        self.product = product
        self.gateway = Gateway(lab, HTTP_PORT, product.token)
        self.libvirt_hosts = [member.name for member in lab.hypervisors]
        """The hosts that are looked at when it is asked where a guest is."""
        self._guests: list[Guest] = []

    # ------------------------------------------------------------------------------------------ setting up

    def set_up(self, image: Path) -> None:
        """Upload the image, make the networks, enrol the hosts: one by TLS, two by SSH, two with shared storage."""
        wait_until(self.gateway.is_there, 60, "the gateway and inventory answer")
        wait_until(lambda: self._knows("/networks", BRIDGED), 60, "the first network is made")
        wait_until(lambda: "qemu" in str(self.gateway.get("/technologies")), 60, "the QEMU executor announced itself")
        self.gateway.do("POST", "/networks", {"name": ISOLATED, "bridge": "br1"})
        upload = self.gateway.request("POST", "/images", image.read_bytes(), query={"name": IMAGE})
        self.gateway.finish(OperationView.model_validate(upload.json()))
        started = [
            self.gateway.begin("POST", "/hosts", self.enrolment("kvm1", "tls")),
            self.gateway.begin("POST", "/hosts", self.enrolment("kvm2", "ssh")),
            self.gateway.begin("POST", "/hosts", self.enrolment("kvm3", "ssh")),
        ]
        for operation in started:
            self.gateway.finish(operation)

    def _knows(self, path: str, name: str) -> bool:
        return any(item["name"] == name for item in self.gateway.get(path)["items"])

    def host_key(self, name: str) -> str:
        """A host's SSH public key."""
        line = next(line for line in self.lab.known_hosts.read_text().splitlines() if line.startswith(f"{name},"))
        return " ".join(line.split()[1:3])

    def enrolment(self, name: str, transport: str, **options: str) -> dict[str, Any]:
        """The body with which a host is enrolled."""
        address = self.lab.members[name].address
        shared = DISKS[name].startswith("/lab/shared/")
        connection: dict[str, Any] = {"storage_path": DISKS[name], "shared_storage": shared, "options": options}
        if transport == "tls":
            connection["uri"] = f"qemu+tls://{address}/system"
            # TLS carries libvirt only, so that the screen has to listen on the host's own address.
            connection["options"] = {"vnc_listen": "0.0.0.0", **options}  # noqa: S104 - inside the lab
        else:
            connection["uri"] = f"qemu+ssh://root@{address}/system"
            connection["host_key"] = self.host_key(name)
        # The hosts share one machine, which other things need as well.
        return {"name": name, "technology": "qemu", "connection": connection, "memory_reserve_mib": 4096}

    # ------------------------------------------------------------------------------------------ guests

    def create(
        self,
        name: str,
        host: str | None,
        *,
        start: bool = True,
        networks: Sequence[str] = (BRIDGED,),
        disks: Sequence[dict[str, Any]] = (),
        memory_mib: int = MEMORY_MIB,
        **more: Any,
    ) -> tuple[Guest, OperationView]:
        """Ask for a guest; returns it with the operation that makes it."""
        body: dict[str, Any] = {
            "name": name,
            "technology": "qemu",
            "memory_mib": memory_mib,
            "disks": [{"source": {"kind": "image", "image": IMAGE}}, *disks],
            "nics": [{"network": network} for network in networks],
            "start": start,
            **({"host": host} if host else {}),
            **more,
        }
        operation = self.gateway.begin("POST", "/partitions", body)
        assert operation.target_id is not None
        guest = Guest(self, operation.target_id, name)
        self._guests.append(guest)
        return guest, operation

    def guest(self, name: str, host: str | None, **more: Any) -> Guest:
        """Make a guest; it need not have booted yet."""
        guest, operation = self.create(name, host, **more)
        self.gateway.finish(operation)
        return guest

    def guests(self, *wanted: tuple[str, str], **more: Any) -> list[Guest]:
        """Make several guests at once, each given as name and host."""
        made = [self.create(name, host, **more) for name, host in wanted]
        for _, operation in made:
            self.gateway.finish(operation)
        return [guest for guest, _ in made]

    # ------------------------------------------------------------------------------------------ hosts

    def host_do(self, name: str, verb: str, **body: Any) -> OperationView:
        """Carry out a verb on a host to its success."""
        return self.gateway.do("POST", f"/hosts/{segment(name)}/{verb}", body)

    def wait_for_host(self, name: str, state: HostState, seconds: float) -> None:
        """Wait until a host is in a state."""
        wait_until(lambda: self.gateway.host(name).state is state, seconds, f"{name} is {state.value}")

    def volumes(self, host: str) -> set[str]:
        """The files that hold disks of partitions on a host."""
        names = self.lab.run(host, ["sh", "-c", f"ls {DISKS[host]} 2> /dev/null || true"]).split()
        return {name for name in names if not name.startswith("image-")}

    def bridge_of(self, host: str, mac: str) -> str:
        """The bridge that a guest's NIC is plugged into on its host, as the kernel sees it; empty if there is none."""
        # The tap's own address differs from the guest's in the first byte.
        script = 'for A in /sys/class/net/*/address; do read -r M < "$A"; echo "$M ${A%/address}"; done'
        for line in self.lab.run(host, ["sh", "-c", script]).splitlines():
            address, _, path = line.partition(" ")
            if address[2:] == mac[2:] and "/vnet" in path:
                target = self.lab.run(host, ["sh", "-c", f"readlink {path}/master || true"]).strip()
                return target.rpartition("/")[2]
        return ""

    # ------------------------------------------------------------------------------------------ tidying

    def tidy(self) -> None:
        """Heal the lab, then delete every partition: what a test leaves must not meet the next ones."""
        for guest in self._guests:
            guest.leave()
        self._guests.clear()
        for member in self.lab.hosts:
            if not self.lab.is_on(member.name):
                self.lab.start(member.name)
            self.lab.thaw(member.name)
            for net in NETWORKS:
                self.lab.link(member.name, up=True, net=net)
        for member in self.lab.hypervisors:
            self.lab.start_libvirtd(member.name)
        for name in self.libvirt_hosts:
            self._heal(name)
        for partition in self.gateway.partitions():
            self.gateway.when_idle(partition.id)
            self.gateway.do("DELETE", f"/partitions/{partition.id}", force="true")

    def _heal(self, name: str) -> None:
        serving = (HostState.READY, HostState.MAINTENANCE)
        try:
            wait_until(lambda: self.gateway.host(name).state in serving, 90, f"{name} serves again")
            if self.gateway.host(name).state is HostState.MAINTENANCE:
                self.host_do(name, "activate")
        except RefusedError as error:
            if error.status != 404:
                raise

    def remains(self) -> list[str]:
        """What the hosts still have of partitions that are gone."""
        found = []
        for host in self.libvirt_hosts:
            known = self.lab.run(host, ["virsh", "-q", "list", "--all", "--uuid"]).split()
            found += [f"domain {uuid} on {host}" for uuid in known]
            found += [f"volume {name} on {host}" for name in self.volumes(host)]
        return found

    def host_logs(self, lines: int = 15) -> str:
        """What each host's libvirt said last."""
        parts = []
        for host in self.libvirt_hosts:
            try:
                said = self.lab.run(host, ["cat", "/var/log/libvirt/libvirtd.log"]).splitlines()
                worth = [line for line in said if not any(word in line for word in NOISE)]
                parts.append("\n".join((f"--- {host}", *worth[-lines:])))
            except LabError as error:
                parts.append(f"--- {host}: {error}")
        return "\n".join(parts)


def build_image(folder: Path) -> Path:
    """The demonstration image, built when it is missing or its ingredients have changed."""
    builder = Path(__file__).resolve().parents[3] / "deploy/demo-image/build.py"
    run([str(builder), "--output", str(folder), "--cache", str(folder / "packages")])
    return folder / "openqrm-demo.qcow2"


@contextmanager
def expect_refusal(status: int, *words: str) -> Iterator[None]:
    """The gateway refuses with this status, in a sentence that has these words."""
    try:
        yield
    except RefusedError as error:
        assert error.status == status, f"refused with {error.status} instead of {status}: {error}"
        _check_sentence(error.detail, words)
    else:
        raise AssertionError(f"was not refused with {status}")


@contextmanager
def expect_failure(*words: str) -> Iterator[None]:
    """An operation fails, in a sentence that has these words."""
    try:
        yield
    except OperationFailedError as error:
        _check_sentence(error.sentence, words)
    else:
        raise AssertionError("it did not fail")


def _check_sentence(sentence: str, words: Sequence[str]) -> None:
    missing = [word for word in words if word.lower() not in sentence.lower()]
    assert not missing, f"the sentence lacks {missing}: {sentence}"
    assert len(sentence) > 20, f"no sentence: {sentence!r}"
    assert "Traceback" not in sentence, f"no sentence: {sentence!r}"
