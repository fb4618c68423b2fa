"""Traces that join all services, metrics, documents."""

import asyncio
import re

from installation import Client, Installation, Json

from openqrm.testkit.waiting import eventually_async

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def spans_of(admin: Client, operation: Json, services: set[str]) -> list[Json]:
    """The spans of an operation, once those services have sent theirs."""
    found: list[Json] = []

    async def there() -> bool:
        nonlocal found
        response = await admin.request("GET", f"/traces/{operation['id']}")
        found = response.json()["spans"] if response.status_code == 200 else []
        return services <= {span["service"] for span in found} and any(s["parent_id"] is None for s in found)

    await eventually_async(there, 20, f"spans of {services}")
    return found


async def test_one_trace_from_the_request_to_the_driver(admin: Client, name: str) -> None:
    services = {"gateway", "inventory", "scheduler", "executor-fake"}
    operation = await admin.run("POST", "/partitions", {"name": name, "memory_mib": 64})
    spans = await spans_of(admin, operation, services)
    by_id = {span["span_id"]: span for span in spans}
    roots = [span for span in spans if span["parent_id"] is None]
    assert [root["service"] for root in roots] == ["gateway"], "one tree"
    assert roots[0]["name"] == "POST /api/v1/partitions"
    for span in spans:
        assert span["trace_id"] == operation["trace_id"]
        assert span["end_ns"] >= span["start_ns"]
        assert span["parent_id"] is None or span["parent_id"] in by_id, f"{span['name']} hangs in the air"

    def path(span: Json) -> list[str]:
        above = path(by_id[span["parent_id"]]) if span["parent_id"] else []
        return [*above, span["service"]]

    driver = next(span for span in spans if span["name"] == "driver partition.create")
    assert path(driver) == ["gateway", "inventory", "inventory", "executor-fake", "executor-fake"]
    assert driver["attributes"]["partition_id"] == operation["target_id"]
    assert any(path(span)[-2:] == ["inventory", "scheduler"] for span in spans)


async def test_a_trace_goes_on_that_the_client_began(admin: Client, name: str) -> None:
    headers = {"traceparent": TRACEPARENT}
    operation = await admin.run("POST", "/partitions", {"name": name, "memory_mib": 64}, headers=headers)
    assert operation["trace_id"] == TRACEPARENT.split("-")[1]
    response = await admin.request("GET", "/whoami", headers=headers)
    assert response.headers["x-request-id"] == operation["trace_id"]


async def test_a_failed_verb_is_seen_in_its_trace(admin: Client, name: str) -> None:
    made = await admin.partition(f"{name} !start-fails")
    operation = await admin.run("POST", f"/partitions/{made['id']}/start", state="failed")
    await asyncio.gather(spans_of(admin, operation, {"gateway", "executor-fake"}))
    spans = (await admin.get(f"/traces/{operation['id']}"))["spans"]
    assert any(span["error"] for span in spans if span["service"] == "executor-fake")
    await admin.refused("GET", "/traces/neither", status=422)


async def test_metrics_of_every_service(admin: Client, name: str) -> None:
    await admin.partition(name)
    response = await admin.request("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    text = response.text
    assert re.search(r'openqrm_messages_handled_total\{.*service="inventory",subject="partition.create"\} [1-9]', text)
    assert re.search(r'openqrm_messages_handled_total\{.*service="executor-fake"', text)
    assert re.search(r'openqrm_queries_answered_total\{.*service="scheduler",subject="placement.propose"\} [1-9]', text)
    assert re.search(r'openqrm_http_seconds_count\{method="POST",route="/api/v1/partitions",status="200"\} [1-9]', text)
    assert "openqrm_outbox_pending" in text
    assert name not in text, "a metric per partition would never end"


async def test_documents(admin: Client, site: Installation) -> None:
    openapi = await admin.get("/openapi.json")
    assert openapi["openapi"].startswith("3.1")
    assert "/api/v1/partitions/{ref}/migrate" in openapi["paths"]
    asyncapi = await admin.get("/asyncapi")
    assert asyncapi["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in asyncapi["channels"].values()}
    assert {"partition.start", "partition.started", "placement.propose"} <= addresses
