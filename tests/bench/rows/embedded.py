"""The embedded shape: how soon it serves, and what memory all of it takes when idle, with an inventory that grows."""

import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

import asyncpg
from harness.bench import Bench
from harness.http import HttpConnection
from harness.processes import pss_kib, tree
from harness.row import Goal, Row
from harness.stack import PYTHON, WITH_US, new_folder
from large.fill import EMPTY, SIZES, Size, grow

from openqrm.contracts.clock import SystemClock

ORDER = 7
STARTS = 3
SETTLE_SECONDS = 8.0
INVENTORIES = (EMPTY, *SIZES[:2])


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
            if self.process.poll() is not None or perf_counter() - began > 120:
                raise RuntimeError(f"it does not serve: {(self.folder / 'output').read_text()[-600:]}")
            await self.clock.sleep(0.02)
        return perf_counter() - began

    async def _serves(self) -> bool:
        try:
            port = int(json.loads((self.state / "client.json").read_text())["url"].rpartition(":")[2])
            async with HttpConnection(port) as http:
                return (await http.send("GET", "/health"))[0] == 200
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return False

    async def stop(self) -> None:
        """Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self.process.wait, 60)

    async def fill(self, before: Size, size: Size) -> None:
        """Load its inventory, while it runs; the next start is with it."""
        password = json.loads((self.state / "secrets.json").read_text())["passwords"]["postgres"]
        database = await asyncpg.connect(
            host=str(self.state / "postgres/socket"), user="postgres", password=password, database="inventory"
        )
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

    async def imports(self) -> str:
        """What Python reads at a start, by package: seconds, by `python -X importtime`."""
        log = self.folder / "output"
        seen = log.stat().st_size
        await self.start(str(PYTHON), "-X", "importtime", "-c", _AS_EMBEDDED)
        await self.stop()
        text = log.read_bytes()[seen:].decode(errors="replace")
        own: dict[str, int] = {}
        for match in re.finditer(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)", text, re.MULTILINE):
            name = match[2].split(".")[0]
            name = ".".join(match[2].split(".")[:2]) if name == "openqrm" else name
            own[name] = own.get(name, 0) + int(match[1])
        first = ", ".join(f"{name} {n / 1e6:.2f} s" for name, n in sorted(own.items(), key=lambda i: -i[1])[:10])
        return f"importing takes {sum(own.values()) / 1e6:.1f} s in all: {first}"


_AS_EMBEDDED = "import runpy, sys; sys.argv = ['embedded']; runpy.run_module('openqrm.embedded', run_name='__main__')"


def memory(embedded: Embedded) -> tuple[float, str]:
    """MiB of PSS of all its processes, and the shares by program."""
    assert embedded.process is not None
    shares: dict[str, int] = {}
    for pid in tree(embedded.process.pid):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            shares[name] = shares.get(name, 0) + pss_kib(pid)
        except OSError:
            continue
    text = ", ".join(f"{name} {kib / 1024:.0f}" for name, kib in sorted(shares.items(), key=lambda item: -item[1]))
    return sum(shares.values()) / 1024, text


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Two rows for each inventory; the goals are for a new one."""
    embedded = Embedded()
    try:
        first = await embedded.start()
        before = EMPTY
        for size in INVENTORIES:
            if size is not EMPTY:
                await bench.clock.sleep(2.0)  # the first network is made a moment after the start
                await embedded.fill(before, size)
                before = size
            took = []
            for _ in range(STARTS if size is EMPTY else 1):
                await embedded.stop()
                took.append(await embedded.start())
            await bench.clock.sleep(SETTLE_SECONDS)
            mebibytes, shares = memory(embedded)

            async def explain() -> str:
                await embedded.stop()
                text = await embedded.imports()
                await embedded.start()
                return text

            what = "a new inventory" if size is EMPTY else str(size)
            yield Row(
                f"embedded start to serving, warm disk: {what}",
                statistics.median(took),
                "s",
                goal=Goal(6) if size is EMPTY else None,
                note=f"the very first start, which makes the database, took {first:.1f} s" if size is EMPTY else "",
                explain=explain,
            )
            yield Row(
                f"embedded memory, idle, PSS of all processes: {what}",
                mebibytes,
                "MiB",
                goal=Goal(450) if size is EMPTY else None,
                note=f"MiB by program: {shares} (NATS and PostgreSQL included; {SETTLE_SECONDS:g} s after the start)",
            )
    finally:
        await embedded.close()
