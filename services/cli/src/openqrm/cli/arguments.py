"""Arguments and options that many commands share, and what the shell offers for them."""

from typing import Annotated

import typer

from openqrm.cli.client import Client
from openqrm.cli.config import find_server
from openqrm.cli.errors import CliError


def _names(path: str, incomplete: str, **params: str) -> list[str]:
    """Names that the shell may offer; none when the server does not answer quickly."""
    try:
        with Client(find_server(), timeout=2) as client:
            page = client.get(path, limit=100, **params)
    except CliError:
        return []
    return [item["name"] for item in page["items"] if item["name"].startswith(incomplete)]


def _partitions(incomplete: str) -> list[str]:
    return _names("partitions", incomplete, **({"name": incomplete} if incomplete else {}))


def _hosts(incomplete: str) -> list[str]:
    return _names("hosts", incomplete, **({"name": incomplete} if incomplete else {}))


def _networks(incomplete: str) -> list[str]:
    return _names("networks", incomplete)


def _images(incomplete: str) -> list[str]:
    return _names("images", incomplete)


Partition = Annotated[str, typer.Argument(help="The partition's name or id", autocompletion=_partitions)]
Host = Annotated[str, typer.Argument(help="The host's name or id", autocompletion=_hosts)]
Network = Annotated[str, typer.Argument(help="The network's name or id", autocompletion=_networks)]
Image = Annotated[str, typer.Argument(help="The image's name or id", autocompletion=_images)]
HostOption = Annotated[str | None, typer.Option(help="The host's name or id", autocompletion=_hosts)]

All = Annotated[bool, typer.Option("--all", help="Every page, not only the first")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="Items on the page")]
Cursor = Annotated[str | None, typer.Option(help="Where the last page said that the next one begins")]
Descending = Annotated[bool, typer.Option("--descending", help="The other way round")]
Tag = Annotated[list[str], typer.Option("--tag", metavar="TAG", help="May be repeated")]
