"""Streams and durable consumers, derived from the registry of messages."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

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

from openqrm.contracts.clock import Clock, SystemClock
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

NUMBERS_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
"""A stream's first message has the number of milliseconds since then. So a stream that is made anew, after NATS lost
its store, goes on with higher numbers than the old one had: no number ever means two messages."""

ACK_WAIT_SECONDS = 30.0
"""After this long without a sign of life a message goes to another replica; long work gives signs of life."""

MAX_UNSETTLED = 100_000
"""Messages of one durable consumer that were delivered and not settled. Those that were set aside count, too, so this
is far above any window: what waits for one host that hangs must not keep the others' from being delivered."""


@dataclass(frozen=True)
class Durable:
    """A durable consumer: which stream, its name, which subjects, how many messages may be unsettled."""

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
            allow_atomic=True,
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
    return Durable(EXECUTIONS, f"executor-{technology}", (f"*.*.{technology}.*",), MAX_UNSETTLED)


def service_durable(service: str, kind: Kind) -> Durable:
    """The consumer of a service for the messages of one kind that name it as a consumer."""
    subjects = tuple(subject_pattern(m) for m in messages_of(kind) if service in m.consumers)
    return Durable(STREAM_OF_KIND[kind], service, subjects, MAX_UNSETTLED)


def all_durables(technologies: Iterable[str]) -> list[Durable]:
    """Every durable consumer of an installation that has the given technologies."""
    return [
        service_durable(INVENTORY, Kind.COMMAND),
        service_durable(INVENTORY, Kind.EVENT),
        *(executor_durable(technology) for technology in technologies),
    ]


def first_number(now: datetime) -> int:
    """The number of the first message of a stream that is made now."""
    return max(int((now - NUMBERS_BEGIN).total_seconds() * 1000), 1)


async def provision(
    js: JetStreamContext, technologies: Iterable[str], replicas: int = 1, clock: Clock | None = None
) -> None:
    """Create or update all streams and durable consumers. Harmless when repeated; needs an administrator's rights."""
    now = (clock or SystemClock()).now()
    for config in stream_configs(replicas):
        try:
            await js.stream_info(str(config.name))
        except NotFoundError:
            await js.add_stream(config.evolve(first_seq=first_number(now)))
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
