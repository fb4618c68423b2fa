"""The first start makes the first administrator; later starts keep its token file usable, or make it again.

Whoever may write beside the token file may read it, too, so a file `<token file>.reset` there is as good as a login:
the next start gives the user admin a new password and token, leaves them as the first start did, and removes it.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import text

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import NotFoundError
from openqrm.gateway.adapters.accounts import Accounts
from openqrm.gateway.auth.passwords import Passwords
from openqrm.gateway.auth.principal import CredentialKind
from openqrm.gateway.auth.roles import Role
from openqrm.gateway.auth.secrets import new_password, parse_credential
from openqrm.gateway.settings import GatewaySettings
from openqrm.persistence.database import Database

ADMIN = "admin"
TOKEN_NAME = "first start"  # noqa: S105 - a name
RENEW_DAYS = 14
_LOCK = 0x6F7167  # any number that nobody else takes


class FirstStart:
    """Makes the first administrator, once per installation whatever the number of replicas."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        passwords: Passwords,
        settings: GatewaySettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._passwords = passwords
        self._settings = settings
        self._clock = clock
        self._log = structlog.get_logger(service="gateway")

    async def run(self) -> None:
        """Make the first administrator if there is nobody, or renew the token in the file if it ends soon."""
        password = new_password()
        hashed = await self._passwords.hash(password)
        expires_at = self._clock.now() + timedelta(days=self._settings.token_days)
        async with self._database.transaction() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if await self._accounts.count_users(connection):
                made = False
            else:
                user = await self._accounts.add_user_in(connection, ADMIN, Role.ADMIN, hashed)
                credential, _ = await self._accounts.add_token_in(
                    connection, user.id, user.name, TOKEN_NAME, Role.ADMIN, (), expires_at
                )
                # Before the commit: an administrator whose password nobody got would lock everybody out.
                self._write(self._settings.initial_token_file, credential.token)
                self._write(self._settings.password_file, password)
                made = True
        if made:
            self._announce(password)
        elif self._reset_wish is not None and self._reset_wish.exists():
            await self._reset(password, hashed, expires_at)
        else:
            await self._renew()

    @property
    def _reset_wish(self) -> Path | None:
        path = self._settings.initial_token_file
        return path.with_name(path.name + ".reset") if path else None

    async def _reset(self, password: str, hashed: str, expires_at: datetime) -> None:
        """All administrators' secrets were lost; what there is stays valid until somebody revokes it."""
        try:
            user = await self._accounts.change_user(ADMIN, role=Role.ADMIN, disabled=False, password_hash=hashed)
        except NotFoundError:
            user = await self._accounts.add_user(ADMIN, Role.ADMIN, hashed)
        credential, _ = await self._accounts.add_token(user.id, user.name, TOKEN_NAME, Role.ADMIN, (), expires_at)
        self._write(self._settings.initial_token_file, credential.token)
        self._write(self._settings.password_file, password)
        if self._reset_wish is not None:
            self._reset_wish.unlink()
        self._log.warning(
            "the user admin was given a new password and token, as a .reset file asked for",
            token_file=str(self._settings.initial_token_file),
        )

    async def _renew(self) -> None:
        """Whoever may read the file has the token already; one that is gone or revoked is not replaced."""
        path = self._settings.initial_token_file
        try:
            old = parse_credential(path.read_text().strip()) if path else None
        except OSError:
            return
        if path is None or old is None:
            return
        found = await self._accounts.find_credential(CredentialKind.TOKEN, old.id)
        if found is None or not old.proves(found[0]):
            return
        principal = found[1]
        now = self._clock.now()
        if principal.expires_at - now > timedelta(days=RENEW_DAYS):
            return
        credential, _ = await self._accounts.add_token(
            principal.user_id,
            principal.user,
            TOKEN_NAME,
            principal.role,
            sorted(principal.nouns),
            now + timedelta(days=self._settings.token_days),
        )
        self._write(path, credential.token)
        await self._accounts.revoke_token(old.id, None)
        self._log.info("the token in the file was about to end and was renewed", file=str(path))

    def _announce(self, password: str) -> None:
        files = {
            name: str(path)
            for name, path in (
                ("token_file", self._settings.initial_token_file),
                ("password_file", self._settings.password_file),
            )
            if path
        }
        if self._settings.password_file is None and self._settings.initial_token_file is None:
            # Nowhere to put it: without this line nobody could ever log in.
            files["password"] = password
        self._log.warning("the first start made the user admin", **files)

    def _write(self, path: Path | None, secret: str) -> None:
        if path is not None:
            write_private(path, secret + "\n")


def write_private(path: Path, content: str) -> None:
    """Replace a file by one that only its owner can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
