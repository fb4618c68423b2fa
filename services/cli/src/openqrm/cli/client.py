"""A thin client of the API."""

import secrets
import ssl
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from openqrm.cli.config import Server
from openqrm.cli.errors import CliError, ProblemError

Json = dict[str, Any]

API = "/api/v1"
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "rejected"})
PAGE = 500


def ref(name: str) -> str:
    """An id or a name as a part of a path."""
    return quote(name, safe="")


class Client:
    """Speaks to one server. Every command is one trace, which the server's services go on with."""

    def __init__(self, server: Server, timeout: float = 30.0) -> None:
        self.server = server
        self._timeout = timeout
        self.trace_id = secrets.token_hex(16)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        if "_http" in self.__dict__:
            self._http.close()

    @cached_property
    def _http(self) -> httpx.Client:
        headers = {"User-Agent": "openqrm-cli", "Accept": "application/json"}
        if self.server.token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        try:
            return httpx.Client(
                base_url=self.server.url, headers=headers, timeout=self._timeout, verify=self.tls() or True
            )
        except ValueError as error:  # httpx refuses headers and addresses of strange characters
            raise CliError(f"The address or the token of {self.server.source} is damaged: {error}.") from error

    def tls(self) -> ssl.SSLContext | None:
        """How to know the server by its certificate; None: by the system's authorities."""
        if not self.server.ca_file:
            return None
        try:
            return ssl.create_default_context(cafile=self.server.ca_file)
        except OSError as error:
            raise CliError(f"The CA file {self.server.ca_file} cannot be used: {error}.") from error

    # -------------------------------------------------------------------------------------------- requests

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        traced: bool = False,
        timeout: float | None = None,
    ) -> httpx.Response:
        """One request; anything but success is raised as a CliError."""
        extra = dict(headers or {})
        if traced:
            extra["traceparent"] = f"00-{self.trace_id}-{secrets.token_hex(8)}-01"
        given = {key: value for key, value in (params or {}).items() if value not in (None, [], ())}
        try:
            answer = self._http.request(
                method,
                path if path.startswith("/") else f"{API}/{path}",
                json=body,
                content=content,
                params={key: _text(value) for key, value in given.items()},
                headers=extra,
                timeout=timeout or self._timeout,
            )
        except httpx.TimeoutException as error:
            raise CliError(
                f"{self.server.url} did not answer in time. Check the server, then see with 'openqrm operation list' "
                "whether the request took effect."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.server, error) from error
        if answer.status_code >= 300:
            raise _refused(self.server, answer)
        return answer

    def get(self, path: str, **params: Any) -> Json:
        """A document."""
        return self._json(self.send("GET", path, params=params))

    def put(self, path: str, body: object) -> None:
        """Set something."""
        self.send("PUT", path, body=body, traced=True)

    def post(self, path: str, body: object = None, **headers: str) -> Json:
        """Make something that is no operation."""
        return self._json(self.send("POST", path, body=body, headers=headers, traced=True))

    def patch(self, path: str, body: object) -> Json:
        """Change something that is no operation."""
        return self._json(self.send("PATCH", path, body=body, traced=True))

    def delete(self, path: str) -> Json:
        """Delete something that is no operation."""
        answer = self.send("DELETE", path, traced=True)
        return self._json(answer) if answer.content else {}

    def pages(self, path: str, **params: Any) -> Iterator[Json]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **{"limit": PAGE, **params}, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def websocket(self, path: str, params: Mapping[str, Any] | None = None) -> tuple[str, dict[str, str]]:
        """The address and the headers of a WebSocket."""
        url = self.server.url.replace("http", "ws", 1) + (path if path.startswith("/") else f"{API}/{path}")
        given = {key: value for key, value in (params or {}).items() if value not in (None, [], ())}
        query = f"?{urlencode(given, doseq=True)}" if given else ""
        return url + query, {"Authorization": f"Bearer {self.server.token}"} if self.server.token else {}

    def _json(self, answer: httpx.Response) -> Json:
        try:
            document = answer.json()
        except ValueError as error:
            raise _strange(self.server, answer.status_code) from error
        return document if isinstance(document, dict) else {"items": document}


def _text(value: object) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def unreachable(server: Server, error: Exception) -> CliError:
    """The server cannot be reached."""
    reason = str(error) or type(error).__name__
    return CliError(
        f"openQRM cannot be reached at {server.url} (known from {server.source}): {reason}. "
        "Start it there (make up), or name another one with --url or 'openqrm login URL'."
    )


def _refused(server: Server, answer: httpx.Response) -> CliError:
    try:
        document = answer.json()
        if not isinstance(document, dict) or "detail" not in document:
            raise ValueError("no problem document")
    except ValueError:
        return _strange(server, answer.status_code)
    if answer.status_code == 401:
        return CliError(
            f"{document['detail']} The server is {server.url}; 'openqrm login {server.url}' gets a new token.", 3
        )
    return ProblemError(answer.status_code, document)


def _strange(server: Server, status: int) -> CliError:
    return CliError(
        f"What answers at {server.url} is not openQRM (HTTP {status}, no answer of ours). Check the address."
    )
