"""What stands before every route: login, role, scope, origin and content type; and after it: problems and the audit."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from openqrm.contracts.clock import Clock
from openqrm.gateway.audit import AuditEntry, AuditLog, Throttle
from openqrm.gateway.auth.authenticator import Authenticator, check_same_origin
from openqrm.gateway.auth.principal import CredentialKind, Principal
from openqrm.gateway.auth.roles import ACCESS, Role, noun_of
from openqrm.gateway.problems import HttpError, as_http_error, forbidden, problem_response
from openqrm.telemetry.tracing import current_trace_id

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PRINCIPAL = "openqrm.principal"
NOTE = "openqrm.audit"
BROWSER_PAGES = frozenset({"/api/v1/docs"})

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class AuditNote:
    """What a handler knows about its request that the audit should say."""

    verb: str = ""
    target: str = ""
    operation_id: UUID | None = None
    user: str = ""


def principal_of(request: Request) -> Principal:
    """Who sent this request; only where a login is needed."""
    principal: Principal = request.scope[PRINCIPAL]
    return principal


def note_of(request: Request) -> AuditNote:
    """Where a handler says what the audit should know."""
    note: AuditNote = request.scope.setdefault(NOTE, AuditNote())
    return note


def remote_of(scope: Scope) -> str:
    """The address that the request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class Guard:
    """Lets requests through to their routes, or not, and keeps the audit."""

    def __init__(self, authenticator: Authenticator, audit: AuditLog, clock: Clock) -> None:
        self._authenticator = authenticator
        self._audit = audit
        self._clock = clock
        self._throttle = Throttle(clock)

    async def admit(self, headers: Headers, needed: Role, path: str) -> Principal:
        """Who is asking, if that one may do what needs the role `needed`."""
        principal = await self._authenticator.identify(headers)
        _check_right(principal, needed, path)
        return principal

    async def run(self, request: Request, route: APIRoute, needed: Role | None, handler: Handler) -> Response:
        """Carry out one request."""
        code = ""
        try:
            if needed is not None:
                principal = await self._authenticator.identify(request.headers)
                request.scope[PRINCIPAL] = principal
                _check_right(principal, needed, route.path_format)
                if request.method in CHANGING and principal.kind is CredentialKind.SESSION:
                    check_same_origin(request.headers, request.url.scheme)
            if route.body_field is not None:
                _check_content_type(request.headers)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the client gets a problem document
            problem = as_http_error(error)
            code = problem.code
            if problem.status == 401 and route.path_format in BROWSER_PAGES and _is_browser(request.headers):
                response = RedirectResponse("/", 303)
            else:
                response = problem_response(problem, request.url.path)
        if request.method in CHANGING:
            await self._record(request, response.status_code, code)
        return response

    async def unknown(self, scope: Scope) -> None:
        """Before it is said that an address does not exist: who is not logged in learns nothing."""
        if scope["path"].startswith("/api/"):
            await self._authenticator.identify(Headers(scope=scope))

    async def _record(self, request: Request, status: int, code: str) -> None:
        remote = remote_of(request.scope)
        principal: Principal | None = request.scope.get(PRINCIPAL)
        if principal is None and not self._throttle.allows(remote):
            return
        note = note_of(request)
        await self._audit.record(
            AuditEntry(
                at=self._clock.now(),
                user_name=principal.user if principal else note.user,
                credential=principal.credential if principal else "",
                method=request.method,
                path=_clean(request.url.path)[:1000],
                verb=note.verb,
                target=_clean(note.target)[:200],
                operation_id=note.operation_id,
                status=status,
                code=code,
                remote=remote,
                trace_id=current_trace_id(),
            )
        )


def _check_right(principal: Principal, needed: Role, path: str) -> None:
    noun = noun_of(path)
    if not principal.reaches(noun):
        raise forbidden(
            f"This token's scope is {', '.join(sorted(principal.nouns))}, which does not cover {noun}. "
            "Use another token.",
            scope=sorted(principal.nouns),
        )
    if not principal.role.covers(needed):
        raise forbidden(
            f"This needs the role {needed}; {principal.user} has the role {principal.role} here. "
            "Ask an administrator, or use another token.",
            needed=needed.value,
            role=principal.role.value,
        )


def _clean(text: str) -> str:
    """Without what PostgreSQL does not keep."""
    return text.replace("\x00", "/").encode("utf-8", "replace").decode()


def _is_browser(headers: Headers) -> bool:
    return "text/html" in headers.get("accept", "")


def _check_content_type(headers: Headers) -> None:
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    ):
        return
    raise HttpError(
        415,
        "unsupported-media-type",
        f"The body is sent as {content_type or 'nothing in particular'}, and JSON is needed. "
        "Send it with Content-Type: application/json.",
        headers={"Accept": "application/json"},
    )


def guarded_route(guard: Guard) -> type[APIRoute]:
    """A route class whose routes are all guarded, by the table of `auth.roles`."""

    class GuardedRoute(APIRoute):
        """A route behind the guard."""

        def get_route_handler(self) -> Callable[[Request], Any]:
            handler = super().get_route_handler()
            method = " ".join(self.methods or ())  # one, see Routes.add
            key = f"{method} {self.path_format}"
            if key not in ACCESS:
                raise RuntimeError(f"{key} has no entry in openqrm.gateway.auth.roles.ACCESS")
            needed = ACCESS[key]

            async def guarded(request: Request) -> Response:
                return await guard.run(request, self, needed, handler)

            return guarded

    return GuardedRoute
