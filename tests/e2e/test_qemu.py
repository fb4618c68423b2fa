"""The first walk of the README, with real guests, on a machine of its own: namespaces that nobody else sees.

libvirt's folders, /run and the network are private copies there, so this machine's own libvirt and guests are not
touched; at the end the kernel ends all that runs in it.
"""

import asyncio
import json
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from installation import PYTHON, ROOT, Installation, Output, is_root, new_folder, run

from openqrm.testkit.waiting import eventually, eventually_async

UNSHARE = ("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc")
PRIVATE = str(ROOT / "deploy/embedded/tests/private_machine.sh")
PATIENCE_SECONDS = 120

pytestmark = [
    pytest.mark.skipif(not is_root(), reason="needs root"),
    pytest.mark.skipif(shutil.which("libvirtd", path="/usr/sbin") is None, reason="libvirtd is not installed"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"),
]


class PrivateMachine(Installation):
    """openQRM as PID 2 of a machine of its own; its command line tool runs there, too."""

    @property
    def inside(self) -> int:
        """openQRM's process, as this machine numbers it."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if child.cmdline()[1:] == ["-m", "openqrm.embedded"]:
                return child.pid
        raise AssertionError("openQRM does not run")

    @property
    def enter(self) -> tuple[str, ...]:
        """The beginning of a command that is to run there."""
        return ("nsenter", f"--target={self.inside}", "--net", "--mount")

    async def walk(self, line: str, text: str | None = None, **more: str) -> Output:
        """A line of the README."""
        words = shlex.split(line)
        assert words[0] == "openqrm"
        return await self.cli(*words[1:], text=text, prefix=self.enter, **more)

    async def walks(self, line: str, **more: str) -> str:
        """A line that must succeed; returns what it printed."""
        output = await self.walk(line, **more)
        assert output.status == 0, output
        return output.out

    async def read(self, line: str) -> Any:
        """A line's JSON."""
        return json.loads(await self.walks(line + " --output json"))


def demo_image() -> Path:
    """Built when it is missing or its ingredients have changed."""
    folder = ROOT / ".cache/demo-image"
    built = subprocess.run(
        [str(PYTHON), str(ROOT / "deploy/demo-image/build.py"), "--output", str(folder), "--cache", str(folder)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder / "openqrm-demo.qcow2"


@pytest.fixture(scope="module")
async def machine() -> AsyncIterator[PrivateMachine]:
    if run(*UNSHARE, "true").returncode != 0:
        pytest.skip("this container may not make namespaces")
    image = demo_image()
    machine = PrivateMachine(
        new_folder(),
        {
            "OPENQRM_TECHNOLOGIES": "qemu",
            "OPENQRM_LOCAL_HOST": "yes",
            "OPENQRM_DEMO_IMAGE": "no",  # building it takes the network
            "OPENQRM_BRIDGE": None,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        },
    )
    try:
        machine.launch(*UNSHARE, PRIVATE)
        await eventually(lambda: "Ctrl-C stops" in machine.said or not machine.runs, PATIENCE_SECONDS, "it serves")
        await eventually(lambda: "this machine is the host" in machine.said, PATIENCE_SECONDS, "it becomes a host")
        await machine.walks(f"openqrm image import {image} --name demo")
        yield machine
    finally:
        if machine.runs:
            psutil.Process(machine.inside).send_signal(signal.SIGINT)
            await machine.ended()
        await machine.close()


class Console:
    """The serial console of a guest, between pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._in = process.stdin
        self._out = process.stdout

    async def until(self, *wanted: str) -> str:
        """Read until one of these was said."""
        seen = ""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(word in seen for word in wanted):
                data = await self._out.read(4096)
                assert data, f"the console ended after: {seen}"
                seen += data.decode(errors="replace")
        return seen

    async def type(self, line: str, then: str) -> str:
        """Type a line; returns what was said until then."""
        self._in.write(f"{line}\n".encode())
        await self._in.drain()
        return await self.until(then)

    async def leave(self) -> None:
        """End of input."""
        self._in.close()
        assert await self._process.wait() == 0


@asynccontextmanager
async def console(machine: PrivateMachine, name: str) -> AsyncIterator[Console]:
    """Open it and leave it again."""
    process = await machine.cli_process("console", name, "--linger", "0.2", prefix=machine.enter)
    opened = Console(process)
    yield opened
    await opened.leave()


async def test_the_first_walk(machine: PrivateMachine) -> None:
    await machine.walks(
        'openqrm partition create "web 1" --memory 256 --memory-max 512 --image demo --network default --start'
    )
    async with console(machine, "web 1") as guest:
        await guest.until("login:")
        await guest.type("root", "assword:")
        await guest.type("openqrm", "# ")
        before = _memory(await guest.type("free -m", "Swap:"))
        await machine.walks('openqrm partition resize "web 1" --memory 512')
        after = before
        async with asyncio.timeout(PATIENCE_SECONDS):
            while after <= before:
                after = _memory(await guest.type("free -m", "Swap:"))
    found = await machine.read('openqrm partition show "web 1"')
    assert (found["state"], found["memory_mib"]) == ("running", 512)
    await machine.walks('openqrm partition stop "web 1"')
    assert (await machine.read('openqrm partition show "web 1"'))["state"] == "stopped"


def _memory(text: str) -> int:
    """The total of `free -m`."""
    line = next(line for line in text.splitlines() if line.startswith("Mem:"))
    return int(line.split()[1])


async def test_the_trace_leads_to_libvirt(machine: PrivateMachine) -> None:
    operations = (await machine.read("openqrm operation list --verb partition.create"))["items"]
    shown = await machine.walks(f"openqrm trace {operations[0]['id']}", COLUMNS="200")
    for word in ("gateway", "inventory", "scheduler", "executor-qemu", "driver partition.create"):
        assert word in shown
    spans = (await machine.read(f"openqrm trace {operations[0]['id']}"))["spans"]
    known = {span["span_id"] for span in spans}
    assert [span["service"] for span in spans if span["parent_id"] not in known] == ["gateway"]


async def test_guests_run_on_while_libvirtd_is_away(machine: PrivateMachine) -> None:
    await machine.walks('openqrm partition start "web 1"')
    assert machine.process is not None
    guests = [c for c in psutil.Process(machine.process.pid).children(recursive=True) if "qemu-system" in c.name()]
    assert len(guests) == 1
    # it is its machine's PID 1 that would end with it, so openQRM is killed and its part ends by itself
    libvirtd = next(c for c in psutil.Process(machine.process.pid).children(recursive=True) if c.name() == "libvirtd")
    libvirtd.kill()
    await eventually(lambda: "libvirtd runs again" in machine.said, 60, "libvirtd is started again")
    assert guests[0].is_running()

    async def is_seen() -> bool:
        host = (await machine.read("openqrm host list"))["items"][0]
        found = await machine.read('openqrm partition show "web 1"')
        return bool(host["state"] == "ready" and found["state"] == "running")

    await eventually_async(is_seen, 60, "the guest is seen running again")
    await machine.walks('openqrm partition delete "web 1" --force')
    assert not guests[0].is_running()
