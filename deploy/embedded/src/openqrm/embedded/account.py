"""The system account that PostgreSQL and NATS run as when openQRM itself is started by root."""

import asyncio
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from openqrm.embedded.errors import StartError

ACCOUNT_NAME = "openqrm"


@dataclass(frozen=True)
class Account:
    """A user of this machine, without a login and without a right."""

    name: str
    uid: int
    gid: int


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


async def service_account(name: str = ACCOUNT_NAME) -> Account | None:
    """Return the account for our child processes, made on first use; None when we are not root.

    PostgreSQL refuses to run as root, and NATS has no need to.

    Raises:
        StartError: the account is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    if account := _find(name):
        return account
    useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command = [*useradd, "--shell", "/usr/sbin/nologin", "--comment", "openQRM", name]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise StartError(f"cannot make the system user {name!r}: {error}") from error
    output, _ = await process.communicate()
    account = _find(name)  # another start may have been quicker: what counts is that it exists
    if account is None:
        raise StartError(
            f"cannot make the system user {name!r} that PostgreSQL and NATS run as: "
            f"{output.decode(errors='replace').strip()}"
        )
    return account


def give_to(path: Path, account: Account | None) -> None:
    """Hand a file or folder to the account; nothing to do when everything runs as ourselves."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
