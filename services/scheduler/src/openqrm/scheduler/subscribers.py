"""Subject to handler: the one query that is answered, the events that are followed."""

from collections.abc import Awaitable, Callable

import structlog
from pydantic import ValidationError

from openqrm.bus.bus import Bus
from openqrm.bus.delivery import unreadable
from openqrm.bus.follow import Followed, Follower
from openqrm.bus.streams import EVENTS
from openqrm.contracts.message import Kind, message_for, messages_of
from openqrm.contracts.partition import PartitionEvent
from openqrm.contracts.placement import PlacementProposal, ProposePlacement
from openqrm.scheduler.projection import FOLLOWED, Projection
from openqrm.scheduler.reading import PlacementChanged


def followed_subjects() -> tuple[str, ...]:
    """The subjects of all events that the projection is made of."""
    return tuple(model.subject for model in messages_of(Kind.EVENT) if issubclass(model, FOLLOWED))


def answer_queries(bus: Bus, propose_placement: Callable[[ProposePlacement], PlacementProposal]) -> None:
    """Answer placement.propose. Before the bus starts."""

    async def answer(query: ProposePlacement) -> PlacementProposal:
        return propose_placement(query)

    bus.answer(ProposePlacement, answer)


def apply_event(projection: Projection, subject: str, body: bytes) -> None:
    """Read an event and take it in. Raises ValidationError when it is not what its subject promises."""
    model = message_for(subject)
    if model is None:
        return
    if issubclass(model, PartitionEvent):
        projection.apply(PlacementChanged.model_validate_json(body))
    else:
        projection.apply(model.model_validate_json(body))


async def follow_events(bus: Bus, projection: Projection, on_anew: Callable[[], Awaitable[None]]) -> Follower:
    """Keep a projection current with every event after those that it includes; `on_anew`: see Bus.follow."""
    log = structlog.get_logger(service=bus.service)

    async def take_in(followed: Followed) -> None:
        try:
            apply_event(projection, followed.subject, followed.body)
        except (ValidationError, OverflowError) as error:
            # Its sender must mend it; to stop here would leave every later event out, too.
            reason = (
                unreadable(error).message if isinstance(error, ValidationError) else f"A number is too large: {error}."
            )
            log.error("an event is left out", subject=followed.subject, sequence=followed.sequence, reason=reason)
        projection.sequence = followed.sequence

    return await bus.follow(EVENTS, take_in, projection.sequence + 1, followed_subjects(), on_anew)
