"""Replicas of services as processes of their own, on the NATS and PostgreSQL of a control plane, to be killed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
from support.control_plane import QUICK_EXECUTOR, ControlPlane

from openqrm.bus import consumer, lanes, streams

REDELIVERY_SECONDS = 5.0
"""What a killed replica had in hand goes to another one after so long; 30 s outside of these tests."""
START_SECONDS = 90.0

_PROGRAM = f"""\
import runpy, sys
import openqrm.bus.streams
openqrm.bus.streams.ACK_WAIT_SECONDS = {REDELIVERY_SECONDS}  # what follows from it is worked out by later imports
runpy.run_module(sys.argv[1], run_name="__main__")
"""
_MODULES = {
    "inventory": "openqrm.inventory",
    "scheduler": "openqrm.scheduler",
    "executor-fake": "openqrm.executor_fake.app",
}


class Replicas:
    """Processes by name: `inventory 1`, `scheduler 2`, `executor-fake 1`."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        """`folder`: for logs and, below it, fake hosts that executors of several processes share."""
        self._plane = plane
        self._folder = folder
        self.fake_hosts = folder / "fake-hosts"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, *names: str, **environment: str) -> None:
        """Start them, and wait until each has begun to work."""
        await asyncio.gather(*(self._start(name, environment) for name in names))

    def kill(self, name: str) -> None:
        """End it as a power cut would."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        """Let it stand still, as a machine does that is suspended."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def log(self, name: str) -> str:
        """What it wrote."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End all that run."""
        for name in list(self._processes):
            self.kill(name)

    async def _start(self, name: str, more: dict[str, str]) -> None:
        service = name.rsplit(" ", 1)[0]
        port = _free_port()
        environment = os.environ | {
            "OPENQRM_NATS_URL": self._plane.nats.url,
            "OPENQRM_NATS_USER": service,
            "OPENQRM_NATS_PASSWORD": self._plane.passwords[service],
            "OPENQRM_PROBE_PORT": str(port),
            "OPENQRM_INVENTORY_DSN": self._plane.dsn,
            "OPENQRM_INVENTORY_SWEEP_SECONDS": "0.3",
            "OPENQRM_INVENTORY_STUCK_SECONDS": "1",
            "OPENQRM_SCHEDULER_RETRY_SECONDS": "0.1",
            "OPENQRM_FAKE_FOLDER": str(self.fake_hosts),
            **{f"OPENQRM_EXECUTOR_{key.upper()}": str(value) for key, value in QUICK_EXECUTOR.model_dump().items()},
            **more,
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - it only begins here, and is killed without waiting
                [sys.executable, "-c", _PROGRAM, _MODULES[service]], env=environment, stdout=log, stderr=log
            )
        self._processes[name] = process
        ready = {"scheduler": "the projection is built", "executor-fake": "hosts are known"}.get(service, "")
        async with httpx.AsyncClient() as http, asyncio.timeout(START_SECONDS):
            while True:
                assert process.poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
                with suppress(httpx.TransportError):
                    answer = await http.get(f"http://127.0.0.1:{port}/health")
                    if answer.status_code == 200 and ready in self.log(name):
                        return
                await self._plane.clock.sleep(0.1)


@contextmanager
def replicas_of(plane: ControlPlane, folder: Path) -> Iterator[Replicas]:
    """Replicas that all end with the block."""
    replicas = Replicas(plane, folder)
    try:
        yield replicas
    finally:
        replicas.stop()


@asynccontextmanager
async def quick_redelivery(plane: ControlPlane) -> AsyncIterator[None]:
    """What a killed replica had in hand is given to another one soon."""
    before = streams.ACK_WAIT_SECONDS
    try:
        await _provision(plane, REDELIVERY_SECONDS)
        yield
    finally:
        await _provision(plane, before)


async def _provision(plane: ControlPlane, ack_wait_seconds: float) -> None:
    streams.ACK_WAIT_SECONDS = ack_wait_seconds
    consumer.SIGN_OF_LIFE_SECONDS = lanes.SIGN_OF_LIFE_SECONDS = ack_wait_seconds / 3
    provisioner = plane.bus("provisioner")
    await provisioner.connect()
    await streams.provision(provisioner.js, ["fake"])
    await provisioner.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
