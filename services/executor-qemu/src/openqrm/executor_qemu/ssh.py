"""SSH to a host, with its key verified against the one that was accepted for it."""

import asyncio
import socket
from dataclasses import dataclass, field

import asyncssh

from openqrm.contracts.errors import HostUnreachableError, OpenQrmError, PermanentError, ProblemCode
from openqrm.executor_qemu.addresses import Address, expected_fingerprints, unknown_host_key
from openqrm.executor_qemu.errors import RETRY_HOST_SECONDS
from openqrm.executor_qemu.settings import QemuSettings

_KEY_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Kinds of host keys, in the order in which they are shown to people, and the algorithms that ask a host for each."""


class _KeyCheck(asyncssh.SSHClient):
    def __init__(self, accepted: frozenset[str]) -> None:
        self._accepted = accepted

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002 - asyncssh's
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        """Asked by asyncssh for every key, since it is given none that it could trust by itself."""
        return key.get_fingerprint("sha256") in self._accepted


@dataclass(frozen=True)
class SshTarget:
    """Where SSH goes, and which key the host must show."""

    host_name: str
    """What people call the host."""
    hostname: str
    port: int
    user: str
    host_key: str | None
    settings: QemuSettings = field(repr=False)

    @classmethod
    def of(cls, host_name: str, address: Address, host_key: str | None, settings: QemuSettings) -> "SshTarget":
        """The SSH server of a host with this address."""
        return cls(host_name, address.hostname, address.port, address.user, host_key, settings)


def _unreachable(target: SshTarget, error: BaseException) -> HostUnreachableError:
    words = str(error) or type(error).__name__
    return HostUnreachableError(
        f"Host '{target.host_name}' does not answer over SSH at {target.hostname} port {target.port}: {words}",
        retry_after=RETRY_HOST_SECONDS,
    )


async def _shown_keys(target: SshTarget) -> dict[str, str]:
    """Fingerprint to kind of key, of every key that the host shows."""
    shown: dict[str, str] = {}
    problem: Exception | None = None
    for kind, algorithms in _KEY_ALGORITHMS.items():
        try:
            key = await asyncssh.get_server_host_key(
                target.hostname, target.port, server_host_key_algs=list(algorithms), config=None
            )
        except (asyncssh.Error, ConnectionError) as error:  # it has no key of this kind
            problem = error
            continue
        if key is not None:
            shown[key.get_fingerprint("sha256")] = kind
    if not shown and problem is not None:
        raise problem
    return shown


async def _connect(target: SshTarget, accepted: frozenset[str], kind: str | None) -> asyncssh.SSHClientConnection:
    settings = target.settings
    options: dict[str, object] = {}
    if kind is not None:
        options["server_host_key_algs"] = list(_KEY_ALGORITHMS[kind])
    if settings.ssh_private_key is not None:
        options["client_keys"] = [str(settings.ssh_private_key)]
    return await asyncssh.connect(
        target.hostname,
        target.port,
        username=target.user,
        client_factory=lambda: _KeyCheck(accepted),
        known_hosts=([], [], []),
        config=None,
        agent_path=None,
        preferred_auth="publickey",
        keepalive_interval=settings.keepalive_seconds,
        keepalive_count_max=settings.keepalive_count,
        **options,
    )


async def connect_ssh(target: SshTarget) -> asyncssh.SSHClientConnection:
    """Connect and log in.

    Raises HostUnreachableError when the host does not answer, PermanentError when its key is not the accepted one
    or when it does not accept ours; the sentence then has the fingerprints that it shows.
    """
    try:
        async with asyncio.timeout(target.settings.connect_timeout_seconds):
            return await _connect_verified(target)
    except TimeoutError:
        limit = target.settings.connect_timeout_seconds
        raise _unreachable(target, TimeoutError(f"no answer within {limit:g} s")) from None
    except asyncssh.PermissionDenied as error:
        message = (
            f"Host '{target.host_name}' does not let {target.user} in over SSH: {error.reason}. "
            f"Add the executor's public key to the authorized_keys of {target.user} there."
        )
        raise PermanentError(message, code=ProblemCode.FORBIDDEN) from error
    except asyncssh.KeyImportError as error:
        message = f"The private key {target.settings.ssh_private_key} cannot be used: {error}"
        raise PermanentError(message, code=ProblemCode.FORBIDDEN) from error
    except FileNotFoundError as error:
        raise PermanentError(f"The private key cannot be read: {error}", code=ProblemCode.FORBIDDEN) from error
    except (OSError, asyncssh.Error, socket.gaierror) as error:
        raise _unreachable(target, error) from error


async def _connect_verified(target: SshTarget) -> asyncssh.SSHClientConnection:
    accepted = expected_fingerprints(target.host_key) if target.host_key else frozenset()
    if accepted:
        try:
            return await _connect(target, accepted, None)
        except asyncssh.HostKeyNotVerifiable:
            pass  # a host with several keys shows one at a time: perhaps another one is the accepted one
    shown = await _shown_keys(target)
    for fingerprint, kind in shown.items():
        if fingerprint in accepted:
            return await _connect(target, accepted, kind)
    raise _untrusted(target, tuple(shown), bool(accepted))


def _untrusted(target: SshTarget, shown: tuple[str, ...], known: bool) -> OpenQrmError:
    return PermanentError(
        unknown_host_key(target.host_name, shown, known),
        code=ProblemCode.FORBIDDEN,
        details={"fingerprints": list(shown)},
    )
