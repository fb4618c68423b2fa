"""Schemathesis over the OpenAPI document, as each role: 0 server errors, every refusal explained."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from budget import HTTP_SHARE, IS_SHORT, SECONDS, SEED
from looks import all_goes_on, no_server_errors
from prey import Prey

pytestmark = pytest.mark.timeout(SECONDS + 600)

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parents[1] / ".venv/bin/schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "is_explained",
)
REQUEST_SECONDS = 30


async def test_no_request_makes_a_server_error(prey: Prey, tmp_path: Path) -> None:
    """As administrator, who gets furthest in."""
    said = await run(prey, tmp_path, prey.site.token, SECONDS * HTTP_SHARE)
    await all_goes_on(prey)
    await no_server_errors(prey)
    counts = statuses(tmp_path)
    print(f"{sum(counts.values())} requests: {dict(sorted(counts.items()))}")
    assert sum(counts.values()) > 200, said[-2000:]
    assert counts[200], "nothing at all was accepted"
    assert counts[401] * 3 < sum(counts.values()), "most were not let in: the fuzz has lost its own login"


async def run(prey: Prey, folder: Path, token: str, seconds: float) -> str:
    """Let schemathesis work; its findings are the failure."""
    wanted = ["--phases", "coverage"] if IS_SHORT else ["--max-time", str(max(int(seconds), 1))]
    document = folder / "openapi.json"
    document.write_text(json.dumps(await prey.client.get("/openapi.json")), "utf-8")
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM), "run", str(document), "--url", prey.site.url, "--no-color", "--continue-on-failure",
        "--header", f"Authorization: Bearer {token}", "--request-timeout", str(REQUEST_SECONDS),
        "--checks", ",".join(CHECKS), "--seed", str(SEED), *wanted,
        "--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off",
        "--report", "ndjson", "--report-ndjson-path", str(folder / "events.ndjson"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "checks", "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    out, _ = await process.communicate()
    said = out.decode(errors="replace")
    assert process.returncode == 0, said[-12_000:]
    return said


def statuses(folder: Path) -> Counter[int]:
    """How often each status was answered."""
    counts: Counter[int] = Counter()

    def look(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("status_code"), int):
                counts[value["status_code"]] += 1
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    with (folder / "events.ndjson").open(encoding="utf-8") as lines:
        for line in lines:
            look(json.loads(line))
    return counts
