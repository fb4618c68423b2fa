"""Uploads: streamed, hashed, recognised, refused without leaving anything behind."""

import asyncio
import errno
import hashlib
import struct
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from gateway_waiting import pause, until

from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.image import ImageFormat, RegisterImage
from openqrm.contracts.message import Command
from openqrm.gateway.images import recognise
from openqrm.gateway.problems import HttpError

MIB = 1024 * 1024


def qcow2(virtual_size: int, backing: int = 0, version: int = 3, incompatible: int = 0, length: int = 4096) -> bytes:
    head = b"QFI\xfb" + struct.pack(">IQIIQ", version, backing, 0, 16, virtual_size)
    head = head.ljust(72, b"\0") + struct.pack(">Q", incompatible)
    return head.ljust(length, b"\0")


def iso(length: int = 3 * MIB) -> bytes:
    return (b"\0" * 32769 + b"CD001").ljust(length, b"\0")


def left(site) -> set[str]:
    folder: Path = site.folder / "images"
    return {path.name for path in folder.rglob("*") if path.is_file()}


def contents(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mode & 0o777


async def upload(client: httpx.AsyncClient, data: bytes, **query: str) -> httpx.Response:
    return await client.post("/api/v1/images", params={"name": "img", "wait": "10", **query}, content=data)


@pytest.mark.parametrize(
    ("data", "kind", "virtual_mib"),
    [(qcow2(5 * MIB + 1), "qcow2", 6), (iso(), "iso", 3), (b"boot" * 1000, "raw", 1), (b"x" * (9 * MIB), "raw", 9)],
)
async def test_an_upload_is_recognised_and_registered(data, kind, virtual_mib, site, operator, inventory) -> None:
    digest = hashlib.sha256(data).hexdigest()
    answer = await upload(operator, data, sha256=digest, description="d")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded"), answer.text
    (command,) = inventory.commands
    assert isinstance(command, RegisterImage)
    assert (command.format, command.virtual_size_mib, command.size_bytes) == (kind, virtual_mib, len(data))
    assert (command.sha256, command.description, command.requested_by) == (digest, "d", "admin")
    path = Path(unquote(urlsplit(command.location).path))
    assert path.name == f"{digest}.{kind}"
    assert contents(path) == (data, 0o644)
    assert not any((site.folder / "images" / ".incoming").iterdir())


async def test_a_form_is_taken_too(site, operator, inventory) -> None:
    data = qcow2(MIB, length=3 * MIB)
    answer = await operator.post(
        "/api/v1/images?wait=10",
        data={"name": "from a form", "sha256": hashlib.sha256(data).hexdigest().upper()},
        files={"file": ("disk.qcow2", data)},
    )
    assert answer.status_code == 200, answer.text
    assert inventory.commands[0].name == "from a form"
    without = await operator.post("/api/v1/images", data={"name": "x"}, files={"other": b"x"})
    assert (without.status_code, "'file'" in without.json()["detail"]) == (422, True)


async def test_what_cannot_be_is_refused_and_removed(site, operator, inventory) -> None:
    before = left(site)
    good = qcow2(MIB)
    for data, query, status, field in (
        (good, {"sha256": "0" * 64}, 422, "sha256"),
        (good, {"sha256": "abc"}, 422, "sha256"),
        (good, {"format": "raw"}, 422, "format"),
        (b"plain", {"format": "qcow2"}, 422, "format"),
        (b"plain", {"format": "vhd"}, 422, "format"),
        (b"", {}, 422, "file"),
        (qcow2(MIB, backing=100), {}, 422, "file"),
        (qcow2(MIB, incompatible=4), {}, 422, "file"),
        (qcow2(0), {}, 422, "file"),
        (qcow2(MIB, version=9), {}, 422, "file"),
        (b"QFI\xfb", {}, 422, "file"),
        (good, {"name": "x" * 201}, 422, "name"),
        (good, {"name": " "}, 422, "name"),
    ):
        answer = await upload(operator, data, **query)
        assert answer.status_code == status, (query, answer.text)
        assert answer.json()["fields"][0]["field"] == field
    nameless = await operator.post("/api/v1/images", content=good)
    assert (nameless.status_code, nameless.json()["fields"][0]["field"]) == (422, "name")
    wrong = await operator.post("/api/v1/images?name=x", content=good, headers={"Content-Type": "text/html"})
    assert wrong.status_code == 415
    assert left(site) == before
    assert not inventory.commands


async def test_a_duplicate_name_is_refused_before_the_bytes_come(site, operator, inventory) -> None:
    assert (await upload(operator, b"one")).status_code == 200
    answer = await upload(operator, b"two")
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate")


async def test_a_refused_registration_leaves_no_file(site, operator, inventory) -> None:
    async def refuse(command: Command) -> None:
        await inventory.reject(command, Problem(code=ProblemCode.DUPLICATE, message="There is one already."))

    inventory.reactions["image.register"] = refuse
    before = left(site)
    answer = await upload(operator, b"refused" * 100)
    assert answer.status_code == 409
    assert left(site) == before


async def test_the_largest_image_has_a_limit(site, admin_token, inventory) -> None:
    gateway = site.gateway(image_max_bytes=5 * MIB)
    await gateway.start()
    try:
        async with httpx.AsyncClient(
            base_url=gateway.url, headers={"Authorization": f"Bearer {admin_token}"}, timeout=20
        ) as client:
            before = left(site)

            async def pieces(count: int):
                for _ in range(count):
                    yield b"x" * MIB

            assert (await client.post("/api/v1/images?name=a", content=b"x" * 6 * MIB)).status_code == 413
            assert (await client.post("/api/v1/images?name=b", content=pieces(6))).status_code == 413
            assert left(site) == before
            assert (await client.post("/api/v1/images?name=c&wait=9", content=pieces(5))).status_code == 200
    finally:
        await gateway.stop()


async def test_a_full_disk_is_said(site, operator, gateway, inventory, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = left(site)
    monkeypatch.setattr("openqrm.gateway.images._Writer.write", full)
    answer = await upload(operator, b"x" * 100)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage-full")
    assert left(site) == before
    monkeypatch.undo()
    monkeypatch.setattr(gateway._images, "_reserve", 1 << 60)
    assert (await upload(operator, b"x" * 100)).status_code == 507


async def test_a_client_that_goes_away_leaves_nothing(site, gateway, admin_token, inventory) -> None:
    before = left(site)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /api/v1/images?name=gone HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin_token}\r\n"
    writer.write(f"{head}Content-Length: {50 * MIB}\r\n\r\n".encode() + b"x" * 9 * MIB)
    await writer.drain()
    incoming = site.folder / "images" / ".incoming"
    await until(lambda: any(incoming.iterdir()))
    writer.close()
    await until(lambda: left(site) == before)
    assert not inventory.commands


async def test_deleting_the_last_image_of_some_bytes_deletes_them(site, operator, inventory) -> None:
    data = b"shared bytes" * 10
    for name in ("a", "b"):
        assert (await upload(operator, data, name=name)).status_code == 200
    path = site.folder / "images" / f"{hashlib.sha256(data).hexdigest()}.raw"
    one, two = list(inventory.images)
    assert (await operator.delete(f"/api/v1/images/{one}?wait=10")).status_code == 200
    await pause(0.3)
    assert path.exists()
    assert (await operator.delete(f"/api/v1/images/{two}?wait=10")).status_code == 200
    await until(lambda: not path.exists())


def test_a_hybrid_image_may_be_called_raw() -> None:
    assert recognise(iso(MIB)[:33000], MIB, ImageFormat.RAW) == (ImageFormat.RAW, 1)
    with pytest.raises(HttpError):
        recognise(qcow2(MIB), 4096, ImageFormat.ISO)


async def test_the_same_upload_twice_is_one_operation(site, operator, inventory) -> None:
    answers = [
        await operator.post("/api/v1/images?name=once&wait=10", content=b"again", headers={"Idempotency-Key": "monday"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(inventory.commands) == 1
