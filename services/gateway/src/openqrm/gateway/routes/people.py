"""Users, tokens, sessions and the audit."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.ids import Name
from openqrm.contracts.paging import MAX_PAGE
from openqrm.gateway.adapters.accounts import Accounts, User, name_key
from openqrm.gateway.audit import AuditLog
from openqrm.gateway.auth.authenticator import Authenticator
from openqrm.gateway.auth.passwords import MAX_LENGTH, MIN_LENGTH, Passwords
from openqrm.gateway.auth.principal import CredentialKind, Principal
from openqrm.gateway.auth.roles import SCOPE_NOUNS, Role
from openqrm.gateway.guard import note_of, principal_of
from openqrm.gateway.problems import forbidden, invalid
from openqrm.gateway.routing import PathRef, Routes, json_response

Password = Annotated[
    str,
    Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH, repr=False, examples=["correct horse battery staple"]),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UserView(BaseModel):
    """A user."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: Name
    role: Role
    disabled: bool
    created_at: datetime
    updated_at: datetime


class UserList(BaseModel):
    """All users."""

    items: tuple[UserView, ...]


class NewUser(_Body):
    """A user to be made."""

    name: Name
    role: Role = Role.VIEWER
    password: Password


class UserChange(_Body):
    """What is to be different; fields left out stay as they are."""

    role: Role | None = None
    disabled: bool | None = None


class PasswordChange(_Body):
    """A new password. `current` is needed by everybody but an administrator's token."""

    password: Password
    current: str | None = Field(default=None, max_length=MAX_LENGTH, repr=False)


class TokenView(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user: str
    name: str
    role: Role
    nouns: tuple[str, ...] = Field(description="What it is limited to; empty: nothing")
    created_at: datetime
    expires_at: datetime


class NewTokenView(TokenView):
    """A new token with its secret, which is shown this once."""

    token: str


class TokenList(BaseModel):
    """Tokens, the newest first."""

    items: tuple[TokenView, ...]


class NewToken(_Body):
    """A token to be made."""

    name: str = Field(min_length=1, max_length=200, description="What it is for", examples=["nightly report"])
    role: Role | None = Field(default=None, description="The most that it may do; the caller's own role when left out")
    nouns: frozenset[str] = Field(
        default=frozenset(), description="Limit it to these: " + ", ".join(sorted(SCOPE_NOUNS)), max_length=50
    )
    days: int | None = Field(default=None, ge=1, le=3650, description="How long it holds")


class SessionView(BaseModel):
    """A login."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user: str
    remote: str
    agent: str
    created_at: datetime
    expires_at: datetime


class SessionList(BaseModel):
    """Open sessions, the newest first."""

    items: tuple[SessionView, ...]


class AuditView(BaseModel):
    """One request that changed something, or tried to."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    user_name: str
    credential: str
    method: str
    path: str
    verb: str
    target: str
    operation_id: UUID | None
    status: int
    code: str
    remote: str
    trace_id: str | None


class AuditPage(BaseModel):
    """A page of the audit, the newest first."""

    items: tuple[AuditView, ...]
    next_cursor: str | None


class People:
    """Adds the routes of users, tokens, sessions and the audit."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        authenticator: Authenticator,
        audit: AuditLog,
        clock: Clock,
        token_days: int,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._authenticator = authenticator
        self._audit = audit
        self._clock = clock
        self._token_days = token_days

    def add(self, routes: Routes) -> None:
        """Add the routes."""
        add = routes.add
        add("GET", "/users", self.users, tag="users", answer=UserList)
        add("POST", "/users", self.add_user, tag="users", answer=UserView, status=201, fails=(409,))
        add("GET", "/users/{name}", self.user, tag="users", answer=UserView)
        add("PATCH", "/users/{name}", self.change_user, tag="users", answer=UserView, fails=(409,))
        add("DELETE", "/users/{name}", self.remove_user, tag="users", status=204, fails=(409,))
        add("PUT", "/users/{name}/password", self.change_password, tag="users", status=204)
        add("GET", "/tokens", self.tokens, tag="tokens", answer=TokenList)
        add("POST", "/tokens", self.add_token, tag="tokens", answer=NewTokenView, status=201)
        add("DELETE", "/tokens/{id}", self.revoke_token, tag="tokens", status=204)
        add("GET", "/sessions", self.sessions, tag="sessions", answer=SessionList)
        add("DELETE", "/sessions/{id}", self.end_session, tag="sessions", status=204)
        add("GET", "/audit", self.audit, tag="audit", answer=AuditPage, fails=(422,))

    # -------------------------------------------------------------------------------------------- users

    async def users(self) -> Response:
        """All users."""
        return json_response(
            UserList(items=tuple(UserView.model_validate(user) for user in await self._accounts.all_users()))
        )

    async def user(self, name: PathRef) -> Response:
        """One user."""
        return json_response(UserView.model_validate(await self._existing(name)))

    async def add_user(self, request: Request, body: NewUser) -> Response:
        """Make a user."""
        _note(request, "user.create", body.name)
        user = await self._accounts.add_user(body.name, body.role, await self._passwords.hash(body.password))
        return json_response(UserView.model_validate(user), 201)

    async def change_user(self, request: Request, name: PathRef, body: UserChange) -> Response:
        """Change a user's role, or disable it, which ends its sessions."""
        _note(request, "user.change", name)
        user = await self._accounts.change_user(name, role=body.role, disabled=body.disabled)
        self._authenticator.forget()
        return json_response(UserView.model_validate(user))

    async def remove_user(self, request: Request, name: PathRef) -> Response:
        """Delete a user with its tokens and sessions."""
        _note(request, "user.delete", name)
        await self._accounts.remove_user(name)
        self._authenticator.forget()
        return Response(status_code=204)

    async def change_password(self, request: Request, name: PathRef, body: PasswordChange) -> Response:
        """Set a password: one's own, or as an administrator anybody's. The user's sessions end."""
        _note(request, "user.change_password", name)
        principal = principal_of(request)
        own = name_key(principal.user) == name_key(name)
        if not own and principal.role is not Role.ADMIN:
            raise forbidden("Only an administrator sets another user's password. Ask one.")
        user = await self._existing(name)
        trusted = principal.role is Role.ADMIN and (not own or principal.kind is CredentialKind.TOKEN)
        if not trusted and not await self._passwords.matches(body.current or "", user.password_hash):
            raise invalid("current", "is not the password that the user has now")
        await self._accounts.change_user(name, password_hash=await self._passwords.hash(body.password))
        self._authenticator.forget()
        return Response(status_code=204)

    async def _existing(self, name: str) -> User:
        user = await self._accounts.user(name)
        if user is None:
            raise NotFoundError(f"There is no user {name!r}. See the list of users.")
        return user

    # -------------------------------------------------------------------------------------------- tokens

    async def tokens(self, request: Request) -> Response:
        """One's own tokens; for an administrator all."""
        found = await self._accounts.all_tokens(_only_own(principal_of(request)))
        return json_response(TokenList(items=tuple(TokenView.model_validate(token) for token in found)))

    async def add_token(self, request: Request, body: NewToken) -> Response:
        """Make a token for oneself.

        It can do no more than the login that it is made with, and ends after 90 days unless told otherwise; one that
        is made with a token ends with that at the latest. Its secret is in the answer, and nowhere else.
        """
        _note(request, "token.create", body.name)
        principal = principal_of(request)
        role = body.role or principal.role
        if not principal.role.covers(role):
            raise forbidden(
                f"A token can do no more than the login that makes it, which has the role {principal.role}."
            )
        nouns = _nouns(body.nouns, principal)
        expires_at = self._end_of_token(body.days, principal)
        credential, token = await self._accounts.add_token(
            principal.user_id, principal.user, body.name, role, sorted(nouns), expires_at
        )
        note_of(request).target = str(token.id)
        view = TokenView.model_validate(token)
        return json_response(
            NewTokenView(**view.model_dump(), token=credential.token), 201, {"Cache-Control": "no-store"}
        )

    def _end_of_token(self, days: int | None, principal: Principal) -> datetime:
        """When a new token ends: no later than the token that it is made with, or that one could live for ever."""
        wished = self._clock.now() + timedelta(days=days or self._token_days)
        if principal.kind is not CredentialKind.TOKEN or wished <= principal.expires_at:
            return wished
        if days is not None:
            ends = principal.expires_at.strftime("%Y-%m-%d %H:%M UTC")
            raise forbidden(
                f"A token lives no longer than the token that makes it, which ends on {ends}, before {days} days are "
                "over. Ask for fewer days, or log in with a password.",
                expires_at=principal.expires_at.isoformat(),
            )
        return principal.expires_at

    async def revoke_token(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the path's word
        """Revoke a token: one's own, or as an administrator anybody's."""
        _note(request, "token.revoke", str(id))
        if not await self._accounts.revoke_token(id, _only_own(principal_of(request))):
            raise NotFoundError(f"There is no token {id} that you may revoke. See the list of tokens.")
        self._authenticator.forget()
        return Response(status_code=204)

    # -------------------------------------------------------------------------------------------- sessions and audit

    async def sessions(self, request: Request) -> Response:
        """One's own open sessions; for an administrator all."""
        found = await self._accounts.all_sessions(_only_own(principal_of(request)))
        return json_response(SessionList(items=tuple(SessionView.model_validate(session) for session in found)))

    async def end_session(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the path's word
        """End a session: one's own, or as an administrator anybody's."""
        _note(request, "session.close", str(id))
        if not await self._accounts.end_session(id, _only_own(principal_of(request))):
            raise NotFoundError(f"There is no session {id} that you may end. See the list of sessions.")
        self._authenticator.forget()
        return Response(status_code=204)

    async def audit(
        self,
        user: Annotated[str | None, Query(max_length=200)] = None,
        target: Annotated[str | None, Query(max_length=200, description="Id, or the name that the request had")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: Annotated[str | None, Query(max_length=20, pattern=r"^\d{1,18}$")] = None,
    ) -> Response:
        """Who did what, the newest first: every request that changes something, allowed or refused."""
        found = await self._audit.page(limit, int(cursor) if cursor else None, user, target)
        items = tuple(AuditView(id=number, **vars(entry)) for number, entry in found)
        return json_response(AuditPage(items=items, next_cursor=str(items[-1].id) if len(items) == limit else None))


def _note(request: Request, verb: str, target: str) -> None:
    note = note_of(request)
    note.verb, note.target = verb, target


def _only_own(principal: Principal) -> UUID | None:
    """Whose things a caller may act on: its own, or (None) everybody's."""
    return None if principal.role is Role.ADMIN else principal.user_id


def _nouns(wanted: Collection[str], principal: Principal) -> frozenset[str]:
    if unknown := set(wanted) - SCOPE_NOUNS:
        raise invalid("nouns", f"{min(unknown)!r} is not known; there are {', '.join(sorted(SCOPE_NOUNS))}")
    if not principal.nouns:
        return frozenset(wanted)
    if beyond := set(wanted) - principal.nouns:
        raise forbidden(f"A token can do no more than the login that makes it, which does not cover {min(beyond)}.")
    return frozenset(wanted) or principal.nouns
