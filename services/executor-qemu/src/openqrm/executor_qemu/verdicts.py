"""Who has a partition after a migration: decided from what both hosts show. Pure."""

from enum import StrEnum

import libvirt

from openqrm.contracts.execution import RunsOn
from openqrm.contracts.states import ObservedState
from openqrm.executor_qemu.domains import Sight


class Place(StrEnum):
    """What one host shows of the partition."""

    UNREACHABLE = "unreachable"
    ABSENT = "absent"
    STOPPED = "stopped"
    INCOMING = "incoming"
    """A receiving end that never was complete."""
    HELD = "held"
    """A complete copy that stands still and has not run here."""
    SPENT = "spent"
    """Standing still on its source, by the migration itself: its memory may live on elsewhere."""
    ACTIVE = "active"


def place_of(sight: Sight | None) -> Place:
    """What a host shows, from its domain."""
    if sight is None:
        return Place.ABSENT
    if not sight.active:
        return Place.STOPPED
    observed = sight.observed_state
    if observed is ObservedState.INCOMING:
        return Place.INCOMING
    if observed is ObservedState.PAUSED:
        if sight.marks is not None and sight.marks.held is not None:
            # The mark comes in with the first byte; libvirt keeps the definition only once the last one is there.
            return Place.HELD if sight.persistent else Place.INCOMING
        if sight.state == libvirt.VIR_DOMAIN_PAUSED and sight.reason == libvirt.VIR_DOMAIN_PAUSED_MIGRATION:
            return Place.SPENT
    return Place.ACTIVE


def who_has_it(source: Place, target: Place) -> RunsOn:
    """The side that has the partition; UNKNOWN unless both hosts were read and they do not contradict each other."""
    match source, target:
        case (Place.UNREACHABLE, _) | (_, Place.UNREACHABLE):
            return RunsOn.UNKNOWN
        case (Place.ABSENT | Place.STOPPED | Place.SPENT, Place.HELD):
            return RunsOn.TARGET
        case (Place.ACTIVE | Place.SPENT, Place.ABSENT | Place.STOPPED | Place.INCOMING | Place.HELD):
            return RunsOn.SOURCE
        case (Place.ABSENT | Place.STOPPED, Place.ACTIVE):
            return RunsOn.TARGET
        case (Place.STOPPED, Place.ABSENT | Place.STOPPED | Place.INCOMING):
            return RunsOn.SOURCE
        case (Place.ABSENT, Place.STOPPED):
            return RunsOn.TARGET
        case (Place.ABSENT, Place.ABSENT):
            return RunsOn.NEITHER
        case _:
            return RunsOn.UNKNOWN
