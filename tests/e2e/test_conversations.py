"""What HTTP itself offers: ETags, conditions, idempotency keys, waiting."""

import asyncio
from uuid import uuid4

from installation import Client

from openqrm.contracts.ids import new_id


async def test_only_what_was_seen_is_changed(admin: Client, name: str) -> None:
    made = await admin.partition(name)
    path = f"/partitions/{made['id']}"
    response = await admin.request("GET", path)
    tag = response.headers["etag"]
    unchanged = await admin.request("GET", path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    await admin.run("PATCH", path, {"tags": ["one"]}, headers={"If-Match": tag})
    late = await admin.refused("PATCH", path, {"tags": ["two"]}, status=412, headers={"If-Match": tag})
    assert late["code"] == "precondition-failed"
    await admin.refused("POST", f"{path}/start", status=412, headers={"If-Match": tag})
    await admin.refused("DELETE", path, status=412, headers={"If-Match": '"not one of ours"'})
    found = await admin.request("GET", path)
    assert found.json()["tags"] == ["one"]
    assert found.headers["etag"] != tag
    await admin.run("POST", f"{path}/start", headers={"If-Match": found.headers["etag"]})
    await admin.run("POST", f"{path}/stop", headers={"If-Match": "*"})


async def test_the_same_key_gives_one_operation(admin: Client, name: str) -> None:
    body = {"name": name, "memory_mib": 64}
    for key in (f"order 66 {name}", str(uuid4())):
        operations = await asyncio.gather(
            *(
                admin.call("POST", "/partitions", {**body, "name": f"{name} {key}"}, params={"wait": 60},
                           headers={"Idempotency-Key": key})
                for _ in range(5)
            )
        )  # fmt: skip
        assert len({operation["id"] for operation in operations}) == 1
        assert {operation["state"] for operation in operations} == {"succeeded"}
    again = await admin.call("POST", "/partitions", {**body, "name": f"{name} {key}"}, params={"wait": 60},
                             headers={"Idempotency-Key": key})  # fmt: skip
    assert again["id"] == operations[0]["id"] == key, "a UUID is the operation's id"
    problem = await admin.refused("POST", f"/partitions/{again['target_id']}/start", headers={"Idempotency-Key": key})
    assert "partition.create" in problem["detail"], "another command cannot have the same key"
    too_long = await admin.refused("POST", "/partitions", body, status=422, headers={"Idempotency-Key": "k" * 201})
    assert too_long["fields"][0]["field"] == "Idempotency-Key"


async def test_waiting(admin: Client, name: str) -> None:
    body = {"name": f"{name} !create-slow=1.5", "memory_mib": 64}
    at_once = await admin.request("POST", "/partitions", body)
    assert at_once.status_code == 202
    operation = at_once.json()
    assert operation["state"] in ("running", "queued")
    assert at_once.headers["location"] == f"/api/v1/operations/{operation['id']}"
    assert "retry-after" in at_once.headers
    short = await admin.get(f"/operations/{operation['id']}", wait=1)
    assert short["state"] == "running", "the time was over first"
    long = await admin.get(f"/operations/{operation['id']}", wait=30)
    assert (long["state"], long["progress"]) == ("succeeded", 100)
    assert long["ended_at"] > long["created_at"]
    preferred = await admin.request(
        "POST", f"/partitions/{operation['target_id']}/start", headers={"Prefer": "respond-async, wait=30"}
    )
    assert (preferred.status_code, preferred.json()["state"]) == (200, "succeeded")
    assert preferred.headers["preference-applied"] == "wait=30"
    for wait in ("-1", "301", "soon"):
        await admin.refused("POST", f"/partitions/{operation['target_id']}/stop", status=422, params={"wait": wait})


async def test_commands_on_one_partition_queue_and_others_pass(admin: Client, name: str) -> None:
    slow = await admin.partition(f"{name} !start-slow=2")
    path = f"/partitions/{slow['id']}"
    starting = await admin.call("POST", f"{path}/start", status=202)
    stopping = await admin.call("POST", f"{path}/stop", status=202)
    assert stopping["state"] == "queued"
    other = await admin.partition(f"{name} quick", start=True)
    assert (await admin.get(f"/operations/{starting['id']}"))["state"] == "running", "the other did not wait for it"
    for operation in (starting, stopping):
        assert (await admin.get(f"/operations/{operation['id']}", wait=30))["state"] == "succeeded"
    assert (await admin.get(path))["state"] == "stopped"
    await admin.run("DELETE", f"/partitions/{other['id']}", params={"force": "true"})


async def test_a_queued_operation_is_cancelled(admin: Client, name: str) -> None:
    slow = await admin.partition(f"{name} !start-slow=1.5")
    path = f"/partitions/{slow['id']}"
    await admin.call("POST", f"{path}/start", status=202)
    queued = await admin.call("POST", f"{path}/reboot", status=202)
    assert queued["cancellable"]
    await admin.run("POST", f"/operations/{queued['id']}/cancel")
    assert (await admin.get(f"/operations/{queued['id']}"))["state"] == "cancelled"
    problem = await admin.refused("POST", f"/operations/{queued['id']}/cancel")
    assert "ended" in problem["detail"]
    await admin.refused("POST", f"/operations/{new_id()}/cancel", status=404)
