"""Logging in and out."""

import math
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openqrm.gateway.adapters.accounts import Accounts, User, name_key
from openqrm.gateway.adapters.login_failures import LoginFailures
from openqrm.gateway.auth.authenticator import COOKIE, Authenticator
from openqrm.gateway.auth.passwords import MAX_LENGTH, Passwords
from openqrm.gateway.auth.principal import CredentialKind
from openqrm.gateway.auth.roles import Role
from openqrm.gateway.guard import note_of, principal_of, remote_of
from openqrm.gateway.pages.render import login_page
from openqrm.gateway.problems import HttpError, forbidden, unauthenticated
from openqrm.gateway.routing import Routes, json_response
from openqrm.gateway.settings import GatewaySettings

TAG = "login"


class Login(BaseModel):
    """Who wants to come in."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"user": "admin", "password": "correct horse battery"}]}
    )

    user: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=MAX_LENGTH, repr=False)


class WhoAmI(BaseModel):
    """Who the caller is, as far as this server knows."""

    user: str
    role: Role = Field(description="What this login or token may do")
    credential: CredentialKind
    credential_id: str
    scope: tuple[str, ...] = Field(description="What a token is limited to; empty: nothing")
    expires_at: datetime


class LoginDesk:
    """Checks passwords and gives out sessions."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        failures: LoginFailures,
        authenticator: Authenticator,
        settings: GatewaySettings,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._failures = failures
        self._authenticator = authenticator
        self._settings = settings

    async def log_in(self, request: Request, login: Login) -> tuple[str, User]:
        """A new session's cookie; 401 when user and password do not belong together, 429 after too many such."""
        key, remote = name_key(login.user), remote_of(request.scope)
        wait = await self._failures.begin(key, remote)
        if wait > 0:
            seconds = math.ceil(wait)
            raise HttpError(
                429, "too-many-requests",
                f"Too many logins failed for this user or from this address. Wait {seconds} s, then try again.",
                details={"retry_after": seconds}, headers={"Retry-After": str(seconds)},
            )  # fmt: skip
        user = await self._accounts.user(login.user)
        matches = await self._passwords.matches(login.password, user.password_hash if user else None)
        if user is None or not matches or user.disabled:
            raise unauthenticated("User and password do not belong together. Check both and try again.")
        await self._failures.succeeded(key, remote)
        lifetime = timedelta(hours=self._settings.session_hours)
        agent = request.headers.get("user-agent", "")
        credential, _ = await self._accounts.open_session(user, lifetime, remote, agent)
        return credential.cookie, user

    def cookie(self, value: str, max_age: int) -> str:
        """The Set-Cookie header."""
        secure = "; Secure" if self._settings.tls else ""
        return f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}"


def add(
    routes: Routes, desk: LoginDesk, accounts: Accounts, authenticator: Authenticator, session_hours: float
) -> None:
    """Add the routes."""

    async def log_in(request: Request) -> Response:
        """Log in with user and password.

        The session comes as a cookie (HttpOnly, SameSite=Strict). Also takes the form of the page at `/`. Programs
        rather use a token.
        """
        note_of(request).verb = "session.open"
        form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        _refuse_other_sites(request)
        try:
            login = await _read(request, form)
            note_of(request).user = note_of(request).target = login.user
            cookie, user = await desk.log_in(request, login)
        except (HttpError, ValidationError) as error:
            if not form:
                raise
            problem = error if isinstance(error, HttpError) else unauthenticated("Fill in user and password.")
            return login_page(problem.detail, problem.status, problem.headers)
        header = {"Set-Cookie": desk.cookie(cookie, int(session_hours * 3600)), "Cache-Control": "no-store"}
        if form:
            return RedirectResponse("/api/v1/docs", 303, header)
        view = UserLoggedIn(user=user.name, role=user.role)
        return json_response(view, 201, header)

    async def log_out(request: Request) -> Response:
        """End the session that the request came with."""
        principal = principal_of(request)
        note_of(request).verb, note_of(request).target = "session.close", principal.credential
        if principal.kind is not CredentialKind.SESSION:
            raise HttpError(409, "conflict", "This request came with a token, not with a session. Revoke the token.")
        await accounts.end_session(principal.credential_id, None)
        authenticator.forget()
        return Response(status_code=204, headers={"Set-Cookie": desk.cookie("", 0)})

    async def whoami(request: Request) -> Response:
        """Who the caller is."""
        principal = principal_of(request)
        return json_response(
            WhoAmI(
                user=principal.user,
                role=principal.role,
                credential=principal.kind,
                credential_id=str(principal.credential_id),
                scope=tuple(sorted(principal.nouns)),
                expires_at=principal.expires_at,
            )
        )

    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": Login.model_json_schema()}}}}
    routes.add("POST", "/session", log_in, tag=TAG, answer=UserLoggedIn, status=201, fails=(429,),
               extra=body)  # fmt: skip
    routes.add("DELETE", "/session", log_out, tag=TAG, status=204, fails=(409,))
    routes.add("GET", "/whoami", whoami, tag=TAG, answer=WhoAmI)


class UserLoggedIn(BaseModel):
    """Who has logged in."""

    user: str
    role: Role


async def _read(request: Request, form: bool) -> Login:
    body = await request.body()
    if form:
        fields = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        return Login.model_validate(fields)
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HttpError(
            415, "unsupported-media-type", 'Send {"user": …, "password": …} with Content-Type: application/json.'
        )
    try:
        return Login.model_validate_json(body)
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors()):
            raise HttpError(400, "malformed", 'The body is not JSON. Send {"user": …, "password": …}.') from error
        raise


def _refuse_other_sites(request: Request) -> None:
    if request.headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
        raise forbidden("Another site's page may not log in here. Open this server's own page.")
