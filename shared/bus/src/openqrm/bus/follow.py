"""Following a stream: every message from a sequence number on, in order, without acknowledgement.

An ephemeral consumer that is made anew, from the last message seen, whenever it is lost. When the stream itself was
made anew, whoever follows is told, since there may be messages that it has never seen and never will.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from openqrm.bus.cancelling import end
from openqrm.bus.pull import RETRY_SECONDS, ContinuousPull
from openqrm.bus.stream_state import StreamState, read_state
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import TemporaryError

INACTIVE_SECONDS = 60.0
"""The server drops the consumer when nobody pulls for this long."""
WINDOW = 512


@dataclass(frozen=True)
class Followed:
    """One message of a followed stream, not yet read."""

    sequence: int
    subject: str
    headers: dict[str, str]
    body: bytes


class Follower:
    """Delivers a stream's messages in order until stopped."""

    def __init__(
        self,
        client: Client,
        stream: str,
        user: str,
        inbox_prefix: str,
        deliver: Callable[[Followed], Awaitable[None]],
        clock: Clock,
        from_sequence: int | None,
        subjects: tuple[str, ...] = (),
        on_anew: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`on_anew` is awaited, before anything else is delivered, when the stream is another one than before."""
        self.stream = stream
        self._client = client
        self._user = user
        self._inbox_prefix = inbox_prefix
        self._deliver = deliver
        self._clock = clock
        self._next_sequence = from_sequence
        self._subjects = subjects
        self._on_anew = on_anew
        self._seen: StreamState | None = None
        self._pull: ContinuousPull | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._log = structlog.get_logger(stream=stream, user=user)

    @property
    def is_following(self) -> bool:
        """Whether messages would come; not while the stream is missing or cannot be reached."""
        return self._pull is not None

    async def start(self) -> None:
        """Begin with `from_sequence`, or with the next message to come when that is None.

        Raises TemporaryError when the stream cannot be followed now.
        """
        await self._make_consumer()
        self._supervisor = asyncio.create_task(self._make_anew_when_lost(), name=f"follow {self.stream}")

    async def stop(self) -> None:
        """Stop following."""
        await end([self._supervisor])
        if self._pull:
            await self._pull.stop()

    def renew(self) -> None:
        """The connection was made anew: ask again at once, and notice at once when the consumer is gone."""
        if self._pull:
            self._pull.renew()

    async def _make_consumer(self) -> None:
        js = self._client.jetstream()
        await self._look_at(await read_state(js, self.stream))
        name = f"{self._user}-{uuid4().hex}"
        configuration = ConsumerConfig(
            name=name,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=max(self._next_sequence or 1, 1),
            ack_policy=AckPolicy.NONE,
            filter_subjects=list(self._subjects) or None,
            inactive_threshold=INACTIVE_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            await js.add_consumer(self.stream, configuration)
        except (NatsError, TimeoutError) as error:
            raise TemporaryError(
                f"The stream {self.stream} cannot be followed: {error or type(error).__name__}.",
                retry_after=RETRY_SECONDS,
            ) from error
        self._pull = ContinuousPull(
            self._client,
            self.stream,
            name,
            f"{self._inbox_prefix}.{name}",
            WINDOW,
            self._on_message,
            self._clock,
            self._on_lost,
        )
        await self._pull.start()

    async def _look_at(self, state: StreamState) -> None:
        """Take note of which stream it is; begin anew when it is another one than before."""
        if self._next_sequence is None:
            self._next_sequence = state.last + 1
        before, self._seen = self._seen, state
        if before is None or (state.identity == before.identity and state.last + 1 >= self._next_sequence):
            return
        self._log.error(
            "the stream was made anew or has gone back: messages are gone",
            made=state.identity,
            made_before=before.identity,
        )
        self._next_sequence = state.first
        if self._on_anew:
            await self._on_anew()

    async def _on_message(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        if sequence < (self._next_sequence or 0):
            return  # an old consumer's, after it was made anew
        await self._deliver(Followed(sequence, message.subject, dict(message.headers or {}), message.data))
        self._next_sequence = sequence + 1

    async def _on_lost(self) -> None:
        self._lost.set()

    async def _make_anew_when_lost(self) -> None:
        trouble = ""
        while True:
            await self._lost.wait()
            self._lost.clear()
            if self._pull:
                await self._pull.stop()
                self._pull = None
            try:
                await self._make_consumer()
            except (TemporaryError, NatsError, TimeoutError) as error:
                if str(error) != trouble:
                    trouble = str(error)
                    self._log.warning("cannot follow; trying again", error=trouble)
                self._lost.set()
                await self._clock.sleep(RETRY_SECONDS)
            else:
                trouble = ""
