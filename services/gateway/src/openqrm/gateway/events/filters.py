"""Which events a client wants."""

from collections.abc import Sequence
from dataclasses import dataclass

from openqrm.gateway.auth.roles import Role, visible_events
from openqrm.gateway.events.event import LiveEvent
from openqrm.gateway.problems import forbidden, invalid


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS pattern (`*` one word, `>` all that follow) fits a subject."""
    wanted, words = pattern.split("."), subject.split(".")
    for index, word in enumerate(wanted):
        if word == ">":
            return index == len(wanted) - 1 and len(words) > index
        if index >= len(words) or word not in ("*", words[index]):
            return False
    return len(wanted) == len(words)


@dataclass(frozen=True)
class EventFilter:
    """Subjects, and ids of which one must occur in the event (none: any event)."""

    subjects: frozenset[str]
    resources: frozenset[str]

    def passes(self, event: LiveEvent) -> bool:
        """Whether the client gets this event."""
        return event.subject in self.subjects and (not self.resources or not self.resources.isdisjoint(event.ids))


def make_filter(patterns: Sequence[str], resources: Sequence[str], role: Role) -> EventFilter:
    """The filter for what a client asked for, within what its role may hear of."""
    visible = visible_events(role)
    subjects: set[str] = set()
    for pattern in patterns:
        known = {subject for subject in visible_events(Role.ADMIN) if matches(pattern, subject)}
        if not known:
            raise invalid(
                "subject", f"no event has a subject like {pattern!r}; the subjects are listed at /api/v1/asyncapi"
            )
        if not known & visible:
            raise forbidden(f"Events {pattern!r} need a higher role than {role}. Ask an administrator.")
        subjects |= known & visible
    return EventFilter(
        frozenset(subjects) if patterns else visible, frozenset(resource.lower() for resource in resources)
    )
