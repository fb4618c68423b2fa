"""Another program with only a NATS client and the AsyncAPI document starts a partition and follows its events."""

import asyncio
import os
import sys
from pathlib import Path

from support.control_plane import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("outside_program.py")


async def test_an_outside_program_starts_a_partition(plane: ControlPlane) -> None:
    assert "openqrm." not in PROGRAM.read_text().replace("openqrm-", "")  # it imports nothing of ours
    host = await plane.ready_host("outside")
    partition = await plane.make("from outside", host=host.name)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        str(ROOT / "docs" / "asyncapi.json"),
        plane.nats.url,
        "client",
        plane.passwords["client"],
        partition.name,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    subjects = output.decode().split()
    assert {"operation.accepted", "partition.changed", "partition.started", "operation.succeeded"} <= set(subjects)
    assert (await plane.partition(partition.name)).state == "running"
