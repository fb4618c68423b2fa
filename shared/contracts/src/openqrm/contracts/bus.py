"""The bus itself as a thing that something can happen to."""

from pydantic import Field

from openqrm.contracts.message import CLIENT, GATEWAY, INVENTORY, Event


class BusLost(Event, subject="bus.lost", publishers=(INVENTORY,), consumers=(GATEWAY, CLIENT)):
    """NATS came back without what it had kept, such as after its store was wiped; it is the first event after that.

    Commands that inventory had not taken are gone: whoever sent one and finds no operation of its id sends it again,
    with the same id. Operations that were being carried out have ended as failed; events in between are gone.
    """

    streams: tuple[str, ...] = Field(description="Those that were made anew or have gone back")
    operations_failed: int = Field(
        ge=0, description="Operations that were ended because nobody knows what became of them"
    )
