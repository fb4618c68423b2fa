"""Headers of messages."""

from datetime import UTC, datetime
from uuid import UUID

from openqrm.bus.envelope import make_headers
from openqrm.contracts.console import ConsoleSent
from openqrm.contracts.partition import StartPartition

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_command_is_known_by_its_operation():
    command = StartPartition(operation_id=UUID(int=5), partition="web")
    headers = make_headers(command, "gateway", NOW, about="web")
    assert headers["Nats-Msg-Id"] == headers["ce-id"] == str(UUID(int=5))
    assert headers["ce-type"] == "partition.start"
    assert headers["ce-source"] == "/openqrm/gateway"
    assert headers["ce-subject"] == "web"
    assert headers["ce-time"] == "2026-01-01T00:00:00+00:00"
    assert headers["ce-schemaversion"] == "1"


def test_the_type_has_no_placeholders_and_other_messages_an_id_of_their_own():
    frame = ConsoleSent(session_id=UUID(int=1), number=0)
    one, other = (make_headers(frame, "executor-qemu", NOW) for _ in range(2))
    assert one["ce-type"] == "console.sent"
    assert one["ce-id"] != other["ce-id"]
