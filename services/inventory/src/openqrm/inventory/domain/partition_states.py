"""The partition's state machine: one table, one line per transition, and the checks that read it."""

from dataclasses import dataclass

from openqrm.contracts.errors import WrongStateError
from openqrm.contracts.states import DesiredState, PartitionState

S = PartitionState


@dataclass(frozen=True)
class Transition:
    """What a verb does to a partition in one of the `sources`: the state meanwhile, and afterwards."""

    verb: str
    sources: frozenset[PartitionState]
    during: PartitionState | None
    """None: the state does not change while the operation runs."""
    after: PartitionState | None
    """None: the state does not change."""
    desired: DesiredState | None = None


def _row(
    verb: str,
    *sources: PartitionState,
    during: PartitionState | None = None,
    after: PartitionState | None = None,
    desired: DesiredState | None = None,
) -> Transition:
    return Transition(verb, frozenset(sources), during, after, desired)


_AT_REST = (S.STOPPED, S.CRASHED)
_IN_MEMORY = (S.RUNNING, S.PAUSED)

TRANSITIONS: tuple[Transition, ...] = (
    # Boots it; a missing one is defined anew from what inventory knows, its disks being where they were.
    _row("start", *_AT_REST, S.MISSING, during=S.STARTING, after=S.RUNNING, desired=DesiredState.RUNNING),
    # Pulls the cord; also the way out of an unknown state, since stopping twice does no harm.
    _row("stop", *_IN_MEMORY, S.UNKNOWN, during=S.STOPPING, after=S.STOPPED, desired=DesiredState.STOPPED),
    # Asks the guest; a paused guest could not hear it.
    _row("shutdown", S.RUNNING, during=S.STOPPING, after=S.STOPPED, desired=DesiredState.STOPPED),
    # The guest, or the reset button.
    _row("reboot", S.RUNNING, during=S.REBOOTING, after=S.RUNNING),
    # Stands still, keeps its memory.
    _row("pause", S.RUNNING, during=S.PAUSING, after=S.PAUSED, desired=DesiredState.PAUSED),
    # Goes on where it stood.
    _row("unpause", S.PAUSED, during=S.UNPAUSING, after=S.RUNNING, desired=DesiredState.RUNNING),
    # Live within the maxima, or stopped to anything that fits.
    _row("resize", *_AT_REST, *_IN_MEMORY),
    # At once if it runs, and for every start.
    _row("pin", *_AT_REST, *_IN_MEMORY),
    # To another host; it comes back to the state that it left from.
    _row("migrate", S.STOPPED, *_IN_MEMORY, during=S.MIGRATING),
    # The hardware around it.
    _row("attach_nic", *_AT_REST, *_IN_MEMORY),
    _row("detach_nic", *_AT_REST, *_IN_MEMORY),
    _row("map_nic", *_AT_REST, *_IN_MEMORY),
    _row("attach_disk", *_AT_REST, *_IN_MEMORY),
    _row("detach_disk", *_AT_REST, *_IN_MEMORY),
    # Words about it, in any state but the last.
    _row("change", *(state for state in S if state is not S.DELETED)),
    # Gone for good; a running one must be stopped first.
    _row("delete", *_AT_REST, S.MISSING, during=S.DELETING, after=S.DELETED, desired=DesiredState.DELETED),
)

FORCED_DELETE = _row(
    "delete",
    *_AT_REST,
    *_IN_MEMORY,
    S.MISSING,
    S.UNKNOWN,
    during=S.DELETING,
    after=S.DELETED,
    desired=DesiredState.DELETED,
)
"""With force: whatever it does, it is stopped and removed."""

_BY_VERB = {transition.verb: transition for transition in TRANSITIONS}


def allowed_verbs(state: PartitionState) -> tuple[str, ...]:
    """The verbs that a partition in this state takes."""
    return tuple(t.verb for t in TRANSITIONS if state in t.sources)


def transition_for(verb: str, state: PartitionState, name: str, forced: bool = False) -> Transition:
    """The transition of a verb; WrongStateError, naming the state and what is allowed, if there is none."""
    transition = FORCED_DELETE if forced and verb == "delete" else _BY_VERB[verb]
    if state in transition.sources:
        return transition
    allowed = allowed_verbs(state)
    raise WrongStateError(
        f"The partition {name!r} is {state}, so it cannot {verb.replace('_', ' ')}. "
        + (f"Allowed now: {', '.join(allowed)}." if allowed else "Wait until its current operation has ended."),
        details={"state": state.value, "allowed": list(allowed)},
    )


def diagram() -> str:
    """The state machine as a Mermaid diagram."""
    lines = [
        "stateDiagram-v2",
        "    [*] --> creating: create",
        "    creating --> stopped",
        "    creating --> running: started",
    ]
    for transition in TRANSITIONS:
        if transition.during is None:
            continue
        lines += [f"    {source} --> {transition.during}: {transition.verb}" for source in sorted(transition.sources)]
        afters = [transition.after] if transition.after else sorted(transition.sources)
        lines += [f"    {transition.during} --> {after}" for after in afters]
    lines += [
        "    running --> crashed: ended by itself",
        "    running --> stopped: shut down by its guest",
        "    running --> missing: not on its host",
        "    running --> unknown: host does not answer",
        "    unknown --> running: seen again",
        "    deleted --> [*]",
    ]
    return "\n".join(lines) + "\n"
