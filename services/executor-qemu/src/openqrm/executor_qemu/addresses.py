"""Host addresses: which ways to reach libvirt there are, and what each needs. Pure."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.contracts.host import HostConnection

LIBVIRT_SOCKETS = ("/run/libvirt/libvirt-sock", "/var/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
"""Where libvirt listens on a host: the monolithic daemon or the proxy first, then the modular one."""


class Transport(StrEnum):
    """How bytes get to the host's libvirt."""

    LOCAL = "qemu"
    SSH = "qemu+ssh"
    TLS = "qemu+tls"
    TCP = "qemu+tcp"


_DEFAULT_PORTS = {Transport.LOCAL: 0, Transport.SSH: 22, Transport.TLS: 16514, Transport.TCP: 16509}


@dataclass(frozen=True)
class Address:
    """A host's address, taken apart."""

    transport: Transport
    hostname: str
    """Empty for the executor's own machine."""
    port: int
    user: str
    sockets: tuple[str, ...]
    """Paths of libvirt's socket on the host, for the ways that end in one."""


def _refuse(uri: str, message: str) -> InvalidError:
    return InvalidError(
        f"The host address {uri} cannot be used: {message}.",
        fields=(FieldProblem(field="connection.uri", message=message),),
    )


def parse_address(connection: HostConnection) -> Address:
    """Take a host's address apart. Raises InvalidError when it is none of ours."""
    uri = connection.uri
    try:
        parts = urlsplit(uri)
        port, hostname = parts.port, parts.hostname or ""
    except ValueError as error:
        raise _refuse(uri, str(error)) from error
    try:
        transport = Transport(parts.scheme)
    except ValueError:
        ways = ", ".join(way.value for way in Transport)
        raise _refuse(uri, f"the scheme {parts.scheme} is not one of {ways}") from None
    if parts.path.rstrip("/") != "/system":
        raise _refuse(uri, "its path must be /system, the libvirt instance that root's guests run under")
    if parts.password is not None:
        raise _refuse(uri, "it must not contain a password; use a key or a certificate")
    if (transport is Transport.LOCAL) == bool(hostname):
        needs = "no host name (use qemu+ssh, qemu+tls)" if transport is Transport.LOCAL else "a host name"
        raise _refuse(uri, f"{transport} needs {needs}")
    if transport is Transport.TCP and connection.options.get("allow_plain_tcp") != "yes":
        raise _refuse(
            uri,
            "qemu+tcp is neither encrypted nor authenticated; use qemu+ssh or qemu+tls, "
            "or set the option allow_plain_tcp=yes for an isolated lab",
        )
    query = parse_qs(parts.query, keep_blank_values=True)
    with_socket = transport in (Transport.LOCAL, Transport.SSH)
    for name in query:
        if name != "socket" or not with_socket:
            raise _refuse(uri, f"the parameter {name} is not supported")
    sockets = tuple(query["socket"][-1:]) if "socket" in query else LIBVIRT_SOCKETS
    return Address(
        transport=transport,
        hostname=hostname,
        port=port or _DEFAULT_PORTS[transport],
        user=parts.username or "root",
        sockets=sockets if with_socket else (),
    )


def expected_fingerprints(host_key: str) -> frozenset[str]:
    """The SHA256 fingerprints that a host may show: `host_key` has lines, each a fingerprint or a public key."""
    found = set()
    for line in host_key.strip().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0].startswith("SHA256:"):
            found.add(words[0].rstrip("="))
            continue
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (IndexError, binascii.Error) as error:
            message = "neither a public key (ssh-ed25519 AAAA…) nor a fingerprint (SHA256:…)"
            raise InvalidError(
                f"The host key '{line[:60]}' is {message}.",
                fields=(FieldProblem(field="connection.host_key", message=message),),
            ) from error
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        found.add(f"SHA256:{digest}")
    return frozenset(found)


def unknown_host_key(host: str, shown: tuple[str, ...], known: bool) -> str:
    """The sentence for a host whose SSH key is not the accepted one (`known`) or was never accepted."""
    keys = ", ".join(shown) or "none that could be read"
    begin = "does not show the SSH key that was accepted for it" if known else "has no accepted SSH key yet"
    accept = f"openqrm host change '{host}' --host-key '{shown[0]}'" if shown else "openqrm host change --host-key"
    care = "If its key was changed on purpose, compare" if known else "Compare"
    return f"Host '{host}' {begin}; it shows {keys}. {care} this on the host's own screen, then accept it: {accept}"
