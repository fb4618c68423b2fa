"""Damaged messages on every subject, from every user that may publish there."""

import base64

import pytest
import verdicts
from barrage import Barrage
from budget import IS_SHORT, MESSAGE_SHARE, SECONDS, rng
from looks import all_goes_on, dead_letters, everything_is_worked_off, no_server_errors
from prey import Prey, heard

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.message import INVENTORY, Kind

pytestmark = pytest.mark.timeout(SECONDS + 600)

ROUND = 400
"""Messages of chance between two looks at what became of them."""


async def test_queries_are_answered_or_refused_with_a_reason(prey: Prey) -> None:
    barrage = Barrage(prey, rng("queries"))
    for model in heard(Kind.QUERY):
        await barrage.once(model)
    await barrage.answered()
    complaints = [f"{sent}\n  -> {why}" for sent in barrage.sent if (why := verdicts.judge_answer(sent))]
    print(f"{len(barrage.sent)} queries, {len(complaints)} complaints")
    assert not complaints, "\n".join(complaints[:40])
    await all_goes_on(prey)


async def test_commands_end_as_operations_or_dead_letters(prey: Prey) -> None:
    barrage = Barrage(prey, rng("commands"))
    for model in heard(Kind.COMMAND):
        await barrage.once(model)
    await check(prey, barrage)


async def test_routed_commands_hurt_no_executor(prey: Prey) -> None:
    barrage = Barrage(prey, rng("routed commands"))
    for model in heard(Kind.ROUTED_COMMAND):
        await barrage.once(model)
    await check(prey, barrage)


async def test_events_hurt_nobody_who_follows_them(prey: Prey) -> None:
    barrage = Barrage(prey, rng("events"))
    for model in heard(Kind.EVENT):
        await barrage.once(model)
    await check(prey, barrage)


async def test_samples_and_frames_hurt_nobody(prey: Prey) -> None:
    barrage = Barrage(prey, rng("samples"))
    for model in heard(Kind.SAMPLE, Kind.FRAME):
        await barrage.once(model)
    await barrage.answered()
    print(f"{len(barrage.sent)} samples and frames")
    await all_goes_on(prey)


async def test_headers_hurt_nobody(prey: Prey) -> None:
    barrage = Barrage(prey, rng("headers"))
    for model in heard(*Kind):
        if model.subject in ("partition.pause", "host.observed", "partition.started", "operation.progressed",
                             "partition.pause.{technology}.{host}", "partition.get", "placement.propose",
                             "host.heartbeat", "console.sent.{session}", "span.recorded.{trace}"):  # fmt: skip
            await barrage.headers(model)
    await check(prey, barrage)


@pytest.mark.skipif(IS_SHORT, reason="a short run is the same every time; make fuzz goes on for longer")
async def test_messages_as_chance_will_have_them(prey: Prey) -> None:
    choice, clock = rng("chance"), SystemClock()
    models = heard(*Kind)
    end, count = clock.monotonic() + SECONDS * MESSAGE_SHARE, 0
    while clock.monotonic() < end:
        barrage = Barrage(prey, choice)
        for _ in range(ROUND):
            await barrage.chance(choice.choice(models))
        count += ROUND
        queries = [sent for sent in barrage.sent if sent.model.message_kind is Kind.QUERY]
        await barrage.answered()
        complaints = [f"{sent}\n  -> {why}" for sent in queries if (why := verdicts.judge_answer(sent))]
        assert not complaints, "\n".join(complaints[:20])
        barrage.sent = [sent for sent in barrage.sent if sent.model.message_kind is not Kind.QUERY]
        await check(prey, barrage)
    print(f"{count} messages of chance")


async def check(prey: Prey, barrage: Barrage) -> None:
    """Every message that is kept and cannot be read became a dead letter; every readable command an operation."""
    await barrage.answered()
    await everything_is_worked_off(prey)
    letters = await dead_letters(prey)
    kept = [sent for sent in barrage.sent if verdicts.is_kept(sent)]
    print(f"{len(barrage.sent)} messages, {len(kept)} kept, {len(letters)} dead letters so far")
    prey.forged |= verdicts.forged(kept)
    ours = [letter for letter in letters if letter["id"] not in prey.forged]
    assert (complaints := verdicts.badly_explained(ours)) == [], "\n".join(complaints[:40])
    lettered = verdicts.letters_by_body(letters)
    client = prey.client
    lost = []
    for sent in kept:
        body = base64.urlsafe_b64encode(sent.body.data).decode()
        subject = prey.address(sent.model)
        if (subject, body) in lettered or ((subject, "") in lettered and sent.body.damage == "huge"):
            continue
        if not verdicts.is_readable(sent):
            if sent.model.message_kind is not Kind.EVENT or INVENTORY in sent.model.consumers:
                lost.append(f"no dead letter of {sent}")
        elif operation := verdicts.operation_of(sent):
            answer = await client.request("GET", f"/operations/{operation}")
            if answer.status_code != 200:
                lost.append(f"no operation {operation} of {sent}")
                continue
            found = answer.json()
            if found["error"]:
                problem = verdicts.Problem.model_validate(found["error"])
                if complaint := verdicts.explains(problem):
                    lost.append(f"{complaint}: {sent}")
    assert not lost, f"{len(lost)} of {len(kept)}:\n" + "\n".join(lost[:30])
    await all_goes_on(prey)
    await no_server_errors(prey)
