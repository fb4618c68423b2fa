"""A part that ended by itself is started again."""

from openqrm.embedded.errors import StartError
from openqrm.embedded.supervision import CALM_SECONDS, Supervisor
from openqrm.testkit.clock import ManualClock


class Part:
    """Starts, or fails as often as it is told to."""

    def __init__(self) -> None:
        self.failures = 0
        self.starts: list[float] = []
        self.clock = ManualClock()
        self.said: list[str] = []
        self.warned: list[str] = []
        self.supervisor = Supervisor("NATS", self.start, self.clock, self.said.append, self.warned.append)

    async def start(self) -> None:
        self.starts.append(self.clock.monotonic())
        if self.failures:
            self.failures -= 1
            raise StartError("port 4222 for NATS is in use")


async def test_it_is_started_again_soon_and_that_is_told() -> None:
    part = Part()
    part.supervisor.begin()
    part.supervisor.died("NATS was ended by the signal SIGKILL")
    await part.clock.advance(0.6)
    assert part.starts == [0.5]
    assert part.warned == ["NATS was ended by the signal SIGKILL"]
    assert part.said == ["starting NATS again in 0.5 s", "NATS runs again"]
    await part.supervisor.end()


async def test_one_that_does_not_start_is_tried_ever_more_patiently() -> None:
    part = Part()
    part.failures = 9
    part.supervisor.begin()
    part.supervisor.died("gone")
    await part.clock.advance(200)
    waits = [later - earlier for earlier, later in zip([0.0, *part.starts], part.starts, strict=False)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert part.warned == ["gone", *["port 4222 for NATS is in use"] * 9], "each reason is told once"
    await part.supervisor.end()


async def test_only_one_that_ran_for_long_is_started_at_once_again() -> None:
    part = Part()
    part.supervisor.begin()
    part.supervisor.died("gone")
    await part.clock.advance(10)
    part.supervisor.died("gone again")
    await part.clock.advance(10)
    assert part.starts == [0.5, 11]
    await part.clock.advance(CALM_SECONDS)
    part.supervisor.died("gone later")
    await part.clock.advance(10)
    assert part.starts[2] == 20 + CALM_SECONDS + 0.5
    await part.supervisor.end()


async def test_when_all_is_stopped_nothing_is_started_any_more() -> None:
    part = Part()
    await part.supervisor.end()
    part.supervisor.begin()
    part.supervisor.died("gone")
    await part.clock.advance(0.1)
    await part.supervisor.end()
    await part.supervisor.end()
    await part.clock.advance(10)
    assert part.starts == []
