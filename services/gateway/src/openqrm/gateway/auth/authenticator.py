"""Finds out who is asking: by a bearer token or by the session's cookie."""

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit
from uuid import UUID

from starlette.datastructures import Headers

from openqrm.contracts.clock import Clock
from openqrm.gateway.adapters.accounts import Accounts
from openqrm.gateway.auth.principal import CredentialKind, Principal
from openqrm.gateway.auth.secrets import Credential, parse_credential
from openqrm.gateway.problems import forbidden, unauthenticated

COOKIE = "openqrm_session"
_CACHE_SIZE = 10_000


class Authenticator:
    """Checks credentials, remembering each for a few seconds."""

    def __init__(self, accounts: Accounts, clock: Clock, cache_seconds: float) -> None:
        self._accounts = accounts
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._cache: dict[tuple[CredentialKind, UUID], tuple[float, bytes, Principal]] = {}
        self._generation = 0

    async def identify(self, headers: Headers) -> Principal:
        """Who is asking; 401 when that is nobody we know."""
        kind, text = _credential_of(headers)
        credential = parse_credential(text)
        if credential is None:
            raise unauthenticated(
                "This is not a token of openQRM. Send 'Authorization: Bearer oqrm_…'."
                if kind is CredentialKind.TOKEN
                else "The session's cookie cannot be read. Log in again."
            )
        found = await self._find(kind, credential)
        if found is None or not credential.proves(found[0]):
            raise unauthenticated(
                "The token is not valid: it was revoked, or its user was disabled or deleted. Ask for a new one."
                if kind is CredentialKind.TOKEN
                else "The session has ended. Log in again."
            )
        principal = found[1]
        if principal.expires_at <= self._clock.now():
            ended = principal.expires_at.strftime("%Y-%m-%d %H:%M UTC")
            raise unauthenticated(f"The {kind} expired on {ended}. Log in again, or ask for a new token.")
        return principal

    def standing(self, principal: Principal, every_seconds: float) -> "Standing":
        """For a connection that stays open."""
        return Standing(self, self._clock, principal, every_seconds)

    async def still_valid(self, principal: Principal) -> bool:
        """Whether a credential that was checked before still holds."""
        if principal.expires_at <= self._clock.now():
            return False
        found = await self._accounts.find_credential(principal.kind, principal.credential_id)
        return found is not None and found[1].role is principal.role

    def forget(self) -> None:
        """Believe no credential that was checked before: users, tokens or sessions changed."""
        self._cache.clear()
        self._generation += 1

    async def _find(self, kind: CredentialKind, credential: Credential) -> tuple[bytes, Principal] | None:
        key = (kind, credential.id)
        now = self._clock.monotonic()
        cached = self._cache.get(key)
        if cached and cached[0] > now:
            return cached[1], cached[2]
        generation = self._generation
        found = await self._accounts.find_credential(kind, credential.id)
        if found and generation == self._generation:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = (now + self._cache_seconds, *found)
        return found


class Standing:
    """Looks now and then whether the credential of an open connection still holds."""

    def __init__(self, authenticator: Authenticator, clock: Clock, principal: Principal, every_seconds: float) -> None:
        self._authenticator = authenticator
        self._clock = clock
        self._principal = principal
        self._every = every_seconds
        self._checked_at = clock.monotonic()

    async def holds(self) -> bool:
        """Whether it does, as far as was seen lately."""
        now = self._clock.monotonic()
        if now - self._checked_at < self._every:
            return True
        self._checked_at = now
        return await self._authenticator.still_valid(self._principal)


def _credential_of(headers: Headers) -> tuple[CredentialKind, str]:
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise unauthenticated("Only bearer tokens are taken here. Send 'Authorization: Bearer oqrm_…'.")
        return CredentialKind.TOKEN, text.strip()
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        morsel = None
    if morsel is None:
        raise unauthenticated(
            "This needs a login. Send 'Authorization: Bearer <token>', or log in with POST /api/v1/session."
        )
    return CredentialKind.SESSION, morsel.value


def check_same_origin(headers: Headers, scheme: str) -> None:
    """Refuse what another site's page makes a logged-in browser send.

    Browsers say where a request comes from, in Sec-Fetch-Site or Origin, for everything that can change something.
    """
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return
    origin = headers.get("origin")
    if site is None and origin is not None:
        parts = urlsplit(origin)
        web_scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
        if parts.scheme == web_scheme and parts.netloc == headers.get("host"):
            return
    raise forbidden(
        "A login by cookie may change things only from this server's own pages, and this request does not say that "
        "it comes from one (Sec-Fetch-Site or Origin). Programs use a token: 'Authorization: Bearer oqrm_…'."
    )
