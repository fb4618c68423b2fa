"""What a stream is and holds now, and how it is told from another one of the same name."""

from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from openqrm.contracts.errors import TemporaryError


@dataclass(frozen=True)
class StreamState:
    """One look at a stream."""

    identity: str
    """When NATS made it: another one of the same name, made after NATS lost its store, has another identity."""
    first: int
    """Sequence of the oldest message that is kept; one more than `last` when there is none."""
    last: int
    """Sequence of the newest message; of a stream that had none yet, one less than its first will have."""

    def continues(self, earlier: "StreamState") -> bool:
        """Whether this is what was seen earlier, and has not gone back, as after a backup was restored."""
        return self.identity == earlier.identity and self.last >= earlier.last


class StreamMissingError(TemporaryError):
    """NATS has no such stream: it lost its store, or was never provisioned."""


async def read_state(js: JetStreamContext, stream: str) -> StreamState:
    """Look at a stream. Raises StreamMissingError when there is none, TemporaryError when NATS does not answer."""
    try:
        info = await js.stream_info(stream)
    except NotFoundError as error:
        raise StreamMissingError(
            f"NATS has no stream {stream}: it has lost its store, or was never prepared. Restart the unit "
            "openqrm-streams, or run `python -m openqrm.bus.provisioning streams` with your technologies.",
            retry_after=2.0,
        ) from error
    except (NatsError, TimeoutError) as error:
        raise TemporaryError(
            f"The stream {stream} cannot be looked at: {error or type(error).__name__}.", retry_after=2.0
        ) from error
    state = info.state
    return StreamState(
        identity=info.created.isoformat() if info.created else "",
        first=state.first_seq if state.messages else state.last_seq + 1,
        last=state.last_seq,
    )
