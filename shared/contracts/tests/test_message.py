"""The registry of messages."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from openqrm.contracts.console import ConsoleSent, OpenConsole
from openqrm.contracts.execution import ExecuteStartPartition
from openqrm.contracts.host import HostHeartbeat
from openqrm.contracts.message import (
    Kind,
    Message,
    Query,
    address,
    all_messages,
    message_for,
    messages_of,
    subject_pattern,
)
from openqrm.contracts.paging import Page
from openqrm.contracts.partition import ListPartitions, PartitionEvent, PartitionView, StartPartition
from openqrm.contracts.span import SpansRecorded

HOST, SESSION = UUID(int=1), UUID(int=2)


def test_a_subject_is_registered_once():
    with pytest.raises(TypeError, match=r"partition\.start is registered twice: StartPartition, Another"):

        class Another(Message, subject="partition.start"):
            """A second one."""


def test_a_base_class_is_not_registered():
    assert PartitionEvent not in all_messages().values()
    assert all(model.subject == subject for subject, model in all_messages().items())


def test_the_address_of_a_routed_message_has_its_own_fields():
    query = OpenConsole(host_id=HOST, technology="qemu", partition_id=HOST, session_id=SESSION, kind="vnc")
    assert address(query) == f"partition.open_console.qemu.{HOST}"
    assert address(ConsoleSent(session_id=SESSION, number=0)) == f"console.sent.{SESSION}"
    assert address(StartPartition(partition="web")) == "partition.start"


@pytest.mark.parametrize("model", all_messages().values(), ids=lambda model: model.subject)
def test_a_concrete_subject_leads_back_to_its_model(model):
    concrete = model.subject.format(technology="qemu", host=HOST, session=SESSION, trace="0" * 32)
    assert message_for(concrete) is model


@pytest.mark.parametrize("subject", ["partition", "partition.fly", "partition.start.qemu", "partition.start.qemu.h.x"])
def test_a_subject_that_nobody_registered_has_no_model(subject):
    assert message_for(subject) is None


def test_patterns_to_subscribe_to():
    assert subject_pattern(ExecuteStartPartition) == "partition.start.*.*"
    assert subject_pattern(ExecuteStartPartition, "qemu") == "partition.start.qemu.*"
    assert subject_pattern(SpansRecorded) == "span.recorded.*"
    assert subject_pattern(HostHeartbeat) == "host.heartbeat"


def test_a_query_says_what_its_answer_is():
    assert ListPartitions.result_type() is Page[PartitionView]
    assert all(query.result_type() for query in messages_of(Kind.QUERY))

    class Unanswered(Query):
        """No answer type."""

    with pytest.raises(TypeError, match="derive it from"):
        Unanswered.result_type()


def test_commands_refuse_unknown_fields_and_events_leave_them_out():
    with pytest.raises(ValidationError, match="Extra inputs"):
        StartPartition(partition="web", force=True)
    beat = HostHeartbeat.model_validate(
        {"host_id": HOST, "technology": "qemu", "observed_at": "2026-01-01T00:00:00Z", "new_field": 1}
    )
    assert "new_field" not in beat.model_dump()


def test_messages_are_frozen():
    command = StartPartition(partition="web")
    with pytest.raises(ValidationError, match="frozen"):
        command.partition = "db"
