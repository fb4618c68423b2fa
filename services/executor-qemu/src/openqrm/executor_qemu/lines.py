"""The line to one host: how its libvirt, and ports on it, are reached and checked."""

import asyncio
import contextlib
import shutil
import ssl
from pathlib import Path
from typing import cast

import asyncssh

from openqrm.contracts.errors import (
    HostUnreachableError,
    PermanentError,
    ProblemCode,
    UnsupportedError,
    WrongStateError,
)
from openqrm.contracts.host import HostConnection
from openqrm.executor_qemu.addresses import Address, Transport, parse_address
from openqrm.executor_qemu.errors import RETRY_HOST_SECONDS
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.ssh import SshTarget, connect_ssh
from openqrm.executor_qemu.tunnels import Reader, TransportLoop, Tunnel, Writer

_HAS_LIBVIRT = "command -v libvirtd virtqemud || ls /usr/sbin/libvirtd /usr/sbin/virtqemud 2>/dev/null"


def _has_libvirt() -> bool:
    return any(shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin") for name in ("libvirtd", "virtqemud"))


class Line:
    """Dials one host. Its SSH connection, if it has one, is shared by all tunnels to the host."""

    def __init__(
        self, transport: TransportLoop, host_name: str, connection: HostConnection, settings: QemuSettings
    ) -> None:
        self._transport = transport
        self._host_name = host_name
        self._settings = settings
        self.address: Address = parse_address(connection)
        self._target = SshTarget.of(host_name, self.address, connection.host_key, settings)
        self._ssh: asyncssh.SSHClientConnection | None = None
        self._dialling = asyncio.Lock()

    async def to_libvirt(self) -> Tunnel:
        """A tunnel to the host's libvirt."""
        return await Tunnel.open(self._transport, self._dial_libvirt)

    async def to_port(self, hostname: str, port: int) -> Tunnel:
        """A tunnel to a TCP port, as seen from the host itself."""

        async def dial() -> tuple[Reader, Writer]:
            return await self._dial_port(hostname, port)

        return await Tunnel.open(self._transport, dial)

    async def close(self) -> None:
        """Hang up."""
        if self._ssh is not None:
            ssh, self._ssh = self._ssh, None
            self._transport.call(ssh.close)

    # ------------------------------------------------------------------ in the tunnels' thread from here on

    async def _dial_libvirt(self) -> tuple[Reader, Writer]:
        match self.address.transport:
            case Transport.LOCAL:
                return await self._dial_local()
            case Transport.SSH:
                return await self._dial_over_ssh()
            case Transport.TLS:
                return await self._dial_tls()
            case Transport.TCP:
                return await self._dial_tcp(self.address.hostname, self.address.port)

    async def _dial_local(self) -> tuple[Reader, Writer]:
        problem: OSError | None = None
        for path in self.address.sockets:
            try:
                return await asyncio.open_unix_connection(path)
            except PermissionError as error:
                raise PermanentError(
                    f"No right to use libvirt's socket {path}: run the executor as root or in the group libvirt.",
                    code=ProblemCode.FORBIDDEN,
                ) from error
            except OSError as error:
                problem = problem or error
        if not await asyncio.to_thread(_has_libvirt):
            raise self._not_prepared()
        raise self._unreachable(f"libvirt does not listen: {problem}")

    async def _connected_ssh(self) -> asyncssh.SSHClientConnection:
        async with self._dialling:
            if self._ssh is None or self._ssh.is_closed():
                self._ssh = await connect_ssh(self._target)
            return self._ssh

    async def _dial_over_ssh(self) -> tuple[Reader, Writer]:
        kept = self._ssh
        connection = await self._connected_ssh()
        try:
            return await self._dial_through(connection)
        except (TimeoutError, OSError, asyncssh.Error) as error:
            self._drop_ssh(connection)
            if connection is kept and not isinstance(error, TimeoutError):
                # It broke some time ago, and nobody noticed until now.
                return await self._dial_over_ssh()
            words = str(error) or "no answer in time"
            raise self._unreachable(f"its SSH connection does not react: {words}") from error

    async def _dial_through(self, connection: asyncssh.SSHClientConnection) -> tuple[Reader, Writer]:
        problem: BaseException | None = None
        async with asyncio.timeout(self._settings.connect_timeout_seconds):
            for path in self.address.sockets:
                try:
                    return cast("tuple[Reader, Writer]", await connection.open_unix_connection(path))
                except asyncssh.ChannelOpenError as error:
                    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                        raise PermanentError(
                            f"The SSH server of host '{self._host_name}' forbids what libvirt needs: "
                            "set AllowStreamLocalForwarding to yes or local in its sshd_config.",
                            code=ProblemCode.FORBIDDEN,
                        ) from error
                    problem = problem or error
            installed = await connection.run(_HAS_LIBVIRT, check=False)
        if not installed.stdout:
            raise self._not_prepared()
        raise self._unreachable(
            f"it answers over SSH, but its libvirt does not listen ({problem}). "
            f"Start it, or let it be set up: openqrm host prepare '{self._host_name}'"
        )

    def _drop_ssh(self, connection: asyncssh.SSHClientConnection) -> None:
        if self._ssh is connection:
            self._ssh = None
        with contextlib.suppress(OSError):
            connection.abort()

    async def _dial_tls(self) -> tuple[Reader, Writer]:
        hostname, port = self.address.hostname, self.address.port
        context = self._tls_context()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                reader, writer = await asyncio.open_connection(hostname, port, ssl=context, server_hostname=hostname)
                # libvirt's daemon says with one byte that it accepted our certificate.
                greeting = await reader.read(1)
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(
                f"The certificate of host '{self._host_name}' is not valid for {hostname}: {error.verify_message}. "
                "It must be signed by the executor's cacert.pem and name the host in subjectAltName.",
                code=ProblemCode.FORBIDDEN,
            ) from error
        except ssl.SSLError as error:
            raise PermanentError(
                f"Host '{self._host_name}' and the executor do not agree on TLS: {error}. "
                "Check that both certificates are signed by the same authority.",
                code=ProblemCode.FORBIDDEN,
            ) from error
        except (TimeoutError, OSError) as error:
            raise self._unreachable(f"{hostname} port {port}: {str(error) or 'no answer in time'}") from error
        if greeting != b"\x01":
            writer.close()
            raise PermanentError(
                f"libvirt on host '{self._host_name}' refuses the executor's certificate: "
                "check its CA and tls_allowed_dn_list.",
                code=ProblemCode.FORBIDDEN,
            )
        return reader, writer

    def _tls_context(self) -> ssl.SSLContext:
        folder = self._settings.pki_path
        authority = folder / "cacert.pem" if folder else Path("/etc/pki/CA/cacert.pem")
        certificate = folder / "clientcert.pem" if folder else Path("/etc/pki/libvirt/clientcert.pem")
        key = folder / "clientkey.pem" if folder else Path("/etc/pki/libvirt/private/clientkey.pem")
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(authority))
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise PermanentError(
                f"The executor's certificates cannot be used ({authority}, {certificate}, {key}): {error}",
                code=ProblemCode.FORBIDDEN,
            ) from error
        return context

    async def _dial_tcp(self, hostname: str, port: int) -> tuple[Reader, Writer]:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                return await asyncio.open_connection(hostname, port)
        except (TimeoutError, OSError) as error:
            raise self._unreachable(f"{hostname} port {port}: {str(error) or 'no answer in time'}") from error

    async def _dial_port(self, hostname: str, port: int) -> tuple[Reader, Writer]:
        if self.address.transport is Transport.SSH:
            connection = await self._connected_ssh()
            try:
                return cast("tuple[Reader, Writer]", await connection.open_connection(hostname, port))
            except (OSError, asyncssh.Error) as error:
                raise self._unreachable(f"no way through SSH to {hostname} port {port} there: {error}") from error
        if self.address.transport is Transport.LOCAL:
            return await self._dial_tcp(hostname, port)
        if hostname in ("127.0.0.1", "localhost", "::1"):
            raise UnsupportedError(
                f"The display listens only inside host '{self._host_name}', and {self.address.transport} cannot reach "
                "in there: use qemu+ssh, or set the host's option vnc_listen to an address of its isolated network."
            )
        reachable = self.address.hostname if hostname in ("0.0.0.0", "::") else hostname  # noqa: S104 - compared
        return await self._dial_tcp(reachable, port)

    def _unreachable(self, words: str) -> HostUnreachableError:
        return HostUnreachableError(
            f"Host '{self._host_name}' cannot be reached: {words}", retry_after=RETRY_HOST_SECONDS
        )

    def _not_prepared(self) -> WrongStateError:
        return WrongStateError(
            f"Host '{self._host_name}' answers but has no libvirt. Install it: openqrm host prepare '{self._host_name}'"
        )
