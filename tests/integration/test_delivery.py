"""What comes twice, what comes as garbage, and what an operator does about it."""

import asyncio

import pytest
from support.control_plane import ControlPlane

from openqrm.contracts.dead_letter import DeadLetter, DiscardMessage, ListDeadLetters, ReplayMessage
from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.message import Kind, messages_of
from openqrm.contracts.network import CreateNetwork, ListNetworks
from openqrm.contracts.operation import OperationAccepted


async def _letters(plane: ControlPlane, subject: str) -> list[DeadLetter]:
    async with asyncio.timeout(30):
        while True:
            page = await plane.ask(ListDeadLetters())
            found = [letter for letter in page.items if letter.subject == subject]
            if found:
                return found
            await plane.clock.sleep(0.05)


@pytest.mark.parametrize("subject", [model.subject for model in messages_of(Kind.COMMAND)])
@pytest.mark.parametrize("body", [b"garbage", b'{"operation_id": 7}', b"\xff\x00"], ids=["text", "shape", "bytes"])
async def test_garbage_becomes_a_dead_letter_and_the_service_lives(
    plane: ControlPlane, subject: str, body: bytes
) -> None:
    await plane.client.js.publish(subject, body)
    (letter, *_) = await _letters(plane, subject)
    assert letter.error.code is ProblemCode.INVALID
    assert "AsyncAPI" in letter.error.message
    for old in await _letters(plane, subject):
        ended = await plane.run(DiscardMessage(letter_id=old.id))
        assert ended.state == "succeeded"


async def test_the_same_command_ten_times_is_one_operation(plane: ControlPlane) -> None:
    command = CreateNetwork(name="once", bridge="br7")
    for number in range(10):
        headers = {"Nats-Msg-Id": f"{command.operation_id}-{number}"}  # so that the server lets all of them through
        await plane.client.js.publish(command.subject, command.model_dump_json().encode(), headers=headers)
    await plane.end_of(command.operation_id)
    await plane.run(CreateNetwork(name="after", bridge="br8"))
    accepted = [
        event
        for _, event in plane.events
        if isinstance(event, OperationAccepted) and event.operation.id == command.operation_id
    ]
    assert len(accepted) == 1
    names = [network.name for network in (await plane.ask(ListNetworks())).items]
    assert names.count("once") == 1


async def test_a_dead_letter_can_be_replayed(plane: ControlPlane) -> None:
    await plane.client.js.publish("network.create", b"not yet readable")
    (letter, *_) = await _letters(plane, "network.create")
    assert (await plane.run(ReplayMessage(letter_id=letter.id))).state == "succeeded"
    # Still unreadable, so it comes back as another letter; the old one is gone.
    (again, *_) = await _letters(plane, "network.create")
    assert again.id != letter.id
    assert again.body == letter.body
    missing = await plane.run(ReplayMessage(letter_id=letter.id))
    assert missing.state == "rejected"
    assert missing.error is not None
    assert missing.error.code is ProblemCode.NOT_FOUND
