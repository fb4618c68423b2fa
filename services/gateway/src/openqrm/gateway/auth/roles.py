"""Who may do what, in one place: the role that each route and each event subject needs.

A route that is missing here keeps the gateway from starting, and so does an entry whose route is gone.
"""

from enum import StrEnum

from openqrm.contracts.message import Kind, messages_of


class Role(StrEnum):
    """Each role may do all that the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """0, 1, 2: higher may do more."""
        return _RANKS[self]

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what `needed` may."""
        return self.rank >= needed.rank


_RANKS = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


def lesser(one: Role, other: Role) -> Role:
    """The one that may do less."""
    return one if one.rank <= other.rank else other


V, O, A = Role.VIEWER, Role.OPERATOR, Role.ADMIN  # noqa: E741 - the columns of the table below
PUBLIC = None
"""Answered without a login."""

ACCESS: dict[str, Role | None] = {
    "GET /": PUBLIC,
    "GET /health": PUBLIC,
    "GET /style.css": PUBLIC,
    "GET /metrics": V,
    "POST /api/v1/session": PUBLIC,
    "DELETE /api/v1/session": V,
    "GET /api/v1/whoami": V,
    "GET /api/v1/docs": V,
    "GET /api/v1/openapi.json": V,
    "GET /api/v1/asyncapi": V,
    # partitions
    "GET /api/v1/partitions": V,
    "POST /api/v1/partitions": O,
    "GET /api/v1/partitions/{ref}": V,
    "PATCH /api/v1/partitions/{ref}": O,
    "DELETE /api/v1/partitions/{ref}": O,
    "POST /api/v1/partitions/{ref}/start": O,
    "POST /api/v1/partitions/{ref}/stop": O,
    "POST /api/v1/partitions/{ref}/shutdown": O,
    "POST /api/v1/partitions/{ref}/reboot": O,
    "POST /api/v1/partitions/{ref}/pause": O,
    "POST /api/v1/partitions/{ref}/unpause": O,
    "POST /api/v1/partitions/{ref}/resize": O,
    "POST /api/v1/partitions/{ref}/pin": O,
    "POST /api/v1/partitions/{ref}/migrate": O,
    "POST /api/v1/partitions/{ref}/nics": O,
    "DELETE /api/v1/partitions/{ref}/nics/{mac}": O,
    "PUT /api/v1/partitions/{ref}/nics/{mac}/network": O,
    "POST /api/v1/partitions/{ref}/disks": O,
    "DELETE /api/v1/partitions/{ref}/disks/{target}": O,
    # what the guest shows may be anybody's secret: looking needs the same right as touching
    "GET /api/v1/partitions/{ref}/screenshot": O,
    "POST /api/v1/partitions/{ref}/console-tickets": O,
    # hosts: who carries partitions is the administrator's to say, taking one out of service the operator's
    "GET /api/v1/hosts": V,
    "POST /api/v1/hosts": A,
    "GET /api/v1/hosts/{ref}": V,
    "PATCH /api/v1/hosts/{ref}": A,
    "DELETE /api/v1/hosts/{ref}": A,
    "POST /api/v1/hosts/{ref}/prepare": A,
    "POST /api/v1/hosts/{ref}/maintain": O,
    "POST /api/v1/hosts/{ref}/activate": O,
    "GET /api/v1/hosts/{ref}/strangers": V,
    "POST /api/v1/hosts/{ref}/strangers/{id}/adopt": O,
    "GET /api/v1/strangers": V,
    # networks, images, addresses
    "GET /api/v1/networks": V,
    "POST /api/v1/networks": O,
    "GET /api/v1/networks/{ref}": V,
    "PATCH /api/v1/networks/{ref}": O,
    "DELETE /api/v1/networks/{ref}": O,
    "GET /api/v1/images": V,
    "POST /api/v1/images": O,
    "GET /api/v1/images/{ref}": V,
    "DELETE /api/v1/images/{ref}": O,
    "GET /api/v1/macs": V,
    "POST /api/v1/macs": O,
    "DELETE /api/v1/macs/{mac}": O,
    # the rest of what inventory knows
    "GET /api/v1/resources": V,
    "GET /api/v1/resources/{ref}": V,
    "GET /api/v1/technologies": V,
    "GET /api/v1/operations": V,
    "GET /api/v1/operations/{id}": V,
    "POST /api/v1/operations/{id}/cancel": O,
    "GET /api/v1/events": V,
    "GET /api/v1/traces/{id}": V,
    # a dead letter holds a whole message, secrets included
    "GET /api/v1/dead-letters": A,
    "POST /api/v1/dead-letters/{id}/replay": A,
    "POST /api/v1/dead-letters/{id}/discard": A,
    # people; on their own password, tokens and sessions everybody may act, the handlers see to the rest
    "GET /api/v1/users": A,
    "POST /api/v1/users": A,
    "GET /api/v1/users/{name}": A,
    "PATCH /api/v1/users/{name}": A,
    "DELETE /api/v1/users/{name}": A,
    "PUT /api/v1/users/{name}/password": V,
    "GET /api/v1/tokens": V,
    "POST /api/v1/tokens": V,
    "DELETE /api/v1/tokens/{id}": V,
    "GET /api/v1/sessions": V,
    "DELETE /api/v1/sessions/{id}": V,
    "GET /api/v1/audit": A,
}

WEBSOCKET_ACCESS: dict[str, Role | None] = {
    "/api/v1/events/ws": V,
    "/api/v1/console/{ticket}": PUBLIC,  # the ticket is the proof: one use, short-lived, given to an operator
}

EVENT_ACCESS: dict[str, Role] = {"message.dead_lettered": A}
"""Event subjects that need more than a viewer."""


def visible_events(role: Role) -> frozenset[str]:
    """The event subjects that a role may hear of."""
    return frozenset(
        model.subject for model in messages_of(Kind.EVENT) if role.covers(EVENT_ACCESS.get(model.subject, V))
    )


def noun_of(path: str) -> str:
    """The noun that a route is about, which a token's scope may name: partitions, hosts, … or metrics."""
    parts = path.strip("/").split("/")
    return parts[2] if parts[:2] == ["api", "v1"] and len(parts) > 2 else parts[0]


SCOPE_NOUNS = frozenset(noun_of(key.split(" ", 1)[1]) for key, needed in ACCESS.items() if needed is not None)
"""What a token's scope can be limited to."""

ALWAYS_IN_SCOPE = frozenset({"whoami", "docs", "openapi.json", "asyncapi"})
