"""What goes wrong is told so that a person can act on it."""

import asyncio

import pytest
from installation import Client, Json

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.ids import new_id
from openqrm.testkit.waiting import eventually_async


async def test_what_does_not_exist(admin: Client) -> None:
    for method, path in (
        ("GET", f"/partitions/{new_id()}"),
        ("GET", "/partitions/no such one"),
        ("POST", f"/partitions/{new_id()}/start"),
        ("DELETE", "/hosts/nowhere"),
        ("PATCH", "/networks/none"),
        ("GET", "/images/none"),
        ("GET", f"/operations/{new_id()}"),
        ("GET", "/resources/none"),
        ("GET", f"/traces/{'0' * 31}1"),
        ("GET", "/users/nobody"),
        ("GET", "/no/such/address"),
        ("POST", f"/dead-letters/{new_id()}/replay"),
        ("DELETE", f"/tokens/{new_id()}"),
        ("DELETE", f"/sessions/{new_id()}"),
    ):
        body: Json | None = {} if method in ("POST", "PATCH") else None
        assert (await admin.refused(method, path, body, status=404))["code"] == "not-found", path


async def test_a_wrong_state_is_named_with_what_is_allowed(admin: Client, name: str) -> None:
    made = await admin.partition(name)
    problem = await admin.refused("POST", f"/partitions/{made['id']}/pause")
    assert problem["code"] == "wrong-state"
    assert (problem["details"]["state"], "start" in problem["details"]["allowed"]) == ("stopped", True)
    assert "stopped" in problem["detail"]
    assert "start" in problem["detail"]
    await admin.refused("POST", f"/partitions/{made['id']}/console-tickets", {})
    await admin.refused("GET", f"/partitions/{made['id']}/screenshot")


async def test_an_impossible_size_is_named_with_its_limit(admin: Client, name: str) -> None:
    for body, field, limit in (
        ({"memory_mib": 1}, "memory_mib", "16"),
        ({"memory_mib": 10**9}, "memory_mib", str(16 * 1024 * 1024)),
        ({"memory_mib": 64, "vcpus": 0}, "vcpus", "1"),
        ({"memory_mib": 64, "vcpus": 5000}, "vcpus", "1024"),
        ({"memory_mib": "much"}, "memory_mib", None),
        ({"memory_mib": 64, "disks": [{"source": {"kind": "blank", "size_mib": 0}}]}, "disks.0.source.size_mib", "1"),
        ({"memory_mib": 64, "memory_max_mib": 32}, "memory_max_mib", "64"),
    ):
        problem = await admin.refused("POST", "/partitions", {"name": name, **body}, status=422)
        assert problem["fields"][0]["field"] == field, problem
        assert limit is None or limit in (problem["fields"][0]["limit"] or problem["detail"]), problem
        assert field.rsplit(".", 1)[-1] in problem["detail"]


async def test_no_host_is_large_enough(admin: Client, name: str) -> None:
    operation = await admin.run("POST", "/partitions", {"name": name, "memory_mib": 16 * 1024 * 1024}, "failed")
    assert operation["error"]["code"] == "no-fit"
    assert "memory" in operation["error"]["message"]


async def test_a_name_is_had_once(admin: Client, name: str) -> None:
    await admin.partition(name)
    for path, body in (
        ("/partitions", {"name": name, "memory_mib": 64}),
        ("/hosts", {"name": "h1", "technology": "fake", "connection": {"uri": "fake://other"}}),
        ("/networks", {"name": "default", "bridge": "br0"}),
        ("/users", {"name": "ADMIN", "password": "correct horse battery"}),
    ):
        problem = await admin.refused("POST", path, body)
        assert problem["code"] == "duplicate", problem
        assert str(body["name"]).lower() in problem["detail"].lower(), "which name, is told"


@pytest.mark.parametrize(
    "given",
    [
        "with spaces  inside",
        "größer ÄÖÜ ß",
        "日本語の名前",
        "эксперимент",
        "🦄 and 👩🏽‍🚀".replace("\u200d", ""),
        "a/b/../c",
        "../../etc/passwd",
        "quotes ' \" ` and \\ backslash",
        "percent %2F %00 %",
        "<b>&amp;</b>",
        "x'; drop table partitions; --",
        "$(reboot) ; `reboot` | & > <",
        "?query=1#fragment",
        ".",
        "..",
        "-rf",
        "n" * 200,
        "ä" * 200,
        "🦄" * 200,
    ],
)
async def test_a_name_is_any_text(admin: Client, given: str) -> None:
    made = await admin.partition(given)
    assert made["name"] == given
    path = "/partitions/" + "".join(f"%{byte:02X}" for byte in given.encode())
    assert (await admin.get(path))["id"] == made["id"], "found by its name"
    started = await admin.run("POST", f"{path}/start")
    assert started["target_name"] == given
    await admin.run("DELETE", path, params={"force": "true"})


@pytest.mark.parametrize(
    "given", ["", " ", "\t", " left", "right ", "n" * 201, "new\nline", "nul\x00", "bell\x07", "\u202eright to left",
              "01a20538-4a0c-777e-a9c3-fb50332c6aef"]
)  # fmt: skip
async def test_what_is_no_name(admin: Client, given: str) -> None:
    problem = await admin.refused("POST", "/partitions", {"name": given, "memory_mib": 64}, status=422)
    assert [item["field"] for item in problem["fields"]] == ["name"]
    await admin.refused("POST", "/networks", {"name": given, "bridge": "br0"}, status=422)


async def test_bodies_of_garbage(admin: Client) -> None:
    json = {"Content-Type": "application/json"}
    for content, headers, status in (
        (b"\x00\xff\xfe garbage", json, 400),
        (b"{", json, 400),
        (b'{"name": "x", "memory_mib": 64', json, 400),
        (b"[" * 100_000, json, 400),
        ("{}".encode("utf-16"), json, 422),
        (b"[]", json, 422),
        (b"null", json, 422),
        (b'"text"', json, 422),
        (b"{}", json, 422),
        (b"", json, 422),
        (b'{"name": "x", "memory_mib": 64, "colour": "red"}', json, 422),
        (b'{"name": "x", "memory_mib": 1e400}', json, 422),
        (b'{"name": {"a": 1}, "memory_mib": 64}', json, 422),
        (b'{"name": "\\ud800", "memory_mib": 64}', json, 422),
        (b'{"name": "x", "memory_mib": 64}', {"Content-Type": "text/plain"}, 415),
        (b"name=x&memory_mib=64", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"name": "x", "memory_mib": 64}', {}, 415),
        (b" " * 2_000_000, json, 413),
    ):
        problem = await admin.refused("POST", "/partitions", status=status, content=content, headers=headers)
        assert len(problem["detail"]) < 2000, content[:50]
    assert (await admin.request("GET", "/health")).json()["status"] == "ok"


async def test_methods_and_headers_of_garbage(admin: Client) -> None:
    for method, path in (("PUT", "/partitions"), ("PATCH", "/partitions"), ("DELETE", "/hosts"), ("POST", "/whoami")):
        response = await admin.request(method, path)
        assert response.status_code == 405, path
        assert "allow" in response.headers
    for headers in (
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Bearer " + "x" * 9000},
    ):
        await admin.refused("GET", "/partitions", status=401, headers=headers)


async def test_a_driver_that_fails_falters_or_breaks(admin: Client, name: str) -> None:
    for word, state in (("fails", "failed"), ("falters=2", "succeeded"), ("breaks", "failed"), ("fails=1", "failed")):
        made = await admin.partition(f"{name} !start-{word}")
        operation = await admin.run("POST", f"/partitions/{made['id']}/start", state=state)
        if state == "failed":
            assert len(operation["error"]["message"]) > 20
            found = await admin.get(f"/partitions/{made['id']}")
            assert (found["state"], found["operation_id"]) == ("stopped", None)
    await admin.run("POST", f"/partitions/{made['id']}/start")


async def test_a_verb_that_hangs_is_timed_out(admin: Client, name: str) -> None:
    """The limit is 3 s in these tests."""
    made = await admin.partition(f"{name} !start-hangs=1")
    operation = await admin.run("POST", f"/partitions/{made['id']}/start", state="failed")
    assert operation["error"]["code"] == "timed-out"
    await admin.run("POST", f"/partitions/{made['id']}/start")


async def test_a_host_that_hangs_does_not_hold_up_the_others(admin: Client, name: str) -> None:
    hung = {"name": f"{name} 1", "technology": "fake", "connection": {"uri": f"fake://{name}-1?latency_ms=600000"}}
    enrolling = await admin.call("POST", "/hosts", hung, status=202)
    busy = {"name": f"{name} 2", "technology": "fake", "connection": {"uri": f"fake://{name}-2"}}
    await admin.run("POST", "/hosts", busy)
    made = await asyncio.gather(
        *(admin.partition(f"{name} !start-hangs {number}", host=f"{name} 2") for number in range(12))
    )
    stuck = [await admin.call("POST", f"/partitions/{partition['id']}/start", status=202) for partition in made]
    clock = SystemClock()
    begin = clock.monotonic()
    for number in range(5):
        quick = await admin.partition(f"{name} quick {number}", host="h1", start=True)
        await admin.becomes(f"/partitions/{quick['id']}", state="running")
    took = clock.monotonic() - begin
    assert took < 4, f"five partitions on another host took {took:.1f} s"
    states = {(await admin.get(f"/operations/{operation['id']}"))["state"] for operation in stuck}
    assert "running" in states, "meanwhile those hang"
    assert (await admin.get(f"/operations/{enrolling['id']}"))["state"] in ("running", "failed")

    async def all_ended() -> bool:
        found = await asyncio.gather(*(admin.get(f"/operations/{operation['id']}") for operation in stuck))
        return {operation["state"] for operation in found} == {"failed"}

    await eventually_async(all_ended, 60, "each of the hung verbs times out")


async def test_a_host_that_refuses_or_is_not_there(admin: Client, name: str) -> None:
    refusing = {"uri": f"fake://{name}-1?refuse=wrong+password"}
    operation = await admin.run(
        "POST", "/hosts", {"name": f"{name} 1", "technology": "fake", "connection": refusing}, "failed"
    )
    assert "wrong password" in operation["error"]["message"]
    for uri, word in (("fake://", "fake"), ("fake://x?cpus=many", "cpus")):
        body = {"name": f"{name} 2", "technology": "fake", "connection": {"uri": uri}}
        operation = await admin.run("POST", "/hosts", body, "failed")
        assert word in operation["error"]["message"]
        await admin.run("DELETE", f"/hosts/{name} 2", params={"force": "true"})
    unknown = {"name": f"{name} 3", "technology": "vax", "connection": {"uri": "vax://x"}}
    problem = await admin.refused("POST", "/hosts", unknown, status=404)
    assert "vax" in problem["detail"]
