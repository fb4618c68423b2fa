"""What makes a fresh installation usable at once: a network, this machine as a host, the demonstration image.

Done through the bus, as any other program would; harmless when repeated.
"""

import asyncio
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from openqrm.bus.bus import Bus
from openqrm.bus.follow import Followed
from openqrm.bus.streams import EVENTS
from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.host import EnrolHost, HostConnection, HostView, ListHosts, MaintainHost, PrepareHost
from openqrm.contracts.image import ImageFormat, ListImages, RegisterImage
from openqrm.contracts.message import Command, message_for
from openqrm.contracts.network import CreateNetwork, ListNetworks
from openqrm.contracts.operation import OperationEvent, OperationView
from openqrm.contracts.states import FINAL_OPERATION_STATES, HostState, OperationState
from openqrm.embedded.state import StateFolder

Say = Callable[[str], None]

NETWORK = "default"
DEMO_IMAGE = "demo"
LOCAL_URI = "qemu:///system"
ENROL_SECONDS = 600.0
"""The first preparation of this machine can have to install packages."""

BUILDER = Path(__file__).resolve().parents[4] / "demo-image" / "build.py"


class FirstSteps:
    """Takes the steps that have not been taken."""

    def __init__(self, bus: Bus, state: StateFolder, bridge: str, say: Say) -> None:
        self._bus = bus
        self._state = state
        self._bridge = bridge
        self._say = say
        self._ended: dict[UUID, OperationView] = {}
        self._news = asyncio.Condition()

    async def start(self) -> None:
        """Connect and listen for the ends of operations."""
        await self._bus.start()
        await self._bus.follow(EVENTS, self._on_event, subjects=("operation.>",))

    async def stop(self) -> None:
        """Disconnect."""
        await self._bus.stop()

    async def make_network(self) -> None:
        """A first network, on a bridge of this machine."""
        if not (await self._bus.request(ListNetworks())).items:
            await self._run(CreateNetwork(name=NETWORK, bridge=self._bridge, description="This machine's own bridge"))

    async def enrol_this_machine(self) -> str:
        """Make this machine a host; returns the sentence to show."""
        known = [host for host in (await self._bus.request(ListHosts())).items if host.connection.uri == LOCAL_URI]
        if known and known[0].state is not HostState.ENROLLED and not self._lost_its_bridge(known[0]):
            return f"this machine is the host {known[0].name!r} ({known[0].state})"
        self._say("making this machine a QEMU host")
        if known:
            if known[0].state is not HostState.ENROLLED:
                await self._run(MaintainHost(host=str(known[0].id)))
            operation = await self._run(PrepareHost(host=str(known[0].id)))
        else:
            operation = await self._run(
                EnrolHost(
                    name=socket.gethostname(),
                    technology="qemu",
                    connection=HostConnection(
                        uri=LOCAL_URI,
                        storage_path=str(self._state.images.parent / "disks"),
                        options={"bridge": self._bridge},
                    ),
                    prepare=True,
                )
            )
        if operation.state is OperationState.SUCCEEDED:
            return f"this machine is the host {operation.target_name!r}"
        reason = operation.error.message if operation.error else operation.state
        return f"this machine is not a usable host: {reason}"

    def _lost_its_bridge(self, host: HostView) -> bool:
        """A machine that started anew can have lost the bridge that host.prepare made."""
        return host.state is HostState.READY and host.facts is not None and self._bridge not in host.facts.bridges

    async def build_demo_image(self) -> str:
        """Build the demonstration image and register it; returns the sentence to show."""
        if any(image.name == DEMO_IMAGE for image in (await self._bus.request(ListImages())).items):
            return f"the image {DEMO_IMAGE!r} is there"
        folder = self._state.path / "demo-image"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(BUILDER),
            "--output",
            str(folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            last = output.decode(errors="replace").strip().splitlines()[-1:] or ["no reason was given"]
            return f"the demonstration image could not be built: {last[0]}"
        return await self._register(folder / "openqrm-demo.qcow2", folder / "openqrm-demo.raw")

    async def _register(self, built: Path, raw: Path) -> str:
        digest = await asyncio.to_thread(_sha256, built)
        kept = self._state.images / f"{digest}.qcow2"
        size, virtual_mib = await asyncio.to_thread(_keep, built, raw, kept)
        operation = await self._run(
            RegisterImage(
                name=DEMO_IMAGE,
                description="A small guest to try things with: log in on the console as root, password openqrm",
                format=ImageFormat.QCOW2,
                size_bytes=size,
                virtual_size_mib=virtual_mib,
                sha256=digest,
                location=kept.as_uri(),
            )
        )
        if operation.state is not OperationState.SUCCEEDED:
            reason = operation.error.message if operation.error else operation.state
            return f"the demonstration image could not be registered: {reason}"
        return f"the image {DEMO_IMAGE!r} is ready"

    async def _run(self, command: Command) -> OperationView:
        command = command.model_copy(update={"requested_by": "embedded start"})
        await self._bus.publish(command)
        async with asyncio.timeout(ENROL_SECONDS), self._news:
            while command.operation_id not in self._ended:
                await self._news.wait()
        return self._ended[command.operation_id]

    async def _on_event(self, followed: Followed) -> None:
        model = message_for(followed.subject)
        if model is None or not issubclass(model, OperationEvent):
            return
        operation = model.model_validate_json(followed.body).operation
        if operation.state in FINAL_OPERATION_STATES:
            async with self._news:
                self._ended[operation.id] = operation
                self._news.notify_all()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep(built: Path, raw: Path, kept: Path) -> tuple[int, int]:
    """Copy whole or not at all; returns the file's bytes and the disk's MiB."""
    part = kept.with_suffix(".part")
    shutil.copyfile(built, part)
    os.replace(part, kept)  # noqa: PTH105 - replaces what is there, in one step
    kept.chmod(0o644)
    return kept.stat().st_size, -(-raw.stat().st_size // (1024 * 1024))


async def take(steps: FirstSteps, say: Say, enrol: bool, demo: bool) -> None:
    """Take all steps, saying what came of each; a failed one is told and does not stop the others."""

    async def step(work: Callable[[], object]) -> None:
        try:
            sentence = await work()  # type: ignore[misc]
        except (OpenQrmError, OSError, TimeoutError) as error:
            sentence = f"a first step failed: {error}. It is taken again at the next start."
        if sentence:
            say(str(sentence))

    await step(steps.make_network)
    works = [*([steps.enrol_this_machine] if enrol else []), *([steps.build_demo_image] if demo else [])]
    await asyncio.gather(*(step(work) for work in works))
