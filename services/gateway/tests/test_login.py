"""Passwords, sessions, tokens, users."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from openqrm.gateway.auth.secrets import parse_credential

PASSWORD = "correct horse battery"


@pytest.fixture
async def person(admin: httpx.AsyncClient, inventory) -> str:
    name = f"Zoë {uuid4()}"[:40]
    answer = await admin.post("/api/v1/users", json={"name": name, "role": "operator", "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return name


@pytest.fixture
async def browser(gateway) -> httpx.AsyncClient:
    async with httpx.AsyncClient(base_url=gateway.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=20) as client:
        yield client


async def test_the_first_start_leaves_a_token_and_a_password(site, gateway, admin, browser: httpx.AsyncClient) -> None:
    token_file, password_file = site.folder / "admin-token", site.folder / "admin-password"
    for path in (token_file, password_file):
        assert path.stat().st_mode & 0o777 == 0o600
    password = password_file.read_text().strip()
    answer = await browser.post("/api/v1/session", json={"user": "admin", "password": password})
    assert (answer.status_code, answer.json()["role"]) == (201, "admin")


async def test_a_later_start_makes_nobody(site, gateway, admin) -> None:
    before = (site.folder / "admin-token").read_text()
    other = site.gateway()
    await other.start()
    await other.stop()
    assert (site.folder / "admin-token").read_text() == before
    assert [user["name"] for user in (await admin.get("/api/v1/users")).json()["items"]].count("admin") == 1


async def test_a_session_lives_in_a_cookie(browser: httpx.AsyncClient, person: str) -> None:
    answer = await browser.post("/api/v1/session", json={"user": person.upper(), "password": PASSWORD})
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert (await browser.get("/api/v1/whoami")).json()["user"] == person
    assert (await browser.delete("/api/v1/session")).status_code == 204
    browser.cookies.set("openqrm_session", cookie.split("=", 1)[1].split(";")[0])
    assert (await browser.get("/api/v1/whoami")).status_code == 401


async def test_a_browsers_form_leads_to_the_documentation(browser: httpx.AsyncClient, person: str) -> None:
    assert (await browser.get("/api/v1/docs", headers={"Accept": "text/html"})).headers["location"] == "/"
    wrong = await browser.post("/api/v1/session", data={"user": person, "password": "<b>"})
    assert wrong.status_code == 401
    assert "do not belong together" in wrong.text
    answer = await browser.post("/api/v1/session", data={"user": person, "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/docs")
    docs = await browser.get("/api/v1/docs")
    assert docs.status_code == 200
    assert "/api/v1/partitions/{ref}/start" in docs.text


async def test_other_sites_cannot_use_a_cookie(browser: httpx.AsyncClient, gateway, person: str, inventory) -> None:
    await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    path = "/api/v1/partitions/web%201/start"
    for headers, status in (
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
    ):
        assert (await browser.post(path, headers=headers)).status_code == status
    del browser.headers["Sec-Fetch-Site"]
    for headers, status in (
        ({}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": gateway.url}, 202),
    ):
        assert (await browser.post(path, headers=headers)).status_code == status
    assert (await browser.get("/api/v1/partitions")).status_code == 200
    answer = await browser.post(
        "/api/v1/session", json={"user": person, "password": PASSWORD}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403


async def test_failed_logins_have_to_wait(site, browser: httpx.AsyncClient, person: str) -> None:
    for _ in range(5):
        answer = await browser.post("/api/v1/session", json={"user": person, "password": "wrong"})
        assert answer.status_code == 401
    answer = await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    assert answer.status_code == 429
    wait = int(answer.headers["retry-after"])
    assert 1 <= wait <= 2
    site.clock.shift += wait
    answer = await browser.post("/api/v1/session", json={"user": person, "password": "wrong"})
    assert answer.status_code == 401
    answer = await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    assert (answer.status_code, int(answer.headers["retry-after"]) > wait) == (429, True)
    site.clock.shift += 3600
    answer = await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    assert answer.status_code == 201


async def test_guesses_at_the_same_time_do_not_slip_through(site, browser: httpx.AsyncClient, person: str) -> None:
    async def guess() -> int:
        return (await browser.post("/api/v1/session", json={"user": person, "password": "wrong"})).status_code

    statuses = await asyncio.gather(*(guess() for _ in range(12)))
    assert statuses.count(401) <= 5
    site.clock.shift += 3600


async def test_an_unknown_user_gets_the_same_answer_as_a_wrong_password(site, browser, person: str) -> None:
    known = await browser.post("/api/v1/session", json={"user": person, "password": "wrong"})
    unknown = await browser.post("/api/v1/session", json={"user": f"nobody {uuid4()}", "password": "wrong"})
    assert known.status_code == unknown.status_code == 401
    assert known.json()["detail"] == unknown.json()["detail"]
    site.clock.shift += 3600


async def test_tokens_end_and_are_revoked(site, admin: httpx.AsyncClient, make_client) -> None:
    made = (await admin.post("/api/v1/tokens", json={"name": "short", "days": 1})).json()
    client = make_client(made["token"])
    assert (await client.get("/api/v1/whoami")).status_code == 200
    shift = site.clock.shift
    site.clock.shift += 86400
    answer = await client.get("/api/v1/whoami")
    assert (answer.status_code, "expired" in answer.json()["detail"]) == (401, True)
    site.clock.shift = shift
    assert (await client.get("/api/v1/whoami")).status_code == 200
    assert (await admin.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
    assert (await client.get("/api/v1/whoami")).status_code == 401
    assert (await admin.delete(f"/api/v1/tokens/{made['id']}")).status_code == 404


async def test_failed_logins_count_at_every_replica(site, browser: httpx.AsyncClient, person: str) -> None:
    other = site.gateway()
    await other.start()
    try:
        async with httpx.AsyncClient(base_url=other.url, timeout=20) as client:
            for each in (browser, client, browser, client, browser):
                answer = await each.post("/api/v1/session", json={"user": person, "password": "wrong"})
                assert answer.status_code == 401
            answer = await client.post("/api/v1/session", json={"user": person, "password": PASSWORD})
            assert answer.status_code == 429
    finally:
        await other.stop()
    site.clock.shift += 3600


async def test_a_token_makes_none_that_lives_longer(admin: httpx.AsyncClient, make_client) -> None:
    parent = (await admin.post("/api/v1/tokens", json={"name": "parent", "days": 2})).json()
    client = make_client(parent["token"])
    refused = await client.post("/api/v1/tokens", json={"name": "child", "days": 3})
    assert refused.status_code == 403
    assert refused.json()["details"]["expires_at"]
    child = (await client.post("/api/v1/tokens", json={"name": "child"})).json()
    assert child["expires_at"] == parent["expires_at"]
    assert (await client.post("/api/v1/tokens", json={"name": "child", "days": 1})).status_code == 201


async def test_a_tokens_default_end_is_in_90_days(admin: httpx.AsyncClient) -> None:
    made = (await admin.post("/api/v1/tokens", json={"name": "default"})).json()
    assert made["expires_at"][:10] > made["created_at"][:10]
    listed = (await admin.get("/api/v1/tokens")).json()["items"]
    assert "token" not in listed[0]


async def test_a_tokens_scope_limits_it(admin: httpx.AsyncClient, make_client, inventory) -> None:
    made = await admin.post("/api/v1/tokens", json={"name": "narrow", "role": "viewer", "nouns": ["metrics", "tokens"]})
    client = make_client(made.json()["token"])
    assert (await client.get("/metrics")).status_code == 200
    assert (await client.get("/api/v1/whoami")).status_code == 200
    answer = await client.get("/api/v1/partitions")
    assert (answer.status_code, answer.json()["details"]["scope"]) == (403, ["metrics", "tokens"])
    wider = await client.post("/api/v1/tokens", json={"name": "wider", "nouns": ["partitions"]})
    assert wider.status_code == 403
    stronger = await client.post("/api/v1/tokens", json={"name": "stronger", "role": "operator"})
    assert stronger.status_code == 403
    same = await client.post("/api/v1/tokens", json={"name": "same"})
    assert (same.json()["role"], same.json()["nouns"]) == ("viewer", ["metrics", "tokens"])
    unknown = await admin.post("/api/v1/tokens", json={"name": "x", "nouns": ["moon"]})
    assert (unknown.status_code, unknown.json()["fields"][0]["field"]) == (422, "nouns")


async def test_wrong_credentials_are_told_apart_from_none(anonymous: httpx.AsyncClient, admin_token: str) -> None:
    credential = parse_credential(admin_token)
    assert credential is not None
    for header in (
        "Bearer nonsense",
        f"Bearer oqrm_{credential.id.hex}_{'0' * 64}",
        f"Bearer oqrm_{uuid4().hex}_{credential.secret}",
        f"Bearer {admin_token}0",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer " + "ü" * 10,
    ):
        answer = await anonymous.get("/api/v1/whoami", headers={"Authorization": header.encode()})
        assert answer.status_code == 401, header
        assert answer.json()["code"] == "unauthenticated"


async def test_people_act_on_their_own_things_only(admin, browser: httpx.AsyncClient, person: str) -> None:
    await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    mine = (await browser.post("/api/v1/tokens", json={"name": "mine"})).json()
    others = (await admin.post("/api/v1/tokens", json={"name": "not yours"})).json()
    assert {token["user"] for token in (await browser.get("/api/v1/tokens")).json()["items"]} == {person}
    assert (await browser.delete(f"/api/v1/tokens/{others['id']}")).status_code == 404
    assert (await browser.delete(f"/api/v1/tokens/{mine['id']}")).status_code == 204
    sessions = (await browser.get("/api/v1/sessions")).json()["items"]
    assert {session["user"] for session in sessions} == {person}
    everybody = (await admin.get("/api/v1/sessions")).json()["items"]
    assert person in {session["user"] for session in everybody}
    answer = await browser.put("/api/v1/users/admin/password", json={"password": "x" * 20})
    assert answer.status_code == 403
    assert (await admin.delete(f"/api/v1/sessions/{sessions[0]['id']}")).status_code == 204
    assert (await browser.get("/api/v1/whoami")).status_code == 401


async def test_a_password_is_changed_by_who_knows_it(admin, browser: httpx.AsyncClient, person: str) -> None:
    await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    path = f"/api/v1/users/{person}/password"
    assert (await browser.put(path, json={"password": "short", "current": PASSWORD})).status_code == 422
    answer = await browser.put(path, json={"password": "another password"})
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "current")
    answer = await browser.put(path, json={"password": "another password", "current": PASSWORD})
    assert answer.status_code == 204
    assert (await browser.get("/api/v1/whoami")).status_code == 401
    login = await browser.post("/api/v1/session", json={"user": person, "password": "another password"})
    assert login.status_code == 201
    assert (await admin.put(path, json={"password": PASSWORD})).status_code == 204
    assert (await browser.get("/api/v1/whoami")).status_code == 401


async def test_roles_change_at_once_and_disabled_users_are_out(admin, make_client, browser, person: str) -> None:
    await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    client = make_client((await browser.post("/api/v1/tokens", json={"name": "t"})).json()["token"])
    assert (await client.get("/api/v1/whoami")).json()["role"] == "operator"
    await admin.patch(f"/api/v1/users/{person}", json={"role": "viewer"})
    assert (await client.get("/api/v1/whoami")).json()["role"] == "viewer"
    await admin.patch(f"/api/v1/users/{person}", json={"disabled": True})
    assert (await client.get("/api/v1/whoami")).status_code == 401
    assert (await browser.get("/api/v1/whoami")).status_code == 401
    answer = await browser.post("/api/v1/session", json={"user": person, "password": PASSWORD})
    assert answer.status_code == 401
    assert (await admin.delete(f"/api/v1/users/{person}")).status_code == 204
    assert (await admin.get(f"/api/v1/users/{person}")).status_code == 404


async def test_the_last_administrator_stays(admin: httpx.AsyncClient, person: str) -> None:
    for change in ({"role": "viewer"}, {"disabled": True}):
        answer = await admin.patch("/api/v1/users/admin", json=change)
        assert (answer.status_code, "last administrator" in answer.json()["detail"]) == (409, True)
    assert (await admin.delete("/api/v1/users/admin")).status_code == 409
    await admin.patch(f"/api/v1/users/{person}", json={"role": "admin"})
    assert (await admin.patch("/api/v1/users/admin", json={"disabled": False})).status_code == 200
    answers = await asyncio.gather(
        admin.patch(f"/api/v1/users/{person}", json={"role": "viewer"}),
        admin.delete(f"/api/v1/users/{person}"),
    )
    assert {answer.status_code for answer in answers} <= {200, 204, 404}


async def test_names_of_users_are_unique(admin: httpx.AsyncClient, person: str) -> None:
    answer = await admin.post("/api/v1/users", json={"name": person.upper(), "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate")


async def test_a_token_file_that_ends_soon_is_renewed(site, gateway, admin, admin_token: str) -> None:
    made = (await admin.post("/api/v1/tokens", json={"name": "ends soon", "days": 3})).json()
    path = site.folder / "renewed-token"
    path.write_text(made["token"])
    other = site.gateway(initial_token_file=path)
    await other.start()
    await other.stop()
    assert path.read_text().strip() != made["token"]
    assert path.stat().st_mode & 0o777 == 0o600
    answer = await admin.get("/api/v1/whoami", headers={"Authorization": f"Bearer {path.read_text().strip()}"})
    assert answer.json()["role"] == "admin"
    revoked = (await admin.post("/api/v1/tokens", json={"name": "revoked", "days": 3})).json()
    await admin.delete(f"/api/v1/tokens/{revoked['id']}")
    path.write_text(revoked["token"])
    other = site.gateway(initial_token_file=path)
    await other.start()
    await other.stop()
    assert path.read_text() == revoked["token"]
