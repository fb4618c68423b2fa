"""What every command has: the options that all share, a client, and an output."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

from openqrm.cli.client import Client, Json
from openqrm.cli.config import find_server
from openqrm.cli.errors import CliError
from openqrm.cli.operations import follow
from openqrm.cli.output import Column, Output, OutputFormat

Function = TypeVar("Function", bound=Callable[..., None])

_COMMON = "Common options"
_OPERATION = "Operation options"

OutputOption = Annotated[
    OutputFormat | None,
    typer.Option(
        "--output", "-o", help="table for people (the default), json for scripts", envvar="OPENQRM_OUTPUT",
        rich_help_panel=_COMMON,
    ),
]  # fmt: skip
UrlOption = Annotated[
    str | None, typer.Option("--url", help="The server's address; else OPENQRM_URL", rich_help_panel=_COMMON)
]

_ALL: dict[str, tuple[Any, Any]] = {"output": (OutputOption, None), "url": (UrlOption, None)}

_OPERATIONS: dict[str, tuple[Any, Any]] = {
    "wait": (
        Annotated[
            bool,
            typer.Option(
                "--wait/--no-wait",
                help="Wait for the operation's end, or print its id and go",
                rich_help_panel=_OPERATION,
            ),
        ],
        True,
    ),
    "key": (
        Annotated[
            str | None,
            typer.Option(
                "--idempotency-key", help="The same key twice gives one operation", rich_help_panel=_OPERATION
            ),
        ],
        None,
    ),
    "if_revision": (
        Annotated[
            int | None,
            typer.Option(
                "--if-revision", help="Refuse if the thing has another revision by now", rich_help_panel=_OPERATION
            ),
        ],
        None,
    ),
}


@dataclass(frozen=True)
class Defaults:
    """Shared options that stood before the command's name."""

    output: OutputFormat | None = None
    url: str | None = None


@dataclass
class Session:
    """One run of a command."""

    output: Output
    url: str | None = None
    wait: bool = True
    key: str | None = None
    if_revision: int | None = None
    _client: Client | None = field(default=None, init=False)

    @property
    def client(self) -> Client:
        """The client, made when it is first needed."""
        if self._client is None:
            self._client = Client(find_server(self.url))
        return self._client

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.__exit__()

    def operate(
        self, method: str, path: str, body: object = None, params: dict[str, Any] | None = None, content: Any = None,
        headers: dict[str, str] | None = None, timeout: float | None = None,
    ) -> None:  # fmt: skip
        """Request an operation; wait for its end with a progress bar, and fail when it failed."""
        headers = dict(headers or {})
        if self.key:
            headers["Idempotency-Key"] = self.key
        if self.if_revision is not None:
            headers["If-Match"] = f'W/"{self.if_revision}"'
        answer = self.client.send(
            method, path, body=body, content=content, params=params, headers=headers, traced=True, timeout=timeout
        )
        self.finish(answer.json())

    def finish(self, operation: Json) -> None:
        """Wait for an operation's end if that is wished, and say how it ended."""
        if not self.wait:
            if self.output.as_json:
                self.output.json(operation)
            else:
                self.output.console.print(operation["id"])
            return
        operation = follow(self.client, operation, self.output)
        if self.output.as_json:
            self.output.json(operation)
        if operation["state"] == "succeeded":
            if not self.output.as_json:
                self.output.say(f"{operation['verb']} {operation['target_name']}: succeeded")
            return
        error = operation.get("error") or {}
        sentence = error.get("message") or "It did not succeed, and nobody said why."
        raise CliError(f"{operation['verb']} {operation['target_name']}: {operation['state']}. {sentence}")

    def page(self, path: str, columns: list[Column], everything: bool, **params: Any) -> None:
        """Print a list: one page, or everything."""
        if everything:
            items = self.client.pages(path, **{key: value for key, value in params.items() if key != "limit"})
            if self.output.as_json:
                self.output.json({"items": list(items), "next_cursor": None})
            else:
                self.output.table(items, columns)
            return
        page = self.client.get(path, **params)
        if self.output.as_json:
            self.output.json(page)
            return
        self.output.table(page["items"], columns)
        if page.get("next_cursor"):
            self.output.say(f"There are more: use --all, or --cursor {page['next_cursor']}")


def command(app: typer.Typer, name: str, *, operation: bool = False) -> Callable[[Function], Function]:
    """Make a function a command: it gets a Session first, and the shared options beside its own."""
    shared = _ALL | (_OPERATIONS if operation else {})

    def register(function: Function) -> Function:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @wraps(function)
        def run(context: typer.Context, **values: Any) -> None:
            defaults = context.obj or Defaults()
            mine = {key: values.pop(key) for key in shared}
            output = Output(mine.pop("output") or defaults.output or OutputFormat.TABLE)
            session = Session(output, **mine | {"url": mine["url"] or defaults.url})
            try:
                function(session, **values)
            except CliError as error:
                output.error(error.message)
                raise typer.Exit(error.exit_code) from None
            finally:
                session.close()

        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for key, (annotation, default) in shared.items()
        ]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        every = [first, *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), *extra]
        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        del run.__wrapped__
        app.command(name)(run)
        return function

    return register
