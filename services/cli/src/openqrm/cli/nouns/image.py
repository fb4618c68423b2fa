"""Images: what disks are made from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from openqrm.cli.arguments import All, Cursor, Image, Limit
from openqrm.cli.client import ref
from openqrm.cli.errors import CliError
from openqrm.cli.output import Column, Output
from openqrm.cli.session import Session, command
from openqrm.cli.values import given

app = typer.Typer(help="Images that disks are made from.", no_args_is_help=True)

_PIECE = 1024 * 1024
_COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("FORMAT", "format"),
    ("DISK MiB", "virtual_size_mib"),
    ("FILE BYTES", "size_bytes"),
    ("SHA-256", lambda item: item["sha256"][:12]),
    ("ID", "id"),
]


@command(app, "list")
def list_(session: Session, limit: Limit = 100, cursor: Cursor = None, everything: All = False) -> None:
    """List images."""
    session.page("images", _COLUMNS, everything, limit=limit, cursor=cursor)


@command(app, "show")
def show(session: Session, name: Image) -> None:
    """Show one image."""
    session.output.show(session.client.get(f"images/{ref(name)}"))


@command(app, "import", operation=True)
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="qcow2, raw or ISO")],
    name: Annotated[str | None, typer.Option(help="Its name; the file's when left out")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must have; computed before when left out")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="qcow2|raw|iso", help="Recognised when left out")
    ] = None,
) -> None:
    """Upload an image from a file."""
    size = file.stat().st_size
    digest = sha256 or _digest(file, size, session.output)
    params = given(name=name or file.stem, description=description, sha256=digest, format=format_)
    content = _pieces(file, size, session.output, "sending")
    # The length goes ahead, so that the server can refuse what is too large before it comes.
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    session.operate("POST", "images", params=params, content=content, headers=headers, timeout=24 * 3600)


@command(app, "delete", operation=True)
def delete(session: Session, name: Image) -> None:
    """Forget an image; disks made from it stay."""
    session.operate("DELETE", f"images/{ref(name)}")


def _digest(file: Path, size: int, output: Output) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(file, size, output, "reading"):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path, size: int, output: Output, doing: str) -> Iterator[bytes]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    hidden = not output.messages.is_terminal
    try:
        with (
            file.open("rb") as source,
            Progress(*columns, console=output.messages, transient=True, disable=hidden) as bar,
        ):
            task = bar.add_task(f"{doing} {file.name}", total=size)
            while piece := source.read(_PIECE):
                yield piece
                bar.advance(task, len(piece))
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.") from error
