"""Runs shell commands on a host: over SSH, or on the executor's own machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import asyncssh

from openqrm.contracts.errors import HostUnreachableError, UnsupportedError
from openqrm.driver.capabilities import Host
from openqrm.executor_qemu.addresses import Transport, parse_address
from openqrm.executor_qemu.errors import RETRY_HOST_SECONDS
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.ssh import SshTarget, connect_ssh


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    output: str
    errors: str


class Runner(Protocol):
    """Runs commands on one host."""

    async def run(self, command: str, stdin: str = "") -> Ran:
        """Run it in a shell; raises HostUnreachableError when the host is lost meanwhile."""


class LocalRunner:
    """The executor's own machine."""

    async def run(self, command: str, stdin: str = "") -> Ran:
        """Run it in /bin/sh."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            output, errors = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        return Ran(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


class SshRunner:
    """A host over SSH."""

    def __init__(self, host_name: str, connection: asyncssh.SSHClientConnection) -> None:
        self._host_name = host_name
        self._connection = connection

    async def run(self, command: str, stdin: str = "") -> Ran:
        """Run it in the user's shell."""
        try:
            done = await self._connection.run(command, input=stdin, check=False)
        except (OSError, asyncssh.Error) as error:
            raise HostUnreachableError(
                f"Lost host '{self._host_name}' over SSH: {error}", retry_after=RETRY_HOST_SECONDS
            ) from error
        return Ran(done.exit_status if done.exit_status is not None else 255, str(done.stdout), str(done.stderr))


@contextlib.asynccontextmanager
async def runner_for(host: Host, settings: QemuSettings) -> AsyncIterator[Runner]:
    """A runner for the host, open as long as the context."""
    address = parse_address(host.connection)
    if address.transport is Transport.LOCAL:
        yield LocalRunner()
        return
    if address.transport is not Transport.SSH:
        raise UnsupportedError(
            f"Host '{host.name}' is reached by {address.transport}, which serves libvirt only. To prepare it, give it "
            "an address over SSH (qemu+ssh://root@HOST/system); afterwards it may have the other one again."
        )
    target = SshTarget.of(host.name, address, host.connection.host_key, settings)
    async with await connect_ssh(target) as connection:
        yield SshRunner(host.name, connection)
