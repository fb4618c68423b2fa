"""Hooks of schemathesis: what a test may send so that the run goes on, and what each answer must be."""

import os
from typing import Any
from zlib import crc32

import schemathesis
from budget import IS_SHORT, SEED

LONGEST_WAIT_SECONDS = 1
SHORTEST_SENTENCE = 20
PART = 16 if IS_SHORT else 1


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Streams have no end, and waiting is not what is tested here."""
    query = case.query if isinstance(case.query, dict) else {}
    if case.path == "/api/v1/events" and str(query.get("follow", "")).lower() not in ("", "false", "0", "no", "off"):
        query["follow"] = "false"
    if str(query.get("wait", "0")).isdigit() and int(query.get("wait", 0)) in range(2, 301):
        query["wait"] = LONGEST_WAIT_SECONDS
    if "Prefer" in (case.headers or {}):
        case.headers["Prefer"] = "wait=1"


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """In a short run one of `PART` requests, the same ones for the same seed."""
    if PART == 1:
        return True
    said = repr((case.method, case.path, case.path_parameters, case.query, case.headers, case.body))
    return crc32(said.encode("utf-8", "replace")) % PART == SEED % PART


@schemathesis.check
def is_explained(context: Any, response: Any, case: Any) -> None:
    """Every refusal is a problem document (RFC 9457) whose sentence says what happened and what to do."""
    if response.status_code < 400:
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"a refusal of the type {kind!r}"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["title"] != "Error", f"the code {problem['code']} has no title"
    assert problem["type"] == f"urn:openqrm:problem:{problem['code']}"
    detail = problem["detail"]
    assert len(detail) >= SHORTEST_SENTENCE, f"no sentence: {detail!r}"
    assert detail.rstrip().endswith((".", "…", "!")), f"no end of a sentence: {detail!r}"
    for inside in ("Traceback", "asyncpg", "sqlalchemy", "pydantic", " object at 0x"):
        assert inside not in detail, f"our insides shown: {detail!r}"


assert os.environ.get("SCHEMATHESIS_HOOKS"), "this file is schemathesis's to load"
