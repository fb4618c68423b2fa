"""The executor as a process: started, killed in the midst of its work, and replaced."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nats.js.api import AckPolicy, ConsumerConfig

from openqrm.bus.streams import executor_durable
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.execution import ExecuteCreatePartition
from openqrm.contracts.host import HostConnected, HostConnection
from openqrm.contracts.ids import new_id
from openqrm.contracts.states import ObservedState
from openqrm.executor_fake.world import FakeWorld
from openqrm.testkit.definitions import partition_definition
from openqrm.testkit.inventory import InventoryStub, host_view
from openqrm.testkit.nats import NatsServer, nats_server
from openqrm.testkit.waiting import eventually


@asynccontextmanager
async def executor(server: NatsServer, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "openqrm.executor_fake.app",
        env=os.environ
        | {"OPENQRM_NATS_URL": server.url, "OPENQRM_FAKE_FOLDER": str(folder), "OPENQRM_LOG_LEVEL": "WARNING"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_executor_loses_nothing(tmp_path: Path) -> None:
    clock = SystemClock()
    durable = executor_durable("fake")
    async with nats_server() as server:
        async with server.jetstream() as js:  # what is not acknowledged comes again after one second
            await js.add_consumer(
                durable.stream,
                ConsumerConfig(
                    name=durable.name,
                    durable_name=durable.name,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=1.0,
                    max_ack_pending=durable.max_ack_pending,
                    filter_subjects=list(durable.subjects),
                ),
            )
        inventory = InventoryStub(server, clock)
        await inventory.start()
        view = host_view("fake", HostConnection(uri="fake://h1"), clock)
        inventory.hosts[view.id] = view
        partition = partition_definition("fake", name="x !start-slow=0.8")
        command = ExecuteCreatePartition(
            operation_id=new_id(), host_id=view.id, technology="fake", partition=partition, start=True
        )
        world = FakeWorld(clock, tmp_path)
        async with executor(server, tmp_path) as first:
            await inventory.until(lambda: inventory.heard(HostConnected), 20)
            await inventory.send(command)
            await eventually(lambda: world.host("h1").get(partition.id), 10, "it is made, and being started")
            first.kill()
            await first.wait()
        assert inventory.outcomes(command.operation_id) == []
        async with executor(server, tmp_path) as second:
            outcome = await inventory.outcome(command.operation_id, 20)
            assert outcome.observed is not None
            assert outcome.observed.state is ObservedState.RUNNING
            second.terminate()
            assert await asyncio.wait_for(second.wait(), 10) == 0
        found = world.host("h1").get(partition.id)
        assert found is not None
        assert found.starts == 1
        await inventory.stop()
