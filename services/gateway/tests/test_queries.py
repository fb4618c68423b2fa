"""Reading: filters, pages, ETags."""

from uuid import UUID, uuid4

import httpx

from openqrm.contracts.partition import ListPartitions, PartitionSort
from openqrm.contracts.states import PartitionState


async def test_one_thing_has_an_etag(viewer: httpx.AsyncClient, inventory) -> None:
    answer = await viewer.get(f"/api/v1/partitions/{inventory.web.id}")
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"7"')
    assert answer.json()["name"] == "web 1"
    for tag in ('W/"7"', 'W/"3", W/"7"', "*"):
        again = await viewer.get("/api/v1/partitions/web%201", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
    changed = await viewer.get("/api/v1/partitions/web%201", headers={"If-None-Match": 'W/"6"'})
    assert changed.status_code == 200


async def test_lists_pass_filters_sort_and_cursor_on(viewer: httpx.AsyncClient, inventory) -> None:
    answer = await viewer.get(
        "/api/v1/partitions?state=running&technology=fake&host=h1&tag=shop&name=web&sort=memory_mib"
        "&descending=true&limit=7&cursor=abc"
    )
    assert answer.status_code == 200
    assert answer.json()["next_cursor"] == "more"
    (query,) = inventory.queries
    assert query == ListPartitions(
        state=PartitionState.RUNNING,
        technology="fake",
        host="h1",
        tag="shop",
        name_contains="web",
        sort=PartitionSort.MEMORY,
        paging={"limit": 7, "cursor": "abc", "descending": True},  # type: ignore[arg-type]
    )


async def test_operations_come_newest_first_unless_asked_otherwise(viewer: httpx.AsyncClient, inventory) -> None:
    await viewer.get("/api/v1/operations")
    await viewer.get("/api/v1/operations?descending=false")
    assert [query.paging.descending for query in inventory.queries] == [True, False]


async def test_a_misspelt_filter_is_no_filter_at_all(viewer: httpx.AsyncClient, inventory) -> None:
    answer = await viewer.get("/api/v1/partitions?stat=running")
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == "stat"
    for query, field in (("limit=501", "limit"), ("state=flying", "state"), ("sort=luck", "sort")):
        answer = await viewer.get(f"/api/v1/partitions?{query}")
        assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, field)
    assert "500" in (await viewer.get("/api/v1/partitions?limit=501")).json()["fields"][0]["limit"]


async def test_unknown_ids_and_names_are_404(viewer: httpx.AsyncClient, inventory) -> None:
    for path in (f"partitions/{uuid4()}", "partitions/nobody", f"operations/{uuid4()}", "operations/nonsense",
                 "hosts/nobody", "images/nobody", "resources/nobody"):  # fmt: skip
        answer = await viewer.get(f"/api/v1/{path}")
        assert answer.status_code == 404, (path, answer.text)
        assert answer.json()["code"] == "not-found"
        assert answer.json()["detail"].endswith(".")


async def test_the_other_nouns_answer(viewer: httpx.AsyncClient, inventory) -> None:
    for noun in ("hosts", "networks", "images", "resources", "technologies", "macs", "strangers", "hosts/h1/strangers"):
        answer = await viewer.get(f"/api/v1/{noun}")
        assert answer.status_code == 200, answer.text
        assert "items" in answer.json()


async def test_macs_are_given_out_and_taken_back(operator: httpx.AsyncClient, inventory) -> None:
    headers = {"Idempotency-Key": "printer"}
    wish = {"technology": "fake", "mac": "52-54-00-AA-bb-01"}
    first = await operator.post("/api/v1/macs", json=wish, headers=headers)
    await operator.post("/api/v1/macs", json=wish, headers=headers)
    assert (first.status_code, first.json()["mac"]) == (201, "52:54:00:aa:bb:01")
    one, two = inventory.queries
    assert one.request_id == two.request_id
    assert isinstance(one.request_id, UUID)
    answer = await operator.delete("/api/v1/macs/52:54:00:aa:bb:01")
    assert answer.status_code == 200
    assert "free_after" in answer.json()
    assert (await operator.delete("/api/v1/macs/nonsense")).status_code == 422
