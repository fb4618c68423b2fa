"""Which server the program talks to, and with which token."""

import asyncio
import json
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from openqrm.gateway.app import GatewayService


async def test_logging_in_keeps_a_token_of_its_own(cli, site, gateway: GatewayService) -> None:
    password = (site.folder / "admin-password").read_text()
    (cli.state / "client.json").unlink()
    assert (await cli.run("whoami")).code == 1
    ran = await cli.run("login", gateway.url, "--user", "admin", "--password-stdin", stdin=password)
    assert ran.code == 0, ran.err
    path = Path(cli.env["XDG_CONFIG_HOME"]) / "openqrm" / "config.json"
    assert path.stat().st_mode & 0o777 == 0o600
    kept = json.loads(path.read_text())
    assert kept["url"] == gateway.url
    assert (await cli.run("whoami", "-o", "json")).json["credential"] == "token"
    assert (await cli.run("logout")).code == 0
    assert not path.exists()
    after = await cli.run("whoami", env={"OPENQRM_URL": gateway.url, "OPENQRM_TOKEN": kept["token"]})
    assert after.code == 3


async def test_wrong_passwords_and_tokens_are_not_kept(cli, gateway: GatewayService) -> None:
    ran = await cli.run("login", gateway.url, "--user", "admin", "--password-stdin", stdin="wrong\n")
    assert (ran.code, "do not belong together" in ran.err) == (3, True)
    ran = await cli.run("login", gateway.url, "--token", "-", stdin="oqrm_nonsense\n")
    assert ran.code == 3
    assert not (Path(cli.env["XDG_CONFIG_HOME"]) / "openqrm" / "config.json").exists()
    without = await cli.run("login", gateway.url)
    assert without.code == 2


async def test_a_token_goes_only_to_the_server_that_it_came_from(
    cli, gateway: GatewayService, admin_token: str
) -> None:
    assert (await cli.run("whoami", "--url", gateway.url)).code == 0
    other = gateway.url.replace("127.0.0.1", "localhost")
    ran = await cli.run("whoami", "--url", other)
    assert ran.code == 3
    ran = await cli.run("whoami", env={"OPENQRM_URL": other, "OPENQRM_TOKEN": admin_token})
    assert ran.code == 0


async def test_a_server_that_cannot_be_reached_is_named(cli) -> None:
    for arguments in (("whoami",), ("events", "--follow"), ("console", "x"), ("status",)):
        ran = await cli.run(*arguments, "--url", "http://127.0.0.1:9")
        assert ran.code == 1
        assert "http://127.0.0.1:9" in ran.err
        assert "make up" in ran.err
    ran = await cli.run("whoami", "--url", "ftp://x")
    assert (ran.code, "http" in ran.err) == (1, True)


async def test_nothing_known_says_what_to_do(cli) -> None:
    (cli.state / "client.json").unlink()
    ran = await cli.run("partition", "list")
    assert (ran.code, "openqrm login" in ran.err) == (1, True)
    (cli.state / "client.json").write_text("{")
    ran = await cli.run("partition", "list")
    assert (ran.code, "client.json" in ran.err) == (1, True)


async def test_what_is_not_openqrm_is_recognised(cli, site) -> None:
    ran = await cli.run("whoami", "--url", site.nats.url.replace("nats", "http"))
    assert ran.code == 1
    assert "Traceback" not in ran.err


def self_signed(folder: Path, now: datetime) -> tuple[Path, Path]:
    """A certificate for this machine that no authority knows, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "openQRM test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_file, key_file


async def test_everything_goes_by_tls_where_the_server_has_a_certificate(cli, site, inventory, tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, site.clock.now())
    gateway = site.gateway(tls_cert=cert, tls_key=key)
    await gateway.start()
    try:
        assert gateway.url.startswith("https://")
        password = (site.folder / "admin-password").read_text()
        arguments = ("login", gateway.url, "--user", "admin", "--password-stdin")
        strange = await cli.run(*arguments, stdin=password)
        assert (strange.code, "certificate" in strange.err.lower()) == (1, True)
        known = await cli.run(*arguments, "--ca-file", str(cert), stdin=password)
        assert known.code == 0, known.err
        assert (await cli.run("status")).code == 0
        process = await cli.start("console", "web 1", "--linger", "0.5")
        async with asyncio.timeout(20):
            out, err = await process.communicate(b"x")
        assert out == b"login: <x>", err
    finally:
        await gateway.stop()
