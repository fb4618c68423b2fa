"""Who may say and hear what on the bus: NATS subject rights, derived from the registry of messages."""

from dataclasses import dataclass

from openqrm.bus.streams import COMMANDS, EVENTS, EXECUTIONS, SPANS, STREAM_OF_KIND
from openqrm.contracts.message import (
    CLIENT,
    EXECUTOR,
    GATEWAY,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    all_messages,
    subject_pattern,
)


@dataclass(frozen=True)
class Rights:
    """Subjects that a NATS user may publish and subscribe to; it may also answer what it is asked."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    publish_denied: tuple[str, ...] = ()
    """Taken out of `publish` again: other services' durable consumers."""


_REPLAYER = INVENTORY
"""Inventory publishes dead letters again, on whatever stream they came from."""

_FOLLOWERS = {EVENTS: (INVENTORY, SCHEDULER, GATEWAY, EXECUTOR, HA_MONITOR, CLIENT), SPANS: (GATEWAY,)}


def _durables(role: str, user: str) -> list[tuple[str, str]]:
    if role == INVENTORY:
        return [(COMMANDS, INVENTORY), (EVENTS, INVENTORY)]
    if role == EXECUTOR:
        return [(EXECUTIONS, user)]
    return []


def inbox_prefix(user: str) -> str:
    """The subject below which a user gets its replies; no other user may listen there."""
    return f"_INBOX_{user}"


def rights(role: str, user: str, technology: str | None = None) -> Rights:
    """The rights of one NATS user.

    `role`: inventory, scheduler, gateway, ha-monitor, executor or client. `user`: its name, which for an executor is
    also its durable consumer's (executor-qemu). `technology`: of an executor, which hears of no other's commands.
    """
    publish: set[str] = set()
    subscribe = {f"{inbox_prefix(user)}.>"}
    for model in all_messages().values():
        pattern = subject_pattern(model, technology or "*")
        kept = model.message_kind in STREAM_OF_KIND
        if role in model.publishers or (role == _REPLAYER and kept):
            publish.add(pattern)
        if role in model.consumers and not kept:
            subscribe.add(pattern)
    for stream, consumer in _durables(role, user):
        publish |= {
            f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            f"$JS.ACK.{stream}.{consumer}.>",
        }
    for stream, followers in _FOLLOWERS.items():
        if role in followers:
            publish |= {
                f"$JS.API.STREAM.INFO.{stream}",
                f"$JS.API.CONSUMER.CREATE.{stream}.>",
                f"$JS.API.CONSUMER.DELETE.{stream}.*",
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            }
    if role == INVENTORY:
        publish.add(f"$JS.API.STREAM.PURGE.{EXECUTIONS}")
        publish |= {f"$JS.API.STREAM.INFO.{stream}" for stream in (COMMANDS, EXECUTIONS)}
    denied: set[str] = set()
    if role != INVENTORY:
        denied = {f"$JS.API.CONSUMER.{verb}.{EVENTS}.{INVENTORY}" for verb in ("CREATE", "DELETE", "MSG.NEXT")} | {
            f"$JS.API.CONSUMER.CREATE.{EVENTS}.{INVENTORY}.>"
        }
    return Rights(tuple(sorted(publish)), tuple(sorted(subscribe)), tuple(sorted(denied)))
