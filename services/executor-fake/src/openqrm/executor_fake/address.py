"""Reads a fake host's address, `fake://<name>?cpus=8&memory_mib=32768`: what the host is like. Pure.

The same words may stand in the connection's options, which count more than the address.
"""

from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from openqrm.contracts.errors import InvalidError
from openqrm.contracts.host import HostConnection


class HostPlan(BaseModel):
    """What a host is like when it is made, and how it behaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: int = Field(default=16, ge=1, le=4096)
    memory_mib: int = Field(default=65536, ge=64)
    storage_mib: int = Field(default=1024 * 1024, ge=1)
    numa_nodes: int = Field(default=1, ge=1, le=64)
    bridges: str = Field(default="br0,br1,br2", description="With commas")
    prepared: bool = Field(default=True, description="no: host.prepare has to be carried out first")
    refuse: str = Field(default="", description="Not empty: the host refuses every connection with this reason")
    unreachable: bool = Field(default=False, description="yes: it is off the network from the beginning")
    latency_ms: float = Field(default=0, ge=0, description="What each call takes")
    migration_ms: float = Field(default=200, ge=0, description="What a migration from this host takes")


def host_name(connection: HostConnection) -> str:
    """The host that an address leads to. Raises InvalidError when it leads nowhere."""
    parts = urlsplit(connection.uri)
    if parts.scheme != "fake" or not parts.netloc:
        raise InvalidError(f"{connection.uri} is no address of a fake host; use fake://<name>")
    return parts.netloc


def host_plan(connection: HostConnection) -> HostPlan:
    """What the host is to be like. Raises InvalidError for words that mean nothing."""
    words = dict(parse_qsl(urlsplit(connection.uri).query)) | connection.options
    try:
        return HostPlan.model_validate(words)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidError(
            f"{connection.uri}: {'.'.join(map(str, first['loc']))}: {first['msg']}. "
            f"Known words: {', '.join(HostPlan.model_fields)}."
        ) from error
