"""The bus as a service sees it: publish, ask, answer, consume, follow."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID, uuid4

import structlog
from faststream import AckPolicy
from faststream.nats import NatsBroker, NatsMessage
from faststream.security import BaseSecurity, SASLPlaintext
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ValidationError

from openqrm.bus.access import inbox_prefix
from openqrm.bus.batch import BATCH_MARGIN, FEWEST, NoBatchesError, publish_batch
from openqrm.bus.consumer import Consumer, Handler
from openqrm.bus.delivery import problem_of, unreadable
from openqrm.bus.envelope import ERROR_HEADER, make_headers, wire_size
from openqrm.bus.follow import Followed, Follower
from openqrm.bus.header_reading import survive_any_headers
from openqrm.bus.lanes import Together
from openqrm.bus.pull import ContinuousPull
from openqrm.bus.settings import BusSettings
from openqrm.bus.spans import SpanSender
from openqrm.bus.stream_state import StreamState, read_state
from openqrm.bus.streams import Durable, stream_of
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import InvalidError, Problem, ProblemCode, TemporaryError, error_from
from openqrm.contracts.message import Message, Query, address, subject_pattern
from openqrm.telemetry import metrics
from openqrm.telemetry.tracing import Tracing

Result = TypeVar("Result", bound=BaseModel)
M = TypeVar("M", bound=Message)

PUBLISH_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 5.0


class Bus:
    """One service's connection to NATS.

    Register what is answered and consumed, then `start()`. `user` is the NATS user, by default the service's name.
    """

    def __init__(self, settings: BusSettings, service: str, clock: Clock, tracing: Tracing) -> None:
        self.service = service
        self.clock = clock
        self.tracing = tracing
        self.settings = settings
        self.connection = 1
        """Counts connections; it goes up when one is lost, before there is another one."""
        self._without_batches = 0
        """The connection on which the server was found to take no batches."""
        self._user = settings.user or service
        self._inbox_prefix = inbox_prefix(self._user)
        self._log = structlog.get_logger(service=service)
        self._consumers: list[Consumer] = []
        self._pulls: list[ContinuousPull] = []
        self._followers: list[Follower] = []
        self._spans = SpanSender(self, clock)
        tracing.add_processor(self._spans)
        self._stopping = False
        self._client: Client | None = None
        self._js: JetStreamContext | None = None
        self._broker = NatsBroker(
            [url.strip() for url in settings.url.split(",")],
            name=f"openqrm-{service}",
            inbox_prefix=self._inbox_prefix,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=10,
            max_outstanding_pings=2,
            apply_types=False,
            logger=None,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            **_credentials(settings),
        )

    # -------------------------------------------------------------------------------------------- life

    async def connect(self) -> None:
        """Reach NATS, so that publishing and asking work; nothing is consumed or answered yet."""
        if self._client is None:
            client = await self._broker.connect()
            survive_any_headers(client)
            self._client = client
            self._js = client.jetstream(timeout=PUBLISH_TIMEOUT_SECONDS)

    async def start(self) -> None:
        """Connect, then answer and consume what was registered."""
        await self.connect()
        await self._broker.start()
        for consumer in self._consumers:
            pull = ContinuousPull(
                self.client,
                consumer.durable.stream,
                consumer.durable.name,
                f"{self._inbox_prefix}.{uuid4().hex}",
                consumer.window,
                consumer.deliver,
                self.clock,
            )
            await pull.start()
            self._pulls.append(pull)
        self._spans.start()

    async def stop(self) -> None:
        """Finish what is being handled (up to 10 s), flush and disconnect."""
        self._stopping = True
        for pull in self._pulls:
            await pull.stop()
        for follower in self._followers:
            await follower.stop()
        await asyncio.gather(*(consumer.drain(10.0) for consumer in self._consumers))
        await self._spans.stop()
        if self._client is not None:
            with suppress(NatsError, TimeoutError):
                await self._client.flush(timeout=2)
        await self._broker.stop()
        self._client = self._js = None

    @property
    def client(self) -> Client:
        """The NATS connection; an error before `connect`."""
        if self._client is None:
            raise RuntimeError(f"{self.service}: the bus is not connected yet")
        return self._client

    @property
    def js(self) -> JetStreamContext:
        """JetStream on the connection; an error before `connect`."""
        if self._js is None:
            raise RuntimeError(f"{self.service}: the bus is not connected yet")
        return self._js

    @property
    def is_connected(self) -> bool:
        """Whether NATS is reachable right now."""
        return self._client is not None and self._client.is_connected

    @property
    def trouble(self) -> str | None:
        """Why this service cannot do its work on the bus, in a sentence; None while all is well."""
        if not self.is_connected:
            return "NATS cannot be reached."
        missing = [pull.name for pull in self._pulls if pull.is_missing]
        missing += [follower.stream for follower in self._followers if not follower.is_following]
        if missing:
            return (
                f"NATS does not have {', '.join(sorted(set(missing)))}: it has lost its store, or was never prepared. "
                "Run openqrm.bus.provisioning (the unit openqrm-streams)."
            )
        return None

    async def stream_state(self, stream: str) -> StreamState:
        """Look at a stream. Raises StreamMissingError when there is none, TemporaryError when NATS does not answer."""
        return await read_state(self.js, stream)

    # -------------------------------------------------------------------------------------------- publishing

    async def publish(self, message: Message, about: UUID | str | None = None) -> int | None:
        """Publish a message on its subject; `about` is the id of the thing that it is about.

        Returns its stream sequence once the server keeps it; None for samples and frames, which nobody keeps.
        Raises TemporaryError when the server does not confirm in time.
        """
        subject, headers, body = self.prepare(message, about)
        if stream_of(type(message)) is None:
            await self.client.publish(subject, body, headers=headers)
            return None
        return await self.publish_kept(subject, headers, body)

    def prepare(self, message: Message, about: UUID | str | None = None) -> tuple[str, dict[str, str], bytes]:
        """A message as it is sent now: subject, headers, body."""
        headers = make_headers(message, self.service, self.clock.now(), about)
        return address(message), headers, message.model_dump_json().encode()

    async def publish_kept(self, subject: str, headers: dict[str, str], body: bytes) -> int:
        """Publish bytes to a stream and return the sequence once the server keeps them.

        Raises TemporaryError when the server does not confirm in time, InvalidError when the message is larger than
        the server takes: sent all the same, it would end the connection.
        """
        size = wire_size(headers, body)
        if size > self.client.max_payload:
            raise InvalidError(
                f"A message of {size} bytes on {subject} is too large: the bus takes {self.client.max_payload}. "
                "Name fewer things in it."
            )
        try:
            ack = await self.js.publish(subject, body, headers=headers, timeout=PUBLISH_TIMEOUT_SECONDS)
        except (NatsError, TimeoutError) as error:
            raise TemporaryError(
                f"The bus did not take {subject}: {error or type(error).__name__}. It will be tried again.",
                retry_after=1.0,
            ) from error
        metrics.MESSAGES_PUBLISHED.labels(self.service, headers.get("ce-type", subject)).inc()
        return ack.seq

    async def publish_together(self, messages: Sequence[tuple[str, dict[str, str], bytes]]) -> list[int] | None:
        """Publish messages (subject, headers, body) to one stream, all or none; returns their sequences.

        Ten times as fast as one by one: the server waits for its disk once. None when these are better published one
        by one: they are few, the server or the stream knows no batches, one was published before, one is too large.
        Raises TemporaryError when the server does not confirm in time.
        """
        if len(messages) < FEWEST or self._without_batches == self.connection:
            return None
        limit = self.client.max_payload - BATCH_MARGIN
        if any(wire_size(headers, body) > limit for _, headers, body in messages):
            return None
        try:
            last = await publish_batch(self.client, messages, PUBLISH_TIMEOUT_SECONDS)
        except NoBatchesError:
            self._without_batches = self.connection
            return None
        except (NatsError, TimeoutError) as error:
            raise TemporaryError(
                f"The bus did not take {len(messages)} messages: {error or type(error).__name__}. "
                "They will be tried again.",
                retry_after=1.0,
            ) from error
        if last is None:
            return None
        for subject, headers, _ in messages:
            metrics.MESSAGES_PUBLISHED.labels(self.service, headers.get("ce-type", subject)).inc()
        return list(range(last - len(messages) + 1, last + 1))

    # -------------------------------------------------------------------------------------------- asking and answering

    async def request(self, query: Query[Result], timeout: float = REQUEST_TIMEOUT_SECONDS) -> Result:
        """Ask and await the answer. Raises what the other side raised, or TemporaryError when nobody answers."""
        subject = address(query)
        with self.tracing.span(f"ask {query.subject}", SpanKind.CLIENT):
            headers = make_headers(query, self.service, self.clock.now())
            try:
                reply = await self.client.request(
                    subject, query.model_dump_json().encode(), timeout=timeout, headers=headers
                )
            except NoRespondersError as error:
                raise TemporaryError(
                    f"No service answers {subject}. Check that the service that does so is running.", retry_after=2.0
                ) from error
            except (NatsTimeout, NatsError, TimeoutError) as error:
                raise TemporaryError(
                    f"{subject} was not answered within {timeout:g} s. Try again; see the service's health.",
                    code=ProblemCode.UNAVAILABLE,
                    retry_after=2.0,
                ) from error
            if reply.headers and ERROR_HEADER in reply.headers:
                raise error_from(Problem.model_validate_json(reply.data))
            return type(query).result_type().model_validate_json(reply.data)  # type: ignore[return-value]

    def answer(
        self,
        model: type[Query[Result]],
        handler: Callable[[Any], Awaitable[Result]],
        technology: str | None = None,
    ) -> None:
        """Answer a query, sharing the work with other replicas of this service. Before `start`."""

        async def reply(message: NatsMessage) -> None:
            raw = message.raw_message
            outcome = "ok"
            with metrics.QUERY_SECONDS.labels(self.service, model.subject).time():
                try:
                    with self.tracing.span(f"answer {model.subject}", SpanKind.SERVER, raw.headers or {}):
                        result = await handler(model.model_validate_json(raw.data))
                    body, headers = result.model_dump_json().encode(), None
                except Exception as error:  # noqa: BLE001 - whatever went wrong, the asker gets an answer
                    problem = problem_of(error)
                    outcome = problem.code.value
                    if problem.code is ProblemCode.INTERNAL:
                        self._log.exception("a query failed", subject=raw.subject)
                    body, headers = problem.model_dump_json().encode(), {ERROR_HEADER: problem.code.value}
            if wire_size(headers or {}, body) > self.client.max_payload:
                problem = Problem(
                    code=ProblemCode.INVALID,
                    message=f"The answer to {model.subject} has {len(body)} bytes, more than the bus takes "
                    f"({self.client.max_payload}). Ask for a smaller page.",
                )
                outcome = problem.code.value
                body, headers = problem.model_dump_json().encode(), {ERROR_HEADER: outcome}
            metrics.QUERIES_ANSWERED.labels(self.service, model.subject, outcome).inc()
            if raw.reply:
                await self.client.publish(raw.reply, body, headers=headers)

        async def keep_whole(message: NatsMessage) -> NatsMessage:
            return message

        self._broker.subscriber(
            subject_pattern(model, technology or "*"),
            queue=self.service,
            decoder=keep_whole,
            no_reply=True,
            ack_policy=AckPolicy.MANUAL,
            max_workers=64,
        )(reply)

    # -------------------------------------------------------------------------------------------- consuming

    def consume(
        self,
        durable: Durable,
        handlers: Mapping[type[Message], Handler],
        key: Callable[[Any], str | None],
        concurrency: int = 64,
        together: Together | None = None,
    ) -> None:
        """Handle the messages of a durable consumer. Before `start`.

        Messages with the same `key` are handled in the order in which they came; others at the same time, at most
        `concurrency` of them. `together`: what waits behind others of its kind is handled with them.
        """
        self._consumers.append(Consumer(self, durable, handlers, key, concurrency, together))

    async def follow(
        self,
        stream: str,
        deliver: Callable[[Followed], Awaitable[None]],
        from_sequence: int | None = None,
        subjects: tuple[str, ...] = (),
        on_anew: Callable[[], Awaitable[None]] | None = None,
    ) -> Follower:
        """Get every message of a stream in order, from a sequence number or from now on, until it is stopped.

        `on_anew` is awaited when the stream was made anew, as after NATS lost its store: what was in between is gone.
        """
        follower = Follower(
            self.client, stream, self._user, self._inbox_prefix, deliver, self.clock, from_sequence, subjects, on_anew
        )
        await follower.start()
        self._followers.append(follower)
        return follower

    async def unfollow(self, follower: Follower) -> None:
        """Stop one follower."""
        self._followers.remove(follower)
        await follower.stop()

    async def listen(
        self,
        model: type[M],
        handler: Callable[[M], Awaitable[None]],
        shared: bool = False,
        session: UUID | None = None,
    ) -> Subscription:
        """Hear samples or frames from now on. `shared`: each goes to one replica only. Unreadable ones are dropped.

        `session`: hear only this session's frames. Unsubscribe the returned subscription to end it.
        """

        async def on_message(message: Msg) -> None:
            try:
                await handler(model.model_validate_json(message.data))
            except ValidationError as error:
                self._log.warning("a sample was dropped", subject=message.subject, reason=unreadable(error).message)
            except Exception:  # noqa: BLE001 - a sample may be lost, the subscription may not
                self._log.warning("a sample was dropped", subject=message.subject, exc_info=True)

        pattern = subject_pattern(model) if session is None else model.subject.replace("{session}", str(session))
        return await self.client.subscribe(pattern, queue=self.service if shared else "", cb=on_message)

    # -------------------------------------------------------------------------------------------- connection

    async def _on_error(self, error: Exception) -> None:
        self._log.warning("bus error", error=str(error) or type(error).__name__)

    async def _on_disconnected(self) -> None:
        self.connection += 1
        if not self._stopping:
            self._log.warning("the bus is not reachable; reconnecting")

    async def _on_reconnected(self) -> None:
        self._log.info("the bus is reachable again")
        for pull in self._pulls:
            pull.renew()
        for follower in self._followers:
            follower.renew()


def _credentials(settings: BusSettings) -> dict[str, Any]:
    """What FastStream's broker takes to log in and to check the server."""
    options: dict[str, Any] = {}
    context = None
    if settings.ca_file or settings.cert_file:
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    if settings.credentials:
        options["user_credentials"] = str(settings.credentials)
    elif settings.user:
        options["security"] = SASLPlaintext(
            settings.user, settings.password or "", ssl_context=context, use_ssl=context is not None
        )
    if context is not None and "security" not in options:
        options["security"] = BaseSecurity(ssl_context=context, use_ssl=True)
    return options
