"""Partitions: virtual machines and containers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from openqrm.cli.arguments import All, Cursor, Descending, Host, HostOption, Limit, Partition, Tag
from openqrm.cli.client import ref
from openqrm.cli.errors import CliError
from openqrm.cli.output import Column
from openqrm.cli.session import Session, command
from openqrm.cli.values import DISK_HELP, NIC_HELP, SIZE_HELP, disk, given, mib, nic, pins

app = typer.Typer(help="Partitions: virtual machines and containers.", no_args_is_help=True)

Memory = Annotated[int | None, typer.Option(parser=mib, metavar="MIB", help=f"Memory {SIZE_HELP}")]
MemoryMax = Annotated[
    int | None, typer.Option(parser=mib, metavar="MIB", help=f"Ceiling of the memory while it runs, {SIZE_HELP}")
]
Vcpus = Annotated[int | None, typer.Option(min=1, help="Virtual CPUs")]
VcpusMax = Annotated[int | None, typer.Option(min=1, help="Ceiling of the virtual CPUs while it runs")]
Crash = Annotated[str | None, typer.Option(metavar="restart|stay", help="What follows when it ends by itself")]
Mac = Annotated[str, typer.Argument(help="The network interface's MAC address")]

_COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("STATE", "state"),
    ("HOST", "host_name"),
    ("TECHNOLOGY", "technology"),
    ("MEMORY MiB", "memory_mib"),
    ("VCPUS", "vcpus"),
    ("TAGS", lambda item: " ".join(item["tags"])),
    ("ID", "id"),
]


@command(app, "list")
def list_(
    session: Session,
    state: Annotated[str | None, typer.Option(help="Such as running, stopped, crashed, deleted")] = None,
    technology: Annotated[str | None, typer.Option(help="Such as qemu")] = None,
    host: HostOption = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag")] = None,
    name: Annotated[str | None, typer.Option(help="Only those whose name contains this")] = None,
    sort: Annotated[str, typer.Option(metavar="name|created_at|state|memory_mib|vcpus")] = "name",
    descending: Descending = False,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
) -> None:
    """List partitions."""
    session.page(
        "partitions", _COLUMNS, everything, state=state, technology=technology, host=host, tag=tag, name=name,
        sort=sort, descending=descending or None, limit=limit, cursor=cursor,
    )  # fmt: skip


@command(app, "show")
def show(session: Session, name: Partition) -> None:
    """Show one partition."""
    session.output.show(session.client.get(f"partitions/{ref(name)}"))


@command(app, "create", operation=True)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its name: any text of 1 to 200 characters")],
    memory: Annotated[int, typer.Option(parser=mib, metavar="MIB", help=f"Memory {SIZE_HELP}")],
    vcpus: Vcpus = None,
    image: Annotated[
        list[str], typer.Option(metavar="NAME", help="A disk that is a copy of this image; may be repeated")
    ] = [],  # noqa: B006 - Typer copies it
    disks: Annotated[list[str], typer.Option("--disk", metavar="DISK", help=f"May be repeated: {DISK_HELP}")] = [],  # noqa: B006
    networks: Annotated[
        list[str], typer.Option("--network", "--nic", metavar="NIC", help=f"May be repeated: {NIC_HELP}")
    ] = [],  # noqa: B006
    technology: Annotated[str | None, typer.Option(help="Such as qemu; any when left out")] = None,
    host: HostOption = None,
    memory_max: MemoryMax = None,
    vcpus_max: VcpusMax = None,
    firmware: Annotated[str | None, typer.Option(metavar="bios|uefi")] = None,
    vnc: Annotated[bool | None, typer.Option("--vnc/--no-vnc", help="With a screen")] = None,
    tag: Tag = [],  # noqa: B006
    host_tag: Annotated[
        list[str], typer.Option(metavar="TAG", help="A tag that its host must have; may be repeated")
    ] = [],  # noqa: B006
    on_crash: Crash = None,
    start: Annotated[bool, typer.Option("--start", help="Start it as soon as it is made")] = False,
    wait_for_capacity: Annotated[
        bool, typer.Option("--wait-for-capacity", help="When no host fits: wait instead of failing")
    ] = False,
) -> None:
    """Make a partition."""
    body = given(
        name=name, memory_mib=memory, vcpus=vcpus, technology=technology, host=host, memory_max_mib=memory_max,
        vcpus_max=vcpus_max, firmware=firmware, vnc=vnc, tags=tag, host_tags=host_tag, on_crash=on_crash,
        start=start or None, wait_for_capacity=wait_for_capacity or None, nics=[nic(text) for text in networks],
        disks=[{"source": {"kind": "image", "image": text}} for text in image] + [disk(text) for text in disks],
    )  # fmt: skip
    session.operate("POST", "partitions", body)


@command(app, "start", operation=True)
def start(session: Session, name: Partition) -> None:
    """Start a stopped or crashed partition."""
    session.operate("POST", f"partitions/{ref(name)}/start")


@command(app, "stop", operation=True)
def stop(session: Session, name: Partition) -> None:
    """Stop it at once, as if the power cord were pulled."""
    session.operate("POST", f"partitions/{ref(name)}/stop")


@command(app, "shutdown", operation=True)
def shutdown(
    session: Session,
    name: Partition,
    timeout: Annotated[int, typer.Option(min=1, max=3600, metavar="SECONDS", help="How long the guest may take")] = 120,
    force: Annotated[bool, typer.Option("--force", help="Stop it at once when it takes longer")] = False,
) -> None:
    """Ask the guest to shut down, and wait for it."""
    session.operate("POST", f"partitions/{ref(name)}/shutdown", {"timeout_seconds": timeout, "force": force})


@command(app, "reboot", operation=True)
def reboot(
    session: Session,
    name: Partition,
    hard: Annotated[bool, typer.Option("--hard", help="Reset it at once, without asking the guest")] = False,
) -> None:
    """Ask the guest to reboot."""
    session.operate("POST", f"partitions/{ref(name)}/reboot", {"hard": hard})


@command(app, "pause", operation=True)
def pause(session: Session, name: Partition) -> None:
    """Let its CPUs stand still; its memory stays."""
    session.operate("POST", f"partitions/{ref(name)}/pause")


@command(app, "unpause", operation=True)
def unpause(session: Session, name: Partition) -> None:
    """Let a paused partition go on."""
    session.operate("POST", f"partitions/{ref(name)}/unpause")


@command(app, "resize", operation=True)
def resize(
    session: Session,
    name: Partition,
    memory: Memory = None,
    vcpus: Vcpus = None,
    memory_max: MemoryMax = None,
    vcpus_max: VcpusMax = None,
) -> None:
    """Change memory or virtual CPUs."""
    body = given(memory_mib=memory, vcpus=vcpus, memory_max_mib=memory_max, vcpus_max=vcpus_max)
    if not body:
        raise CliError("Nothing to change: give --memory, --vcpus, --memory-max or --vcpus-max.", 2)
    session.operate("POST", f"partitions/{ref(name)}/resize", body)


@command(app, "pin", operation=True)
def pin(
    session: Session,
    name: Partition,
    pin: Annotated[list[str], typer.Argument(metavar="[VCPU=CPUS]...", help="Such as 0=0-3,8; none frees all")] = [],  # noqa: B006
) -> None:
    """Say on which CPUs of the host each virtual CPU may run."""
    session.operate("POST", f"partitions/{ref(name)}/pin", {"cpu_pins": pins(pin)})


@command(app, "migrate", operation=True)
def migrate(
    session: Session,
    name: Partition,
    host: HostOption = None,
    live: Annotated[bool, typer.Option("--live/--offline", help="It runs on through the move, or is stopped")] = True,
    bandwidth: Annotated[int | None, typer.Option(min=1, metavar="MIB/S", help="MiB per second at the most")] = None,
    wait_for_capacity: Annotated[bool, typer.Option("--wait-for-capacity")] = False,
) -> None:
    """Move it to another host."""
    body = given(host=host, live=live, bandwidth_mib_s=bandwidth, wait_for_capacity=wait_for_capacity or None)
    session.operate("POST", f"partitions/{ref(name)}/migrate", body)


@command(app, "delete", operation=True)
def delete(
    session: Session,
    name: Partition,
    force: Annotated[bool, typer.Option("--force", help="Stop it first if it runs")] = False,
) -> None:
    """Remove a partition and the disks that were made for it."""
    session.operate("DELETE", f"partitions/{ref(name)}", params={"force": force})


@command(app, "change", operation=True)
def change(
    session: Session,
    name: Partition,
    new_name: Annotated[str | None, typer.Option("--name", help="Another name")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Its tags from now on; '' for none")] = None,
    host_tag: Annotated[list[str] | None, typer.Option("--host-tag", help="Tags that its host must have")] = None,
    on_crash: Crash = None,
) -> None:
    """Change its name, tags or crash policy."""
    body = given(name=new_name, on_crash=on_crash)
    body |= {key: [t for t in tags if t] for key, tags in (("tags", tag), ("host_tags", host_tag)) if tags}
    if not body:
        raise CliError("Nothing to change: give --name, --tag, --host-tag or --on-crash.", 2)
    session.operate("PATCH", f"partitions/{ref(name)}", body)


@command(app, "attach-nic", operation=True)
def attach_nic(
    session: Session, name: Partition, spec: Annotated[str, typer.Argument(metavar="NIC", help=NIC_HELP)]
) -> None:
    """Add a network interface."""
    session.operate("POST", f"partitions/{ref(name)}/nics", {"nic": nic(spec)})


@command(app, "detach-nic", operation=True)
def detach_nic(session: Session, name: Partition, mac: Mac) -> None:
    """Remove a network interface."""
    session.operate("DELETE", f"partitions/{ref(name)}/nics/{ref(mac)}")


@command(app, "map-nic", operation=True)
def map_nic(
    session: Session, name: Partition, mac: Mac, network: Annotated[str, typer.Argument(help="Name or id")]
) -> None:
    """Plug a network interface into another network."""
    session.operate("PUT", f"partitions/{ref(name)}/nics/{ref(mac)}/network", {"network": network})


@command(app, "attach-disk", operation=True)
def attach_disk(
    session: Session, name: Partition, spec: Annotated[str, typer.Argument(metavar="DISK", help=DISK_HELP)]
) -> None:
    """Add a disk."""
    session.operate("POST", f"partitions/{ref(name)}/disks", {"disk": disk(spec)})


@command(app, "detach-disk", operation=True)
def detach_disk(
    session: Session,
    name: Partition,
    target: Annotated[str, typer.Argument(help="Its device name, such as vdb")],
    keep: Annotated[bool, typer.Option("--keep", help="Leave the volume on the host's storage")] = False,
) -> None:
    """Remove a disk; one that was made for this partition is deleted."""
    session.operate("DELETE", f"partitions/{ref(name)}/disks/{ref(target)}", params={"keep": keep})


@command(app, "adopt", operation=True)
def adopt(
    session: Session,
    host: Host,
    stranger: Annotated[str, typer.Argument(help="Its id on the host; see 'openqrm host strangers'")],
    name: Annotated[str | None, typer.Option(help="Another name than it has on the host")] = None,
    on_crash: Crash = None,
) -> None:
    """Take a partition that openQRM did not make into its care, as it is."""
    body = given(name=name, on_crash=on_crash)
    session.operate("POST", f"hosts/{ref(host)}/strangers/{ref(stranger)}/adopt", body)


@command(app, "screenshot")
def screenshot(
    session: Session,
    name: Partition,
    file: Annotated[str, typer.Argument(help="Where the picture goes; - for standard output")] = "-",
) -> None:
    """Take a picture of its screen (PNG)."""
    picture = session.client.send("GET", f"partitions/{ref(name)}/screenshot").content
    if file != "-":
        try:
            Path(file).write_bytes(picture)
        except OSError as error:
            raise CliError(f"{file} cannot be written: {error.strerror}.") from error
        session.output.say(f"The picture is in {file}.")
    elif sys.stdout.isatty():
        raise CliError("A picture cannot be shown on a terminal: name a file.", 2)
    else:
        sys.stdout.buffer.write(picture)
