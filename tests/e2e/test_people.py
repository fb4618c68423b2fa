"""Logins, users, roles, tokens, sessions, and the audit that sees them all."""

import stat

import pytest
from installation import Client, Installation

PASSWORD = "correct horse battery staple"


async def test_nothing_answers_without_a_login(admin: Client, site: Installation) -> None:
    """Every route of the API's own document, but health and the login itself."""
    stranger = site.client(None)
    document = await admin.get("/openapi.json")
    open_to_all = set()
    for path, methods in document["paths"].items():
        for method in methods:
            real = path.replace("{", "").replace("}", "")
            response = await stranger.http.request(method.upper(), real)
            if response.status_code != 401:
                open_to_all.add(f"{method.upper()} {path} {response.status_code}")
            else:
                assert response.headers["content-type"] == "application/problem+json"
                assert "www-authenticate" in response.headers
    assert open_to_all == {"GET /health 200", "POST /api/v1/session 415"}
    await stranger.refused("GET", "/no/such/address", status=401)
    await site.client("wrong").refused("GET", "/partitions", status=401)


async def test_the_first_administrators_secrets_are_private(site: Installation) -> None:
    for file in ("admin-token", "admin-password", "secrets.json", "nats-password", "openqrm.log", "client.json"):
        assert stat.S_IMODE((site.state / file).stat().st_mode) == 0o600, file


async def test_a_login_with_the_first_password(site: Installation) -> None:
    browser = site.browser()
    await browser.refused("POST", "/session", {"user": "admin", "password": "wrong"}, status=401)
    opened = await browser.request("POST", "/session", {"user": "admin", "password": site.password})
    assert opened.status_code == 201
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    me = await browser.get("/whoami")
    assert (me["user"], me["role"], me["credential"]) == ("admin", "admin", "session")
    sessions = (await browser.get("/sessions"))["items"]
    assert me["credential_id"] in {session["id"] for session in sessions}
    forged = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    await browser.refused("POST", "/networks", {"name": "x", "bridge": "br0"}, status=403, headers=forged)
    await browser.call("DELETE", "/session", status=204)
    await browser.refused("GET", "/whoami", status=401)


async def test_a_users_life(admin: Client, site: Installation) -> None:
    await admin.call("POST", "/users", {"name": "Ägidius", "role": "operator", "password": PASSWORD}, status=201)
    browser = site.browser()
    await browser.call("POST", "/session", {"user": "ägidius", "password": PASSWORD}, status=201)
    await browser.refused("GET", "/users", status=403)
    await browser.refused("POST", "/hosts", {}, status=403)
    await browser.call("PUT", "/users/Ägidius/password", {"password": PASSWORD + "!", "current": PASSWORD}, status=204)
    await browser.call("POST", "/session", {"user": "Ägidius", "password": PASSWORD + "!"}, status=201)
    assert (await admin.get("/users/Ägidius"))["role"] == "operator"
    await admin.call("PATCH", "/users/Ägidius", {"role": "viewer"})
    await browser.refused("POST", "/networks", {"name": "x", "bridge": "br0"}, status=403)
    await admin.call("PATCH", "/users/Ägidius", {"disabled": True})
    await browser.refused("GET", "/partitions", status=401)
    assert "Ägidius" in {user["name"] for user in (await admin.get("/users"))["items"]}
    await admin.call("DELETE", "/users/Ägidius", status=204)
    await admin.refused("GET", "/users/Ägidius", status=404)
    await admin.refused("DELETE", "/users/admin")
    for password in ("short", "p" * 2000):
        await admin.refused("POST", "/users", {"name": "x", "password": password}, status=422)


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 200), ("admin", 200)])
async def test_roles(admin: Client, site: Installation, name: str, role: str, status: int) -> None:
    token = await admin.call("POST", "/tokens", {"name": name, "role": role}, status=201)
    client = site.client(token["token"])
    await client.get("/partitions")
    await client.call("POST", "/partitions", {"name": name, "memory_mib": 64}, status=status, params={"wait": 60})
    host = {"name": name, "technology": "fake", "connection": {"uri": f"fake://{role}"}}
    if role != "admin":
        await client.refused("POST", "/hosts", host, status=403)
        await client.refused("GET", "/audit", status=403)
        await client.refused("GET", "/dead-letters", status=403)
        await client.refused("POST", "/tokens", {"name": "more", "role": "admin"}, status=403)
    assert token["id"] in {item["id"] for item in (await admin.get("/tokens"))["items"]}
    await admin.call("DELETE", f"/tokens/{token['id']}", status=204)
    await client.refused("GET", "/partitions", status=401)


async def test_a_token_for_one_thing_only(admin: Client, site: Installation, name: str) -> None:
    token = await admin.call("POST", "/tokens", {"name": name, "nouns": ["metrics"], "days": 1}, status=201)
    client = site.client(token["token"])
    assert (await client.request("GET", "/metrics")).status_code == 200
    await client.refused("GET", "/partitions", status=403)
    await admin.refused("POST", "/tokens", {"name": name, "nouns": ["weather"]}, status=422)


async def test_the_audit_sees_what_was_done_and_what_was_refused(admin: Client, site: Installation, name: str) -> None:
    made = await admin.partition(name)
    await admin.refused("POST", f"/partitions/{made['id']}/pause")
    entries = (await admin.get("/audit", target=made["id"]))["items"]
    verbs = {entry["verb"]: entry for entry in entries}
    assert verbs["partition.create"]["user_name"] == "admin"
    assert verbs["partition.create"]["operation_id"]
    assert (verbs["partition.pause"]["status"], verbs["partition.pause"]["code"]) == (409, "wrong-state")
    page = await admin.get("/audit", limit=2)
    older = await admin.get("/audit", limit=2, cursor=page["next_cursor"])
    ids = [entry["id"] for entry in page["items"] + older["items"]]
    assert ids == sorted(ids, reverse=True)
    everything = str((await admin.get("/audit", limit=500))["items"])
    assert PASSWORD not in everything
    assert site.token not in everything
    assert site.token not in site.log
