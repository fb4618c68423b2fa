"""Heartbeats, progress and announcements; routed commands that nobody will report on; housekeeping."""

from datetime import timedelta

from sqlalchemy import text

from openqrm.bus.envelope import make_headers
from openqrm.contracts.dead_letter import DeadLetter, ListDeadLetters, MessageDeadLettered
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.execution import ExecuteStartPartition, ExecutionProgressed
from openqrm.contracts.host import HostHeartbeat
from openqrm.contracts.ids import new_id
from openqrm.contracts.operation import GetOperation
from openqrm.contracts.partition import RebootPartition, StartPartition
from openqrm.inventory.handlers.execution import execution_progressed
from openqrm.inventory.handlers.observation import host_heartbeat


async def test_host_heartbeat_is_written_for_many_hosts_at_once(plane, host, other):
    inventory = plane.inventory.inventory
    moment = plane.clock.now() + timedelta(seconds=-1)
    for host_id in (host.id, other.id, new_id()):
        await host_heartbeat(inventory, HostHeartbeat(host_id=host_id, technology="fake", observed_at=moment))
        late = HostHeartbeat(host_id=host_id, technology="fake", observed_at=moment - timedelta(hours=1))
        await host_heartbeat(inventory, late)

    async def written() -> bool:
        seen = [(await plane.host(str(each.id))).last_seen_at for each in (host, other)]
        return all(moment <= each for each in seen if each) and None not in seen

    await plane.until(written)
    assert (await plane.host(host.name)).revision == host.revision, "it is no event"


async def test_execution_progressed(plane, name, host):
    slow = f"{name} !start-slow=1"
    await plane.make(slow, host=host.name)
    start = StartPartition(partition=slow)
    await plane.client.publish(start)
    await plane.operation(start.operation_id, "running")
    inventory = plane.inventory.inventory
    for percent in (30, 20, 100):
        await execution_progressed(
            inventory, ExecutionProgressed(operation_id=start.operation_id, progress=percent, step=f"{percent}")
        )
    view = await plane.ask(GetOperation(operation_id=start.operation_id))
    assert (view.progress, view.step) == (99, "100"), "it is not done before it is reported"
    ended = await plane.end_of(start.operation_id)
    assert ended.progress == 100
    await execution_progressed(inventory, ExecutionProgressed(operation_id=ended.id, progress=50, step="late"))
    await execution_progressed(inventory, ExecutionProgressed(operation_id=new_id(), progress=50, step="whose?"))
    assert (await plane.ask(GetOperation(operation_id=ended.id))).progress == 100


async def test_message_dead_lettered_ends_the_operation_of_a_routed_command(plane, name, host):
    """An executor that gives a command up will never report: the operation must not wait for that."""
    slow = f"{name} !reboot-slow=3"
    view = await plane.make(slow, host=host.name, start=True)
    reboot = RebootPartition(partition=slow)
    await plane.client.publish(reboot)
    await plane.operation(reboot.operation_id, "running")
    async with plane.inventory.inventory.transaction() as tx:
        partition = await tx.partitions.get(view.id)
        definition = partition.definition(await tx.networks_of(partition))
    routed = ExecuteStartPartition(
        operation_id=reboot.operation_id, host_id=host.id, technology="fake", partition=definition
    )
    letter = DeadLetter(
        id=new_id(),
        subject=f"partition.reboot.fake.{host.id}",
        headers=make_headers(routed, "inventory", plane.clock.now()),
        body=routed.model_dump_json().encode(),
        consumer="EXECUTIONS/executor-fake",
        deliveries=5,
        error=Problem(code=ProblemCode.INTERNAL, message="It failed five times."),
        occurred_at=plane.clock.now(),
    )
    await plane.publish(MessageDeadLettered(letter=letter))
    ended = await plane.end_of(reboot.operation_id)
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.INTERNAL)
    assert (await plane.partition(slow)).state in ("unknown", "running")
    page = await plane.ask(ListDeadLetters())
    assert letter.id in {each.id for each in page.items}


async def test_the_house_is_kept(plane):
    """What nobody will ask for any more goes: old messages, old events, more dead letters than anybody reads."""
    service, database = plane.inventory, plane.inventory.inventory.database
    async with database.transaction() as connection:
        await connection.execute(
            text("INSERT INTO inbox (message_id, handled_at) VALUES ('old', now() - interval '4 days'), ('new', now())")
        )
        await connection.execute(
            text(
                "INSERT INTO events (sequence, subject, key, headers, body, published_at) "
                "VALUES (-1, 's', 'k', '{}', '', now() - interval '31 days')"
            )
        )
    await service._tidy()
    async with database.transaction() as connection:
        kept = await connection.execute(text("SELECT message_id FROM inbox WHERE message_id IN ('old', 'new')"))
        assert list(kept.scalars()) == ["new"]
        assert (await connection.execute(text("SELECT count(*) FROM events WHERE sequence = -1"))).scalar_one() == 0
        await connection.execute(text("DELETE FROM inbox WHERE message_id = 'new'"))
