"""Operations: requested changes, from acceptance to end."""

from typing import Annotated

import typer

from openqrm.cli.arguments import All, Cursor, Limit
from openqrm.cli.client import ref
from openqrm.cli.output import Column
from openqrm.cli.session import Session, command

app = typer.Typer(help="Operations: requested changes, from acceptance to end.", no_args_is_help=True)

Operation = Annotated[str, typer.Argument(help="The operation's id")]

_COLUMNS: list[Column] = [
    ("ID", "id"),
    ("VERB", "verb"),
    ("TARGET", "target_name"),
    ("STATE", "state"),
    ("%", "progress"),
    ("BY", "requested_by"),
    ("CREATED", lambda item: item["created_at"][:19]),
    ("ERROR", lambda item: (item["error"] or {}).get("message", "")),
]


@command(app, "list")
def list_(
    session: Session,
    state: Annotated[str | None, typer.Option(help="Such as running, queued, waiting, failed")] = None,
    verb: Annotated[str | None, typer.Option(help="Such as partition.start")] = None,
    target: Annotated[str | None, typer.Option(help="Id of the thing that is changed")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    everything: All = False,
) -> None:
    """List operations, the newest first."""
    session.page(
        "operations", _COLUMNS, everything, state=state, verb=verb, target_id=target, limit=limit, cursor=cursor
    )


@command(app, "show")
def show(session: Session, operation: Operation) -> None:
    """Show one operation."""
    session.output.show(session.client.get(f"operations/{ref(operation)}"))


@command(app, "wait")
def wait(session: Session, operation: Operation) -> None:
    """Wait for an operation's end; fail when it failed."""
    session.finish(session.client.get(f"operations/{ref(operation)}"))


@command(app, "cancel", operation=True)
def cancel(session: Session, operation: Operation) -> None:
    """End an operation that is queued, waiting, or can be cancelled while it runs."""
    session.operate("POST", f"operations/{ref(operation)}/cancel")
