"""Streams, consumers and rights, derived from the contracts."""

import re
from itertools import combinations

import pytest

from openqrm.bus.access import inbox_prefix, rights
from openqrm.bus.streams import all_durables, stream_configs, stream_of
from openqrm.contracts.message import (
    CLIENT,
    EXECUTOR,
    GATEWAY,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    Kind,
    all_messages,
    message_for,
    messages_of,
    subject_pattern,
)

ROLES = (INVENTORY, SCHEDULER, GATEWAY, HA_MONITOR, EXECUTOR, CLIENT)


def overlap(one: str, other: str) -> bool:
    """Whether two patterns have a subject in common."""
    left, right = one.split("."), other.split(".")
    return len(left) == len(right) and all(a == b or "*" in (a, b) for a, b in zip(left, right, strict=True))


def test_no_subject_belongs_to_two_streams():
    configs = stream_configs(1)
    for one, other in combinations(configs, 2):
        assert not [(a, b) for a in one.subjects for b in other.subjects if overlap(a, b)]


def test_no_stream_begins_with_a_wildcard():
    assert not [s for config in stream_configs(1) for s in config.subjects if re.match(r"[*>$_]", s)]


def test_every_command_routed_command_and_event_is_kept_and_nothing_else():
    kept = {subject for config in stream_configs(1) for subject in config.subjects if config.name != "SPANS"}
    assert kept == {subject_pattern(model) for model in all_messages().values() if stream_of(model)}
    assert not [model for model in messages_of(Kind.QUERY, Kind.SAMPLE, Kind.FRAME) if stream_of(model)]


def test_every_command_has_a_consumer():
    durables = all_durables(["qemu"])
    for model in messages_of(Kind.COMMAND, Kind.ROUTED_COMMAND):
        subject = model.subject.format(technology="qemu", host="h")
        takers = [d.name for d in durables if any(overlap(s, subject) for s in d.subjects)]
        assert takers == ["inventory" if model.message_kind is Kind.COMMAND else "executor-qemu"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_publish_what_the_contracts_say(role):
    allowed = {s for s in rights(role, role).publish if not s.startswith("$JS")}
    said = {subject_pattern(model) for model in all_messages().values() if role in model.publishers}
    assert said <= allowed
    if role != INVENTORY:  # which publishes dead letters again, whatever they were
        assert allowed == said


@pytest.mark.parametrize("role", [SCHEDULER, GATEWAY, HA_MONITOR, EXECUTOR, CLIENT])
def test_only_inventory_sends_routed_commands(role):
    routed = {subject_pattern(model) for model in messages_of(Kind.ROUTED_COMMAND)}
    assert not routed & set(rights(role, role, "qemu").publish)


def test_an_executor_hears_of_no_other_technology():
    subscribe = rights(EXECUTOR, "executor-qemu", "qemu").subscribe
    assert "partition.open_console.qemu.*" in subscribe
    assert not [s for s in subscribe if message_for(s.replace("*", "x")) and ".*.*" in s]


@pytest.mark.parametrize("role", ROLES)
def test_nobody_hears_another_users_inbox(role):
    inboxes = [s for s in rights(role, "me").subscribe if s.startswith("_INBOX")]
    assert inboxes == [f"{inbox_prefix('me')}.>"]


@pytest.mark.parametrize("role", [SCHEDULER, GATEWAY, HA_MONITOR, CLIENT])
def test_nobody_else_may_take_inventorys_events(role):
    assert "$JS.API.CONSUMER.MSG.NEXT.EVENTS.inventory" in rights(role, role).publish_denied
