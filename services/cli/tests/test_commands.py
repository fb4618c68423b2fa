"""The commands: what they send, what they print, how they end."""

import hashlib
import json
from pathlib import Path
from uuid import uuid4

import pytest
from gateway_inventory import HOST

from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.host import ChangeHost, EnrolHost, HostConnection
from openqrm.contracts.partition import CreatePartition, MigratePartition, PinPartition, ResizePartition


async def test_it_works_without_any_configuration_beside_an_embedded_openqrm(cli) -> None:
    ran = await cli.run("partition", "list")
    assert ran.code == 0, ran.err
    assert "web 1" in ran.out
    assert "running" in ran.out


async def test_lists_come_as_json_too(cli, inventory) -> None:
    for arguments in (("partition", "list", "-o", "json"), ("--output", "json", "partition", "list")):
        ran = await cli.run(*arguments)
        assert ran.json["items"][0]["id"] == str(inventory.web.id)
        assert ran.err == ""
    ran = await cli.run("partition", "list", env={"OPENQRM_OUTPUT": "json"})
    assert ran.json["next_cursor"] == "more"


async def test_filters_are_passed_on(cli, inventory) -> None:
    await cli.run("partition", "list", "--state", "running", "--tag", "shop", "--sort", "memory_mib", "--descending")
    (query,) = inventory.queries
    assert (query.state, query.tag, query.sort, query.paging.descending) == ("running", "shop", "memory_mib", True)


async def test_making_a_partition(cli, inventory) -> None:
    ran = await cli.run(
        "partition", "create", "Größe 1", "--memory", "2G", "--vcpus", "2", "--image", "demo", "--disk", "blank:1024",
        "--network", "default", "--tag", "shop", "--start", "-o", "json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["state"] == "succeeded"
    (command,) = inventory.commands
    assert isinstance(command, CreatePartition)
    assert (command.name, command.memory_mib, command.vcpus, command.start) == ("Größe 1", 2048, 2, True)
    assert [disk.source.kind for disk in command.disks] == ["image", "blank"]
    assert command.nics[0].network == "default"


async def test_verbs_with_their_options(cli, inventory) -> None:
    for arguments in (
        ("resize", "web 1", "--memory", "1G"),
        ("pin", "web 1", "0=0-1"),
        ("migrate", "web 1", "--host", "h2", "--offline", "--bandwidth", "100"),
        ("start", "web 1", "--if-revision", "7"),
    ):
        ran = await cli.run("partition", *arguments)
        assert ran.code == 0, ran.err
        assert "succeeded" in ran.err
        assert ran.out == ""
    resize, pin, migrate, start = inventory.commands
    assert isinstance(resize, ResizePartition)
    assert resize.memory_mib == 1024
    assert isinstance(pin, PinPartition)
    assert pin.cpu_pins == {0: (0, 1)}
    assert isinstance(migrate, MigratePartition)
    assert (migrate.host, migrate.live, migrate.bandwidth_mib_s) == ("h2", False, 100)
    assert start.expected_revision == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ("partition", "stop", "web 1"),
        ("partition", "shutdown", "web 1", "--timeout", "5", "--force"),
        ("partition", "reboot", "web 1", "--hard"),
        ("partition", "pause", "web 1"),
        ("partition", "unpause", "web 1"),
        ("partition", "delete", "web 1", "--force"),
        ("partition", "change", "web 1", "--name", "web/2", "--tag", ""),
        ("partition", "attach-nic", "web 1", "default"),
        ("partition", "detach-nic", "web 1", "52:54:00:00:00:01"),
        ("partition", "map-nic", "web 1", "52:54:00:00:00:01", "backup"),
        ("partition", "attach-disk", "web 1", "blank:1G"),
        ("partition", "detach-disk", "web 1", "vdb", "--keep"),
        ("partition", "adopt", "h1", str(uuid4()), "--name", "found"),
        ("host", "prepare", "h1"),
        ("host", "maintain", "h1", "--evacuate"),
        ("host", "activate", "h1"),
        ("host", "remove", "h1", "--force"),
        ("network", "create", "n", "--bridge", "br0", "--vlan", "7", "--host-bridge", "h1=br9"),
        ("network", "change", "n", "--bridge", "br1"),
        ("network", "delete", "n"),
        ("image", "delete", "demo"),
        ("operation", "cancel", str(uuid4())),
        ("dead-letter", "replay", str(uuid4())),
        ("dead-letter", "discard", str(uuid4())),
    ],
)
async def test_every_other_operation_arrives(arguments: tuple[str, ...], cli, inventory) -> None:
    ran = await cli.run(*arguments)
    assert ran.code == 0, ran.err
    noun = {"dead-letter": "message"}.get(arguments[0], arguments[0])
    verb = {"adopt": "adopt"}.get(arguments[1], arguments[1].replace("-", "_"))
    assert inventory.commands[0].subject == f"{noun}.{verb}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("partition", "show", "web 1"), ("host", "list"), ("host", "show", "h1"), ("host", "strangers"),
        ("host", "strangers", "h1"), ("network", "list"), ("network", "show", "default"), ("image", "list"),
        ("operation", "list"), ("resource", "list"), ("technology", "list"), ("mac", "list"), ("dead-letter", "list"),
        ("user", "list"), ("user", "show", "admin"), ("token", "list"), ("session", "list"), ("audit", "list"),
        ("whoami",), ("status",), ("health",), ("version",), ("events",), ("mac", "allocate", "fake"),
        ("mac", "release", "52:54:00:00:00:01"),
    ],
)  # fmt: skip
async def test_everything_prints_a_table_and_json(arguments: tuple[str, ...], cli) -> None:
    table = await cli.run(*arguments)
    assert table.code == 0, table.err
    as_json = await cli.run(*arguments, "-o", "json")
    assert as_json.code == 0
    for line in as_json.out.splitlines() if arguments == ("events",) else [as_json.out]:
        json.loads(line)


async def test_enrolling_and_changing_a_host(cli, inventory, tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA\n")
    ran = await cli.run("host", "enrol", "h9", "--technology", "fake", "--uri", "fake://h9", "--host-key", f"@{key}",
                        "--memory-reserve", "1G", "--option", "a=b", "--prepare")  # fmt: skip
    assert ran.code == 0, ran.err
    ran = await cli.run("host", "change", "h1", "--storage-path", "/srv", "--cpu-overcommit", "2")
    assert ran.code == 0, ran.err
    enrol, change = inventory.commands
    assert isinstance(enrol, EnrolHost)
    assert enrol.connection.host_key == "ssh-ed25519 AAAA"
    assert (enrol.memory_reserve_mib, enrol.connection.options, enrol.prepare) == (1024, {"a": "b"}, True)
    assert isinstance(change, ChangeHost)
    assert change.connection == HostConnection(**HOST.connection.model_dump() | {"storage_path": "/srv"})


async def test_not_waiting_prints_the_id(cli, inventory) -> None:
    inventory.reactions["partition.start"] = inventory.accept
    ran = await cli.run("partition", "start", "web 1", "--no-wait")
    assert ran.code == 0
    assert ran.out.strip() == str(inventory.commands[0].operation_id)
    again = await cli.run("partition", "start", "web 1", "--no-wait", "--idempotency-key", ran.out.strip())
    assert again.out == ran.out
    shown = await cli.run("operation", "show", ran.out.strip(), "-o", "json")
    assert shown.json["state"] == "running"


async def test_a_failure_ends_with_1_and_a_sentence(cli, inventory) -> None:
    async def fail(command) -> None:
        await inventory.accept(command)
        await inventory.fail(command, Problem(code=ProblemCode.DRIVER_FAILED, message="The disk is gone. Attach it."))

    inventory.reactions["partition.start"] = fail
    for extra in ((), ("-o", "json")):
        ran = await cli.run("partition", "start", "web 1", *extra)
        assert ran.code == 1
        assert "The disk is gone. Attach it." in ran.err
    assert ran.json["state"] == "failed"
    waited = await cli.run("operation", "wait", str(inventory.commands[0].operation_id))
    assert waited.code == 1


async def test_a_refusal_ends_with_1_and_its_fields(cli, inventory) -> None:
    ran = await cli.run("partition", "create", " x ", "--memory", "1")
    assert ran.code == 1
    assert "name: a name must not begin or end" in ran.err
    assert "memory_mib: must be at least 16" in ran.err
    ran = await cli.run("partition", "show", "nobody")
    assert (ran.code, "There is no partition 'nobody'" in ran.err) == (1, True)


async def test_wrong_usage_ends_with_2(cli) -> None:
    for arguments in (
        ("partition", "fly"), ("partition", "create", "x", "--memory", "huge"), ("partition", "create", "x"),
        ("partition", "resize", "web 1"), ("host", "list", "--limit", "0"),
    ):  # fmt: skip
        ran = await cli.run(*arguments)
        assert ran.code == 2, arguments
        assert ran.err
        assert "Traceback" not in ran.err


async def test_importing_an_image(cli, inventory, tmp_path: Path) -> None:
    data = b"disk" * 700_000
    file = tmp_path / "my disk.raw"
    file.write_bytes(data)
    ran = await cli.run("image", "import", str(file), "--description", "d")
    assert ran.code == 0, ran.err
    (command,) = inventory.commands
    assert (command.name, command.size_bytes, command.sha256) == (
        "my disk", len(data), hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    twice = await cli.run("image", "import", str(file))
    assert (twice.code, "already" in twice.err) == (1, True)
    wrong = await cli.run("image", "import", str(file), "--name", "other", "--sha256", "0" * 64)
    assert (wrong.code, "sha256" in wrong.err) == (1, True)
    missing = await cli.run("image", "import", str(tmp_path / "nothing"))
    assert missing.code == 2


async def test_a_picture_goes_to_a_file(cli, tmp_path: Path) -> None:
    ran = await cli.run("partition", "screenshot", "web 1", str(tmp_path / "a.png"))
    assert ran.code == 0, ran.err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


async def test_the_trace_of_an_operation_is_a_waterfall(site, cli, inventory) -> None:
    started = await cli.run("partition", "start", "web 1", "-o", "json")
    operation = started.json
    for _ in range(50):
        trace = await cli.run("trace", operation["id"])
        if "handle partition.start" in trace.out and "POST /api/v1/partitions" in trace.out:
            break
        await site.clock.sleep(0.1)
    assert "inventory" in trace.out
    assert "█" in trace.out
    as_json = await cli.run("trace", operation["trace_id"], "-o", "json")
    assert as_json.json["trace_id"] == operation["trace_id"]


async def test_users_and_tokens(cli) -> None:
    name = f"u{uuid4()}"
    made = await cli.run("user", "create", name, "--role", "operator", "--password-stdin", stdin="a long password\n")
    assert made.code == 0, made.err
    changed = await cli.run("user", "change", name, "--disable", "-o", "json")
    assert changed.json["disabled"] is True
    secret = await cli.run("user", "password", name, "--password-stdin", stdin="another password\n")
    assert secret.code == 0, secret.err
    token = await cli.run("token", "create", "nightly", "--role", "viewer", "--scope", "metrics", "--days", "1")
    assert token.out.startswith("oqrm_")
    only = {"OPENQRM_TOKEN": token.out.strip()}
    metrics = await cli.run("metrics", env=only)
    assert "openqrm_http_seconds" in metrics.out
    assert (await cli.run("partition", "list", env=only)).code == 1
    listed = await cli.run("token", "list", "-o", "json")
    identity = next(t["id"] for t in listed.json["items"] if t["name"] == "nightly")
    assert (await cli.run("token", "revoke", identity)).code == 0
    refused = await cli.run("whoami", env=only)
    assert (refused.code, "openqrm login" in refused.err) == (3, True)
    assert (await cli.run("user", "delete", name)).code == 0


async def test_the_shell_completes_names(cli) -> None:
    assert (await cli.run("partition", "create", "web one", "--memory", "1G", "--image", "demo")).code == 0
    asked = {"_OPENQRM_COMPLETE": "complete_bash", "COMP_WORDS": "openqrm partition start web", "COMP_CWORD": "3"}
    cli.env |= asked
    process = await cli.start()
    out, _ = await process.communicate()
    assert "web one" in out.decode()
