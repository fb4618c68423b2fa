"""The command line tool on its own machine: nothing is configured, everything works."""

import asyncio
import json
from typing import Any

from installation import Client, Installation


async def done(site: Installation, *arguments: str, **environment: str) -> str:
    """Run the tool, expect success, return what it printed."""
    output = await site.cli(*arguments, text=None, prefix=(), **environment)
    assert output.status == 0, output
    assert "Traceback" not in output.err
    return output.out


async def read(site: Installation, *arguments: str) -> Any:
    """Run the tool, return its JSON."""
    return json.loads(await done(site, *arguments, "--output", "json"))


async def test_a_partitions_life(site: Installation, name: str) -> None:
    await done(site, "partition", "create", name, "--memory", "64", "--memory-max", "1G", "--network", "default",
               "--disk", "blank:10", "--tag", "shop", "--technology", "fake")  # fmt: skip
    for verb in (
        ["start"],
        ["pause"],
        ["unpause"],
        ["reboot"],
        ["resize", "--memory", "0.125G"],
        ["attach-nic", "--network", "backup"],
        ["attach-disk", "--disk", "blank:20"],
        ["detach-disk", "--target", "vdb"],
        ["migrate"],
        ["shutdown"],
        ["change", "--tag", "two"],
    ):
        output = await site.cli("partition", verb[0], name, *verb[1:])
        if output.status == 2:  # how a thing is named beside the partition is the tool's to say
            output = await site.cli("partition", verb[0], name, verb[-1])
        assert output.status == 0, (verb, output)
    found = await read(site, "partition", "show", name)
    assert (found["state"], found["memory_mib"], len(found["nics"]), found["tags"]) == ("stopped", 128, 2, ["two"])
    assert name in await done(site, "partition", "list", "--name", name)
    await done(site, "partition", "delete", name)
    assert [item["name"] for item in (await read(site, "partition", "list", "--name", name))["items"]] == []


async def test_what_is_listed(site: Installation, admin: Client, name: str) -> None:
    await admin.partition(name)
    nouns = ("partition", "host", "network", "image", "operation", "mac", "resource", "technology", "dead-letter",
             "user", "token", "session", "audit")  # fmt: skip
    for document in await asyncio.gather(*(read(site, noun, "list") for noun in nouns)):
        assert isinstance(document["items"] if isinstance(document, dict) else document, list)
    assert "admin" in await done(site, "whoami")
    assert "ok" in await done(site, "status")
    assert "openqrm_http_seconds" in await done(site, "metrics")
    assert name in await done(site, "events", "--subject", "partition.*", "--resource", name)


async def test_the_waterfall_of_an_operation(site: Installation, admin: Client, name: str) -> None:
    operation = await admin.run("POST", "/partitions", {"name": name, "memory_mib": 64})
    from openqrm.testkit.waiting import eventually_async

    async def complete() -> bool:
        output = await site.cli("trace", operation["id"], COLUMNS="200")
        return output.status == 0 and "driver partition.create" in output.out and "POST /api" in output.out

    await eventually_async(complete, 20, "all spans have come")
    shown = await done(site, "trace", operation["id"], COLUMNS="200")
    for service in ("gateway", "inventory", "scheduler", "executor-fake"):
        assert service in shown
    lines = shown.splitlines()
    assert next(line for line in lines if "driver partition.create" in line).index("driver") > next(
        line for line in lines if "POST /api" in line
    ).index("POST"), "what was caused stands below and to the right of its cause"


async def test_a_console_between_pipes(site: Installation, admin: Client, name: str) -> None:
    made = await admin.partition(name, start=True)
    await admin.becomes(f"/partitions/{made['id']}", state="running")
    output = await site.cli("console", name, "--linger", "1", text="hostname\n")
    assert output.status == 0, output
    assert output.out.count(name) >= 2, "its greeting and its answer"


async def test_failures_are_one_sentence(site: Installation, admin: Client, name: str) -> None:
    await admin.partition(name)
    for arguments, status, words in (
        (("partition", "show", "none"), 1, "none"),
        (("partition", "pause", name), 1, "stopped"),
        (("partition", "create", name, "--memory", "64"), 1, name),
        (("partition", "create", "x", "--memory", "1"), 1, "memory"),
        (("partition", "create", "x", "--memory", "much"), 2, "much"),
        (("partition", "dance", name), 2, "dance"),
        (("operation", "show", "none"), 1, "id"),
    ):
        output = await site.cli(*arguments)
        assert output.status == status, (arguments, output)
        assert words in output.err + output.out
        assert "Traceback" not in output.err


async def test_who_has_no_token_is_told_to_log_in(site: Installation) -> None:
    output = await site.cli("partition", "list", OPENQRM_STATE="/nonexistent", OPENQRM_URL=site.url)
    assert output.status == 3, output
    assert "login" in output.err
    output = await site.cli("partition", "list", OPENQRM_STATE="/nonexistent")
    assert output.status != 0
    assert "make up" in output.err
    output = await site.cli("partition", "list", OPENQRM_URL="http://127.0.0.1:1", OPENQRM_TOKEN="x")
    assert output.status == 1, output
    assert len(output.err.strip().splitlines()) <= 2
    logged_in = await site.cli("login", site.url, "--user", "admin", "--password-stdin", text=site.password + "\n",
                               OPENQRM_STATE="/nonexistent")  # fmt: skip
    assert logged_in.status == 0, logged_in
    assert "admin" in await done(site, "whoami", OPENQRM_STATE="/nonexistent")
    await done(site, "logout", OPENQRM_STATE="/nonexistent")
