"""The transition tables: every verb of the registry has a row, and every answer names what is allowed."""

import pytest

from openqrm.contracts.errors import WrongStateError
from openqrm.contracts.host import HostCommand
from openqrm.contracts.message import Kind, messages_of
from openqrm.contracts.partition import PartitionCommand
from openqrm.contracts.states import HostState, PartitionState
from openqrm.inventory.domain import host_states, partition_states
from openqrm.inventory.flows.hosts import _PLANS as HOST_PLANS
from openqrm.inventory.flows.partitions import DONE_EVENTS
from openqrm.inventory.handlers.partition import PLANS
from openqrm.inventory.subscribers import COMMANDS, EVENTS, QUERIES, SAMPLES


def verbs(base):
    return {model.subject.split(".")[1] for model in messages_of(Kind.COMMAND) if issubclass(model, base)}


def test_every_verb_on_a_partition_has_a_transition_a_plan_and_an_event():
    assert {t.verb for t in partition_states.TRANSITIONS} == verbs(PartitionCommand)
    assert {model.subject.split(".")[1] for model in PLANS} == verbs(PartitionCommand)
    assert {subject.split(".")[1] for subject in DONE_EVENTS} == verbs(PartitionCommand) | {"adopt"}


def test_every_verb_on_a_host_has_a_transition_and_a_plan():
    assert {t.verb for t in host_states.TRANSITIONS} == verbs(HostCommand)
    assert {model.subject.split(".")[1] for model in HOST_PLANS} == verbs(HostCommand)


def test_everything_that_names_inventory_as_its_consumer_has_a_handler():
    wanted = {
        model
        for model in messages_of(Kind.COMMAND, Kind.EVENT, Kind.QUERY, Kind.SAMPLE)
        if "inventory" in model.consumers
    }
    assert {*COMMANDS, *EVENTS, *QUERIES, *SAMPLES} == wanted


@pytest.mark.parametrize("state", PartitionState)
@pytest.mark.parametrize("verb", sorted(verbs(PartitionCommand)))
def test_a_verb_is_allowed_or_refused_with_what_is_allowed(verb, state):
    allowed = partition_states.allowed_verbs(state)
    if verb in allowed:
        assert state in partition_states.transition_for(verb, state, "p").sources
        return
    with pytest.raises(WrongStateError) as refused:
        partition_states.transition_for(verb, state, "p")
    assert refused.value.details == {"state": state.value, "allowed": list(allowed)}
    assert "p" in refused.value.message
    assert state.value in refused.value.message


@pytest.mark.parametrize("state", HostState)
@pytest.mark.parametrize("verb", sorted(verbs(HostCommand)))
def test_a_verb_on_a_host_is_allowed_or_refused_with_what_is_allowed(verb, state):
    if verb in host_states.allowed_verbs(state):
        assert state in host_states.transition_for(verb, state, "h").sources
        return
    with pytest.raises(WrongStateError) as refused:
        host_states.transition_for(verb, state, "h")
    assert refused.value.details["allowed"] == list(host_states.allowed_verbs(state))


def test_nothing_but_words_can_change_while_it_is_on_its_way():
    on_the_way = {"creating", "starting", "pausing", "unpausing", "stopping", "rebooting", "migrating", "deleting"}
    for state in on_the_way:
        assert partition_states.allowed_verbs(PartitionState(state)) == ("change",)


def test_what_is_deleted_stays_so():
    assert partition_states.allowed_verbs(PartitionState.DELETED) == ()
    assert host_states.allowed_verbs(HostState.REMOVED) == ()


def test_force_deletes_what_a_plain_delete_refuses():
    for state in (PartitionState.RUNNING, PartitionState.PAUSED, PartitionState.UNKNOWN):
        assert "delete" not in partition_states.allowed_verbs(state)
        assert partition_states.transition_for("delete", state, "p", forced=True).after is PartitionState.DELETED


@pytest.mark.parametrize(("module", "states"), [(partition_states, PartitionState), (host_states, HostState)])
def test_every_state_is_reached_and_left_in_the_diagram(module, states):
    diagram = module.diagram()
    final = {"deleted", "removed"}
    for state in set(states) - {HostState.REMOVING}:  # a host is removed in one transaction
        assert f"--> {state.value}" in diagram, f"nothing leads to {state.value}"
        assert f"    {state.value} -->" in diagram or state.value in final, f"nothing leads out of {state.value}"
