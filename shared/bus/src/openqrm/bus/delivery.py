"""What becomes of a message after its handler: acknowledged, tried again later, or given up as a dead letter.

| the handler                        | the message                                                            |
|------------------------------------|------------------------------------------------------------------------|
| returns                            | ack                                                                    |
| raises TemporaryError              | NAK with a delay and jitter; given up after MAX_TEMPORARY deliveries   |
| raises anything unexpected         | NAK likewise; given up after MAX_UNEXPECTED deliveries                 |
| raises PermanentError              | given up                                                               |
| is never called: the body is wrong | given up                                                               |

Giving up is TERM and a `message.dead_lettered` event, which an operator sees and can replay.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nats.aio.msg import Msg
from pydantic import ValidationError

from openqrm.bus.envelope import time_of
from openqrm.contracts.errors import OpenQrmError, PermanentError, Problem, ProblemCode, TemporaryError

MAX_UNEXPECTED = 5
MAX_TEMPORARY = 1000
"""With the growing delays this is about seven hours of a database that is away."""

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
SLOWER_AFTER = 10
"""Each so many deliveries a message waits for at least one second longer, whatever its handler asks for."""
JITTER = 0.25


@dataclass(frozen=True)
class Delivery:
    """How a message came."""

    message_id: str
    """The CloudEvents id: the same when the same message comes again."""
    subject: str
    sequence: int
    """Its place in the stream."""
    deliveries: int
    """1 the first time."""
    published_at: datetime
    """By the clock of NATS."""
    sent_at: datetime | None = None
    """By the clock of its sender, when that said so: other times in the message can be compared with it."""


def delivery_of(message: Msg, headers: Mapping[str, str]) -> Delivery:
    """How a message of a stream came."""
    metadata = message.metadata
    return Delivery(
        message_id=id_of(message, headers),
        subject=message.subject,
        sequence=metadata.sequence.stream,
        deliveries=metadata.num_delivered,
        published_at=metadata.timestamp,
        sent_at=time_of(headers),
    )


def id_of(message: Msg, headers: Mapping[str, str]) -> str:
    """What a message is recognised by when it comes again: its CloudEvents id, or else its place in the stream."""
    return headers.get("ce-id") or f"{message.metadata.stream}.{message.metadata.sequence.stream}"


@dataclass(frozen=True)
class Retry:
    """Try it again after a while."""

    delay_seconds: float


@dataclass(frozen=True)
class GiveUp:
    """Make it a dead letter."""

    problem: Problem


def backoff(deliveries: int, rng: random.Random) -> float:
    """Seconds to wait before the next delivery: doubling, capped, with jitter so that retries do not march in step."""
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(deliveries - 1, 10), LONGEST_DELAY_SECONDS)
    return delay * (1 + rng.uniform(-JITTER, JITTER))


def judge(error: Exception, deliveries: int, rng: random.Random) -> Retry | GiveUp:
    """Decide what an error in a handler means for its message."""
    if isinstance(error, PermanentError):
        return GiveUp(error.problem())
    if isinstance(error, ValidationError):
        return GiveUp(unreadable(error))
    if isinstance(error, TemporaryError):
        if deliveries >= MAX_TEMPORARY:
            return GiveUp(error.problem())
        if not error.retry_after:
            return Retry(backoff(deliveries, rng))
        # Who asks for a second again and again is in for a long wait: else they were all used up in minutes.
        wait = max(error.retry_after, min(deliveries / SLOWER_AFTER, LONGEST_DELAY_SECONDS))
        return Retry(wait * (1 + rng.uniform(0, JITTER)))
    if deliveries >= MAX_UNEXPECTED:
        return GiveUp(
            Problem(
                code=ProblemCode.INTERNAL,
                message=f"Handling it failed {deliveries} times, at last with {type(error).__name__}: {error}. "
                "The log has the details; replay it once the cause is mended.",
            )
        )
    return Retry(backoff(deliveries, rng))


def unreadable(error: ValidationError) -> Problem:
    """The problem of a body that is not what its subject promises."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return Problem(
        code=ProblemCode.INVALID,
        message=f"The message cannot be read: {where}: {first['msg']}. "
        "Its sender must mend it; see the AsyncAPI document.",
    )


def problem_of(error: Exception) -> Problem:
    """Any exception as a problem; an unexpected one says no more than that."""
    if isinstance(error, OpenQrmError):
        return error.problem()
    if isinstance(error, ValidationError):
        return unreadable(error)
    return Problem(
        code=ProblemCode.INTERNAL,
        message=f"An unexpected {type(error).__name__} occurred; the service's log has the details.",
    )
