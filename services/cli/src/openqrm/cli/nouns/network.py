"""Networks: what network interfaces are mapped to."""

from typing import Annotated

import typer

from openqrm.cli.arguments import All, Cursor, Limit, Network
from openqrm.cli.client import ref
from openqrm.cli.errors import CliError
from openqrm.cli.output import Column
from openqrm.cli.session import Session, command
from openqrm.cli.values import given, pairs

app = typer.Typer(help="Networks, and the bridges that carry them.", no_args_is_help=True)

HostBridge = Annotated[
    list[str], typer.Option(metavar="HOST=BRIDGE", help="Another bridge on this host (name or id); repeated")
]
Description = Annotated[str | None, typer.Option(help="What it is for")]

_COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("BRIDGE", "bridge"),
    ("VLAN", "vlan"),
    ("DESCRIPTION", "description"),
    ("ID", "id"),
]


def _host_bridges(session: Session, texts: list[str]) -> dict[str, str]:
    found = pairs(texts, "HOST=BRIDGE")
    return {session.client.get(f"hosts/{ref(host)}")["id"]: bridge for host, bridge in found.items()}


@command(app, "list")
def list_(session: Session, limit: Limit = 100, cursor: Cursor = None, everything: All = False) -> None:
    """List networks."""
    session.page("networks", _COLUMNS, everything, limit=limit, cursor=cursor)


@command(app, "show")
def show(session: Session, name: Network) -> None:
    """Show one network."""
    session.output.show(session.client.get(f"networks/{ref(name)}"))


@command(app, "create", operation=True)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its name")],
    bridge: Annotated[str, typer.Option(help="The bridge or port group that carries it on every host")],
    vlan: Annotated[int | None, typer.Option(min=1, max=4094)] = None,
    description: Description = None,
    host_bridge: HostBridge = [],  # noqa: B006 - Typer copies it
) -> None:
    """Make a network known. Its bridge must exist on the hosts."""
    body = given(name=name, bridge=bridge, vlan=vlan, description=description)
    session.operate("POST", "networks", body | given(host_bridges=_host_bridges(session, host_bridge) or None))


@command(app, "change", operation=True)
def change(
    session: Session,
    name: Network,
    new_name: Annotated[str | None, typer.Option("--name", help="Another name")] = None,
    bridge: Annotated[str | None, typer.Option(help="Another bridge or port group")] = None,
    description: Description = None,
    host_bridge: HostBridge = [],  # noqa: B006
) -> None:
    """Change its name, description or bridges; what is left out stays as it is."""
    body = given(name=new_name, bridge=bridge, description=description)
    body |= given(host_bridges=_host_bridges(session, host_bridge) or None)
    if not body:
        raise CliError("Nothing to change: give --name, --bridge, --description or --host-bridge.", 2)
    session.operate("PATCH", f"networks/{ref(name)}", body)


@command(app, "delete", operation=True)
def delete(session: Session, name: Network) -> None:
    """Forget a network that no network interface is mapped to."""
    session.operate("DELETE", f"networks/{ref(name)}")
