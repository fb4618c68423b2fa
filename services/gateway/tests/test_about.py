"""The page at `/`, health, documents, metrics, traces, and starts that cannot be."""

import asyncio
import os
import socket
import sys

import httpx
import pytest
from gateway_waiting import pause, until

from openqrm.gateway.app import StartupError
from openqrm.gateway.auth.roles import ACCESS


async def test_the_front_page_says_what_runs_here_without_any_data(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/")
    assert answer.status_code == 200
    assert "openQRM" in answer.text
    assert 'action="/api/v1/session"' in answer.text
    assert "<script" not in answer.text
    assert "http://" not in answer.text.replace("http://localhost", "")
    style = await anonymous.get("/style.css")
    assert style.headers["content-type"].startswith("text/css")


async def test_health(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "bus": True, "database": True, "detail": ""})


async def test_the_openapi_document_is_whole(viewer: httpx.AsyncClient) -> None:
    document = (await viewer.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    documented = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert documented == set(ACCESS) - {"GET /", "GET /style.css"}
    schemas = document["components"]["schemas"]
    assert schemas["CreatePartitionBody"]["examples"]
    assert schemas["CreatePartitionBody"]["properties"]["memory_mib"]["minimum"] == 16
    assert not {"operation_id", "requested_by"} & set(schemas["CreatePartitionBody"]["properties"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            for reference in references(operation):
                assert reference.rsplit("/", 1)[1] in schemas, reference
            if operation["security"]:
                assert {"401", "403"} <= set(operation["responses"])


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    if isinstance(node, list):
        return [found for value in node for found in references(value)]
    return []


async def test_the_documentation_lists_every_route(viewer: httpx.AsyncClient) -> None:
    page = await viewer.get("/api/v1/docs")
    assert page.status_code == 200
    for key in set(ACCESS) - {"GET /", "GET /style.css"}:
        assert key.split(" ")[1] in page.text
    assert "<script" not in page.text


async def test_the_asyncapi_document_has_every_message(viewer: httpx.AsyncClient) -> None:
    document = (await viewer.get("/api/v1/asyncapi")).json()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {"partition.start", "partition.started", "partition.start.{technology}.{host}"} <= addresses
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


async def test_metrics(admin: httpx.AsyncClient, viewer: httpx.AsyncClient, inventory) -> None:
    await viewer.get("/api/v1/partitions/web%201")
    answer = await viewer.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'openqrm_http_seconds_count{method="GET",route="/api/v1/partitions/{ref}",status="200"}' in answer.text


async def test_one_trace_goes_from_the_client_through_the_bus(operator: httpx.AsyncClient, viewer, inventory) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = await operator.post(
        "/api/v1/partitions/web%201/start?wait=10", headers={"traceparent": f"00-{trace_id}-{parent}-01"}
    )
    assert answer.headers["x-request-id"] == trace_id
    assert answer.json()["trace_id"] == trace_id
    async with asyncio.timeout(10):
        while True:
            trace = await viewer.get(f"/api/v1/traces/{answer.json()['id']}")
            spans = {span["name"]: span for span in trace.json().get("spans", ())}
            if {"POST /api/v1/partitions/{ref}/start", "handle partition.start"} <= set(spans):
                break
            await pause(0.1)
    request, handling = spans["POST /api/v1/partitions/{ref}/start"], spans["handle partition.start"]
    assert request["parent_id"] == parent
    assert handling["parent_id"] == request["span_id"]
    assert (request["service"], handling["service"]) == ("gateway", "inventory")
    assert trace.json()["complete"]
    assert (await viewer.get(f"/api/v1/traces/{trace_id}")).json()["trace_id"] == trace_id
    assert (await viewer.get(f"/api/v1/traces/{'0' * 32}")).status_code == 404
    assert (await viewer.get("/api/v1/traces/nonsense")).status_code == 422


async def test_a_port_in_use_is_one_sentence(site, gateway) -> None:
    with pytest.raises(StartupError, match="another program listens there already"):
        await site.gateway(port=gateway.port).start()


async def test_other_starts_that_cannot_be(site) -> None:
    file = site.folder / "a-file"
    file.write_text("")
    for settings, words in (
        ({"image_folder": file / "images"}, "image folder"),
        ({"dsn": "postgresql+asyncpg://nobody:x@127.0.0.1:1/x"}, "database"),
        ({"host": "203.0.113.1"}, "cannot listen"),
        ({"tls_cert": file, "tls_key": file}, "TLS certificate"),
    ):
        broken = site.gateway(**settings)
        with pytest.raises(StartupError, match=words):
            await broken.start()
        await broken.stop()


async def test_as_a_process_it_serves_or_says_in_one_sentence_why_not(site, inventory, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "OPENQRM_NATS_URL": site.nats.url, "OPENQRM_NATS_USER": "gateway", "OPENQRM_NATS_PASSWORD": "g",
        "OPENQRM_GATEWAY_DSN": site.dsn, "OPENQRM_GATEWAY_PORT": str(port),
        "OPENQRM_GATEWAY_IMAGE_FOLDER": str(tmp_path),
    }  # fmt: skip
    serving = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openqrm.gateway", env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with asyncio.timeout(20):
                while True:
                    try:
                        answer = await client.get("/health")
                    except httpx.HTTPError:
                        await pause(0.1)
                    else:
                        break
        assert answer.json()["status"] == "ok"
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openqrm.gateway", env=env, stderr=asyncio.subprocess.PIPE
        )
        _, said = await second.communicate()
        assert second.returncode == 1
        assert said.decode().strip().splitlines()[-1].startswith(f"The gateway cannot listen on 127.0.0.1:{port}:")
        assert b"Traceback" not in said
    finally:
        serving.terminate()
        await serving.communicate()
    assert serving.returncode == 0


async def test_an_outage_of_the_bus_is_said_at_once_and_ends_by_itself(site, admin_token, inventory) -> None:
    gateway, other = site.gateway(), site.gateway()
    await gateway.start()
    await other.start()
    headers = {"Authorization": f"Bearer {admin_token}"}
    try:
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=20) as client:
            await site.nats.stop()
            await until(lambda: not gateway.bus.is_connected)
            started = site.clock.monotonic()
            for method, path in (("GET", "partitions"), ("POST", "partitions/x/start")):
                answer = await client.request(method, f"/api/v1/{path}")
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"]
                assert "bus" in answer.json()["detail"]
            health = await client.get("/health")
            assert (health.status_code, health.json()["bus"]) == (503, False)
            assert site.clock.monotonic() - started < 2
            await other.stop()
            await site.nats.start()
            await until(lambda: gateway.bus.is_connected and inventory.bus.is_connected)
            answer = await client.post("/api/v1/partitions/web%201/start?wait=20")
            assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    finally:
        await other.stop()
        await gateway.stop()
        if site.nats.pid is None:
            await site.nats.start()


async def test_garbage_instead_of_http_does_no_harm(gateway, anonymous: httpx.AsyncClient) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"\x00" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 70000,
    ):
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(garbage)
    assert (await anonymous.get("/health")).status_code == 200
