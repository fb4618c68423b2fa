"""The host's state machine: one table, one line per transition, and the checks that read it."""

from dataclasses import dataclass

from openqrm.contracts.errors import WrongStateError
from openqrm.contracts.states import HostState

S = HostState


@dataclass(frozen=True)
class Transition:
    """What a verb does to a host in one of the `sources`: the state meanwhile, and afterwards."""

    verb: str
    sources: frozenset[HostState]
    during: HostState | None
    after: HostState | None


def _row(verb: str, *sources: HostState, during: HostState | None = None, after: HostState | None = None) -> Transition:
    return Transition(verb, frozenset(sources), during, after)


TRANSITIONS: tuple[Transition, ...] = (
    # Installs and configures; not while partitions could be disturbed, so from ready only through maintenance.
    _row("prepare", S.ENROLLED, S.MAINTENANCE, S.UNREACHABLE, during=S.PREPARING, after=S.READY),
    # Takes no more partitions; with evacuation it is draining until it is empty.
    _row("maintain", S.READY, S.DRAINING, after=S.MAINTENANCE),
    # Remembered: it is in maintenance when it answers again, and takes nothing by surprise.
    _row("maintain", S.UNREACHABLE),
    # Back to work. One that was never reached is reached first.
    _row("activate", S.ENROLLED, S.MAINTENANCE, S.DRAINING, after=S.READY),
    # Remembered: it takes partitions when it answers again.
    _row("activate", S.UNREACHABLE),
    # Words about it, and how it is reached.
    _row("change", S.ENROLLED, S.READY, S.MAINTENANCE, S.DRAINING, S.UNREACHABLE, S.FAILED, S.RETURNING),
    # Forgotten.
    _row("remove", S.ENROLLED, S.READY, S.MAINTENANCE, S.UNREACHABLE, S.FAILED, after=S.REMOVED),
)


def allowed_verbs(state: HostState) -> tuple[str, ...]:
    """The verbs that a host in this state takes."""
    return tuple(dict.fromkeys(t.verb for t in TRANSITIONS if state in t.sources))


def transition_for(verb: str, state: HostState, name: str) -> Transition:
    """The transition of a verb; WrongStateError, naming the state and what is allowed, if there is none."""
    for transition in TRANSITIONS:
        if transition.verb == verb and state in transition.sources:
            return transition
    allowed = allowed_verbs(state)
    raise WrongStateError(
        f"The host {name!r} is {state}, so this is not the time to {verb} it. "
        + (f"Allowed now: {', '.join(allowed)}." if allowed else "Wait until its current operation has ended."),
        details={"state": state.value, "allowed": list(allowed)},
    )


def diagram() -> str:
    """The state machine as a Mermaid diagram."""
    lines = [
        "stateDiagram-v2",
        "    [*] --> enrolling: enrol",
        "    enrolling --> ready",
        "    enrolling --> enrolled: not ready",
    ]
    for transition in TRANSITIONS:
        for source in sorted(transition.sources):
            if transition.during and transition.after:
                lines.append(f"    {source} --> {transition.during}: {transition.verb}")
            elif transition.after and transition.after is not source:
                lines.append(f"    {source} --> {transition.after}: {transition.verb}")
        if transition.during:
            lines.append(f"    {transition.during} --> {transition.after}")
    lines += [
        "    ready --> draining: maintain, evacuating",
        "    ready --> unreachable: does not answer",
        "    unreachable --> ready: answers again",
        "    unreachable --> failed: proven dead",
        "    failed --> returning: answers again",
        "    returning --> ready: its partitions agree",
        "    removed --> [*]",
    ]
    return "\n".join(dict.fromkeys(lines)) + "\n"
