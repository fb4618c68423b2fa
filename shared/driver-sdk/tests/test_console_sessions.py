"""Console sessions over the bus, both ways."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from openqrm.bus.bus import Bus
from openqrm.contracts.console import (
    ConsoleKind,
    ConsoleReceived,
    ConsoleSent,
    OpenConsole,
    Screenshot,
    TakeScreenshot,
)
from openqrm.contracts.errors import OpenQrmError, ProblemCode
from openqrm.contracts.execution import ExecuteStopPartition
from openqrm.contracts.ids import new_id
from openqrm.testkit.definitions import partition_definition
from openqrm.testkit.waiting import eventually


class Terminal:
    """The gateway's end of a session."""

    def __init__(self, bench: Any, kind: ConsoleKind) -> None:
        self.bus: Bus = bench.inventory.bus
        self.session_id = new_id()
        self.kind = kind
        self.frames: list[ConsoleSent] = []
        self.number = 0

    async def open(self, view: Any, partition_id: Any) -> None:
        await self.bus.listen(ConsoleSent, self._hear, session=self.session_id)
        session = await self.bus.request(
            OpenConsole(
                host_id=view.id,
                technology="fake",
                partition_id=partition_id,
                session_id=self.session_id,
                kind=self.kind,
            )
        )
        assert session.session_id == self.session_id

    async def _hear(self, frame: ConsoleSent) -> None:
        self.frames.append(frame)

    async def send(self, data: bytes = b"", closed: str | None = None, skip: int = 0) -> None:
        self.number += skip
        await self.bus.publish(
            ConsoleReceived(session_id=self.session_id, number=self.number, data=data, closed=closed)
        )
        self.number += 1

    @property
    def seen(self) -> bytes:
        assert [frame.number for frame in self.frames] == list(range(len(self.frames))), "in order, without a gap"
        return b"".join(frame.data for frame in self.frames)

    @property
    def closed(self) -> str | None:
        return self.frames[-1].closed if self.frames else None


Open = Callable[..., Awaitable[tuple[Terminal, Any, Any]]]


@pytest.fixture
def open_console(bench: Any) -> Open:
    async def open_it(kind: ConsoleKind = ConsoleKind.SERIAL, **settings: Any) -> tuple[Terminal, Any, Any]:
        (view,) = await bench.ready(**settings)
        partition = await bench.run(view)
        terminal = Terminal(bench, kind)
        await terminal.open(view, partition.id)
        return terminal, view, partition

    return open_it


async def test_open_console_and_what_is_typed_arrives_and_what_is_answered_is_seen(open_console: Open) -> None:
    terminal, _, _ = await open_console()
    for character in b"echo hello\r":
        await terminal.send(bytes([character]))
    await eventually(lambda: b"echo hello\r\nhello\r\n# " in terminal.seen)


async def test_a_megabyte_comes_in_order_and_in_chunks(open_console: Open) -> None:
    terminal, _, _ = await open_console()
    await terminal.send(b"yes 400000\r")
    await eventually(lambda: terminal.seen.count(b"y\r\n") == 400_000, 15)
    assert max(len(frame.data) for frame in terminal.frames) <= 32 * 1024


async def test_much_can_be_pasted(open_console: Open) -> None:
    terminal, _, _ = await open_console()
    for _ in range(100):
        await terminal.send(b"x" * 10_000)
    await eventually(lambda: terminal.seen.count(b"x") == 1_000_000, 15)


async def test_the_screen(open_console: Open) -> None:
    terminal, _, _ = await open_console(ConsoleKind.VNC)
    await eventually(lambda: terminal.seen == b"RFB 003.008\n")
    await terminal.send(b"RFB 003.008\n")
    await terminal.send(b"\x01")
    await terminal.send(b"\x01")
    await eventually(lambda: len(terminal.seen) >= 12 + 2 + 4 + 24)
    assert terminal.seen[18:22] == bytes([0, 64, 0, 48])


async def test_the_other_side_closes(open_console: Open) -> None:
    terminal, _, _ = await open_console()
    await terminal.send(closed="the window was closed")
    await eventually(lambda: terminal.closed)
    assert "the window was closed" in str(terminal.closed)


async def test_the_guest_ends(bench: Any, open_console: Open) -> None:
    terminal, view, partition = await open_console()
    await bench.inventory.success(bench.command(ExecuteStopPartition, view, partition))
    await eventually(lambda: terminal.closed)


async def test_a_lost_frame_closes_it(open_console: Open) -> None:
    terminal, _, _ = await open_console()
    await terminal.send(b"a")
    await terminal.send(b"b", skip=1)
    await eventually(lambda: terminal.closed)
    assert "Frame 1 was lost" in str(terminal.closed)
    assert b"b" not in terminal.seen.partition(b"# ")[2]


async def test_silence_closes_it_and_empty_frames_keep_it(open_console: Open) -> None:
    terminal, _, _ = await open_console(console_keepalive=0.1, console_silence=0.5)
    for _ in range(8):
        await terminal.send()
        await terminal.bus.clock.sleep(0.1)
    assert terminal.closed is None
    assert any(frame.data == b"" for frame in terminal.frames), "the guest's side sends empty frames, too"
    await eventually(lambda: terminal.closed, 3)
    assert "Nothing was heard" in str(terminal.closed)


async def test_opening_the_same_session_twice_gives_the_same(bench: Any, open_console: Open) -> None:
    terminal, view, partition = await open_console()
    await terminal.open(view, partition.id)
    with pytest.raises(OpenQrmError) as caught:
        await terminal.open(view, new_id())
    assert caught.value.code is ProblemCode.CONFLICT


async def test_what_cannot_be_opened_is_an_answer(bench: Any) -> None:
    (view,) = await bench.ready()
    with pytest.raises(OpenQrmError) as caught:
        await Terminal(bench, ConsoleKind.SERIAL).open(view, new_id())
    assert caught.value.code is ProblemCode.NOT_FOUND
    unknown = bench.host("unknown")
    with pytest.raises(OpenQrmError) as caught:
        await Terminal(bench, ConsoleKind.SERIAL).open(unknown, partition_definition("fake").id)
    assert caught.value.code is ProblemCode.HOST_FAILED


async def test_stopping_the_executor_closes_it(bench: Any, open_console: Open) -> None:
    terminal, _, _ = await open_console()
    await bench.stop(bench.executors[0])
    await eventually(lambda: terminal.closed)
    assert "stopping" in str(terminal.closed)


async def test_take_screenshot_gives_a_picture(bench: Any) -> None:
    (view,) = await bench.ready()
    partition = await bench.run(view)
    picture: Screenshot = await bench.inventory.bus.request(
        TakeScreenshot(host_id=view.id, technology="fake", partition_id=partition.id)
    )
    assert picture.media_type == "image/png"
    assert picture.picture.startswith(b"\x89PNG")
