"""The process of bare.py on the state folder of an embedded openQRM that does not run."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

from harness.processes import tree
from harness.stack import PYTHON, WITH_US, free_port

from embedded.process import PATIENCE_SECONDS, Embedded, is_well

FLOOR = "floor: bare NATS, PostgreSQL, and the same imports"
BARE = Path(__file__).with_name("bare.py")
_PROGRAMS = ("nats-server", "postgres")


class BareEmbedded:
    """NATS and PostgreSQL as the embedded openQRM runs them, and Python with the same libraries; nothing of ours."""

    def __init__(self, embedded: Embedded, modules: list[str]) -> None:
        """Copy what runs now; `modules`: what it imported."""
        assert embedded.process is not None
        nats = json.loads((embedded.state / "nats/nats.conf").read_text())
        self._given: dict[str, Any] = {
            "programs": programs_below(embedded.process.pid),
            "modules": [name for name in modules if name.split(".")[0] != "openqrm"],
            "nats_port": nats["port"],
            "postgres": {**embedded.database, "database": "postgres"},
        }
        self._embedded = embedded
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> float:
        """Start it; returns the seconds until it answered."""
        port, log = free_port(), self._embedded.folder / "floor.log"
        began = perf_counter()
        self.process = self._launch(port, log)
        while not await self._serves(port):
            if self.process.poll() is not None or perf_counter() - began > PATIENCE_SECONDS:
                raise RuntimeError(f"the floor does not serve: {log.read_text()[-600:]}")
            await self._embedded.clock.sleep(0.02)
        return perf_counter() - began

    def _launch(self, port: int, log: Path) -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*WITH_US, str(PYTHON), str(BARE), str(port)],
                stdin=subprocess.PIPE, stdout=output, stderr=output, env={"PATH": os.environ["PATH"]}, cwd="/",
            )  # fmt: skip
        assert process.stdin is not None
        with process.stdin as given:
            given.write(json.dumps(self._given).encode())
        return process

    async def _serves(self, port: int) -> bool:
        try:
            return await is_well(port)
        except OSError:
            return False

    async def stop(self) -> None:
        """Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self.process.wait, 60)


def programs_below(pid: int) -> list[tuple[int, int, list[str]]]:
    """User, group and command of NATS and of PostgreSQL's first process below a process."""
    found: dict[str, tuple[int, int, list[str]]] = {}
    for child in tree(pid):
        name = Path(f"/proc/{child}/comm").read_text().strip()
        if name in _PROGRAMS and name not in found:
            owner = Path(f"/proc/{child}").stat()
            command = Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            found[name] = (owner.st_uid, owner.st_gid, [os.fsdecode(word) for word in command])
    return [found[name] for name in _PROGRAMS]
