"""A real openQRM in a process of its own, as `make up` starts it, and a client of it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil

from openqrm.contracts.clock import SystemClock
from openqrm.testkit.waiting import eventually, eventually_async

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/bin/python"
START_SECONDS = 90.0
STOP_SECONDS = 60.0
SERVING = "Ctrl-C stops everything"
"""The last line that a start shows before it serves."""

_FOR_CLIENTS: tuple[str, ...] = ("PATH", "HOME", "LC_ALL", "PYTHONPATH", "OPENQRM_STATE")

Json = dict[str, Any]


def new_folder() -> Path:
    """A folder that the accounts of PostgreSQL and NATS can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="openqrm-e2e-", dir="/var/tmp"))
    folder.chmod(0o711)
    return folder


class Installation:
    """One state folder, and the process that runs on it now or ran last."""

    def __init__(self, folder: Path, environment: Mapping[str, str | None] | None = None) -> None:
        """`environment`: more variables, or (None) ones to leave out."""
        self.folder = folder
        self.state = folder / "state"
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "OPENQRM_STATE": str(self.state),
            "OPENQRM_HTTP_PORT": "0",
            "OPENQRM_NATS_PORT": "",
            "OPENQRM_TECHNOLOGIES": "fake",
            "OPENQRM_LOCAL_HOST": "no",
            "OPENQRM_DEMO_IMAGE": "no",
            "OPENQRM_BRIDGE": "br0",
            "OPENQRM_FAKE_FOLDER": str(folder / "fake-hosts"),  # hosts outlive the process, as real ones do
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            **(environment or {}),
        }
        self.environment = {name: value for name, value in variables.items() if value is not None}
        self.clock = SystemClock()
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[httpx.AsyncClient] = []

    # -------------------------------------------------------------------------------------------- the process

    def launch(self, *prefix: str, **environment: str) -> None:
        """Begin to start it, as the foreground job of a terminal of its own; `prefix`: a program that starts it."""
        self.fake_hosts.mkdir(exist_ok=True)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*prefix, str(PYTHON), "-m", "openqrm.embedded"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**self.environment, **environment},
                cwd="/",
                start_new_session=True,
            )

    async def start(self, **environment: str) -> None:
        """Start it and wait until it serves."""
        self.launch(**environment)
        await eventually(lambda: SERVING in self.said or not self.runs, START_SECONDS, "openQRM serves")
        assert self.runs, f"it ended at once: {self.said} {self.complained}"

    async def fails(self, *prefix: str, **environment: str) -> str:
        """Start it, expecting that it refuses; returns its one sentence."""
        self.launch(*prefix, **environment)
        assert await self.ended() != 0, "it failed and must say so by its exit status"
        assert not self.children
        lines = self.complained.strip().splitlines()
        assert len(lines) == 1, f"exactly one line of reason is wanted: {lines}"
        assert "Traceback" not in self.said
        assert lines[0].startswith("openqrm: ")
        return lines[0].removeprefix("openqrm: ")

    async def interrupt(self) -> int:
        """Press Ctrl-C at its terminal: every process of the foreground job gets it. Returns the exit status."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; returns the exit status."""
        process = self.process
        assert process is not None
        await eventually(lambda: process.poll() is not None, STOP_SECONDS, "openQRM ends")
        status: int = process.returncode
        return status

    async def kill(self) -> None:
        """Let it die without a word."""
        assert self.process is not None
        self.process.kill()
        await self.ended()

    async def close(self) -> None:
        """End it if it runs, and leave nothing behind."""
        for client in self._clients:
            await client.aclose()
        if self.runs:
            await self.interrupt()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def children(self) -> list[psutil.Process]:
        """PostgreSQL's, NATS's and other processes that work on the state folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if any(str(self.state) in word for word in process.cmdline()) and process.pid != os.getpid():
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if self.process is None or process.pid != self.process.pid]

    def child(self, name: str) -> psutil.Process:
        """The child with this program name."""
        assert self.process is not None
        return next(c for c in psutil.Process(self.process.pid).children() if c.name() == name)

    @property
    def said(self) -> str:
        """What stood on the terminal, errors aside."""
        return self._out.read_text(errors="replace") if self._out.exists() else ""

    @property
    def complained(self) -> str:
        """What stood on the terminal as errors."""
        return self._err.read_text(errors="replace") if self._err.exists() else ""

    @property
    def log(self) -> str:
        """openQRM's own log."""
        return (self.state / "openqrm.log").read_text(errors="replace")

    @property
    def fake_hosts(self) -> Path:
        """Where the fake hosts are kept."""
        return self.folder / "fake-hosts"

    @property
    def _out(self) -> Path:
        return self.folder / "out"

    @property
    def _err(self) -> Path:
        return self.folder / "err"

    # -------------------------------------------------------------------------------------------- its clients

    @property
    def word(self) -> Json:
        """What it left for clients."""
        found: Json = json.loads((self.state / "client.json").read_text())
        return found

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return str(self.word["url"])

    def secret(self, name: str) -> str:
        """What lies in the file that a word for clients names."""
        return Path(self.word[name]).read_text().strip()

    @property
    def token(self) -> str:
        """The first administrator's."""
        return self.secret("token_file")

    @property
    def password(self) -> str:
        """The first administrator's."""
        return (self.state / "admin-password").read_text().strip()

    def client(self, token: str | None = "", **headers: str) -> "Client":
        """A client with the administrator's token, another one, or (None) no login."""
        token = self.token if token == "" else token
        login = {"Authorization": f"Bearer {token}"} if token else {}
        http = httpx.AsyncClient(base_url=self.url, headers={**login, **headers}, timeout=60)
        self._clients.append(http)
        return Client(http)

    def browser(self) -> "Client":
        """A client without a login that says, as browsers do, that its requests come from this server's pages."""
        return self.client(None, **{"Sec-Fetch-Site": "same-origin"})

    async def cli(
        self, *arguments: str, text: str | None = None, prefix: tuple[str, ...] = (), **environment: str
    ) -> "Output":
        """Run the command line tool."""
        process = await self.cli_process(*arguments, prefix=prefix, **environment)
        async with asyncio.timeout(60):
            out, err = await process.communicate(text.encode() if text is not None else None)
        assert process.returncode is not None
        return Output(process.returncode, out.decode(), err.decode())

    async def cli_process(
        self, *arguments: str, prefix: tuple[str, ...] = (), **environment: str
    ) -> asyncio.subprocess.Process:
        """Begin to run the command line tool."""
        known: dict[str, str] = {key: value for key, value in self.environment.items() if key in _FOR_CLIENTS}
        return await asyncio.create_subprocess_exec(
            *prefix,
            str(ROOT / ".venv/bin/openqrm"),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=known | environment,
        )


class Output:
    """What a command line tool did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit status {self.status}\n{self.out}\n{self.err}"


class Client:
    """Requests with the API's prefix; `call` and `run` check the answer."""

    called: ClassVar[set[tuple[str, str]]] = set()
    """Method and path of every request that any client made."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.clock = SystemClock()

    async def request(self, method: str, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """Send a request."""
        path = path if path.startswith(("/api/", "/health", "/metrics")) or path == "/" else f"/api/v1{path}"
        Client.called.add((method, path.partition("?")[0]))
        if json is not None:
            options["json"] = json
        return await self.http.request(method, path, **options)

    async def call(self, method: str, path: str, json: Any = None, status: int = 200, **options: Any) -> Any:
        """Send a request, expect a status, return the JSON of the answer."""
        response = await self.request(method, path, json, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def get(self, path: str, **query: Any) -> Any:
        """Read something."""
        return await self.call("GET", path, params=query)

    async def refused(self, method: str, path: str, json: Any = None, status: int = 409, **options: Any) -> Json:
        """Send a request that must be refused, with a problem document that tells a person what to do."""
        response = await self.request(method, path, json, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        assert response.headers["content-type"] == "application/problem+json", response.headers
        problem: Json = response.json()
        assert problem["status"] == status
        assert problem["title"]
        assert len(problem["detail"]) > 20, problem
        assert "Traceback" not in response.text
        return problem

    async def run(self, method: str, path: str, json: Any = None, state: str = "succeeded", **options: Any) -> Json:
        """Send a command, wait for its operation's end, expect a final state."""
        query = {"wait": 60, **options.pop("params", {})}
        operation: Json = await self.call(method, path, json, params=query, **options)
        assert operation["state"] == state, operation
        return operation

    async def partition(self, name: str, **definition: Any) -> Json:
        """Make a partition and return it."""
        operation = await self.run("POST", "/partitions", {"name": name, "memory_mib": 64, **definition})
        found: Json = await self.get(f"/partitions/{operation['target_id']}")
        return found

    async def becomes(self, path: str, seconds: float = 20, **fields: Any) -> Json:
        """Wait until what is read has these values; returns it."""
        found: Json = {}

        async def is_so() -> bool:
            nonlocal found
            found = await self.get(path)
            return all(found[name] == value for name, value in fields.items())

        await eventually_async(is_so, seconds, f"{path} has {fields}")
        return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the system."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def is_root() -> bool:
    """Whether tests that need another user can run."""
    return os.geteuid() == 0


__all__ = ["PYTHON", "ROOT", "SERVING", "Client", "Installation", "Json", "Output", "is_root", "new_folder", "run"]
