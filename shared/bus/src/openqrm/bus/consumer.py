"""Takes the messages of one durable consumer to their handlers, and settles them by what becomes of that."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from openqrm.bus.delivery import Delivery, GiveUp, delivery_of, id_of, judge
from openqrm.bus.envelope import kind_of, wire_size
from openqrm.bus.keyed import KeyedLock
from openqrm.bus.lanes import SIGN_OF_LIFE_SECONDS, Lanes, Together, Waiting
from openqrm.bus.streams import Durable
from openqrm.contracts.dead_letter import DeadLetter, MessageDeadLettered
from openqrm.contracts.errors import InvalidError, Problem, ProblemCode, TemporaryError
from openqrm.contracts.ids import new_id
from openqrm.contracts.message import Message, message_for
from openqrm.telemetry import metrics

if TYPE_CHECKING:
    from openqrm.bus.bus import Bus

Handler = Callable[[Any, Delivery], Awaitable[None]]
"""Handles one message: (model, delivery) -> None; what its errors mean is told in `delivery`."""

WINDOW_WITH_LANES = 256
"""Messages asked for and not yet there, where those that wait for their turn wait in lanes."""
KEYS_AT_ONCE = 50
"""That many different things in one transaction."""
TOGETHER_DELIVERIES = 3
"""What failed so often with others is tried by itself from then on."""
LETTER_MARGIN = 8192
"""Bytes that a dead letter may be longer than what it carries: its error, its own headers."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Messages with the same key that wait one behind the other."""

    line: list[Waiting]
    handled: list[tuple[Any, Delivery]] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    """Their ids."""

    @property
    def was_tried(self) -> bool:
        """Whether it failed too often for being tried with others once more."""
        return any(delivery.deliveries > TOGETHER_DELIVERIES for _, delivery in self.handled)


class Consumer:
    """Handles the messages of one durable consumer."""

    def __init__(
        self,
        bus: "Bus",
        durable: Durable,
        handlers: Mapping[type[Message], Handler],
        key: Callable[[Any], str | None],
        concurrency: int,
        together: Together | None = None,
    ) -> None:
        self.bus = bus
        self.durable = durable
        self.handlers = handlers
        self.key = key
        self.window = max(concurrency, WINDOW_WITH_LANES) if together else concurrency
        self._together = together
        self._lanes = Lanes(together, self._handle_one, self._handle_many, bus.clock) if together else None
        self._slots = asyncio.Semaphore(concurrency)
        self._keys = KeyedLock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._log = structlog.get_logger(service=bus.service)

    async def deliver(self, message: Msg) -> None:
        """Take one message to its lane; if it has none, wait for a free slot, and handle it in a task of its own."""
        if self._lanes and self._together and (model := message_for(message.subject)):
            try:
                waiting = Waiting(message, model.model_validate_json(message.data))
            except ValidationError:
                pass  # becomes a dead letter like any other
            else:
                if lane := self._together.lane(waiting.body):
                    await self._lanes.put(lane, waiting)
                    return
        await self._slots.acquire()
        task = asyncio.create_task(self._handle(message), name=message.subject)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()):
            # Only the acknowledgement itself can fail here; the message comes again after its ack wait.
            self._log.warning("a message could not be acknowledged", subject=task.get_name(), error=str(error))

    async def drain(self, timeout: float) -> None:
        """Wait for the messages in hand, then let go of them; they come again, here or elsewhere."""
        await asyncio.gather(self._drain_slots(timeout), *([self._lanes.stop(timeout)] if self._lanes else []))

    async def _drain_slots(self, timeout: float) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # -------------------------------------------------------------------------------------------- one

    async def _handle_one(self, waiting: Waiting) -> None:
        await self._handle(waiting.message, waiting.body)

    async def _handle(self, message: Msg, body: Any = None) -> None:
        alive = asyncio.create_task(self._show_life(message))
        headers = dict(message.headers or {})
        model = message_for(message.subject)
        kind = kind_of(message.subject)
        handler = self.handlers.get(model) if model else None
        try:
            with (
                self.bus.tracing.span(f"handle {kind}", SpanKind.CONSUMER, headers),
                metrics.MESSAGE_SECONDS.labels(self.bus.service, model.subject if model else "unknown").time(),
            ):
                if model is None or handler is None:
                    raise InvalidError(
                        f"{self.bus.service} has no handler for {message.subject}. See the AsyncAPI document."
                    )
                if body is None:
                    body = model.model_validate_json(message.data)
                key = self.key(body)
                if key is None:
                    await handler(body, delivery_of(message, headers))
                else:
                    async with self._keys.hold(key):
                        await handler(body, delivery_of(message, headers))
        except Exception as error:  # noqa: BLE001 - every failure ends in a retry or a dead letter
            await self._failed(message, headers, error)
        else:
            await message.ack()
            metrics.MESSAGES_HANDLED.labels(self.bus.service, kind, "ack").inc()
        finally:
            alive.cancel()

    async def _show_life(self, message: Msg) -> None:
        """Keep a message that takes long from being given to another replica."""
        while True:
            await self.bus.clock.sleep(SIGN_OF_LIFE_SECONDS)
            await message.in_progress()

    # -------------------------------------------------------------------------------------------- many

    async def _handle_many(self, line: list[Waiting]) -> None:
        """Handle messages of one lane, those with the same key in one transaction."""
        by_key: dict[str | None, list[Waiting]] = defaultdict(list)
        for waiting in line:
            by_key[self.key(waiting.body)].append(waiting)
        groups = []
        for waiting_together in by_key.values():
            group = self._group(waiting_together)
            if group.was_tried:
                await self._one_by_one(group.line)
            else:
                groups.append(group)
        for start in range(0, len(groups), KEYS_AT_ONCE):
            await self._handle_groups(groups[start : start + KEYS_AT_ONCE])

    def _group(self, line: list[Waiting]) -> "_Group":
        if self._together is None:
            raise RuntimeError(f"{self.durable.name} has no lanes")
        needless = self._together.superseded([waiting.body for waiting in line])
        group = _Group(line)
        for place, waiting in enumerate(line):
            headers = waiting.message.headers or {}
            if place in needless:
                group.superseded.append(id_of(waiting.message, headers))
            else:
                group.handled.append((waiting.body, delivery_of(waiting.message, headers)))
        return group

    async def _handle_groups(self, groups: list["_Group"]) -> None:
        """Handle groups of messages together; when that cannot be, by halves, at last message by message.

        So exactly the one that is wrong becomes a dead letter, and what it would have superseded counts.
        """
        line = [waiting for group in groups for waiting in group.line]
        if len(line) == 1:
            await self._one_by_one(line)
            return
        try:
            await self._try_together(groups)
        except TemporaryError as error:
            self._log.warning("will be tried again", count=len(line), reason=error.message)
            for waiting in line:
                await self._failed(waiting.message, dict(waiting.message.headers or {}), error, told=True)
        except Exception as error:  # noqa: BLE001 - told for the one that it is about
            self._log.info("cannot be handled together", count=len(line), reason=type(error).__name__)
            if len(groups) == 1:
                await self._one_by_one(line)
                return
            middle = len(groups) // 2
            await self._handle_groups(groups[:middle])
            await self._handle_groups(groups[middle:])
        else:
            for waiting in line:
                await waiting.message.ack()
            kind = kind_of(line[0].message.subject)
            metrics.MESSAGES_HANDLED.labels(self.bus.service, kind, "ack").inc(len(line))

    async def _one_by_one(self, line: list[Waiting]) -> None:
        for waiting in line:
            await self._handle_one(waiting)

    async def _try_together(self, groups: list["_Group"]) -> None:
        if self._together is None:
            raise RuntimeError(f"{self.durable.name} has no lanes")
        model = self._together.model
        with (
            self.bus.tracing.span(f"handle {model.subject}", SpanKind.CONSUMER),
            metrics.MESSAGE_SECONDS.labels(self.bus.service, model.subject).time(),
        ):
            await self._together.handler(
                [each for group in groups for each in group.handled],
                [each for group in groups for each in group.superseded],
            )

    # -------------------------------------------------------------------------------------------- failures

    async def _failed(self, message: Msg, headers: dict[str, str], error: Exception, told: bool = False) -> None:
        """Try a message again later, or give it up. `told`: the log says already why it is tried again."""
        deliveries = message.metadata.num_delivered
        verdict = judge(error, deliveries, self._random)
        kind = kind_of(message.subject)
        if isinstance(verdict, GiveUp):
            self._log.error("a message was given up", subject=message.subject, reason=verdict.problem.message)
            if verdict.problem.code is ProblemCode.INTERNAL:
                self._log.error("the last error", exc_info=error)
            letter = self._letter(message, headers, deliveries, verdict.problem)
            # First the letter, then TERM: dying in between gives two letters, the other order could give none.
            await self.bus.publish(MessageDeadLettered(letter=letter), about=letter.id)
            await message.term()
            metrics.MESSAGES_HANDLED.labels(self.bus.service, kind, "dead-letter").inc()
            return
        if told:
            pass
        elif isinstance(error, TemporaryError):
            self._log.warning("will be tried again", subject=message.subject, reason=error.message)
        else:
            self._log.error("will be tried again", subject=message.subject, exc_info=error)
        await message.nak(delay=verdict.delay_seconds)
        metrics.MESSAGES_HANDLED.labels(self.bus.service, kind, "retry").inc()

    def _letter(self, message: Msg, headers: dict[str, str], deliveries: int, problem: Problem) -> DeadLetter:
        headers = {_storable(name): _storable(value) for name, value in headers.items()}
        body = message.data
        # Base64 makes it a third longer. One that does not fit is told without its body, which nobody could replay.
        if wire_size(headers, body) * 4 // 3 + LETTER_MARGIN > self.bus.client.max_payload:
            lost = f" Its {len(body)} bytes are too many for a dead letter and are left out, so it cannot be replayed."
            problem = problem.model_copy(update={"message": problem.message + lost})
            headers = {name: value[:200] for name, value in headers.items() if name.startswith("ce-")}
            body = b""
        return DeadLetter(
            id=new_id(),
            subject=message.subject,
            headers=headers,
            body=body,
            consumer=f"{self.durable.stream}/{self.durable.name}",
            deliveries=deliveries,
            error=problem.model_copy(update={"message": _storable(problem.message)}),
            occurred_at=self.bus.clock.now(),
        )


def _storable(text: str) -> str:
    """Without the character that PostgreSQL does not keep, or nobody would ever see the letter."""
    return text.replace("\x00", "\ufffd")
