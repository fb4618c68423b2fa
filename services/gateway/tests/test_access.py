"""Every route by every role, from the one table that says who may do what."""

import re
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from openqrm.gateway.auth.roles import ACCESS, WEBSOCKET_ACCESS, Role

ROLES = {"anonymous": None, "viewer": Role.VIEWER, "operator": Role.OPERATOR, "admin": Role.ADMIN}
_HARMLESS = {"DELETE /api/v1/session"}  # with a token it says 409, and so it does for everybody who may


@pytest.fixture
def clients(anonymous, viewer, operator, admin) -> dict[str, httpx.AsyncClient]:
    return {"anonymous": anonymous, "viewer": viewer, "operator": operator, "admin": admin}


def concrete(path: str) -> str:
    """A path of things that do not exist."""
    return re.sub(r"\{(\w+)\}", lambda match: str(uuid4()) if match[1] == "id" else f"none-{uuid4()}", path)


@pytest.mark.parametrize("key", sorted(ACCESS))
async def test_routes_let_in_whom_the_table_says(key: str, clients, inventory) -> None:
    method, path = key.split(" ")
    needed = ACCESS[key]
    for name, client in clients.items():
        role = ROLES[name]
        # A body that no route accepts: who may come in gets 422 or the like, and nothing is changed.
        body = {"json": {"nobody knows this": 1}} if method in ("POST", "PUT", "PATCH") else {}
        answer = await client.request(method, concrete(path), **body)
        if needed is None or (role is not None and role.covers(needed)):
            assert answer.status_code not in (401, 403), (name, answer.text)
            assert answer.status_code < 500, (name, answer.text)
        else:
            assert answer.status_code == (401 if role is None else 403), (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
    assert needed is not None or key in {
        "GET /",
        "GET /health",
        "GET /style.css",
        "POST /api/v1/session",
    }


async def test_who_may_not_is_told_before_the_body_is_read(viewer: httpx.AsyncClient, anonymous, inventory) -> None:
    answer = await viewer.post("/api/v1/partitions", content=b"{garbage", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 403
    assert answer.json()["details"] == {"needed": "operator", "role": "viewer"}
    answer = await anonymous.post("/api/v1/partitions", content=b"{garbage")
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["www-authenticate"]


async def test_unknown_addresses_tell_strangers_nothing(anonymous: httpx.AsyncClient, viewer) -> None:
    assert (await anonymous.get("/api/v1/secrets")).status_code == 401
    answer = await viewer.get("/api/v1/secrets")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_websockets_need_a_login_or_a_ticket(gateway, viewer) -> None:
    base = gateway.url.replace("http", "ws")
    assert set(WEBSOCKET_ACCESS) == {"/api/v1/events/ws", "/api/v1/console/{ticket}"}
    for path, status in (("/api/v1/events/ws", 401), ("/api/v1/console/guess", 403)):
        with pytest.raises(InvalidStatus) as refused:
            await connect(base + path)
        assert refused.value.response.status_code == status
        assert b"urn:openqrm:problem" in (refused.value.response.body or b"")


async def test_an_unknown_method_is_refused_with_what_is_allowed(admin: httpx.AsyncClient, anonymous) -> None:
    answer = await admin.put("/api/v1/partitions")
    assert answer.status_code == 405
    assert answer.headers["allow"]
    assert (await anonymous.put("/api/v1/partitions")).status_code == 401
