"""Looking domains up and writing our marks. Blocking: these run in a host's threads."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import libvirt

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.partition import ObservedPartition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.executor_qemu.domain_reading import observed_state, parse_xml, read_partition
from openqrm.executor_qemu.errors import code_of
from openqrm.executor_qemu.metadata import NAMESPACE, PREFIX, Marks, read_marks, render_marks_text

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG


def called(partition: PartitionDefinition) -> str:
    """The partition in a sentence."""
    return f"partition '{partition.name}'"


def is_gone(error: libvirt.libvirtError) -> bool:
    """Whether the error says that the domain does not exist (any more)."""
    return bool(code_of(error) == libvirt.VIR_ERR_NO_DOMAIN)


@dataclass(frozen=True)
class Sight:
    """A domain as it was found."""

    domain: Any
    state: int
    reason: int
    active: bool
    persistent: bool
    xml: str
    """As it runs, or as it is defined when it does not run."""
    config_xml: str | None
    """As it will be at the next start; None for one that is forgotten when it stops."""
    marks: Marks | None

    @property
    def observed_state(self) -> ObservedState:
        """Its state in our words."""
        return observed_state(self.state, self.reason, self.persistent)

    def scopes(self) -> tuple[tuple[int, str], ...]:
        """What a change has to be made to: flag and XML, of the running domain and of its definition."""
        scopes: list[tuple[int, str]] = []
        if self.active:
            scopes.append((LIVE, self.xml))
        if self.config_xml is not None:
            scopes.append((CONFIG, self.config_xml))
        return tuple(scopes)


def find_domain(connection: Any, partition_id: UUID) -> Any | None:
    """The domain with this id, or None."""
    try:
        return connection.lookupByUUIDString(str(partition_id))
    except libvirt.libvirtError as error:
        if is_gone(error):
            return None
        raise


def look(connection: Any, partition_id: UUID) -> Sight | None:
    """Find the domain and read everything about it."""
    domain = find_domain(connection, partition_id)
    if domain is None:
        return None
    try:
        return look_at(domain)
    except libvirt.libvirtError as error:
        if is_gone(error):
            return None
        raise


def look_at(domain: Any) -> Sight:
    """Read everything about a domain."""
    state, reason = domain.state()
    active, persistent = bool(domain.isActive()), bool(domain.isPersistent())
    xml = domain.XMLDesc(0)
    # With passwords: it is written back after changes.
    whole = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    config_xml = domain.XMLDesc(whole) if persistent else None
    return Sight(domain, state, reason, active, persistent, xml, config_xml, read_marks(parse_xml(xml)))


def need(connection: Any, partition: PartitionDefinition) -> Sight:
    """Like look; raises NotFoundError when the host does not have it."""
    sight = look(connection, partition.id)
    if sight is None:
        raise NotFoundError(f"The host does not have {called(partition)} (libvirt domain {partition.id}).")
    return sight


def observe_domain(domain: Any) -> ObservedPartition | None:
    """One domain as an observation; None when it vanished meanwhile."""
    try:
        state, reason = domain.state()
        persistent = bool(domain.isPersistent())
        config_xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else None
        return read_partition(domain.XMLDesc(0), state, reason, persistent, config_xml)
    except libvirt.libvirtError as error:
        if is_gone(error):
            return None
        raise


def write_marks(sight: Sight, marks: Marks) -> None:
    """Write the marks beside the domain, as it runs and for its next start."""
    flags = (LIVE if sight.active else 0) | (CONFIG if sight.persistent else 0)
    sight.domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, render_marks_text(marks), PREFIX, NAMESPACE, flags)
