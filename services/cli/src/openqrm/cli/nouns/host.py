"""Hosts: resources that carry partitions."""

from pathlib import Path
from typing import Annotated

import typer

from openqrm.cli.arguments import All, Cursor, Descending, Host, Limit, Tag
from openqrm.cli.client import ref
from openqrm.cli.errors import CliError
from openqrm.cli.output import Column
from openqrm.cli.session import Session, command
from openqrm.cli.values import SIZE_HELP, given, mib, pairs

app = typer.Typer(help="Hosts: what partitions run on.", no_args_is_help=True)

HostKey = Annotated[
    str | None, typer.Option(help="The host's SSH public key, its SHA256 fingerprint, or @FILE with the key")
]
StoragePath = Annotated[str | None, typer.Option(help="Where disks made for partitions lie on the host")]
Shared = Annotated[
    bool | None, typer.Option("--shared-storage/--own-storage", help="Whether other hosts see the same storage path")
]
MigrationAddress = Annotated[str | None, typer.Option(help="Address for migration traffic")]
Options = Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="More, by technology; repeated")]
CpuRatio = Annotated[float | None, typer.Option(help="vCPUs per logical CPU")]
MemoryRatio = Annotated[float | None, typer.Option(help="Reservable memory per physical memory")]
Reserve = Annotated[
    int | None, typer.Option(parser=mib, metavar="MIB", help=f"Memory kept for the host itself, {SIZE_HELP}")
]

_COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("STATE", "state"),
    ("TECHNOLOGY", "technology"),
    ("PARTITIONS", "partitions"),
    ("CPUS", "facts.cpus"),
    ("VCPUS RESERVED", "cpus_reserved"),
    ("MEMORY MiB", "facts.memory_mib"),
    ("RESERVED MiB", "memory_reserved_mib"),
    ("ID", "id"),
]
_STRANGERS: list[Column] = [
    ("HOST", "host_name"),
    ("NAME", "observed.name"),
    ("STATE", "observed.state"),
    ("MEMORY MiB", "observed.memory_mib"),
    ("VCPUS", "observed.vcpus"),
    ("ID", lambda item: item["observed"].get("id") or item["observed"].get("partition_id")),
]


def _connection(
    uri: str | None,
    host_key: str | None,
    storage_path: str | None,
    shared_storage: bool | None,
    migration_address: str | None,
    options: list[str],
) -> dict[str, object]:
    if host_key and host_key.startswith("@"):
        try:
            host_key = Path(host_key[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"The host key in {host_key[1:]} cannot be read: {error}.", 2) from error
    return given(
        uri=uri, host_key=host_key, storage_path=storage_path, shared_storage=shared_storage,
        migration_address=migration_address, options=pairs(options, "KEY=VALUE") or None,
    )  # fmt: skip


@command(app, "list")
def list_(
    session: Session,
    state: Annotated[str | None, typer.Option(help="Such as ready, maintenance, unreachable, removed")] = None,
    technology: Annotated[str | None, typer.Option(help="Such as qemu")] = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag")] = None,
    name: Annotated[str | None, typer.Option(help="Only those whose name contains this")] = None,
    sort: Annotated[str, typer.Option(metavar="name|created_at|state")] = "name",
    descending: Descending = False,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
) -> None:
    """List hosts."""
    session.page("hosts", _COLUMNS, everything, state=state, technology=technology, tag=tag, name=name, sort=sort,
                 descending=descending or None, limit=limit, cursor=cursor)  # fmt: skip


@command(app, "show")
def show(session: Session, name: Host) -> None:
    """Show one host."""
    session.output.show(session.client.get(f"hosts/{ref(name)}"))


@command(app, "enrol", operation=True)
def enrol(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its name")],
    technology: Annotated[str, typer.Option(help="Such as qemu; see 'openqrm technology list'")],
    uri: Annotated[str, typer.Option(help="Where it is, such as qemu+ssh://root@kvm1/system")],
    host_key: HostKey = None,
    storage_path: StoragePath = None,
    shared_storage: Shared = None,
    migration_address: MigrationAddress = None,
    options: Options = [],  # noqa: B006 - Typer copies it
    tag: Tag = [],  # noqa: B006
    cpu_overcommit: CpuRatio = None,
    memory_overcommit: MemoryRatio = None,
    memory_reserve: Reserve = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Prepare it at once if its hypervisor is not ready")
    ] = False,
) -> None:
    """Make a host known and reach it for the first time."""
    connection = _connection(uri, host_key, storage_path, shared_storage, migration_address, options)
    body = given(
        name=name, technology=technology, connection=connection, tags=tag, cpu_overcommit=cpu_overcommit,
        memory_overcommit=memory_overcommit, memory_reserve_mib=memory_reserve, prepare=prepare or None,
    )  # fmt: skip
    session.operate("POST", "hosts", body)


@command(app, "prepare", operation=True)
def prepare(session: Session, name: Host) -> None:
    """Install and configure its hypervisor."""
    session.operate("POST", f"hosts/{ref(name)}/prepare")


@command(app, "maintain", operation=True)
def maintain(
    session: Session,
    name: Host,
    evacuate: Annotated[bool, typer.Option("--evacuate", help="Move the partitions on it away first")] = False,
) -> None:
    """Take it out of service: no new partitions."""
    session.operate("POST", f"hosts/{ref(name)}/maintain", {"evacuate": evacuate})


@command(app, "activate", operation=True)
def activate(session: Session, name: Host) -> None:
    """Take it into service again."""
    session.operate("POST", f"hosts/{ref(name)}/activate")


@command(app, "remove", operation=True)
def remove(
    session: Session,
    name: Host,
    force: Annotated[bool, typer.Option("--force", help="Forget its partitions with it; they are not touched")] = False,
) -> None:
    """Forget a host that carries no partitions."""
    session.operate("DELETE", f"hosts/{ref(name)}", params={"force": force})


@command(app, "change", operation=True)
def change(
    session: Session,
    name: Host,
    new_name: Annotated[str | None, typer.Option("--name", help="Another name")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Its tags from now on; '' for none")] = None,
    cpu_overcommit: CpuRatio = None,
    memory_overcommit: MemoryRatio = None,
    memory_reserve: Reserve = None,
    uri: Annotated[str | None, typer.Option(help="Where it is now")] = None,
    host_key: HostKey = None,
    storage_path: StoragePath = None,
    shared_storage: Shared = None,
    migration_address: MigrationAddress = None,
    options: Options = [],  # noqa: B006
) -> None:
    """Change its name, tags, ratios or connection; what is left out stays as it is."""
    body = given(
        name=new_name, cpu_overcommit=cpu_overcommit, memory_overcommit=memory_overcommit,
        memory_reserve_mib=memory_reserve,
    )  # fmt: skip
    if tag:
        body["tags"] = [text for text in tag if text]
    changed = _connection(uri, host_key, storage_path, shared_storage, migration_address, options)
    if changed:
        # The API takes a connection whole.
        body["connection"] = session.client.get(f"hosts/{ref(name)}")["connection"] | changed
    if not body:
        raise CliError("Nothing to change: see 'openqrm host change --help'.", 2)
    session.operate("PATCH", f"hosts/{ref(name)}", body)


@command(app, "strangers")
def strangers(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="The host's name or id; all hosts when left out")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
) -> None:
    """List partitions on hosts that openQRM did not make; 'openqrm partition adopt' takes them over."""
    path = f"hosts/{ref(name)}/strangers" if name else "strangers"
    session.page(path, _STRANGERS, everything, limit=limit, cursor=cursor)
