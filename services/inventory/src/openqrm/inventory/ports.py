"""What inventory needs from the outside, and its adapters or the other services provide."""

from typing import Protocol

from openqrm.contracts.placement import PlacementProposal, PlacementRequest


class Scheduler(Protocol):
    """Chooses hosts."""

    async def propose(self, request: PlacementRequest) -> PlacementProposal:
        """A host for a partition, with the reasons; TemporaryError when the scheduler does not answer."""
