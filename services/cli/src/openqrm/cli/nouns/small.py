"""Nouns with few verbs: MAC addresses, resources, technologies, dead letters."""

from typing import Annotated

import typer

from openqrm.cli.arguments import All, Cursor, Limit
from openqrm.cli.client import ref
from openqrm.cli.output import Column
from openqrm.cli.session import Session, command
from openqrm.cli.values import given

mac = typer.Typer(help="MAC addresses: who has which, and taking one by hand.", no_args_is_help=True)
resource = typer.Typer(help="Resources: physical servers and partitions in one list.", no_args_is_help=True)
technology = typer.Typer(help="Technologies: what their drivers can do.", no_args_is_help=True)
dead_letter = typer.Typer(help="Messages that could not be handled.", no_args_is_help=True)

_MACS: list[Column] = [
    ("MAC", "mac"),
    ("TECHNOLOGY", "technology"),
    ("STATE", "state"),
    ("PARTITION", "partition_id"),
    ("NOTE", "note"),
    ("SINCE", "changed_at"),
]
_RESOURCES: list[Column] = [
    ("NAME", "name"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("TECHNOLOGY", "technology"),
    ("MEMORY MiB", "memory_mib"),
    ("CPUS", "cpus"),
    ("HOST", "is_host"),
    ("ID", "id"),
]
_TECHNOLOGIES: list[Column] = [
    ("NAME", "name"),
    ("TITLE", "title"),
    ("AVAILABLE", "available"),
    ("CAN", lambda item: " ".join(sorted((item["manifest"] or {}).get("capabilities", ())))),
    ("MACS USED", "macs_used"),
    ("MACS FREE", "macs_free"),
]
_LETTERS: list[Column] = [
    ("ID", "id"),
    ("SUBJECT", "subject"),
    ("CONSUMER", "consumer"),
    ("TRIES", "deliveries"),
    ("ERROR", "error.message"),
    ("AT", "occurred_at"),
]
Letter = Annotated[str, typer.Argument(help="The dead letter's id")]


@command(mac, "list")
def list_macs(
    session: Session,
    technology: Annotated[str | None, typer.Option(help="Such as qemu")] = None,
    state: Annotated[str | None, typer.Option(metavar="allocated|quarantined|foreign")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
) -> None:
    """List the addresses that are not free."""
    session.page("macs", _MACS, everything, technology=technology, state=state, limit=limit, cursor=cursor)


@command(mac, "allocate")
def allocate_mac(
    session: Session,
    technology: Annotated[str, typer.Argument(help="Whose range; such as qemu")],
    mac: Annotated[str | None, typer.Option(help="A wished address")] = None,
    note: Annotated[str | None, typer.Option(help="What for")] = None,
) -> None:
    """Take a free address."""
    answer = session.client.post("macs", given(technology=technology, mac=mac, note=note))
    if session.output.as_json:
        session.output.json(answer)
    else:
        session.output.console.print(answer["mac"])


@command(mac, "release")
def release_mac(session: Session, mac: Annotated[str, typer.Argument(help="The address")]) -> None:
    """Give an address back; it rests in quarantine for a while."""
    session.output.show(session.client.delete(f"macs/{ref(mac)}"))


@command(resource, "list")
def list_resources(
    session: Session,
    kind: Annotated[str | None, typer.Option(metavar="physical|partition")] = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag")] = None,
    name: Annotated[str | None, typer.Option(help="Only those whose name contains this")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
) -> None:
    """List resources."""
    session.page("resources", _RESOURCES, everything, kind=kind, tag=tag, name=name, limit=limit, cursor=cursor)


@command(resource, "show")
def show_resource(session: Session, name: Annotated[str, typer.Argument(help="Name or id")]) -> None:
    """Show one resource."""
    session.output.show(session.client.get(f"resources/{ref(name)}"))


@command(technology, "list")
def list_technologies(session: Session) -> None:
    """List technologies."""
    found = session.client.get("technologies")
    if session.output.as_json:
        session.output.json(found)
    else:
        session.output.table(found["items"], _TECHNOLOGIES)


@command(dead_letter, "list")
def list_letters(session: Session, limit: Limit = 100, cursor: Cursor = None, everything: All = False) -> None:
    """List dead letters, the newest first."""
    session.page("dead-letters", _LETTERS, everything, limit=limit, cursor=cursor)


@command(dead_letter, "replay", operation=True)
def replay_letter(session: Session, letter: Letter) -> None:
    """Publish a dead letter again, once its cause is mended."""
    session.operate("POST", f"dead-letters/{ref(letter)}/replay")


@command(dead_letter, "discard", operation=True)
def discard_letter(session: Session, letter: Letter) -> None:
    """Drop a dead letter for good."""
    session.operate("POST", f"dead-letters/{ref(letter)}/discard")
