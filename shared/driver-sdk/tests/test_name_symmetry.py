"""Every routed command is carried out by the driver method of its verb's name, with its own fields as arguments."""

import inspect

import pytest

from openqrm.contracts.execution import ExecuteCancelOperation, HostExecution, PartitionExecution
from openqrm.contracts.message import Kind, messages_of
from openqrm.driver.capabilities import HostAccess
from openqrm.driver.executor.verbs import _SPECIAL, METHODS, arguments_of, capability_of, method_of, verb_of
from openqrm.driver.manifest import PROTOCOLS

COMMANDS = [model for model in messages_of(Kind.ROUTED_COMMAND) if model is not ExecuteCancelOperation]


@pytest.mark.parametrize("model", COMMANDS, ids=lambda model: model.subject)
def test_a_command_is_named_after_its_subject(model: type) -> None:
    noun, verb, technology, host = model.subject.split(".")
    words = "".join(word.capitalize() for word in verb.split("_"))
    assert model.__name__ in (f"Execute{words}", f"Execute{words}{noun.capitalize()}")
    assert (technology, host) == ("{technology}", "{host}")
    assert issubclass(model, PartitionExecution if noun == "partition" else HostExecution)


@pytest.mark.parametrize("model", COMMANDS, ids=lambda model: model.subject)
def test_the_driver_s_method_has_the_verb_s_name(model: type) -> None:
    method = method_of(model)
    assert method == verb_of(model) or verb_of(model) in METHODS
    owners = [protocol for protocol in (*PROTOCOLS.values(), HostAccess) if hasattr(protocol, method)]
    assert len(owners) == 1
    capability = capability_of(model)
    assert (PROTOCOLS[capability] if capability else HostAccess) is owners[0]
    if model not in _SPECIAL:
        parameters = list(inspect.signature(getattr(owners[0], method)).parameters)
        assert parameters == ["self", "host", "partition", *arguments_of(model), "work"]


def test_every_method_that_changes_something_has_a_command() -> None:
    reading = {"read_facts", "observe", "observe_partition", "watch"}
    consoles = {"open_serial", "open_vnc", "take_screenshot"}
    reached = {method_of(model) for model in COMMANDS}
    offered = {name for protocol in PROTOCOLS.values() for name in vars(protocol) if not name.startswith("_")}
    assert offered - reading - consoles <= reached
