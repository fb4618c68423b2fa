"""Values as people write them on a command line: sizes, disks, network interfaces, CPU lists."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import typer

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_MIB_PER = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}

SIZE_HELP = "in MiB; 2G, 512M or 1.5T are understood"
DISK_HELP = (
    "blank:SIZE, image:NAME[:SIZE], file:/PATH, block:/dev/NAME, iscsi://SERVER/IQN/LUN, nfs://SERVER/PATH or "
    "nbd://SERVER/EXPORT; options follow as in ?bus=sata&format=raw&read_only&shared; or JSON as the API takes it"
)
NIC_HELP = "NETWORK, or NETWORK,mac=52:54:00:12:34:56,model=e1000"


def mib(text: str) -> int:
    """A size in MiB: a plain number is MiB already."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no size. Write MiB as a number, or with a unit: 512, 512M, 2G, 1.5T.")
    size = float(match[1]) * _MIB_PER[match[2].lower()]
    if size != int(size):
        raise typer.BadParameter(f"{text!r} is no whole number of MiB.")
    return int(size)


def disk(text: str) -> dict[str, Any]:
    """A disk as the API takes it."""
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except ValueError as error:
            raise typer.BadParameter(f"this disk is not JSON: {error}") from error
        return document if "source" in document else {"source": document}
    head, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    spec: dict[str, Any] = {"source": _source(head)}
    for key, value in options.items():
        if key == "bus":
            spec["bus"] = value
        elif key == "read_only":
            spec["read_only"] = _yes(value)
        elif key == "shared":
            spec["source"]["shared"] = _yes(value)
        else:
            spec["source"][key] = value
    return spec


def _source(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    if kind in ("iscsi", "nfs", "nbd") and rest.startswith("//"):
        parts = urlsplit(text)
        volume = parts.path if kind == "nfs" else parts.path.lstrip("/")
        source = {"kind": "network", "protocol": kind, "server": parts.hostname or "", "volume": volume}
        return source | ({"port": parts.port} if parts.port else {})
    if not rest:
        raise typer.BadParameter(f"{text!r} is no disk. {DISK_HELP}")
    if kind == "blank":
        return {"kind": "blank", "size_mib": mib(rest)}
    if kind == "image":
        name, _, size = rest.rpartition(":")
        if name and _SIZE.fullmatch(size):
            return {"kind": "image", "image": name, "size_mib": mib(size)}
        return {"kind": "image", "image": rest}
    if kind == "file":
        return {"kind": "file", "path": rest}
    if kind == "block":
        return {"kind": "block", "device": rest}
    raise typer.BadParameter(f"{kind!r} is no kind of disk. {DISK_HELP}")


def _yes(text: str) -> bool:
    if text.lower() in ("", "true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise typer.BadParameter(f"{text!r} is neither true nor false")


def nic(text: str) -> dict[str, Any]:
    """A network interface as the API takes it."""
    network, *options = text.split(",")
    spec: dict[str, Any] = {"network": network}
    for option in options:
        key, found, value = option.partition("=")
        if not found or key not in ("mac", "model"):
            raise typer.BadParameter(f"{option!r} is not understood. {NIC_HELP}")
        spec[key] = value
    return spec


def pins(texts: list[str]) -> dict[str, list[int]]:
    """vCPU=CPUS, such as 0=0-3,8."""
    found: dict[str, list[int]] = {}
    for text in texts:
        vcpu, equals, cpus = text.partition("=")
        if not equals or not vcpu.isdigit():
            raise typer.BadParameter(f"{text!r} is not understood. Write VCPU=CPUS, such as 0=0-3,8.")
        found[vcpu] = _cpus(cpus)
    return found


def _cpus(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise typer.BadParameter(f"{text!r} is no list of CPUs. Write such as 0-3,8.")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def pairs(texts: list[str], what: str) -> dict[str, str]:
    """KEY=VALUE, repeated."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not understood. Write {what}.")
        found[key] = value
    return found


def given(**values: Any) -> dict[str, Any]:
    """Only what was said on the command line: the server knows the rest."""
    return {key: value for key, value in values.items() if value not in (None, [])}
