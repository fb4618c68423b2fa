"""Another user of the machine gets nothing, and no other machine gets anything."""

import ipaddress
import json

import psutil
import pytest
from installation import Client, Installation, is_root, run

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--")

KNOCK = """
import json, socket, sys
port, word = int(sys.argv[1]), json.loads(sys.argv[2])
with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
    stream = connection.makefile("rwb")
    assert json.loads(stream.readline().removeprefix(b"INFO "))["auth_required"]
    stream.write(b"CONNECT " + json.dumps({"verbose": False, "pedantic": False, **word}).encode() + b"\\r\\n")
    stream.write(b"SUB > 1\\r\\nPUB partition.start 2\\r\\n{}\\r\\nPING\\r\\n")
    stream.flush()
    print(stream.read().decode())
"""

needs_root = pytest.mark.skipif(not is_root(), reason="needs root, to become another user")


@needs_root
@pytest.mark.parametrize(
    "login",
    [
        {},
        {"user": "inventory"},
        {"user": "inventory", "pass": ""},
        {"user": "client", "pass": "client"},
        {"user": "provisioner", "pass": "guess"},
        {"user": "", "pass": ""},
        {"auth_token": "x"},
    ],
)
def test_another_user_does_not_get_into_nats(site: Installation, login: dict[str, str]) -> None:
    port = site.word["nats_url"].rsplit(":", 1)[1]
    knocked = run(*NOBODY, "/usr/bin/python3", "-c", KNOCK, port, json.dumps(login))
    assert knocked.returncode == 0, knocked.stderr
    assert "Authorization Violation" in knocked.stdout
    assert "PONG" not in knocked.stdout


@needs_root
def test_another_user_does_not_reach_postgresql(site: Installation) -> None:
    reach = (
        f"import socket; socket.socket(socket.AF_UNIX).connect({str(site.state / 'postgres/socket/.s.PGSQL.5432')!r})"
    )
    tried = run(*NOBODY, "/usr/bin/python3", "-c", reach)
    assert tried.returncode != 0
    assert "PermissionError" in tried.stderr
    assert run("/usr/bin/python3", "-c", reach).returncode == 0, "it is there, only not for others"


@needs_root
def test_another_user_reads_nothing_of_the_state(site: Installation) -> None:
    listed = run(*NOBODY, "ls", str(site.state))
    assert listed.returncode != 0
    for path in sorted(site.state.rglob("*")):
        if path.is_relative_to(site.state / "images"):
            continue  # the hypervisor's user reads images; nobody can list them
        tried = run(*NOBODY, "cat", str(path)) if path.is_file() and path.parent == site.state else None
        assert tried is None or tried.returncode != 0, f"{path} is open to everybody"
    for folder in ("postgres", "nats", "libvirt", "images"):
        assert run(*NOBODY, "ls", str(site.state / folder)).returncode != 0, folder


def test_nothing_listens_beyond_this_machine(site: Installation) -> None:
    assert site.process is not None
    us = psutil.Process(site.process.pid)
    listening = [
        connection.laddr
        for process in (us, *us.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type.name == "SOCK_DGRAM"
    ]
    assert len(listening) == 2, f"the gateway's port and that of NATS, PostgreSQL has none: {listening}"
    assert all(ipaddress.ip_address(address.ip).is_loopback for address in listening)


def test_no_secret_stands_where_everybody_can_read(site: Installation) -> None:
    """Command lines are everybody's to read."""
    assert site.process is not None
    secrets = [*json.loads((site.state / "secrets.json").read_text())["passwords"].values(), site.token, site.password]
    us = psutil.Process(site.process.pid)
    for process in (us, *us.children(recursive=True)):
        words = " ".join(process.cmdline())
        assert not any(secret in words for secret in secrets), process.name()
    for text in (site.log, site.said, site.complained):
        assert not any(secret in text for secret in secrets)


@needs_root
def test_parts_run_without_rights(site: Installation) -> None:
    assert site.process is not None
    children = psutil.Process(site.process.pid).children(recursive=True)
    assert {child.name() for child in children} >= {"postgres", "nats-server"}
    for child in children:
        assert child.username() == "openqrm", child.name()


async def test_headers_that_protect_browsers(site: Installation, admin: Client) -> None:
    for path in ("/", "/docs", "/partitions"):
        headers = (await admin.request("GET", path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
