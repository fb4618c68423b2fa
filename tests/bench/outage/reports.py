"""What executors tell while inventory is away: partitions that somebody pauses and resumes by hand on their hosts."""

from typing import Any
from uuid import UUID

from openqrm.bus.batch import MAX_BATCH
from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.partition import ObservedPartition, PartitionObserved
from openqrm.contracts.states import ObservedState
from openqrm.telemetry.tracing import Tracing


async def publish_changes(login: dict[str, str], seen: list[dict[str, Any]], count: int, number: int) -> dict[str, Any]:
    """Publish as the executor does, many at once, since only what waits then is of interest; returns nothing."""
    clock = SystemClock()
    bus = Bus(BusSettings(**login), "executor-fake", clock, Tracing("executor-fake"))
    await bus.connect()

    def report(index: int) -> tuple[str, dict[str, str], bytes]:
        fields = seen[index % len(seen)]
        paused = (number + index // len(seen)) % 2 == 0
        observed = ObservedPartition.model_validate(
            fields["observed"] | {"state": ObservedState.PAUSED if paused else ObservedState.RUNNING}
        )
        return bus.prepare(
            PartitionObserved(
                host_id=UUID(fields["host_id"]), partition_id=observed.id, observed=observed, reason="by hand",
                observed_at=clock.now(),
            ),
            observed.id,
        )  # fmt: skip

    for start in range(0, count, MAX_BATCH):
        messages = [report(index) for index in range(start, min(start + MAX_BATCH, count))]
        if await bus.publish_together(messages) is None:
            for message in messages:
                await bus.publish_kept(*message)
    await bus.stop()
    return {}
