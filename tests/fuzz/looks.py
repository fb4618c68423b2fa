"""Looking around after the damage: everything answers, a normal operation goes through, nothing is stuck."""

import re
from collections import Counter

from budget import IS_SHORT
from prey import Prey

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.ids import new_id
from openqrm.contracts.placement import PlacementRequest, ProposePlacement
from openqrm.telemetry.tracing import Tracing
from openqrm.testkit.waiting import eventually_async

WORKED_OFF_SECONDS = 120.0
DURABLES = (("COMMANDS", "inventory"), ("EVENTS", "inventory"), ("EXECUTIONS", "executor-fake"))
_SERVER_ERROR = re.compile(r'^openqrm_http_seconds_count\{(.*status="5\d\d")\} (\S+)$', re.MULTILINE)


async def all_goes_on(prey: Prey) -> None:
    """The look after each test: short in a short run, which ends with a long one."""
    if not IS_SHORT:
        await all_is_well(prey)
    assert prey.site.runs
    assert (await prey.client.get("/health"))["status"] == "ok"
    nothing_unexpected_is_in_the_log(prey)


async def all_is_well(prey: Prey) -> None:
    """Raise when anything is not as it should be."""
    await everything_is_worked_off(prey)
    await every_service_answers(prey)
    await a_normal_operation_goes_through(prey)
    await the_events_can_be_read(prey)
    nothing_unexpected_is_in_the_log(prey)


async def everything_is_worked_off(prey: Prey) -> None:
    """No consumer has messages left, or in its hands."""
    bus = _bus(prey, "provisioner")
    await bus.connect()
    left: dict[str, tuple[int, int]] = {}

    async def none_left() -> bool:
        for stream, consumer in DURABLES:
            info = await bus.js.consumer_info(stream, consumer)
            left[f"{stream}/{consumer}"] = (info.num_pending or 0, info.num_ack_pending or 0)
        return not any(map(any, left.values()))

    try:
        await eventually_async(none_left, WORKED_OFF_SECONDS, "every consumer has worked off what it was given")
    except BaseException:
        print("left (waiting, in hand):", left, "\nlog:", prey.site.log[-4000:])
        raise
    finally:
        await bus.stop()


async def every_service_answers(prey: Prey) -> None:
    """The gateway, inventory behind it, and the scheduler; the executor is seen by the operation."""
    client = prey.client
    assert (await client.get("/health"))["status"] == "ok"
    for path in (
        "/partitions", "/hosts", "/networks", "/images", "/resources", "/operations", "/macs", "/technologies",
        "/strangers", "/dead-letters", "/users", "/tokens", "/sessions", "/audit", "/events", "/whoami",
    ):  # fmt: skip
        await client.get(path)
    bus = _bus(prey, "client")
    await bus.connect()
    try:
        request = PlacementRequest(
            partition_id=new_id(), technology="fake", memory_mib=64, vcpus=1, host_tags=("watched",)
        )
        proposal = await bus.request(ProposePlacement(request=request))
        assert proposal.host_id is not None, proposal
    finally:
        await bus.stop()


async def a_normal_operation_goes_through(prey: Prey) -> None:
    """A new partition runs and goes, an old one starts and stops."""
    client = prey.client
    name = f"normal {new_id()}"
    made = await client.partition(name, host_tags=["watched"], start=True)
    assert made["state"] == "running"
    await client.run("POST", f"/partitions/{made['id']}/stop")
    await client.run("DELETE", f"/partitions/{made['id']}")
    await client.run("POST", "/partitions/watched 1/start")
    await client.run("POST", "/partitions/watched 1/stop")


async def the_events_can_be_read(prey: Prey) -> None:
    """All of them, page by page, as JSON."""
    client, since = prey.client, 0
    while True:
        page = await client.get("/events", since=since, limit=1000)
        assert page["gap"] is None
        if page["next_since"] >= page["last"]:
            return
        since = page["next_since"]


async def no_server_errors(prey: Prey, allowed: frozenset[int] = frozenset()) -> None:
    """The gateway has answered nothing with 5xx."""
    text = (await prey.client.request("GET", "/metrics")).text
    found = [match.group(0) for match in _SERVER_ERROR.finditer(text)]
    assert not [line for line in found if not any(f'status="{code}"' in line for code in allowed)], found


def nothing_unexpected_is_in_the_log(prey: Prey) -> None:
    """No exception that nobody thought of."""
    log = prey.site.log
    starts = [match.start() for match in re.finditer("^Traceback", log, re.MULTILINE)]
    found = Counter(_end_of(log[start : start + 20_000]) for start in starts)
    first = log[max(0, starts[0] - 600) : starts[0] + 5000] if starts else ""
    assert not found, "\n".join(f"{count} x {what}" for what, count in found.most_common(30)) + f"\n\n{first}"


def _end_of(traceback: str) -> str:
    """Where it was raised in our code, and the line that names the exception."""
    lines = traceback.split("\n")
    end = next((number for number, line in enumerate(lines) if number and line[:1].strip()), len(lines) - 1)
    places = [line.strip() for line in lines[:end] if "/src/openqrm/" in line]
    return f"{lines[end][:200]} at {places[-1].rpartition('/openqrm/')[2] if places else '?'}"


async def dead_letters(prey: Prey) -> list[dict[str, object]]:
    """All that an operator can see."""
    client, cursor = prey.client, None
    found = []
    while True:
        page = await client.get("/dead-letters", limit=500, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def _bus(prey: Prey, user: str) -> Bus:
    settings = BusSettings(url=prey.site.word["nats_url"], user=user, password=prey.passwords[user])
    return Bus(settings, user, SystemClock(), Tracing(user))


__all__ = ["all_goes_on", "all_is_well", "dead_letters", "everything_is_worked_off", "no_server_errors"]
