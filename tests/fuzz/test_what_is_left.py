"""After everything else: every service still does what it is for, and the gateway has made no server error."""

from looks import all_is_well, no_server_errors
from prey import Prey


async def test_everything_still_works(prey: Prey) -> None:
    await all_is_well(prey)
    await no_server_errors(prey)
