"""What bad input gets: a problem that says what is wrong, and the service lives."""

import json

import httpx
import pytest

GARBAGE = {
    "no JSON": (b"{", 400),
    "text": (b"hello", 400),
    "binary": (bytes(range(256)), 400),
    "broken UTF-8": (b'{"name": "\xff\xfe"}', 400),
    "a million brackets": (b"[" * 500_000, 400),
    "a list": (b"[]", 422),
    "a number": (b"7", 422),
    "null": (b"null", 422),
    "not a number": (b'{"name": "x", "memory_mib": NaN}', 422),
    "a surrogate": (b'{"name": "\\ud800", "memory_mib": 64}', 422),
    "a huge number": (b'{"name": "x", "memory_mib": 1' + b"0" * 4000 + b"}", 422),
    "nothing": (b"", 422),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_refused(kind: str, operator: httpx.AsyncClient, inventory) -> None:
    body, status = GARBAGE[kind]
    answer = await operator.post("/api/v1/partitions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert "Traceback" not in answer.text
    assert not inventory.commands
    assert (await operator.get("/api/v1/partitions")).status_code == 200


async def test_a_wrong_content_type_is_415(operator: httpx.AsyncClient, inventory) -> None:
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded", ""):
        answer = await operator.post(
            "/api/v1/partitions", content=b'{"name": "x", "memory_mib": 64}', headers={"Content-Type": content_type}
        )
        assert answer.status_code == 415, answer.text
    for content_type in ("application/json; charset=utf-8", "application/vnd.x+json"):
        answer = await operator.post(
            "/api/v1/partitions", content=b'{"name": "x", "memory_mib": 64}', headers={"Content-Type": content_type}
        )
        assert answer.status_code == 202, answer.text


async def test_impossible_sizes_name_the_field_and_the_limit(operator: httpx.AsyncClient, inventory) -> None:
    wish = {
        "name": "x",
        "memory_mib": 15,
        "vcpus": 5000,
        "disks": [{"source": {"kind": "blank", "size_mib": 0}}],
        "nics": [{"network": "default", "mac": "01:00:00:00:00:00"}],
        "colour": "blue",
    }
    answer = await operator.post("/api/v1/partitions", json=wish)
    assert answer.status_code == 422
    fields = {field["field"]: field for field in answer.json()["fields"]}
    assert set(fields) == {"memory_mib", "vcpus", "disks.0.source.size_mib", "nics.0.mac", "colour"}
    assert fields["memory_mib"]["limit"] == "at least 16"
    assert fields["vcpus"]["limit"] == "at most 1024"
    assert "at least 16" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "visible"), ("x" * 201, "200"), (" x", "white space"), ("a\nb", "control"), ("a\x00b", "control"),
     ("0198c0de-0000-7000-8000-000000000000", "id")],
)  # fmt: skip
async def test_names_that_cannot_be_are_refused(name: str, words: str, operator: httpx.AsyncClient, inventory) -> None:
    answer = await operator.post("/api/v1/partitions", json={"name": name, "memory_mib": 64})
    assert answer.status_code == 422
    (field,) = answer.json()["fields"]
    assert field["field"] == "name"
    assert words in field["message"]


async def test_the_wrong_kind_of_disk_is_named(operator: httpx.AsyncClient, inventory) -> None:
    answer = await operator.post(
        "/api/v1/partitions/web%201/disks", json={"disk": {"source": {"kind": "floppy", "size_mib": 1}}}
    )
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"].startswith("disk.source")


async def test_values_from_the_path_are_checked_too(operator: httpx.AsyncClient, inventory) -> None:
    answer = await operator.delete("/api/v1/partitions/web%201/nics/nonsense")
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "mac")
    answer = await operator.post(f"/api/v1/partitions/{'x' * 201}/start")
    assert answer.status_code == 422
    answer = await operator.post(f"/api/v1/partitions/{'x' * 801}/start")
    assert answer.status_code in (404, 422)
    answer = await operator.post("/api/v1/hosts/h1/strangers/nonsense/adopt")
    assert answer.status_code == 422


async def test_an_unknown_field_is_not_ignored(operator: httpx.AsyncClient, inventory) -> None:
    answer = await operator.post("/api/v1/partitions/web%201/start", json={"force": True})
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "force")


async def test_a_body_that_is_too_large_is_413(operator: httpx.AsyncClient, inventory) -> None:
    large = json.dumps({"name": "x" * 1_100_000}).encode()
    headers = {"Content-Type": "application/json"}
    answer = await operator.post("/api/v1/partitions", content=large, headers=headers)
    assert answer.status_code == 413

    async def pieces():
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    answer = await operator.post("/api/v1/partitions", content=pieces(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


async def test_waiting_too_long_is_not_promised(operator: httpx.AsyncClient, inventory) -> None:
    answer = await operator.post("/api/v1/partitions/web%201/start?wait=301")
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "wait")
    assert not inventory.commands


async def test_nobody_who_answers_is_503(site, gateway, viewer: httpx.AsyncClient, inventory) -> None:
    # partition.get_placement has an answerer in every installation but this one; resource.get has one that errs
    answer = await viewer.get("/api/v1/technologies")
    assert answer.status_code == 200
    await site.inventory.bus.stop()
    try:
        answer = await viewer.get("/api/v1/technologies")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "technology.list" in answer.json()["detail"]
    finally:
        inventory.bus = site.inventory.bus = site.bus("inventory", "i")
        await site.inventory.start()


async def test_an_unexpected_error_is_a_sentence_and_a_trace_id(
    gateway, viewer: httpx.AsyncClient, monkeypatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("openqrm.gateway.ask.Questions.ask", broken)
    answer = await viewer.get("/api/v1/hosts")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["trace_id"] in answer.json()["detail"]


async def test_answers_carry_security_headers(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
