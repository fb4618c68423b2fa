"""Users with their sessions and tokens, in the database."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import ConflictError, DuplicateError, NotFoundError
from openqrm.contracts.ids import new_id
from openqrm.gateway.adapters.tables import sessions, tokens, users
from openqrm.gateway.auth.principal import CredentialKind, Principal
from openqrm.gateway.auth.roles import Role, lesser
from openqrm.gateway.auth.secrets import Credential, new_credential
from openqrm.persistence.connection import Connection
from openqrm.persistence.database import Database


@dataclass(frozen=True)
class User:
    """One row of users."""

    id: UUID
    name: str
    role: Role
    password_hash: str
    disabled: bool
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Session:
    """A login, without its secret."""

    id: UUID
    user: str
    remote: str
    agent: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Token:
    """A bearer token, without its secret."""

    id: UUID
    user: str
    name: str
    role: Role
    nouns: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


def name_key(name: str) -> str:
    """What names are compared by: names that differ in case or composition only are the same."""
    return unicodedata.normalize("NFKC", name).casefold()


class Accounts:
    """Everything about who may log in."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # -------------------------------------------------------------------------------------------- users

    async def user(self, name: str) -> User | None:
        """The user of a name."""
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(users).where(users.c.name_key == name_key(name)))).first()
        return _user(row) if row else None

    async def all_users(self) -> list[User]:
        """Every user by name."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(select(users).order_by(users.c.name_key))).all()
        return [_user(row) for row in rows]

    async def add_user(self, name: str, role: Role, password_hash: str) -> User:
        """Make a user."""
        async with self._database.transaction() as connection:
            return await self.add_user_in(connection, name, role, password_hash)

    async def add_user_in(self, connection: Connection, name: str, role: Role, password_hash: str) -> User:
        """Make a user in a transaction that has more to do."""
        now = self._clock.now()
        user = User(new_id(), name, role, password_hash, False, 1, now, now)
        try:
            async with connection.savepoint():
                await connection.execute(
                    insert(users).values(
                        id=user.id,
                        name=name,
                        name_key=name_key(name),
                        role=role.value,
                        password_hash=password_hash,
                        disabled=False,
                        revision=1,
                        created_at=now,
                        updated_at=now,
                    )
                )
        except IntegrityError as error:
            raise DuplicateError(f"There is a user {name!r} already. Choose another name.") from error
        return user

    async def change_user(
        self, name: str, *, role: Role | None = None, disabled: bool | None = None, password_hash: str | None = None
    ) -> User:
        """Change a user; its sessions end when it is disabled or gets another password."""
        async with self._database.transaction() as connection:
            user = await self._lock(connection, name)
            stays_admin = (role or user.role) is Role.ADMIN and not (user.disabled if disabled is None else disabled)
            if not stays_admin:
                await self._keep_an_admin(connection, user)
            changes: dict[str, Any] = {
                "role": role.value if role else None,
                "disabled": disabled,
                "password_hash": password_hash,
            }
            changes = {key: value for key, value in changes.items() if value is not None}
            row = (
                await connection.execute(
                    update(users)
                    .where(users.c.id == user.id)
                    .values(**changes, revision=users.c.revision + 1, updated_at=self._clock.now())
                    .returning(users)
                )
            ).one()
            if disabled or password_hash:
                await connection.execute(delete(sessions).where(sessions.c.user_id == user.id))
        return _user(row)

    async def remove_user(self, name: str) -> None:
        """Delete a user with its sessions and tokens."""
        async with self._database.transaction() as connection:
            user = await self._lock(connection, name)
            await self._keep_an_admin(connection, user)
            await connection.execute(delete(users).where(users.c.id == user.id))

    async def _lock(self, connection: Connection, name: str) -> User:
        query = select(users).where(users.c.name_key == name_key(name)).with_for_update()
        row = (await connection.execute(query)).first()
        if row is None:
            raise NotFoundError(f"There is no user {name!r}. See the list of users.")
        return _user(row)

    async def _keep_an_admin(self, connection: Connection, user: User) -> None:
        """Refuse what would leave nobody who can manage users."""
        if user.role is not Role.ADMIN or user.disabled:
            return
        query = (
            select(users.c.id)
            .where(users.c.role == Role.ADMIN.value, ~users.c.disabled)
            .order_by(users.c.id)
            .with_for_update()
        )
        admins = (await connection.execute(query)).scalars().all()
        if set(admins) <= {user.id}:
            raise ConflictError(
                f"{user.name!r} is the last administrator, and one must remain. Make another user admin first."
            )

    # -------------------------------------------------------------------------------------------- sessions

    async def open_session(
        self, user: User, lifetime: timedelta, remote: str, agent: str
    ) -> tuple[Credential, Session]:
        """Log a user in."""
        now = self._clock.now()
        credential = new_credential(new_id())
        session = Session(credential.id, user.name, remote, agent[:200], now, now + lifetime)
        async with self._database.transaction() as connection:
            await connection.execute(delete(sessions).where(sessions.c.expires_at < now))
            await connection.execute(
                insert(sessions).values(
                    id=session.id,
                    user_id=user.id,
                    secret_hash=credential.secret_hash,
                    remote=remote,
                    agent=session.agent,
                    created_at=now,
                    expires_at=session.expires_at,
                )
            )
        return credential, session

    async def all_sessions(self, user_id: UUID | None) -> list[Session]:
        """The open sessions of one user, or of all."""
        query = (
            select(sessions, users.c.name.label("user_name"))
            .join(users)
            .where(sessions.c.expires_at > self._clock.now())
            .order_by(sessions.c.created_at.desc())
        )
        if user_id is not None:
            query = query.where(sessions.c.user_id == user_id)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [Session(r.id, r.user_name, r.remote, r.agent, r.created_at, r.expires_at) for r in rows]

    async def end_session(self, session_id: UUID, user_id: UUID | None) -> bool:
        """End a session, of one user or of any; whether there was one."""
        query = delete(sessions).where(sessions.c.id == session_id)
        if user_id is not None:
            query = query.where(sessions.c.user_id == user_id)
        async with self._database.transaction() as connection:
            return (await connection.execute(query)).rowcount > 0

    # -------------------------------------------------------------------------------------------- tokens

    async def add_token(
        self, user_id: UUID, user: str, name: str, role: Role, nouns: Sequence[str], expires_at: datetime
    ) -> tuple[Credential, Token]:
        """Make a token."""
        async with self._database.transaction() as connection:
            return await self.add_token_in(connection, user_id, user, name, role, nouns, expires_at)

    async def add_token_in(
        self,
        connection: Connection,
        user_id: UUID,
        user: str,
        name: str,
        role: Role,
        nouns: Sequence[str],
        expires_at: datetime,
    ) -> tuple[Credential, Token]:
        """Make a token in a transaction that has more to do."""
        credential = new_credential(new_id())
        token = Token(credential.id, user, name, role, tuple(sorted(nouns)), self._clock.now(), expires_at)
        await connection.execute(
            insert(tokens).values(
                id=token.id,
                user_id=user_id,
                name=name,
                secret_hash=credential.secret_hash,
                role=role.value,
                nouns=list(token.nouns),
                created_at=token.created_at,
                expires_at=expires_at,
            )
        )
        return credential, token

    async def all_tokens(self, user_id: UUID | None) -> list[Token]:
        """The tokens of one user, or of all, the newest first; expired ones too."""
        query = select(tokens, users.c.name.label("user_name")).join(users).order_by(tokens.c.created_at.desc())
        if user_id is not None:
            query = query.where(tokens.c.user_id == user_id)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Token(r.id, r.user_name, r.name, Role(r.role), tuple(r.nouns), r.created_at, r.expires_at) for r in rows
        ]

    async def revoke_token(self, token_id: UUID, user_id: UUID | None) -> bool:
        """Delete a token, of one user or of any; whether there was one."""
        query = delete(tokens).where(tokens.c.id == token_id)
        if user_id is not None:
            query = query.where(tokens.c.user_id == user_id)
        async with self._database.transaction() as connection:
            return (await connection.execute(query)).rowcount > 0

    # -------------------------------------------------------------------------------------------- who is asking

    async def find_credential(self, kind: CredentialKind, credential_id: UUID) -> tuple[bytes, Principal] | None:
        """The hash of a credential's secret and whom it stands for; None when it is gone or its user disabled."""
        table = tokens if kind is CredentialKind.TOKEN else sessions
        query = (
            select(table, users.c.name.label("user_name"), users.c.role.label("user_role"))
            .join(users)
            .where(table.c.id == credential_id, ~users.c.disabled)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        user_role = Role(row.user_role)
        is_token = kind is CredentialKind.TOKEN
        return row.secret_hash, Principal(
            user_id=row.user_id,
            user=row.user_name,
            role=lesser(user_role, Role(row.role)) if is_token else user_role,
            kind=kind,
            credential_id=row.id,
            nouns=frozenset(row.nouns) if is_token else frozenset(),
            expires_at=row.expires_at,
        )

    async def count_users(self, connection: Connection) -> int:
        """How many users there are."""
        return int((await connection.execute(select(func.count()).select_from(users))).scalar_one())


def _user(row: Row[Any]) -> User:
    return User(
        row.id,
        row.name,
        Role(row.role),
        row.password_hash,
        row.disabled,
        row.revision,
        row.created_at,
        row.updated_at,
    )
