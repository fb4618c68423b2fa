"""Every route and every WebSocket by every role, as docs/access.md says."""

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from openqrm.contracts.ids import new_id
from openqrm.testkit.tables import tables_of

PASSWORD = "correct horse battery staple"

TABLES = tables_of(Path(__file__).parents[3] / "docs/access.md")
ROUTES = {row["route"]: row for row in TABLES["Routes"]}
SOCKETS = {row["address"]: row for row in TABLES["WebSockets"]}
ROLES = ("nobody", "viewer", "operator", "admin")
LIKE_NOBODY = ("expired token", "revoked token", "disabled user's", "deleted user's", "wrong secret", "ended session")
"""Credentials that were good once, or never: whoever has one is nobody."""


@pytest.fixture
def clients(anonymous, viewer, operator, admin) -> dict[str, httpx.AsyncClient]:
    return {"nobody": anonymous, "viewer": viewer, "operator": operator, "admin": admin}


@pytest.fixture(scope="session")
async def useless(site, admin, make_client) -> dict[str, dict[str, str]]:
    """Headers of each credential that is no longer one."""
    found: dict[str, str] = {}
    for name in ("disabled user's", "deleted user's"):
        user = {"name": f"was {name} {new_id().hex}", "role": "admin", "password": PASSWORD}
        assert (await admin.post("/api/v1/users", json=user)).status_code == 201
        browser = make_client(None)
        browser.headers["Sec-Fetch-Site"] = "same-origin"
        login = {"user": user["name"], "password": PASSWORD}
        assert (await browser.post("/api/v1/session", json=login)).status_code == 201
        found[name] = (await browser.post("/api/v1/tokens", json={"name": name})).json()["token"]
        if name.startswith("disabled"):
            answer = await admin.patch(f"/api/v1/users/{user['name']}", json={"disabled": True})
            ended = browser.cookies["openqrm_session"]
        else:
            answer = await admin.delete(f"/api/v1/users/{user['name']}")
        assert answer.is_success
        browser.cookies.clear()
    made = (await admin.post("/api/v1/tokens", json={"name": "revoked"})).json()
    assert (await admin.delete(f"/api/v1/tokens/{made['id']}")).is_success
    found["revoked token"] = made["token"]
    made = (await admin.post("/api/v1/tokens", json={"name": "expired", "days": 1})).json()
    async with site.database_of_gateway() as connection:
        await connection.execute(
            text("UPDATE gateway.tokens SET expires_at = :then WHERE id = :id"),
            {"id": made["id"], "then": site.clock.now() - timedelta(seconds=1)},
        )
    found["expired token"] = made["token"]
    good = (await admin.post("/api/v1/tokens", json={"name": "good"})).json()["token"]
    found["wrong secret"] = good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB")
    headers = {name: {"Authorization": f"Bearer {token}"} for name, token in found.items()}
    return {**headers, "ended session": {"Cookie": f"openqrm_session={ended}", "Sec-Fetch-Site": "same-origin"}}


def concrete(path: str) -> str:
    """A path of things that do not exist."""
    return re.sub(r"\{(\w+)\}", lambda match: str(uuid4()) if match[1] == "id" else f"none-{uuid4()}", path)


def test_the_page_has_every_route_and_no_other(gateway) -> None:
    """As the running application has them, not as its table of roles says."""
    there = {
        f"{method} {route.path_format}"
        for route in gateway.fastapi.routes
        if hasattr(route, "path_format") and not isinstance(route, WebSocketRoute)
        for method in getattr(route, "methods", ())
    }
    assert there == set(ROUTES)
    sockets = {route.path for route in gateway.fastapi.routes if isinstance(route, WebSocketRoute)}
    assert sockets == set(SOCKETS)


@pytest.mark.parametrize("key", sorted(ROUTES))
async def test_routes_let_in_whom_the_page_says(key: str, clients, useless, anonymous, inventory) -> None:
    method, path = key.split(" ")
    # A body that no route accepts: who may come in gets 422 or the like, and nothing is changed.
    body = {"json": {"nobody knows this": 1}} if method in ("POST", "PUT", "PATCH") else {}
    for role in ROLES:
        answer = await clients[role].request(method, concrete(path), **body)
        check(answer, ROUTES[key][role], role)
    assert set(useless) == set(LIKE_NOBODY)
    for name, headers in useless.items():
        check(await anonymous.request(method, concrete(path), headers=headers, **body), ROUTES[key]["nobody"], name)


def check(answer: httpx.Response, expected: str, who: str) -> None:
    if expected == "yes":
        assert answer.status_code not in (401, 403), (who, answer.text)
        assert answer.status_code < 500, (who, answer.text)
    else:
        assert answer.status_code == int(expected), (who, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.json()["detail"]) > 20


@pytest.mark.parametrize("address", sorted(SOCKETS))
async def test_websockets_let_in_whom_the_page_says(address: str, gateway, clients, useless, inventory) -> None:
    base = gateway.url.replace("http", "ws") + concrete(address)
    everybody = {role: (dict(client.headers), SOCKETS[address][role]) for role, client in clients.items()}
    everybody |= {name: (headers, SOCKETS[address]["nobody"]) for name, headers in useless.items()}
    for who, (headers, expected) in everybody.items():
        login = {name: value for name, value in headers.items() if name.lower() in ("authorization", "cookie")}
        if expected == "yes":
            async with connect(base, additional_headers=login) as socket:
                assert "following" in str(await socket.recv()), who
            continue
        with pytest.raises(InvalidStatus) as refused:
            await connect(base, additional_headers=login)
        assert refused.value.response.status_code == int(expected), who
        assert b"urn:openqrm:problem" in (refused.value.response.body or b"")


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


async def test_websockets_at_unknown_addresses_are_told_so(gateway, viewer) -> None:
    base = gateway.url.replace("http", "ws")
    login = {"Authorization": viewer.headers["Authorization"]}
    for path, headers, status in (("/api/v1/none", {}, 401), ("/api/v1/none", login, 404), ("/none", {}, 404)):
        with pytest.raises(InvalidStatus) as refused:
            await connect(base + path, additional_headers=headers)
        assert refused.value.response.status_code == status
        assert b"urn:openqrm:problem" in (refused.value.response.body or b"")


async def test_an_unknown_method_is_refused_with_what_is_allowed(admin: httpx.AsyncClient, anonymous) -> None:
    answer = await admin.put("/api/v1/partitions")
    assert answer.status_code == 405
    assert answer.headers["allow"]
    assert (await anonymous.put("/api/v1/partitions")).status_code == 401
