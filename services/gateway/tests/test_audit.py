"""Who did what."""

import httpx
from sqlalchemy import text


async def entries(admin: httpx.AsyncClient, **filters: str) -> list[dict[str, object]]:
    answer = await admin.get("/api/v1/audit", params=filters)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_every_change_is_written_down_allowed_or_not(site, admin, operator, viewer, anonymous, inventory) -> None:
    site.clock.shift += 61  # other tests used this minute's share of refused strangers up
    started = await operator.post("/api/v1/partitions/web%201/start")
    await viewer.post("/api/v1/partitions/web%201/start")
    await anonymous.post("/api/v1/partitions/web%201/start")
    await operator.post("/api/v1/partitions", json={"name": "x"})
    await operator.get("/api/v1/partitions")
    invalid, stranger, refused, done = (await entries(admin))[:4]
    assert (done["verb"], done["target"], done["status"]) == ("partition.start", "web 1", 202)
    assert done["operation_id"] == started.json()["id"]
    assert done["user_name"] == "admin"
    assert str(done["credential"]).startswith("token:")
    assert done["remote"] == "127.0.0.1"
    assert done["trace_id"] == started.headers["x-request-id"]
    assert (refused["status"], refused["code"], refused["user_name"]) == (403, "forbidden", "admin")
    assert (stranger["status"], stranger["user_name"], stranger["credential"]) == (401, "", "")
    assert (invalid["status"], invalid["path"]) == (422, "/api/v1/partitions")


async def test_refused_strangers_do_not_fill_the_table(admin, anonymous: httpx.AsyncClient, inventory) -> None:
    for _ in range(40):
        await anonymous.delete("/api/v1/partitions/x")
    written = [entry for entry in await entries(admin) if entry["method"] == "DELETE" and entry["status"] == 401]
    assert len(written) <= 20


async def test_it_is_read_by_pages_and_filters(admin, operator: httpx.AsyncClient, inventory) -> None:
    for number in range(5):
        await operator.post(f"/api/v1/partitions/audited-{number}/stop")
    first = (await admin.get("/api/v1/audit?limit=2")).json()
    second = (await admin.get(f"/api/v1/audit?limit=2&cursor={first['next_cursor']}")).json()
    ids = [entry["id"] for entry in first["items"] + second["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4
    (one,) = await entries(admin, target="audited-3")
    assert one["verb"] == "partition.stop"
    assert await entries(admin, user="nobody") == []


async def test_passwords_and_tokens_are_not_in_it(admin: httpx.AsyncClient, inventory) -> None:
    made = (await admin.post("/api/v1/tokens", json={"name": "audited"})).json()
    newest = (await entries(admin))[0]
    assert newest["target"] == made["id"]
    assert made["token"] not in str(newest)


async def test_a_request_does_not_wait_for_the_disk(gateway, inventory) -> None:
    async with gateway._audit._own.connect() as connection:
        assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "off"
    async with gateway.database.transaction() as connection:
        assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "on"
