"""Streams and durable consumers, derived from the registry of messages."""

from collections.abc import Iterable
from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from openqrm.contracts.message import INVENTORY, Kind, Message, messages_of, subject_pattern
from openqrm.contracts.span import SpansRecorded

COMMANDS = "COMMANDS"
EXECUTIONS = "EXECUTIONS"
EVENTS = "EVENTS"
SPANS = "SPANS"

STREAM_OF_KIND = {Kind.COMMAND: COMMANDS, Kind.ROUTED_COMMAND: EXECUTIONS, Kind.EVENT: EVENTS}

DAY = 24 * 3600.0
EVENTS_KEPT_SECONDS = 7 * DAY
EVENTS_KEPT_BYTES = 2 * 1024**3
SPANS_KEPT_SECONDS = DAY
SPANS_KEPT_BYTES = 256 * 1024**2
DUPLICATE_WINDOW_SECONDS = 120.0
"""For how long the server itself drops a message that was published twice; after it the inboxes do."""

ACK_WAIT_SECONDS = 30.0
"""After this long without a sign of life a message goes to another replica; long work gives signs of life."""


@dataclass(frozen=True)
class Durable:
    """A durable consumer: which stream, its name, which subjects, how many messages may be on the way."""

    stream: str
    name: str
    subjects: tuple[str, ...]
    max_ack_pending: int


def stream_of(model: type[Message]) -> str | None:
    """The stream that keeps a message; None when it is not kept."""
    return STREAM_OF_KIND.get(model.message_kind)


def stream_configs(replicas: int) -> list[StreamConfig]:
    """Every stream with its subjects."""

    def queue(name: str, kind: Kind) -> StreamConfig:
        return StreamConfig(name=name, subjects=_subjects(kind), retention=RetentionPolicy.WORK_QUEUE)

    def log(name: str, subjects: list[str], seconds: float, size: int) -> StreamConfig:
        return StreamConfig(
            name=name,
            subjects=subjects,
            retention=RetentionPolicy.LIMITS,
            max_age=seconds,
            max_bytes=size,
            discard=DiscardPolicy.OLD,
        )

    configs = [
        queue(COMMANDS, Kind.COMMAND),
        queue(EXECUTIONS, Kind.ROUTED_COMMAND),
        log(EVENTS, _subjects(Kind.EVENT), EVENTS_KEPT_SECONDS, EVENTS_KEPT_BYTES),
        log(SPANS, [subject_pattern(SpansRecorded)], SPANS_KEPT_SECONDS, SPANS_KEPT_BYTES),
    ]
    return [
        config.evolve(storage=StorageType.FILE, num_replicas=replicas, duplicate_window=DUPLICATE_WINDOW_SECONDS)
        for config in configs
    ]


def _subjects(kind: Kind) -> list[str]:
    return sorted(subject_pattern(model) for model in messages_of(kind))


def executor_durable(technology: str) -> Durable:
    """The consumer of one technology's routed commands."""
    return Durable(EXECUTIONS, f"executor-{technology}", (f"*.*.{technology}.*",), 4096)


def service_durable(service: str, kind: Kind) -> Durable:
    """The consumer of a service for the messages of one kind that name it as a consumer."""
    subjects = tuple(subject_pattern(m) for m in messages_of(kind) if service in m.consumers)
    return Durable(STREAM_OF_KIND[kind], service, subjects, 2048)


def all_durables(technologies: Iterable[str]) -> list[Durable]:
    """Every durable consumer of an installation that has the given technologies."""
    return [
        service_durable(INVENTORY, Kind.COMMAND),
        service_durable(INVENTORY, Kind.EVENT),
        *(executor_durable(technology) for technology in technologies),
    ]


async def provision(js: JetStreamContext, technologies: Iterable[str], replicas: int = 1) -> None:
    """Create or update all streams and durable consumers. Harmless when repeated; needs an administrator's rights."""
    for config in stream_configs(replicas):
        try:
            await js.stream_info(str(config.name))
        except NotFoundError:
            await js.add_stream(config)
        else:
            await js.update_stream(config)
    for durable in all_durables(technologies):
        await js.add_consumer(
            durable.stream,
            ConsumerConfig(
                name=durable.name,
                durable_name=durable.name,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_SECONDS,
                max_ack_pending=durable.max_ack_pending,
                filter_subjects=list(durable.subjects),
                num_replicas=replicas,
            ),
        )
