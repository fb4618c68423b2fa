#!/usr/bin/env python3
"""Writes what the services need to run as processes of their own, on a NATS and a PostgreSQL of yours.

    .venv/bin/python deploy/systemd/setup.py [--folder /etc/openqrm] [--nats-url tls://nats.example:4222] … qemu fake

Into the folder come, each readable by its owner only:

    <service>.env     the environment of each service's unit: its NATS user, its database, its module
    nats-users.conf   the users with their rights, to be included by nats-server's configuration
    postgres.sql      the roles and databases, to be run by psql as PostgreSQL's administrator

Run it again after every update: rights are written anew, passwords stay as they are.
"""

import argparse
import json
import os
import re
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

from openqrm.bus.provisioning import permissions

PROVISIONER = "provisioner"
CLIENT = "client"
DATABASES = {"inventory": "OPENQRM_INVENTORY_DSN", "gateway": "OPENQRM_GATEWAY_DSN"}
MODULES = {"inventory": "openqrm.inventory", "scheduler": "openqrm.scheduler", "gateway": "openqrm.gateway"}
_ROLE = """\
SELECT 'CREATE ROLE {name} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec
ALTER ROLE {name} LOGIN PASSWORD '{password}';
SELECT 'CREATE DATABASE {name} OWNER {name} ENCODING ''UTF8'' TEMPLATE template0'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
REVOKE ALL ON DATABASE {name} FROM PUBLIC;"""
_TECHNOLOGY = re.compile(r"[a-z][a-z0-9-]{0,31}")


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole; nobody but its owner can read it."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)


class Passwords:
    """Random ones, kept in `passwords.json` of the folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "passwords.json"
        self._known: dict[str, str] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def of(self, name: str) -> str:
        """The password called `name`, made when there is none yet; it needs no quoting anywhere."""
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(24)
            write_private(self._path, json.dumps(self._known, indent=2) + "\n")
        return self._known[name]


def nats_users(technologies: list[str], passwords: Passwords) -> str:
    """The list of users, as nats-server's configuration has it."""
    rights = permissions(technologies)
    everything = {"publish": [">"], "subscribe": [">"], "allow_responses": True}
    users = [
        {"user": user, "password": passwords.of(f"nats-{user}"), "permissions": allowed}
        for user, allowed in {**rights, PROVISIONER: everything}.items()
    ]
    return "# Made by deploy/systemd/setup.py.\nusers: " + json.dumps(users, indent=2) + "\n"


def postgres_roles(passwords: Passwords) -> str:
    """SQL that can be run again: roles and databases, each open to its owner only."""
    lines = ["-- Made by deploy/systemd/setup.py; run it as PostgreSQL's administrator: psql --file postgres.sql"]
    for name in DATABASES:
        password = passwords.of(f"postgres-{name}")
        lines.append(_ROLE.replace("{name}", f"openqrm_{name}").replace("{password}", password))
    return "\n".join(lines) + "\n"


def dsn(pattern: str, name: str, passwords: Passwords) -> str:
    """The URL of a service's database: `pattern` with its user, password and name."""
    head, separator, place = pattern.partition("://")
    if not separator or "@" in place:
        raise SystemExit(f"{pattern} has to be postgresql://HOST[:PORT] or postgresql://?host=/SOCKET/FOLDER")
    host, question, options = place.partition("?")
    user = f"openqrm_{name}:{quote(passwords.of(f'postgres-{name}'), safe='')}"
    return f"{head}+asyncpg://{user}@{host.rstrip('/')}/openqrm_{name}{question}{options}"


def environments(arguments: argparse.Namespace, passwords: Passwords) -> dict[str, dict[str, str]]:
    """The environment of each service, and of the provisioner and outside programs."""
    modules = dict(MODULES)
    for technology in arguments.technologies:
        modules[f"executor-{technology}"] = f"openqrm.executor_{technology.replace('-', '_')}.app"
    modules |= {PROVISIONER: "openqrm.bus.provisioning", CLIENT: ""}
    found: dict[str, dict[str, str]] = {}
    for user, module in modules.items():
        values = {
            "OPENQRM_MODULE": module,
            "OPENQRM_NATS_URL": arguments.nats_url,
            "OPENQRM_NATS_USER": user,
            "OPENQRM_NATS_PASSWORD": passwords.of(f"nats-{user}"),
        }
        if arguments.nats_ca:
            values["OPENQRM_NATS_CA_FILE"] = str(arguments.nats_ca)
        if user in DATABASES:
            values[DATABASES[user]] = dsn(arguments.postgres, user, passwords)
        if user == "gateway":
            values |= {
                "OPENQRM_GATEWAY_HOST": arguments.host,
                "OPENQRM_GATEWAY_PORT": str(arguments.port),
                "OPENQRM_GATEWAY_INITIAL_TOKEN_FILE": str(arguments.state / "admin-token"),
                "OPENQRM_GATEWAY_IMAGE_FOLDER": str(arguments.state / "images"),
            }
        if user == PROVISIONER:
            values |= {
                "OPENQRM_NATS_REPLICAS": str(arguments.replicas),
                "OPENQRM_TECHNOLOGIES": " ".join(arguments.technologies),
            }
        found[user] = {name: value for name, value in values.items() if value}
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("technologies", nargs="+", help="executors to run, such as qemu")
    parser.add_argument("--folder", type=Path, default=Path("/etc/openqrm"), help="where to write (%(default)s)")
    parser.add_argument("--state", type=Path, default=Path("/var/lib/openqrm"), help="the gateway's own (%(default)s)")
    parser.add_argument("--nats-url", default="nats://127.0.0.1:4222", help="one or several, with commas (%(default)s)")
    parser.add_argument("--nats-ca", type=Path, help="CA certificate that NATS's must chain to, with tls://")
    parser.add_argument("--replicas", type=int, default=1, help="of each stream: 3 on a cluster (%(default)s)")
    parser.add_argument("--postgres", default="postgresql://127.0.0.1:5432", help="where it is (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address that the gateway listens on (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="its port (%(default)s)")
    arguments = parser.parse_args()
    for technology in arguments.technologies:
        if not _TECHNOLOGY.fullmatch(technology):
            parser.error(f"{technology!r} is no technology")
    try:
        arguments.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        passwords = Passwords(arguments.folder)
        write_private(arguments.folder / "nats-users.conf", nats_users(arguments.technologies, passwords))
        write_private(arguments.folder / "postgres.sql", postgres_roles(passwords))
        for service, values in environments(arguments, passwords).items():
            text = "".join(f"{name}={value}\n" for name, value in values.items())
            write_private(arguments.folder / f"{service}.env", text)
    except OSError as error:
        sys.stderr.write(f"{error.filename} cannot be written: {error.strerror}\n")
        return 1
    sys.stdout.write(f"written to {arguments.folder}; what to do with it stands in deploy/README.md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
