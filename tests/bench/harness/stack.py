"""The whole of openQRM as deploy/README.md sets it up: a process per service, on a NATS and a PostgreSQL of its own.

NATS and PostgreSQL keep their promises as in the embedded shape: each acknowledged message and each commit is on disk.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from harness.http import HttpConnection
from openqrm.contracts.clock import SystemClock
from openqrm.embedded.postgres import SUPERUSER, EmbeddedPostgres, programs_of_the_wheel

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv/bin/python"
SERVICES = ("inventory", "scheduler", "executor-fake", "gateway")
"""Each is one Python process; every one of them can be profiled."""
_ADMIN = "the administrator's"
WITH_US = ("setpriv", "--pdeathsig=KILL", "--")
"""Before a command: the kernel ends it when we die without a word."""
HOST = "cpus=256&memory_mib=1048576"
"""What a fake host is like: large enough that capacity is never what limits."""


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_folder(name: str) -> Path:
    """A folder that the account of PostgreSQL can pass through."""
    folder = Path(tempfile.mkdtemp(prefix=f"openqrm-bench-{name}-", dir="/var/tmp"))
    folder.chmod(0o711)
    return folder


class Stack:
    """The processes, and the folder with everything they keep."""

    def __init__(self, name: str = "small") -> None:
        self.folder = new_folder(name)
        self.clock = SystemClock()
        self.nats_port = free_port()
        self.port = free_port()
        self.postgres = EmbeddedPostgres(self.folder / "postgres", _ADMIN, self.clock)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kept: dict[str, Any] = {}
        """What rows made on it and use again."""
        self._number = 0

    # -------------------------------------------------------------------------------------------- life

    async def start(self, fill: Callable[["Stack"], Awaitable[None]] | None = None) -> None:
        """Start everything and wait until it serves; `fill` is called when inventory has made its tables."""
        await self.postgres.start()
        self._set_up()
        self.start_nats()
        await self.until(self._nats_answers, 30, "NATS answers")
        self._run_python("-m", "openqrm.bus.provisioning", "streams", "fake", **self.environment("provisioner"))
        if fill is not None:
            self.start_service("inventory")
            await self.until(self._inventory_has_tables, 60, "inventory made its tables")
            await self.stop("inventory")
            await fill(self)
        for service in SERVICES:
            self.start_service(service)
        await self.until(self._serves, 120, "the gateway serves")
        async with self.http() as http:
            await http.command("POST", "/networks", {"name": "default", "bridge": "br0"})

    async def close(self) -> None:
        """End everything and leave nothing behind."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()
        await self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def stop(self, service: str) -> None:
        """End one process as systemd does."""
        process = self.processes.pop(service)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)

    def start_nats(self) -> None:
        """A nats-server that keeps what it acknowledged."""
        configuration = self.folder / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.nats_port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "jetstream"}", sync_interval: always }}\n'
            "accounts { OPENQRM { jetstream: enabled, include etc/nats-users.conf } }\n"
        )
        self.launch("nats", [str(PYTHON.with_name("nats-server")), "-c", str(configuration)], {})

    def start_service(self, service: str) -> None:
        """Start one service as its unit does."""
        environment = self.environment(service)
        self.launch(service, [str(PYTHON), "-m", environment["OPENQRM_MODULE"]], environment)

    def launch(self, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start a process that ends with the stack, or when this process is killed; its output goes to a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*WITH_US, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_base() | environment,
                cwd="/",
            )

    # -------------------------------------------------------------------------------------------- looking

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, PostgreSQL's included."""
        found = {name: process.pid for name, process in self.processes.items()}
        if self.postgres.pid is not None:
            found["postgres"] = self.postgres.pid
        return found

    @property
    def python_pids(self) -> dict[str, int]:
        """Those that run Python, and can be profiled."""
        return {name: pid for name, pid in self.pids.items() if name in SERVICES}

    @property
    def administrator(self) -> str:
        """The password of PostgreSQL's administrator."""
        return _ADMIN

    @property
    def token(self) -> str:
        """The first administrator's."""
        return (self.folder / "state/admin-token").read_text().strip()

    def environment(self, service: str) -> dict[str, str]:
        """What deploy/systemd/setup.py wrote for a service."""
        lines = (self.folder / f"etc/{service}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def http(self) -> HttpConnection:
        """A new connection to the gateway as the administrator."""
        return HttpConnection(self.port, self.token)

    def access(self) -> dict[str, Any]:
        """What a load in a process of its own needs to reach the gateway."""
        return {"port": self.port, "token": self.token, "pids": self.pids}

    async def database(self, service: str = "inventory") -> "asyncpg.Connection[asyncpg.Record]":
        """A connection to a service's database as PostgreSQL's administrator."""
        return await asyncpg.connect(**self.database_access(service))

    def database_access(self, service: str = "inventory") -> dict[str, str]:
        """What asyncpg.connect takes to reach a service's database as PostgreSQL's administrator."""
        place = str(self.postgres.socket_folder)
        return {"host": place, "user": SUPERUSER, "password": _ADMIN, "database": f"openqrm_{service}"}

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        """Wait until something is true; raises RuntimeError with the last words of what ended."""
        end = self.clock.monotonic() + seconds
        while not await condition():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended: {self.log(name)[-600:]}")
            if self.clock.monotonic() > end:
                raise RuntimeError(f"after {seconds:g} s not yet: {what}")
            await self.clock.sleep(0.05)

    # -------------------------------------------------------------------------------------------- hosts, partitions

    async def hosts(self, count: int) -> list[str]:
        """Enrol fake hosts and return their names."""
        names = [self.name("host") for _ in range(count)]
        bodies = [
            {"name": name, "technology": "fake", "connection": {"uri": f"fake://{name}?{HOST}"}} for name in names
        ]
        await self._commands("/hosts", bodies)
        return names

    async def partitions(self, hosts: Sequence[str], count: int, *, start: bool, devices: int = 1) -> list[str]:
        """Make partitions with so many disks and NICs, spread over the hosts, and return their ids."""
        bodies = [
            partition_body(self.name("partition"), hosts[i % len(hosts)], start=start, devices=devices)
            for i in range(count)
        ]
        return [str(operation["target_id"]) for operation in await self._commands("/partitions", bodies)]

    def name(self, kind: str) -> str:
        """A name that nothing has yet."""
        self._number += 1
        return f"bench-{kind}-{self._number:06d}"

    async def _commands(self, path: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{}] * len(bodies)
        left = list(enumerate(bodies))

        async def work() -> None:
            async with self.http() as http:
                while left:
                    number, body = left.pop()
                    found[number] = await http.command("POST", path, body)

        await asyncio.gather(*(work() for _ in range(16)))
        return found

    # -------------------------------------------------------------------------------------------- setting up

    def _set_up(self) -> None:
        (self.folder / "state").mkdir()
        self._run_python(
            str(ROOT / "deploy/systemd/setup.py"),
            "fake",
            f"--folder={self.folder / 'etc'}",
            f"--state={self.folder / 'state'}",
            f"--nats-url=nats://127.0.0.1:{self.nats_port}",
            f"--postgres=postgresql://?host={quote(str(self.postgres.socket_folder), safe='/')}",
            f"--port={self.port}",
        )
        programs = programs_of_the_wheel()
        psql = programs[max(programs)] / "psql"
        command = [
            str(psql), "--quiet", "--set=ON_ERROR_STOP=1", f"--host={self.postgres.socket_folder}",
            f"--username={SUPERUSER}", f"--file={self.folder / 'etc/postgres.sql'}", "postgres",
        ]  # fmt: skip
        _run(command, PGPASSWORD=_ADMIN)

    def _run_python(self, *arguments: str, **environment: str) -> None:
        _run([str(PYTHON), *arguments], **environment)

    async def _nats_answers(self) -> bool:
        return "Server is ready" in self.log("nats")

    async def _inventory_has_tables(self) -> bool:
        connection = await self.database()
        try:
            return bool(await connection.fetchval("SELECT to_regclass('inventory.outbox') IS NOT NULL"))
        finally:
            await connection.close()

    async def _serves(self) -> bool:
        try:
            async with HttpConnection(self.port, self.token) as http:
                status, _ = await http.send("GET", "/health")
                return status == 200 and "fake" in str(await http.get("/technologies"))
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            return False


def partition_body(name: str, host: str | None, *, start: bool, devices: int = 1) -> dict[str, Any]:
    """The body of POST /partitions: one disk, one NIC, so that a start carries what a real one does; or more."""
    return {
        "name": name,
        "technology": "fake",
        "memory_mib": 256,
        "disks": [{"source": {"kind": "blank", "size_mib": 64}}] * devices,
        "nics": [{"network": "default"}] * devices,
        "start": start,
        **({"host": host} if host else {}),
    }


def _base() -> dict[str, str]:
    kept = ("PATH", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C.UTF-8"}


def _run(command: Sequence[str], **environment: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=_base() | environment, cwd="/"
    )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} {Path(command[1]).name} failed: {done.stderr[-600:]}")
