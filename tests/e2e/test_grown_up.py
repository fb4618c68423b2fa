"""The grown-up shape: a process per service and replica, on a NATS with TLS and a PostgreSQL of the user's own.

All of it is made as deploy/README.md says: by deploy/systemd/setup.py, psql and the provisioning program.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
import nats
import psutil
import pytest
from installation import PYTHON, ROOT, Client, Json, is_root, new_folder, run
from nats.errors import Error as NatsError

from openqrm.contracts.clock import SystemClock
from openqrm.embedded.postgres import SUPERUSER, EmbeddedPostgres, programs_of_the_wheel
from openqrm.testkit.waiting import eventually, eventually_async

STARTED = ("executor-fake", "gateway", "gateway-2", "inventory", "inventory-2", "scheduler")
SYSTEMD = ROOT / "deploy/systemd"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


class DataCentre:
    """The processes, and the folder with their environments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.state = folder / "state"
        self.ca = folder / "ca.pem"
        self.nats_port = free_port()
        self.ports = {"gateway": free_port(), "gateway-2": free_port()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.postgres = EmbeddedPostgres(folder / "postgres", "the administrator's", SystemClock())
        self._clients: list[httpx.AsyncClient] = []

    # -------------------------------------------------------------------------------------------- as the README says

    def make_certificates(self) -> None:
        """A CA, and NATS's certificate."""
        openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-days", "2", "-subj", "/CN=openQRM test", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
        made = run(*openssl, "-keyout", str(self.folder / "key.pem"), "-out", str(self.ca))
        assert made.returncode == 0, made.stderr

    def set_up(self) -> None:
        """What the services need to know; twice is harmless."""
        arguments = [
            "fake",
            f"--folder={self.etc}",
            f"--state={self.state}",
            f"--nats-url=tls://127.0.0.1:{self.nats_port}",
            f"--nats-ca={self.ca}",
            f"--postgres=postgresql://?host={quote(str(self.postgres.socket_folder), safe='/')}",
            f"--port={self.ports['gateway']}",
        ]
        for _ in range(2):
            done = self.run_python(str(SYSTEMD / "setup.py"), *arguments)
            assert done.returncode == 0, done.stderr

    def start_nats(self) -> None:
        """A nats-server as any administrator configures it."""
        configuration = self.folder / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.nats_port}"\n'
            f'tls {{ cert_file: "{self.ca}", key_file: "{self.folder / "key.pem"}" }}\n'
            f'jetstream {{ store_dir: "{self.folder / "jetstream"}" }}\n'
            "accounts { OPENQRM { jetstream: enabled, include etc/nats-users.conf } }\n"
        )
        self._launch("nats", [str(PYTHON.with_name("nats-server")), "-c", str(configuration)], {})

    def make_databases(self) -> None:
        """By psql, twice."""
        programs = programs_of_the_wheel()
        psql = programs[max(programs)] / "psql"
        environment = {"PGPASSWORD": "the administrator's", "PATH": os.environ["PATH"]}
        command = [str(psql), "--quiet", "--set=ON_ERROR_STOP=1", f"--host={self.postgres.socket_folder}",
                   f"--username={SUPERUSER}", f"--file={self.etc / 'postgres.sql'}", "postgres"]  # fmt: skip
        for _ in range(2):
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
            assert done.returncode == 0, done.stderr

    def make_streams(self) -> None:
        """By the provisioning program, twice."""
        for _ in range(2):
            done = self.run_python(
                "-m", "openqrm.bus.provisioning", "streams", "fake", **self.environment("provisioner")
            )
            assert done.returncode == 0, done.stderr

    # -------------------------------------------------------------------------------------------- processes

    def environment(self, service: str) -> dict[str, str]:
        """What setup.py wrote for a service."""
        lines = (self.etc / f"{service}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def start(self, name: str, **more: str) -> None:
        """Start a service as its unit does; `name`: the service, and the number of the replica."""
        environment = self.environment(name.removesuffix("-2")) | more
        if name in self.ports:
            environment["OPENQRM_GATEWAY_PORT"] = str(self.ports[name])
        environment["OPENQRM_FAKE_FOLDER"] = str(self.folder / "fake-hosts")
        self._launch(name, [str(PYTHON), "-m", environment["OPENQRM_MODULE"]], environment)

    def run_python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of ours to its end."""
        return subprocess.run([str(PYTHON), *arguments], capture_output=True, text=True, check=False, timeout=60,
                              env=self._base | environment)  # fmt: skip

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def stop(self, *names: str) -> None:
        """SIGTERM, as systemd does; each ends with status 0."""
        for name in names:
            self.processes[name].send_signal(signal.SIGTERM)
        for name in names:
            process = self.processes.pop(name)
            await eventually(partial(_has_ended, process), 45, f"{name} ends")
            assert process.returncode == 0, f"{name}: {process.returncode} {self.log(name)[-2000:]}"

    async def close(self) -> None:
        """End everything."""
        for client in self._clients:
            await client.aclose()
        for process in self.processes.values():
            process.kill()
            process.wait()
        await self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, name: str = "gateway") -> Client:
        """The administrator at one of the gateways."""
        token = (self.state / "admin-token").read_text().strip()
        http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.ports[name]}", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        self._clients.append(http)
        return Client(http)

    async def answers(self, name: str) -> bool:
        """Whether a gateway serves and is healthy."""
        async with httpx.AsyncClient() as http:
            try:
                response = await http.get(f"http://127.0.0.1:{self.ports[name]}/health")
            except httpx.TransportError:
                return False
        return response.status_code == 200

    @property
    def _base(self) -> dict[str, str]:
        kept = ("PATH", "PYTHONPATH")
        return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C.UTF-8"}

    def _launch(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                    env=self._base | environment, cwd="/")  # fmt: skip


@pytest.fixture(scope="module")
async def centre() -> AsyncIterator[DataCentre]:
    """Everything runs: two gateways, two inventories, a scheduler, an executor, each in a process of its own."""
    centre = DataCentre(new_folder())
    try:
        centre.make_certificates()
        await centre.postgres.start()
        centre.state.mkdir()
        centre.set_up()
        centre.start_nats()
        centre.make_databases()
        await eventually(lambda: "Server is ready" in centre.log("nats"), 30, "NATS runs")
        centre.make_streams()
        for name in STARTED:
            centre.start(name)
        for name in ("gateway", "gateway-2"):
            await eventually_async(partial(centre.answers, name), 90, f"{name} serves")
        client = centre.client()
        for host in ("h1", "h2"):
            body = {"name": host, "technology": "fake", "connection": {"uri": f"fake://{host}"}}
            await client.run("POST", "/hosts", body)
        await client.run("POST", "/networks", {"name": "default", "bridge": "br0"})
        yield centre
    finally:
        await centre.close()


async def test_a_partition_through_all_the_processes(centre: DataCentre) -> None:
    one, other = centre.client("gateway"), centre.client("gateway-2")
    made = await one.partition("first", nics=[{"network": "default"}])
    assert (await other.get("/partitions/first"))["id"] == made["id"]
    operation = await other.run("POST", "/partitions/first/start")

    async def spans() -> list[Json]:
        response = await one.request("GET", f"/traces/{operation['id']}")
        found: list[Json] = response.json()["spans"] if response.status_code == 200 else []
        return found

    async def joined() -> bool:
        return {"gateway", "inventory", "executor-fake"} <= {span["service"] for span in await spans()}

    await eventually_async(joined, 20, "one trace through three processes")
    known = {span["span_id"] for span in await spans()}
    assert all(span["parent_id"] is None or span["parent_id"] in known for span in await spans())


async def test_one_command_at_two_gateways_is_one_operation(centre: DataCentre) -> None:
    body = {"name": "ordered twice", "memory_mib": 64}
    key = {"Idempotency-Key": "an order"}
    answers = await asyncio.gather(
        *(centre.client(name).call("POST", "/partitions", body, params={"wait": 60}, headers=key)
          for name in ("gateway", "gateway-2"))
    )  # fmt: skip
    assert answers[0]["id"] == answers[1]["id"]
    assert {answer["state"] for answer in answers} == {"succeeded"}


async def test_a_replica_that_is_killed_is_not_missed(centre: DataCentre) -> None:
    client = centre.client()
    accepted = [await client.call("POST", "/partitions", {"name": f"crowd {n}", "memory_mib": 16}, status=202)
                for n in range(10)]  # fmt: skip
    killed = centre.processes.pop("inventory-2")
    killed.kill()
    killed.wait()
    made = await client.partition("after the kill", start=True)
    await client.becomes(f"/partitions/{made['id']}", state="running")
    centre.start("inventory-2")
    for operation in accepted:
        ended = await client.get(f"/operations/{operation['id']}", wait=60)
        assert ended["state"] == "succeeded", ended


async def test_a_service_restarts_as_systemd_does_it(centre: DataCentre) -> None:
    await centre.stop("scheduler", "executor-fake")
    client = centre.client()
    waiting = await client.call("POST", "/partitions", {"name": "patient", "memory_mib": 16}, status=202)
    for name in ("scheduler", "executor-fake"):
        centre.start(name)
    ended = await client.get(f"/operations/{waiting['id']}", wait=60)
    assert ended["state"] == "succeeded", ended


async def test_nats_that_restarts_is_found_again(centre: DataCentre) -> None:
    nats_server = centre.processes.pop("nats")
    nats_server.kill()
    nats_server.wait()
    client = centre.client()

    async def is_told() -> bool:
        return (await client.request("GET", "/health")).status_code == 503

    await eventually_async(is_told, 30, "the gateway says that the bus is away")
    problem = await client.refused("POST", "/partitions", {"name": "meanwhile", "memory_mib": 16}, status=503)
    assert "bus" in problem["detail"]
    centre.start_nats()
    await eventually_async(lambda: centre.answers("gateway"), 30, "it is back")
    made = await client.partition("after NATS", start=True)
    await client.becomes(f"/partitions/{made['id']}", state="running")


async def test_nobody_gets_in_without_password_and_certificate(centre: DataCentre) -> None:
    environment = centre.environment("client")
    url = environment["OPENQRM_NATS_URL"]
    options = {"allow_reconnect": False, "connect_timeout": 3, "max_reconnect_attempts": 0}

    async def quiet(_error: Exception) -> None:
        pass

    import ssl

    trusting = ssl.create_default_context(cafile=str(centre.ca))
    with pytest.raises((NatsError, OSError, TimeoutError)):
        await nats.connect(url, user="client", password="guess", tls=trusting, error_cb=quiet, **options)
    with pytest.raises((NatsError, OSError, TimeoutError, ssl.SSLError)):
        await nats.connect(url, user="client", password=environment["OPENQRM_NATS_PASSWORD"], error_cb=quiet,
                           tls=ssl.create_default_context(), **options)  # fmt: skip
    client = await nats.connect(
        url, user="client", password=environment["OPENQRM_NATS_PASSWORD"], tls=trusting, inbox_prefix="_INBOX_client"
    )
    await client.close()
    for file in (*centre.etc.glob("*.env"), centre.etc / "nats-users.conf", centre.etc / "postgres.sql"):
        assert file.stat().st_mode & 0o077 == 0, file


async def test_a_service_that_cannot_start_says_why(centre: DataCentre) -> None:
    dsn = centre.environment("inventory")["OPENQRM_INVENTORY_DSN"]
    wrong_password = dsn.replace("openqrm_inventory:", "openqrm_inventory:x", 1)
    for module, changes, words in (
        ("openqrm.gateway", {"OPENQRM_GATEWAY_PORT": str(centre.ports["gateway"])}, "listens there already"),
        ("openqrm.gateway", {"OPENQRM_GATEWAY_PORT": "many"}, "OPENQRM_GATEWAY_PORT"),
        ("openqrm.inventory", {"OPENQRM_INVENTORY_POOL_SIZE": "0"}, "OPENQRM_INVENTORY_POOL_SIZE"),
        ("openqrm.inventory", {"OPENQRM_INVENTORY_DSN": wrong_password}, "password"),
        ("openqrm.scheduler", {"OPENQRM_NATS_PASSWORD": "wrong"}, "OPENQRM_NATS"),
    ):
        environment = centre.environment(module.rpartition(".")[2]) | changes
        done = centre.run_python("-m", module, **environment)
        assert done.returncode == 1, (module, changes, done)
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr


def _tries(centre: DataCentre, name: str) -> bool:
    return "bus error" in centre.log(name)


async def test_a_service_that_waits_for_nats_ends_when_it_is_told_to(centre: DataCentre) -> None:
    for name in ("scheduler-2", "executor-fake-2"):
        centre.start(name, OPENQRM_NATS_URL="tls://127.0.0.1:1")
        await eventually(partial(_tries, centre, name), 30, "it tries")
        await centre.stop(name)


async def test_everything_ends_when_it_is_told_to(centre: DataCentre) -> None:
    await centre.stop(*STARTED)
    ours = [process for process in psutil.process_iter() if str(centre.etc) in " ".join(_words(process))]
    assert ours == []


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_units_are_right(tmp_path: Path) -> None:
    for file in SYSTEMD.iterdir():
        if file.suffix in (".service", ".target"):
            text = file.read_text().replace("/opt/openqrm/.venv/bin/python", str(PYTHON))
            (tmp_path / file.name).write_text(text)
    units = [
        str(tmp_path / name) for name in ("openqrm@inventory.service", "openqrm-streams.service", "openqrm.target")
    ]
    checked = run("systemd-analyze", "verify", "--man=no", *units)
    problems = [line for line in checked.stderr.splitlines() if str(tmp_path) in line or "openqrm" in line]
    assert problems == []
    assert is_root() or checked.returncode == 0
