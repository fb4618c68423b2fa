"""What goes on while it runs: events, consoles on a terminal and between pipes, screens."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys

from gateway_waiting import until


async def test_events_are_followed_line_by_line(cli, inventory) -> None:
    since = await inventory.emit_started()
    process = await cli.start("events", "--follow", "--subject", "partition.*", "--since", str(since), "-o", "json")
    sequences = [await inventory.emit_started() for _ in range(3)]
    assert process.stdout is not None
    async with asyncio.timeout(20):
        lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
    assert [line["sequence"] for line in lines] == sequences
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130


async def test_following_survives_a_restart_of_the_server(site, cli, inventory, admin_token) -> None:
    gateway = site.gateway()
    await gateway.start()
    port = gateway.port
    cli.write_client_json(gateway.url, admin_token)
    since = await inventory.emit_started()
    process = await cli.start(
        "events", "--follow", "--since", str(since), "--subject", "partition.started", "-o", "json"
    )
    assert process.stdout is not None
    first = await inventory.emit_started()
    async with asyncio.timeout(30):
        assert json.loads(await process.stdout.readline())["sequence"] == first
        await gateway.stop()
        missed = await inventory.emit_started()
        gateway = site.gateway(port=port)
        await gateway.start()
        assert json.loads(await process.stdout.readline())["sequence"] == missed
    process.send_signal(signal.SIGINT)
    await process.wait()
    await gateway.stop()


async def test_events_of_one_resource_by_its_name(cli, inventory) -> None:
    await inventory.emit_started()
    ran = await cli.run("events", "--resource", "web 1")
    assert ran.code == 0, ran.err
    assert ran.out.count("partition.started") == 1
    assert "web 1 · running" in ran.out


async def test_a_console_between_pipes(cli, inventory) -> None:
    process = await cli.start("console", "web 1", "--linger", "0.5")
    async with asyncio.timeout(20):
        out, err = await process.communicate(b"hello\n")
    assert out == b"login: <hello\n>"
    assert process.returncode == 0
    assert err == b""


async def test_a_console_ends_when_the_guest_ends(cli, inventory) -> None:
    process = await cli.start("console", "web 1", "--linger", "60")
    async with asyncio.timeout(20):
        out, err = await process.communicate(b"exit\n")
    assert out == b"login: bye"
    assert (process.returncode, b"logged out" in err) == (0, True)


async def test_a_console_on_a_real_terminal(cli, inventory) -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openqrm.cli", "console", "web 1", env={**os.environ, **cli.env},
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    seen = b""

    def has(text: bytes) -> bool:
        nonlocal seen
        with contextlib.suppress(OSError):
            seen += os.read(master, 65536)
        return text in seen

    await until(lambda: has(b"login: "), 20)
    os.write(master, b"\x03")  # Ctrl-C belongs to the guest
    await until(lambda: inventory.guest_input == [b"\x03"], 20)
    os.write(master, b"\x1d")  # Ctrl-] leaves
    await until(lambda: has(b"Left the console"), 20)
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    assert b"Leave with Ctrl-]" in seen
    os.close(master)


async def test_a_console_that_cannot_be(cli, inventory) -> None:
    process = await cli.start("console", "nobody")
    async with asyncio.timeout(20):
        _, err = await process.communicate(b"")
    assert (process.returncode, b"There is no partition" in err) == (1, True)


async def test_a_screen_for_a_viewer_on_this_machine(cli, inventory) -> None:
    process = await cli.start("vnc", "web 1", "--once")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        host, port = (await process.stdout.readline()).decode().strip().split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.readexactly(7) == b"login: "
        writer.write(b"RFB 003.008\n")
        assert await reader.readexactly(14) == b"<RFB 003.008\n>"
        writer.close()
        assert await process.wait() == 0


async def test_head_may_leave_early(cli, inventory) -> None:
    for _ in range(300):
        await inventory.emit_started()
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m openqrm.cli events -o json --limit 300 | head -n 1", env={**os.environ, **cli.env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert json.loads(out)
    assert err == b""
