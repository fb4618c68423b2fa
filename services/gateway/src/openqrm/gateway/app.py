"""The gateway, put together: the only place that knows all of its parts."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from nats.errors import Error as NatsError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import OpenQrmError
from openqrm.gateway.adapters.accounts import Accounts
from openqrm.gateway.adapters.login_failures import LoginFailures
from openqrm.gateway.adapters.tables import SCHEMA
from openqrm.gateway.adapters.tickets import Tickets
from openqrm.gateway.ask import Questions
from openqrm.gateway.audit import AuditLog
from openqrm.gateway.auth.authenticator import Authenticator
from openqrm.gateway.auth.first_start import FirstStart
from openqrm.gateway.auth.passwords import Passwords
from openqrm.gateway.auth.roles import ACCESS, WEBSOCKET_ACCESS
from openqrm.gateway.commands import Commands
from openqrm.gateway.console import Consoles
from openqrm.gateway.events.event import LiveEvent
from openqrm.gateway.events.hub import EventHub
from openqrm.gateway.events.reader import StreamReader
from openqrm.gateway.events.websocket import EventSocket
from openqrm.gateway.guard import Guard, guarded_route
from openqrm.gateway.images import ImageFolder
from openqrm.gateway.middleware import Edge
from openqrm.gateway.problems import ProblemDocument, problem_response
from openqrm.gateway.routes import (
    consoles,
    events,
    hosts,
    images,
    macs,
    meta,
    networks,
    operations,
    partitions,
    people,
    resources,
    session,
    traces,
)
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import API, Routes
from openqrm.gateway.settings import GatewaySettings
from openqrm.gateway.waiters import Waiters
from openqrm.persistence.database import Database
from openqrm.persistence.migrations import migrate
from openqrm.telemetry.tracing import Tracing

SERVICE = "gateway"
SHUTDOWN_SECONDS = 5

DESCRIPTION = """\
Log in with POST /api/v1/session, or send `Authorization: Bearer <token>`. Roles: viewer reads, operator works with \
partitions, networks and images, admin does everything.

What takes long answers 202 with an operation; follow it at /api/v1/operations/{id}?wait=30, by the events, or send \
the request itself with `?wait=60`. An operation that ended without success is an answer, too: 200 with its `state` \
and `error`.

Lists are pages: pass `next_cursor` on as `cursor`. Things have ETags: send them as If-Match to change only what you \
have seen. Errors are problem documents (RFC 9457) whose `detail` says what happened and what to do next.

Live events come at /api/v1/events?follow=true (Server-Sent Events) and at /api/v1/events/ws (WebSocket), each with a \
sequence number to resume from.\
"""


class StartupError(Exception):
    """The gateway cannot start; the message is one sentence for the person who started it."""


class GatewayService:
    """The gateway in this process. It starts and stops the bus that it is given."""

    def __init__(self, bus: Bus, clock: Clock, settings: GatewaySettings, tracing: Tracing) -> None:
        self.settings = settings
        self.bus = bus
        self.database = Database(settings.dsn, SCHEMA, settings.pool_size)
        self._clock = clock
        self._log = structlog.get_logger(service=SERVICE)

        accounts = Accounts(self.database, clock)
        passwords = Passwords()
        self._first_start = FirstStart(self.database, accounts, passwords, settings, clock)
        self._audit = AuditLog(self.database, settings.dsn)
        authenticator = Authenticator(accounts, clock, settings.credential_cache_seconds)
        guard = Guard(authenticator, self._audit, clock)

        questions = Questions(bus)
        waiters = Waiters()
        reader = StreamReader(bus, SERVICE)
        self._hub = EventHub(bus, reader, waiters, settings.event_queue, settings.event_memory)
        self._consoles = Consoles(bus, questions, clock)
        tickets = Tickets(self.database, clock)
        self._images = ImageFolder(settings, clock)

        app = _application(guard)
        routes = Routes(app, guarded_route(guard))
        nouns = Nouns(routes, Commands(bus, questions, waiters, clock, settings.accept_seconds), questions)
        failures = LoginFailures(self.database, clock, settings.login_failures)
        desk = session.LoginDesk(accounts, passwords, failures, authenticator, settings)
        meta.add(routes, app, self.health)
        session.add(routes, desk, accounts, authenticator, settings.session_hours)
        partitions.add(nouns)
        consoles.add(nouns, tickets, self._consoles, clock, settings.ticket_seconds)
        hosts.add(nouns)
        networks.add(nouns)
        images.add(nouns, self._images)
        macs.add(nouns)
        resources.add(nouns)
        operations.add(nouns)
        events.add(routes, self._hub, reader, authenticator, settings.keepalive_seconds)
        traces.add(nouns, reader)
        people.People(accounts, passwords, authenticator, self._audit, clock, settings.token_days).add(routes)
        _check_table(app)

        event_socket = EventSocket(self._hub, settings.keepalive_seconds)

        async def follow(websocket: WebSocket) -> None:
            await events.serve_events(
                websocket, guard, event_socket, self._hub, authenticator, settings.keepalive_seconds
            )

        async def console(websocket: WebSocket) -> None:
            await consoles.serve_console(websocket, tickets, self._consoles)

        for path, endpoint in ((events.SOCKET_PATH, follow), (f"{API}/console/{{ticket}}", console)):
            assert path in WEBSOCKET_ACCESS  # noqa: S101 - the table is complete
            app.router.routes.append(WebSocketRoute(path, endpoint))

        self._janitor = images.ImageJanitor(nouns, self._images)
        self._hub.listen(self._clean_images)
        self._chores: set[asyncio.Task[None]] = set()
        self.fastapi = app
        self.api: ASGIApp = Edge(app, tracing, clock, settings.body_max_bytes, settings.tls)
        """The application, for any ASGI server."""
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self._has_parts = False

    # -------------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Bring the tables up to date, follow the events and listen. Raises StartupError."""
        listening = self._listen()
        try:
            await self.start_parts()
            config = self._uvicorn_config()
            self._server = _Server(config)
            self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="gateway http")
            while not self._server.started:
                if self._serving.done():
                    raise StartupError("The gateway's HTTP server ended as soon as it began; the log says why.")
                await self._clock.sleep(0.01)
        except BaseException:
            listening.close()
            await self.stop()
            raise
        self._socket = listening
        self._log.info("the gateway answers", url=self.url)

    async def start_parts(self) -> None:
        """Everything but listening, for another ASGI server that serves `api`."""
        self._has_parts = True
        try:
            await asyncio.to_thread(self._images.start)
        except OSError as error:
            raise StartupError(
                f"The gateway cannot use its image folder {self.settings.image_folder}: {error.strerror}; "
                "set OPENQRM_GATEWAY_IMAGE_FOLDER to one that it can write."
            ) from error
        try:
            await migrate(self.database, "openqrm.gateway")
            await self._first_start.run()
        except OpenQrmError as error:
            raise StartupError(f"The gateway cannot use its database: {error.message}") from error
        self._audit.start()
        try:
            await self.bus.start()
            await self._hub.start()
        except (OpenQrmError, NatsError, OSError) as error:
            raise StartupError(
                f"The gateway cannot use the bus (NATS): {error or type(error).__name__}; "
                "check OPENQRM_NATS_URL, its login, and that the streams are provisioned."
            ) from error

    async def stop(self) -> None:
        """Say goodbye to live clients, finish what is being answered, stop. Harmless when repeated."""
        self._hub.close()
        self._consoles.close()
        if self._server and self._serving:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            self._server = self._serving = None
        if self._socket:
            self._socket.close()
            self._socket = None
        for task in self._chores:
            task.cancel()
        if not self._has_parts:
            return
        self._has_parts = False
        for stop in (self._hub.stop, self.bus.stop, self._audit.stop, self.database.close):
            try:
                await stop()
            except Exception as error:  # noqa: BLE001 - what is away already must not keep the rest from ending
                self._log.warning("a part did not stop cleanly", part=stop.__qualname__, error=str(error))

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        if self._socket is None:
            raise RuntimeError("the gateway is not started")
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host = self.settings.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
            host = "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.settings.tls else 'http'}://{host}:{self.port}"

    async def health(self) -> meta.Health:
        """Whether the bus and the database are reachable."""
        database = True
        try:
            async with asyncio.timeout(2):
                await self.database.ping()
        except (OpenQrmError, TimeoutError):
            database = False
        trouble = [self.bus.trouble or "", "" if database else "PostgreSQL cannot be reached."]
        bus, detail = not trouble[0], " ".join(filter(None, trouble))
        return meta.Health(status="degraded" if detail else "ok", bus=bus, database=database, detail=detail)

    def _listen(self) -> socket.socket:
        host, port = self.settings.host, self.settings.port
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = socket.socket(family, kind, protocol)
        except OSError as error:
            raise StartupError(
                f"The gateway cannot listen on {host}:{port}: {error.strerror}; set OPENQRM_GATEWAY_HOST."
            ) from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            reason = {
                errno.EADDRINUSE: "another program listens there already; stop it, or set OPENQRM_GATEWAY_PORT",
                errno.EACCES: "this user may not; take a port above 1023 with OPENQRM_GATEWAY_PORT",
            }.get(error.errno or 0, f"{error.strerror}; set OPENQRM_GATEWAY_HOST and OPENQRM_GATEWAY_PORT")
            raise StartupError(f"The gateway cannot listen on {host}:{port}: {reason}.") from error
        return listening

    def _uvicorn_config(self) -> uvicorn.Config:
        proxies = self.settings.trusted_proxies
        config = uvicorn.Config(
            self.api,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies or None,
            ws="websockets-sansio",
            ws_per_message_deflate=False,  # its memory per client is more than all else of a client
            ws_max_size=self.settings.body_max_bytes,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            timeout_keep_alive=30,
            ssl_certfile=str(self.settings.tls_cert) if self.settings.tls_cert else None,
            ssl_keyfile=str(self.settings.tls_key) if self.settings.tls_key else None,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise StartupError(
                f"The gateway cannot use its TLS certificate {self.settings.tls_cert} and key: {error}; "
                "both must be PEM files that belong together."
            ) from error
        return config

    # -------------------------------------------------------------------------------------------- chores

    def _clean_images(self, event: LiveEvent) -> None:
        if self._janitor.wants(event):
            task = asyncio.create_task(self._clean(event), name="image janitor")
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)

    async def _clean(self, event: LiveEvent) -> None:
        try:
            await self._janitor.clean(event)
        except (OpenQrmError, ValueError) as error:
            self._log.warning("a deleted image's file stays", error=str(error))


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _application(guard: Guard) -> FastAPI:
    app = FastAPI(
        title="openQRM", version=version("openqrm-gateway"), description=DESCRIPTION,
        docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False,
    )  # fmt: skip

    async def http_error(request: Request, error: Exception) -> Response:
        """Errors from outside of any route: no such address, no such method."""
        problem: Exception = error
        with suppress(KeyError):
            try:
                await guard.unknown(request.scope)
            except Exception as refused:  # noqa: BLE001 - becomes the answer
                problem = refused
        return problem_response(problem, request.url.path)

    app.add_exception_handler(HTTPException, http_error)

    no_such_page = app.router.default

    async def nothing_there(scope: Scope, receive: Receive, send: Send) -> None:
        """No route has this address: a WebSocket, too, is told so with a problem document."""
        if scope["type"] != "websocket":
            await no_such_page(scope, receive, send)
            return
        problem: Exception = HTTPException(404)
        try:
            await guard.unknown(scope)
        except Exception as refused:  # noqa: BLE001 - becomes the answer
            problem = refused
        await WebSocket(scope, receive, send).send_denial_response(problem_response(problem, scope["path"]))

    app.router.default = nothing_there

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs", {})
            schemas["ProblemDocument"] = problem
            document["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "openqrm_session"},
            }
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    needed = ACCESS[f"{method.upper()} {path}"]
                    operation["security"] = [{"token": []}, {"session": []}] if needed else []
                    if needed:
                        operation["x-role"] = needed.value
                    if operation["responses"].get("422", {}).get("description") == "Validation Error":
                        operation["responses"]["422"] = {
                            "description": "A field cannot be accepted; `fields` says which and why",
                            "content": {
                                "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
                            },
                        }
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _check_table(app: FastAPI) -> None:
    """Every entry of the table of roles has its route; that every route has its entry, the route class checks."""
    there = {
        f"{method} {route.path_format}"
        for route in app.routes
        if hasattr(route, "path_format")
        for method in getattr(route, "methods", ())
    }
    if missing := set(ACCESS) - there:
        raise RuntimeError(f"openqrm.gateway.auth.roles.ACCESS has entries without a route: {sorted(missing)}")


def create_api(bus: Bus, clock: Clock, settings: GatewaySettings, tracing: Tracing) -> FastAPI:
    """The API without its outermost layer, for its documents and for tools; call nothing of it before a start."""
    return GatewayService(bus, clock, settings, tracing).fastapi
