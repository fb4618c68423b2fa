"""The same page by SQL alone: what PostgreSQL itself takes for the rows of a list, its filters and its sort."""

from typing import Any

LIMIT = 101
"""A page has 100 items; one more tells whether there is another page."""
_LIVE = "r.state NOT IN ('deleted', 'removed')"
_FROM = {
    "/partitions": "resources r JOIN partitions p ON p.id = r.id",
    "/hosts": "resources r JOIN hosts h ON h.id = r.id",
    "/resources": "resources r",
    "/operations": "operations r",
}
_KINDS = {"/partitions": "partition", "/hosts": "physical"}
_SORTS = {"vcpus": "cpus"}
_CONDITIONS = {
    "state": "r.state = ${}",
    "kind": "r.kind = ${}",
    "technology": "r.technology = ${}",
    "tag": "r.tags @> ARRAY[${}]",
    "name": "r.name ILIKE '%' || ${} || '%'",
    "host": "p.host_id = (SELECT id FROM resources WHERE kind = 'physical' AND name = ${})",
    "verb": "r.verb = ${}",
    "target_id": "r.target_id = ${}::text::uuid",
}


def bare_page(path: str, query: dict[str, Any]) -> tuple[str, list[str]]:
    """Statement and arguments of a page's rows."""
    wanted = dict(query)
    sort = wanted.pop("sort", "created_at" if path == "/operations" else "name")
    way = "DESC" if wanted.pop("descending", None) or path == "/operations" else "ASC"
    conditions = []
    if path != "/operations" and wanted.get("state") not in ("deleted", "removed"):
        conditions.append(_LIVE)
    if path in _KINDS:
        conditions.append(f"r.kind = '{_KINDS[path]}'")
    arguments = list(map(str, wanted.values()))
    conditions += [_CONDITIONS[name].format(number) for number, name in enumerate(wanted, 1)]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    column = _SORTS.get(sort, sort)
    return f"SELECT * FROM {_FROM[path]} {where} ORDER BY r.{column} {way}, r.id {way} LIMIT {LIMIT}", arguments  # noqa: S608 - of the words above
