"""Reads a piece of a stream that is there already: a page of events, the catching up of a client, a trace."""

import json
from dataclasses import dataclass
from uuid import uuid4

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from openqrm.bus.bus import Bus
from openqrm.bus.follow import Followed
from openqrm.contracts.errors import TemporaryError

_FETCH_SECONDS = 5.0


@dataclass(frozen=True)
class StreamState:
    """What a stream holds now."""

    first: int
    """Sequence of the oldest message; one more than `last` when there is none."""
    last: int


@dataclass(frozen=True)
class Piece:
    """Messages in order, and how far the stream has been read for them."""

    messages: list[Followed]
    read_to: int
    """Every fitting message up to this sequence is among them (or was before)."""
    complete: bool
    """Whether that was all there was."""


class StreamReader:
    """Reads streams by short-lived consumers."""

    def __init__(self, bus: Bus, user: str) -> None:
        self._bus = bus
        self._user = user

    async def state(self, stream: str) -> StreamState:
        """The first and the last sequence of a stream."""
        try:
            state = (await self._bus.js.stream_info(stream)).state
        except (NatsError, TimeoutError) as error:
            raise self._away(stream, error) from error
        return StreamState(state.last_seq + 1 if state.messages == 0 else state.first_seq, state.last_seq)

    async def read(self, stream: str, from_sequence: int, limit: int, subjects: frozenset[str]) -> Piece:
        """At most `limit` messages of these subjects, from a sequence on."""
        last = (await self.state(stream)).last
        if from_sequence > last:
            return Piece([], last, True)
        name = f"{self._user}-{uuid4().hex}"
        js = self._bus.js
        try:
            info = await js.add_consumer(
                stream,
                ConsumerConfig(
                    name=name,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=max(from_sequence, 1),
                    ack_policy=AckPolicy.NONE,
                    filter_subjects=sorted(subjects),
                    inactive_threshold=30.0,
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            pending = info.num_pending or 0
            wanted = min(pending, limit)
            messages: list[Followed] = []
            try:
                while len(messages) < wanted:
                    messages += await self._fetch(stream, name, wanted - len(messages))
            finally:
                await js.delete_consumer(stream, name)
        except (NatsError, NatsTimeout, TimeoutError) as error:
            raise self._away(stream, error) from error
        complete = len(messages) >= pending
        read_to = max(last, messages[-1].sequence if messages else 0) if complete else messages[-1].sequence
        return Piece(messages, read_to, complete)

    async def _fetch(self, stream: str, consumer: str, wanted: int) -> list[Followed]:
        """The next messages, at least one.

        Not nats-py's `fetch`: that takes any message without a body whose headers say `Status` for the server's word,
        and whoever may publish one event could keep everybody from reading the others.
        """
        client = self._bus.client
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        request = {"batch": wanted, "expires": int(_FETCH_SECONDS * 1e9)}
        found: list[Followed] = []
        try:
            await client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", json.dumps(request).encode(), reply=inbox
            )
            while len(found) < wanted:
                message = await subscription.next_msg(_FETCH_SECONDS + 1)
                if message.subject == inbox:  # the server's word: there is no more to come
                    break
                headers = dict(message.headers or {})
                found.append(Followed(message.metadata.sequence.stream, message.subject, headers, message.data))
        finally:
            await subscription.unsubscribe()
        if not found:
            raise NatsTimeout
        return found

    def _away(self, stream: str, error: Exception) -> TemporaryError:
        return TemporaryError(
            f"The stream {stream} cannot be read right now ({error or type(error).__name__}). Try again in a moment.",
            retry_after=2.0,
        )
