"""The grown-up shape for tests: NATS, PostgreSQL and one process per service, as deploy/README.md sets it up.

Each process is started again when it ends, as its systemd unit would. All that runs ends with this process, and a test
may kill or stop any of it by its `pid`.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import httpx
import psutil

from openqrm.contracts.clock import Clock, SystemClock
from openqrm.embedded.errors import StartError
from openqrm.embedded.postgres import SUPERUSER, EmbeddedPostgres, programs_of_the_wheel

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "deploy/systemd/setup.py"
CONTROL_PLANE = ("inventory", "scheduler", "gateway")
POLL_SECONDS = 0.05
START_SECONDS = 90.0
_DATABASE_PASSWORD = "the administrator's"

Launch = Callable[[], subprocess.Popen[bytes]]


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Supervised:
    """One process that is started again `restart_seconds` after it ended by itself."""

    def __init__(self, name: str, launch: Launch, clock: Clock, restart_seconds: float) -> None:
        self.name = name
        self.starts = 0
        self._launch = launch
        self._clock = clock
        self._restart_seconds = restart_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, now and whenever it has ended."""
        self._begin()
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    def _begin(self) -> None:
        self._process = self._launch()
        self.starts += 1

    async def _keep(self) -> None:
        while True:
            while self.pid is not None:
                await self._clock.sleep(POLL_SECONDS)
            await self._clock.sleep(self._restart_seconds)
            self._begin()

    async def stop(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait()


class SupervisedPostgres:
    """PostgreSQL, started again `restart_seconds` after it ended by itself."""

    def __init__(self, folder: Path, clock: Clock, restart_seconds: float) -> None:
        self.name = "postgres"
        self.starts = 0
        self._died = asyncio.Event()
        self._clock = clock
        self._restart_seconds = restart_seconds
        self._server = EmbeddedPostgres(folder, _DATABASE_PASSWORD, clock, on_death=lambda _: self._died.set())
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._server.pid

    @property
    def socket_folder(self) -> Path:
        """Where its socket lies."""
        return self._server.socket_folder

    def dsn(self, database: str) -> str:
        """A libpq URL of the administrator."""
        host = quote(str(self.socket_folder), safe="/")
        return f"postgresql://{SUPERUSER}:{quote(_DATABASE_PASSWORD)}@/{database}?host={host}"

    async def start(self) -> None:
        """Start it, now and whenever it has ended."""
        await self._server.start()
        self.starts += 1
        self._task = asyncio.create_task(self._keep(), name="keep postgres")

    async def _keep(self) -> None:
        while True:
            await self._died.wait()
            self._died.clear()
            await self._clock.sleep(self._restart_seconds)
            with suppress(StartError):
                await self._server.stop()
                await self._server.start()
                self.starts += 1
            if self._server.pid is None:
                self._died.set()

    async def stop(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._server.stop()

    def run_sql(self, file: Path) -> None:
        """Run a file as the administrator."""
        programs = programs_of_the_wheel()
        psql = [str(programs[max(programs)] / "psql"), "--quiet", "--set=ON_ERROR_STOP=1"]
        where = [f"--host={self.socket_folder}", f"--username={SUPERUSER}", f"--file={file}", "postgres"]
        environment = {"PGPASSWORD": _DATABASE_PASSWORD, "PATH": os.environ["PATH"]}
        subprocess.run([*psql, *where], check=True, env=environment, timeout=60)


class Stack:
    """A folder, and the processes that run on it. `start` begins all; its two halves can be called by themselves.

    `settings`: environment variables of all services. Before `start_services`, `overrides` may get variables of one
    service, `commands` what is run instead of its module, and `launchers` how (arguments and environment → process).
    """

    base: ClassVar[dict[str, str]] = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ
    } | {"LC_ALL": "C.UTF-8"}
    """The environment that every process starts from."""

    def __init__(
        self,
        technologies: Sequence[str] = ("fake",),
        settings: Mapping[str, str] | None = None,
        restart_seconds: float = 2.0,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="openqrm-stack-", dir="/var/tmp"))
        self.folder.chmod(0o711)  # the account of PostgreSQL passes through
        self.clock = SystemClock()
        self.technologies = tuple(technologies)
        self.services = (*CONTROL_PLANE, *(f"executor-{technology}" for technology in technologies))
        self.settings = dict(settings or {})
        self.overrides: dict[str, dict[str, str]] = {}
        self.commands: dict[str, list[str]] = {}
        self.launchers: dict[str, Callable[[list[str], dict[str, str], Path], subprocess.Popen[bytes]]] = {}
        self.processes: dict[str, Supervised | SupervisedPostgres] = {}
        self.postgres = SupervisedPostgres(self.folder / "postgres", self.clock, restart_seconds)
        self.nats_port = free_port()
        self.http_port = free_port()
        self._restart_seconds = restart_seconds

    @property
    def etc(self) -> Path:
        """Where setup.py wrote to."""
        return self.folder / "etc"

    @property
    def fake_hosts(self) -> Path:
        """Where the fake hosts keep what is on them."""
        return self.folder / "fake-hosts"

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def token(self) -> str:
        """The first administrator's."""
        return (self.folder / "state/admin-token").read_text().strip()

    def environment(self, service: str) -> dict[str, str]:
        """What setup.py wrote for a service or for `provisioner` or `client`."""
        lines = (self.etc / f"{service}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def log(self, name: str) -> Path:
        """Where a process writes to."""
        return self.folder / f"{name}.log"

    # -------------------------------------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Start everything; return when the gateway answers."""
        await self.start_servers()
        await self.start_services()

    async def start_servers(self) -> None:
        """Start NATS and PostgreSQL, with users, databases and streams."""
        for folder in ("state", "fake-hosts"):
            (self.folder / folder).mkdir()
        await self.postgres.start()
        self.processes["postgres"] = self.postgres
        sockets = quote(str(self.postgres.socket_folder), safe="/")
        arguments = [
            *self.technologies,
            f"--folder={self.etc}",
            f"--state={self.folder / 'state'}",
            f"--nats-url=nats://127.0.0.1:{self.nats_port}",
            f"--postgres=postgresql://?host={sockets}",
            f"--port={self.http_port}",
        ]
        self._run_python(str(SETUP), *arguments)
        await asyncio.to_thread(self.postgres.run_sql, self.etc / "postgres.sql")
        configuration = self.folder / "nats.conf"
        configuration.write_text(
            f'server_name: "{self.folder.name}"\nlisten: "127.0.0.1:{self.nats_port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "jetstream"}", sync_interval: always }}\n'
            "accounts { OPENQRM { jetstream: enabled, include etc/nats-users.conf } }\n"
        )
        self._supervise("nats", [str(Path(sys.executable).with_name("nats-server")), "-c", str(configuration)], {})
        await self.until(lambda: "Server is ready" in self.log("nats").read_text(), "NATS runs")
        streams = ["-m", "openqrm.bus.provisioning", "streams", *self.technologies]
        await asyncio.to_thread(self._run_python, *streams, **self.environment("provisioner"))

    async def start_services(self) -> None:
        """Start the services; return when the gateway answers."""
        for service in self.services:
            environment = self.environment(service) | self.settings | self.overrides.get(service, {})
            environment["OPENQRM_FAKE_FOLDER"] = str(self.fake_hosts)
            command = self.commands.get(service, ["-m", environment["OPENQRM_MODULE"]])
            self._supervise(service, [sys.executable, *command], environment)
        async with httpx.AsyncClient() as http:

            async def answers() -> bool:
                with suppress(httpx.TransportError):
                    return (await http.get(f"{self.url}/health")).status_code == 200
                return False

            async with asyncio.timeout(START_SECONDS):
                while not await answers():
                    await self.clock.sleep(POLL_SECONDS)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is true."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not condition():
                    await self.clock.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"within {START_SECONDS:g} s it did not come to this: {what}") from None

    async def stop(self, keep_folder: bool = False) -> None:
        """End everything, at once and in no good order; `keep_folder`: leave the logs."""
        for process in self.processes.values():
            if process.pid is not None:
                for member in family(process.pid):
                    member.resume()  # one that is stopped could not end
        for name in reversed(self.processes):
            await self.processes[name].stop()
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -------------------------------------------------------------------------------------------- inner parts

    def _supervise(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        # The kernel ends it when this process dies without a word.
        whole = ["setpriv", f"--pdeathsig={signal.SIGKILL.name.removeprefix('SIG')}", "--", *command]
        launcher = self.launchers.get(name, _launch)
        process = Supervised(
            name,
            lambda: launcher(whole, self.base | environment, self.log(name)),
            self.clock,
            self._restart_seconds,
        )
        self.processes[name] = process
        process.start()

    @staticmethod
    def _run_python(*arguments: str, **environment: str) -> None:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=Stack.base | environment)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"


def family(pid: int) -> list[psutil.Process]:
    """A process and those that it started."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _launch(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, cwd="/")
