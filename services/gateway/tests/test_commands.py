"""Commands by HTTP: accepted, awaited, refused, repeated."""

import asyncio
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
from gateway_waiting import pause

from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.message import Command
from openqrm.contracts.partition import CreatePartition, DetachDisk, StartPartition


async def test_a_command_is_answered_with_its_operation(operator: httpx.AsyncClient, inventory) -> None:
    answer = await operator.post("/api/v1/partitions/web%201/start")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["verb"] == "partition.start"
    assert answer.headers["location"] == f"/api/v1/operations/{body['id']}"
    (command,) = inventory.commands
    assert isinstance(command, StartPartition)
    assert (command.partition, command.requested_by) == ("web 1", "admin")
    assert str(command.operation_id) == body["id"]
    assert UUID(body["id"]).version == 7


async def test_creating_takes_the_contracts_fields(operator: httpx.AsyncClient, inventory) -> None:
    wish = {
        "name": "Größe Ω 1",
        "memory_mib": 256,
        "disks": [{"source": {"kind": "image", "image": "demo"}}, {"source": {"kind": "blank", "size_mib": 1024}}],
        "nics": [{"network": "default"}],
        "start": True,
    }
    answer = await operator.post("/api/v1/partitions", json=wish)
    assert answer.status_code == 202, answer.text
    (command,) = inventory.commands
    assert isinstance(command, CreatePartition)
    assert command.name == "Größe Ω 1"
    assert command.disks[1].source.kind == "blank"


async def test_names_with_slashes_spaces_and_other_scripts_are_found(operator: httpx.AsyncClient, inventory) -> None:
    for name in ("a/b", "ü x", "日本/語 ?#%", "a/start", "200" * 66):
        inventory.commands.clear()
        answer = await operator.post(f"/api/v1/partitions/{quote(name, safe='')}/start")
        assert answer.status_code == 202, answer.text
        assert inventory.commands[0].partition == name


async def test_the_end_can_be_awaited(operator: httpx.AsyncClient, inventory) -> None:
    async def slowly(command: Command) -> None:
        await inventory.accept(command)
        await pause(0.2)
        await inventory.progress(command, 50)
        await pause(0.2)
        await inventory.succeed(command)

    inventory.reactions["partition.stop"] = slowly
    answer = await operator.post("/api/v1/partitions/web%201/stop?wait=10")
    assert answer.status_code == 200
    assert answer.json()["state"] == "succeeded"
    answer = await operator.post("/api/v1/partitions/web%201/stop", headers={"Prefer": "respond-async, wait=10"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=10"


async def test_a_failed_operation_is_an_answer_too(operator: httpx.AsyncClient, inventory) -> None:
    async def fail(command: Command) -> None:
        await inventory.accept(command)
        await inventory.fail(command, Problem(code=ProblemCode.DRIVER_FAILED, message="It broke."))

    inventory.reactions["partition.reboot"] = fail
    answer = await operator.post("/api/v1/partitions/web%201/reboot?wait=10", json={"hard": True})
    assert answer.status_code == 200
    assert answer.json()["state"] == "failed"
    assert answer.json()["error"]["message"] == "It broke."


async def test_waiting_ends_in_time(operator: httpx.AsyncClient, inventory) -> None:
    inventory.reactions["partition.pause"] = inventory.accept
    answer = await operator.post("/api/v1/partitions/web%201/pause?wait=1")
    assert answer.status_code == 202
    assert answer.json()["state"] == "running"


async def test_an_operation_can_be_long_polled(operator: httpx.AsyncClient, inventory) -> None:
    async def later(command: Command) -> None:
        await inventory.accept(command)
        await pause(0.5)
        await inventory.succeed(command)

    inventory.reactions["partition.unpause"] = later
    accepted = await operator.post("/api/v1/partitions/web%201/unpause")
    assert accepted.json()["state"] == "running"
    ended = await operator.get(f"{accepted.headers['location']}?wait=10")
    assert ended.json()["state"] == "succeeded"
    assert (await operator.get(accepted.headers["location"])).json()["state"] == "succeeded"


async def test_a_refusal_names_the_state_and_what_is_allowed(operator: httpx.AsyncClient, inventory) -> None:
    async def refuse(command: Command) -> None:
        await inventory.reject(
            command,
            Problem(
                code=ProblemCode.WRONG_STATE,
                message="Partition 'web 1' is running. Allowed: stop.",
                details={"state": "running", "allowed": ["stop"]},
            ),
        )

    inventory.reactions["partition.start"] = refuse
    answer = await operator.post("/api/v1/partitions/web%201/start")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "wrong-state"
    assert problem["type"] == "urn:openqrm:problem:wrong-state"
    assert problem["details"]["allowed"] == ["stop"]
    assert problem["trace_id"] == answer.headers["x-request-id"]


async def test_the_same_idempotency_key_gives_one_operation(operator: httpx.AsyncClient, inventory) -> None:
    key = str(uuid4())
    for text in (key, "tuesday's restart"):
        inventory.commands.clear()
        answers = [
            await operator.post("/api/v1/partitions/web%201/start", headers={"Idempotency-Key": text}) for _ in range(3)
        ]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(inventory.commands) == 1
    assert answers[0].json()["id"] != key
    other = await operator.post("/api/v1/partitions/web%201/stop", headers={"Idempotency-Key": key})
    assert other.status_code == 409
    assert "Idempotency-Key" in other.json()["detail"]


async def test_a_uuid_as_key_becomes_the_operations_id(operator: httpx.AsyncClient, inventory) -> None:
    key = str(uuid4())
    answer = await operator.post("/api/v1/partitions/web%201/start", headers={"Idempotency-Key": key})
    assert answer.json()["id"] == key


async def test_if_match_becomes_the_expected_revision(operator: httpx.AsyncClient, inventory) -> None:
    await operator.post("/api/v1/partitions/web%201/start", headers={"If-Match": 'W/"7"'})
    assert inventory.commands[0].expected_revision == 7
    answer = await operator.post("/api/v1/partitions/web%201/start", headers={"If-Match": "yesterday"})
    assert answer.status_code == 412


async def test_a_command_that_inventory_does_not_take_in_time_is_queued(site, inventory, admin_token) -> None:
    async def ignore(command: Command) -> None:
        return

    inventory.reactions["partition.start"] = ignore
    gateway = site.gateway(accept_seconds=0.3)
    await gateway.start()
    try:
        async with httpx.AsyncClient(
            base_url=gateway.url, headers={"Authorization": f"Bearer {admin_token}"}
        ) as client:
            answer = await client.post("/api/v1/partitions/web%201/start")
        assert answer.status_code == 202
        assert answer.json()["state"] == "queued"
        assert "inventory" in answer.json()["step"]
    finally:
        await gateway.stop()


async def test_url_parameters_of_deletions_reach_the_command(operator: httpx.AsyncClient, inventory) -> None:
    await operator.delete("/api/v1/partitions/web%201/disks/vdb?keep=true")
    (command,) = inventory.commands
    assert isinstance(command, DetachDisk)
    assert (command.target, command.keep) == ("vdb", True)


async def test_many_commands_at_once_each_get_their_own_operation(operator: httpx.AsyncClient, inventory) -> None:
    answers = await asyncio.gather(
        *(operator.post(f"/api/v1/partitions/p{number}/start?wait=20") for number in range(100))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 100
