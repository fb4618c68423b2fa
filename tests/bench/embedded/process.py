"""The embedded openQRM on a state folder of its own."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from time import perf_counter
from typing import Any

import asyncpg
from harness.http import HttpConnection
from harness.stack import PYTHON, WITH_US, new_folder
from large.fill import Size, grow

from openqrm.contracts.clock import SystemClock

PATIENCE_SECONDS = 120.0
_AS_EMBEDDED = "import runpy, sys; sys.argv = ['embedded']; runpy.run_module('openqrm.embedded', run_name='__main__')"


async def is_well(port: int) -> bool:
    """Whether a server answers that it is healthy; OSError when it does not answer at all."""
    try:
        async with HttpConnection(port) as http:
            return (await http.send("GET", "/health"))[0] == 200
    except asyncio.IncompleteReadError:
        return False


class Embedded:
    """One state folder, and the process on it."""

    def __init__(self) -> None:
        self.folder = new_folder("embedded")
        self.state = self.folder / "state"
        self.clock = SystemClock()
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *prefix: str) -> None:
        """Begin to start it; `prefix`: the command, if not the usual one."""
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8",
            "OPENQRM_STATE": str(self.state), "OPENQRM_HTTP_PORT": "0", "OPENQRM_NATS_PORT": "",
            "OPENQRM_LOCAL_HOST": "no", "OPENQRM_DEMO_IMAGE": "no", "OPENQRM_BRIDGE": "br0",
        }  # fmt: skip
        (self.state / "client.json").unlink(missing_ok=True)
        command = prefix or (str(PYTHON), "-m", "openqrm.embedded")
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*WITH_US, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd="/",
                start_new_session=True,
            )  # fmt: skip

    async def start(self, *prefix: str) -> float:
        """Start it; returns the seconds until it answered that it is healthy."""
        began = perf_counter()
        self.launch(*prefix)
        assert self.process is not None
        while not await self._serves():
            if self.process.poll() is not None or perf_counter() - began > PATIENCE_SECONDS:
                raise RuntimeError(f"it does not serve: {(self.folder / 'output').read_text()[-600:]}")
            await self.clock.sleep(0.02)
        return perf_counter() - began

    async def _serves(self) -> bool:
        try:
            port = int(json.loads((self.state / "client.json").read_text())["url"].rpartition(":")[2])
            return await is_well(port)
        except (OSError, ValueError):
            return False

    async def stop(self) -> None:
        """Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self.process.wait, 60)

    @property
    def database(self) -> dict[str, Any]:
        """How asyncpg reaches its PostgreSQL as its administrator."""
        password = json.loads((self.state / "secrets.json").read_text())["passwords"]["postgres"]
        return {"host": str(self.state / "postgres/socket"), "user": "postgres", "password": password}

    async def fill(self, before: Size, size: Size) -> None:
        """Load its inventory, while it runs; the next start is with it."""
        database = await asyncpg.connect(**self.database, database="inventory")
        try:
            await grow(database, before, size)
        finally:
            await database.close()

    async def close(self) -> None:
        """End it and leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait, 60)
            await self.clock.sleep(2.0)  # the kernel ends PostgreSQL and NATS with it
        shutil.rmtree(self.folder, ignore_errors=True)

    async def import_times(self) -> dict[str, int]:
        """What Python imports at a start, in order: microseconds by module. It runs afterwards."""
        log = self.folder / "output"
        seen = log.stat().st_size
        await self.start(str(PYTHON), "-X", "importtime", "-c", _AS_EMBEDDED)
        text = log.read_bytes()[seen:].decode(errors="replace")
        lines = re.finditer(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)", text, re.MULTILINE)
        return {match[2]: int(match[1]) for match in lines}


def imports_text(times: dict[str, int]) -> str:
    """Which packages took how long to import."""
    own: dict[str, int] = {}
    for module, took in times.items():
        words = module.split(".")
        name = ".".join(words[: 2 if words[0] == "openqrm" else 1])
        own[name] = own.get(name, 0) + took
    first = ", ".join(f"{name} {n / 1e6:.2f} s" for name, n in sorted(own.items(), key=lambda i: -i[1])[:10])
    return f"importing takes {sum(own.values()) / 1e6:.1f} s in all: {first}"
