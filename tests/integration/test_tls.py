"""A NATS of the user's own, with TLS and a password: reached with its CA, refused without."""

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import COMMANDS, provision
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.partition import StartPartition
from openqrm.telemetry.tracing import Tracing
from openqrm.testkit.nats import NatsServer


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own CA, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")])
    now = SystemClock().now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[NatsServer, Path]]:
    """The server and its CA."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = _certificate(folder / "server")
    users = 'authorization { users = [ { user: "inventory", password: "right" } ] }'
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    running = NatsServer(folder, f"{tls}\n{users}")
    await running.start()
    yield running, certificate
    await running.kill()


def _bus(server: NatsServer, ca_file: Path | None, password: str) -> Bus:
    url = server.url.replace("nats://", "tls://")
    settings = BusSettings(url=url, user="inventory", password=password, ca_file=ca_file)
    return Bus(settings, "inventory", SystemClock(), Tracing("inventory"))


async def test_it_works_with_tls_and_a_password(server: tuple[NatsServer, Path]) -> None:
    running, ca_file = server
    bus = _bus(running, ca_file, "right")
    await bus.start()
    await provision(bus.js, ["qemu"])
    first = (await bus.stream_state(COMMANDS)).last
    assert await bus.publish(StartPartition(partition="web 1")) == first + 1
    await bus.stop()


async def test_a_server_that_the_ca_does_not_vouch_for_is_refused(
    server: tuple[NatsServer, Path], tmp_path: Path
) -> None:
    running, _ = server
    foreign, _ = _certificate(tmp_path)
    await _is_refused(_bus(running, foreign, "right"))


async def test_a_wrong_password_is_refused(server: tuple[NatsServer, Path]) -> None:
    running, ca_file = server
    await _is_refused(_bus(running, ca_file, "wrong"))


async def _is_refused(bus: Bus) -> None:
    """It does not come to a connection, however long it tries."""
    connecting = asyncio.create_task(bus.connect())
    await asyncio.wait({connecting}, timeout=3)
    assert not bus.is_connected
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
