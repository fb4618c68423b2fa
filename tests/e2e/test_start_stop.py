"""Starting, stopping, dying and starting again; what cannot start says why in one sentence."""

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installation import ROOT, Client, Installation, is_root, new_folder, run

from openqrm.contracts.ids import new_id
from openqrm.testkit.waiting import eventually, eventually_async

needs_root = pytest.mark.skipif(not is_root(), reason="needs root")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def lasting() -> AsyncIterator[Installation]:
    """One state folder through many starts."""
    installation = Installation(new_folder())
    await installation.start()
    client = installation.client()
    await client.run("POST", "/hosts", {"name": "h1", "technology": "fake", "connection": {"uri": "fake://h1"}})
    made = await client.partition("survivor", start=True, nics=[{"network": "default"}])
    await client.becomes(f"/partitions/{made['id']}", state="running")
    yield installation
    await installation.close()


async def works(installation: Installation) -> Client:
    """Everything that was known is known, and something new can be done."""
    client = installation.client()
    found = await client.becomes("/partitions/survivor", state="running", operation_id=None)
    assert found["nics"][0]["network_name"] == "default"
    await client.becomes("/hosts/h1", state="ready")
    operation = await client.run("POST", "/partitions/survivor/reboot", {"hard": True})
    assert operation["ended_at"] > operation["created_at"]
    return client


async def is_healthy(installation: Installation) -> bool:
    try:
        response = await installation.client().request("GET", "/health")
    except OSError:
        return False
    return response.status_code == 200


# ------------------------------------------------------------------------------------------------ starting and stopping


async def test_what_a_start_shows(lasting: Installation) -> None:
    lines = [line.removeprefix("openqrm: ") for line in lasting.said.splitlines()]
    assert f"serving at {lasting.url}" in lines
    assert f"the administrator's token lies in {lasting.word['token_file']}" in lines
    assert lasting.complained == ""
    assert lasting.url.startswith("http://127.0.0.1:")


async def test_a_second_start_on_the_same_folder_refuses(lasting: Installation) -> None:
    assert lasting.process is not None
    first = lasting.process
    second = Installation(new_folder())
    try:
        second.launch(OPENQRM_STATE=str(lasting.state))
        assert await second.ended() == 1
        expected = f"openQRM already runs on {lasting.state} (process {first.pid})"
        assert second.complained.startswith(f"openqrm: {expected}")
        assert len(second.complained.splitlines()) == 1
    finally:
        await second.close()
    await works(lasting)


async def test_ctrl_c_stops_everything_and_the_next_start_finds_all(lasting: Installation) -> None:
    before = await lasting.client().get("/partitions/survivor")
    assert await lasting.interrupt() == 0
    assert lasting.said.rstrip().endswith("stopped")
    assert lasting.complained == ""
    assert lasting.children == []
    await lasting.start()
    after = await (await works(lasting)).get("/partitions/survivor")
    assert (after["id"], after["nics"]) == (before["id"], before["nics"])


async def test_ctrl_c_in_the_midst_of_everything(lasting: Installation) -> None:
    """Operations under way and followers listening do not keep it from stopping; nothing stays half done."""
    client = lasting.client()
    slow = await client.partition("slow !start-slow=3")
    await client.call("POST", f"/partitions/{slow['id']}/start", status=202)
    for number in range(20):
        await client.call("POST", "/partitions", {"name": f"crowd {number}", "memory_mib": 16}, status=202)
    async with client.http.stream("GET", "/api/v1/events", params={"follow": "true"}):
        assert await lasting.interrupt() == 0
    assert lasting.children == []
    await lasting.start()
    client = await works(lasting)

    async def all_ended() -> bool:
        left = [await client.get("/operations", state=state) for state in ("running", "queued", "waiting")]
        return not any(page["items"] for page in left)

    await eventually_async(all_ended, 60, "every operation comes to its end")
    await client.becomes(f"/partitions/{slow['id']}", state="running")
    assert len((await client.get("/partitions", name="crowd", state="stopped"))["items"]) == 20


async def test_ctrl_c_while_it_starts(lasting: Installation) -> None:
    await lasting.interrupt()
    lasting.launch()
    await eventually(lambda: "starting the services" in lasting.said, 60, "it starts")
    assert await lasting.interrupt() in (0, 130)
    assert "Traceback" not in lasting.complained
    assert lasting.children == []
    await lasting.start()
    await works(lasting)


async def test_a_stranger_is_shown_and_adopted(lasting: Installation) -> None:
    """A partition that somebody else made on a host before we came."""
    admin = lasting.client()
    stranger = str(new_id())
    size = {"memory_mib": 96, "memory_max_mib": 96, "vcpus": 1, "vcpus_max": 1}
    made_by_hand = {"id": stranger, "name": "old friend", "state": "running", "size": size, "live": size}
    (lasting.fake_hosts / "old.json").write_text(json.dumps({"partitions": {stranger: made_by_hand}}))
    host = {"name": "old host", "technology": "fake", "connection": {"uri": "fake://old"}}
    await admin.run("POST", "/hosts", host)

    async def seen() -> list[str]:
        return [item["observed"]["id"] for item in (await admin.get("/hosts/old host/strangers"))["items"]]

    await eventually_async(seen, 20, "the stranger is seen")
    assert await seen() == [stranger]
    assert stranger in {item["observed"]["id"] for item in (await admin.get("/strangers"))["items"]}
    await admin.refused("POST", f"/hosts/old host/strangers/{new_id()}/adopt", status=404)
    await admin.run("POST", f"/hosts/old host/strangers/{stranger}/adopt")
    found = await admin.get("/partitions/old friend")
    assert (found["state"], found["memory_mib"], found["on_crash"]) == ("running", 96, "stay")
    assert await seen() == []
    await admin.refused("DELETE", "/hosts/old host")
    await admin.run("DELETE", f"/partitions/{stranger}", params={"force": "true"})
    await admin.run("DELETE", "/hosts/old host")


async def test_killed_without_a_word_nothing_is_lost(lasting: Installation) -> None:
    client = lasting.client()
    accepted = [
        await client.call("POST", "/partitions", {"name": f"just now {number}", "memory_mib": 16}, status=202)
        for number in range(10)
    ]
    await lasting.kill()
    await lasting.start()
    await works(lasting)
    ACCEPTED_BEFORE_THE_KILL[:] = [operation["id"] for operation in accepted]


ACCEPTED_BEFORE_THE_KILL: list[str] = []
"""Looked at later: NATS gives what was in hand to somebody else only when half a minute has passed."""


# ------------------------------------------------------------------------------------------------ parts that die


@pytest.mark.parametrize(("program", "name"), [("nats-server", "NATS"), ("postgres", "PostgreSQL")])
async def test_a_part_that_is_killed_is_started_again(lasting: Installation, program: str, name: str) -> None:
    await works(lasting)
    lasting.child(program).kill()
    await eventually(lambda: f"{name} was ended by the signal SIGKILL" in lasting.complained, 10, "it is told")
    await eventually(lambda: f"{name} runs again" in lasting.said, 60, "it runs again")
    await eventually_async(lambda: is_healthy(lasting), 30, "all is well again")
    client = await works(lasting)
    made = await client.partition(f"made after {name}", start=True)
    await client.becomes(f"/partitions/{made['id']}", state="running")
    assert f"part={name}" in lasting.log


async def test_while_a_part_is_away_that_is_said(lasting: Installation) -> None:
    """Frozen, not dead: the hardest case, since nothing is told."""
    client = await works(lasting)
    postgres = lasting.child("postgres")
    backends = postgres.children()
    for process in (postgres, *backends):
        process.suspend()
    try:
        response = await client.request("GET", "/health")
        assert response.status_code == 503
        detail = "PostgreSQL cannot be reached."
        assert response.json() == {"status": "degraded", "bus": True, "database": False, "detail": detail}
    finally:
        for process in (postgres, *backends):
            process.resume()
    await eventually_async(lambda: is_healthy(lasting), 30, "all is well again")
    await works(lasting)


# ------------------------------------------------------------------------------------------------ starts that fail


@contextmanager
def listening() -> Iterator[int]:
    """Somebody else's port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("variable", ["OPENQRM_HTTP_PORT", "OPENQRM_NATS_PORT"])
async def test_a_port_in_use(own: Installation, variable: str) -> None:
    with listening() as port:
        sentence = await own.fails(**{variable: str(port)})
    assert f"port {port}" in sentence
    assert f"(process {os.getpid()})" in sentence
    assert variable in sentence


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("OPENQRM_TECHNOLOGIES", "fake,vax", "no driver for 'vax'"),
        ("OPENQRM_HTTP_PORT", "many", "OPENQRM_HTTP_PORT"),
        ("OPENQRM_HTTP_PORT", "70000", "OPENQRM_HTTP_PORT"),
        ("OPENQRM_HTTP_PORT", "-1", "OPENQRM_HTTP_PORT"),
        ("OPENQRM_HTTP_HOST", "192.0.2.77", "192.0.2.77"),
        ("OPENQRM_HTTP_HOST", "no.such.host.invalid", "no.such.host.invalid"),
        ("OPENQRM_NATS_PORT", "x", "OPENQRM_NATS_PORT"),
        ("OPENQRM_LOCAL_HOST", "perhaps", "OPENQRM_LOCAL_HOST"),
        ("OPENQRM_LOG_LEVEL", "LOUD", "OPENQRM_LOG_LEVEL"),
        ("OPENQRM_EXECUTOR_CONCURRENCY", "none", "OPENQRM_EXECUTOR_CONCURRENCY"),
        ("OPENQRM_STATE", "/proc/openqrm", "/proc/openqrm"),
        ("OPENQRM_STATE", "/dev/null", "/dev/null"),
        ("OPENQRM_STATE", "/etc", "/etc"),
    ],
)
async def test_a_setting_that_cannot_be_used(own: Installation, variable: str, value: str, words: str) -> None:
    assert words in await own.fails(**{variable: value})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("secrets.json", b"{"),
        ("secrets.json", b"\x00\xff"),
        ("secrets.json", b'{"format": 9, "passwords": {}}'),
        ("secrets.json", b'{"format": 1, "passwords": {"postgres": 7}}'),
        ("version", b"99\n"),
        ("version", b"garbage"),
    ],
)
async def test_a_damaged_state_folder(own: Installation, file: str, content: bytes) -> None:
    own.state.mkdir(mode=0o711)
    (own.state / "version").write_text("1\n")
    (own.state / file).write_bytes(content)
    sentence = await own.fails()
    assert str(own.state) in sentence
    assert (own.state / file).read_bytes() == content, "it was left as it was, for whoever mends it"


async def test_a_database_of_another_installation(lasting: Installation) -> None:
    await lasting.interrupt()
    secrets = lasting.state / "secrets.json"
    kept = secrets.read_text()
    try:
        secrets.write_text(kept.replace('"postgres": "', '"postgres": "x'))
        sentence = await lasting.fails()
        assert "same installation" in sentence or "same backup" in sentence
        assert lasting.children == []
    finally:
        secrets.write_text(kept)
    await lasting.start()
    await works(lasting)


@needs_root
async def test_a_right_that_is_missing(own: Installation) -> None:
    """As another user of the machine, who may not write there."""
    own.folder.chmod(0o755)
    readable = run(
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        str(ROOT / ".venv/bin/python"),
        "-c",
        "import openqrm.embedded.app",
    )
    if readable.returncode != 0:
        pytest.skip("the checkout lies where other users of this machine cannot read it")
    own.state.mkdir()
    sentence = await own.fails("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert str(own.state) in sentence
    shutil.rmtree(own.state)
    assert str(own.state) in await own.fails("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@contextmanager
def small_disk(where: Path, mib: int) -> Iterator[Path]:
    """A disk of its own."""
    where.mkdir(mode=0o711)
    assert run("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0711", "openqrm-e2e", str(where)).returncode == 0
    try:
        yield where
    finally:
        run("umount", "--lazy", str(where))


@needs_root
async def test_a_full_disk(own: Installation) -> None:
    with small_disk(own.folder / "disk", 100) as disk:
        sentence = await own.fails(OPENQRM_STATE=str(disk))
    assert "is full" in sentence
    assert str(own.folder / "disk") in sentence


@needs_root
async def test_a_disk_that_fills_up_while_it_runs(own: Installation) -> None:
    """It says so instead of failing in a hundred ways, and goes on by itself when there is room again."""
    with small_disk(own.folder / "disk", 800) as disk:
        own.state = disk
        own.environment["OPENQRM_STATE"] = str(disk)
        await own.start()
        client = own.client()
        await client.run("POST", "/hosts", {"name": "h1", "technology": "fake", "connection": {"uri": "fake://h1"}})
        await client.partition("before")
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            while True:
                try:
                    file.write(b"\x00" * MIB)
                    file.flush()
                except OSError:
                    break
        await eventually(lambda: "is full" in own.complained, 20, "it is told on the terminal")
        accepted = set()
        bodies = [{"name": f"full {number}", "memory_mib": 16} for number in range(4)]
        for response in await asyncio.gather(*(client.request("POST", "/partitions", body) for body in bodies)):
            assert response.status_code in (202, 503, 507), response.text
            assert len(response.json().get("detail", "a sentence that tells what is wrong")) > 20
            if response.status_code == 202:
                accepted.add(response.json()["id"])
        ballast.unlink()
        await eventually(lambda: "there is room again" in own.said, 20, "that is told, too")

        async def can_be_made() -> bool:
            response = await client.request("POST", "/partitions", {"name": str(new_id())[:13], "memory_mib": 16})
            if response.status_code != 202:
                return False  # not right now
            return bool((await client.get(f"/operations/{response.json()['id']}", wait=30))["state"] == "succeeded")

        await eventually_async(can_be_made, 90, "partitions can be made again")
        for operation in accepted:
            ended = await client.get(f"/operations/{operation}", wait=60)
            assert ended["state"] == "succeeded", f"what was accepted is done: {ended}"
        assert (await client.get("/partitions/before"))["state"] == "stopped"
        assert await own.interrupt() == 0


# ------------------------------------------------------------------------------------------------ afterwards


async def test_what_was_accepted_before_the_kill_was_done(lasting: Installation) -> None:
    client = await works(lasting)
    for operation in ACCEPTED_BEFORE_THE_KILL:
        ended = await client.get(f"/operations/{operation}", wait=60)
        assert ended["state"] == "succeeded", ended
    found = await client.get("/partitions", name="just now")
    assert len(found["items"]) == len(ACCEPTED_BEFORE_THE_KILL)
