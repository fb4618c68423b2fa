"""One readable report of a round that went wrong."""

from chaos.ledger import Ledger
from chaos.oracle import Finding
from chaos.picture import Picture
from chaos.plan import Plan

MANY = 12
RELATED_EVENTS = 40


def report(
    plan: Plan, struck: list[str], ledger: Ledger, picture: Picture | None, findings: list[Finding], where: str
) -> str:
    """The seed, the faults, what is wrong, the operations and events of it, and where the logs lie."""
    target = "test-chaos" if plan.with_qemu else "chaos"
    lines = [f"the seed is {plan.seed}: make {target} SEED={plan.seed}", f"the logs are in {where}"]
    lines += ["", f"{len(findings)} things are wrong:"]
    lines += [f"  - {finding.sentence}" for finding in findings[:MANY]]
    if len(findings) > MANY:
        lines.append(f"  and {len(findings) - MANY} more")
    lines += ["", "what was struck, in seconds since the load began:", *(f"  {line}" for line in struck)]
    about = set().union(*(finding.about for finding in findings[:MANY])) if findings else set()
    targets = {promise.target for promise in ledger.promises.values() if promise.operation_id in about}
    targets |= {str(identity) for identity in about}
    lines += ["", "what was promised about it:"]
    lines += [f"  {promise}" for promise in ledger.promises.values() if promise.target in targets][-RELATED_EVENTS:]
    if picture is not None:
        lines += ["", "what the hosts have of it:"]
        lines += [f"  {seen}" for seen in picture.seen if str(seen.id) in targets]
        lines += ["", "what the stream tells of it:"]
        related = [str(event) for event in picture.events if {str(i) for i in event.about} & targets]
        lines += [f"  {line}" for line in related[-RELATED_EVENTS:]]
    lines += ["", f"in all: {ledger.summary()}"]
    return "\n".join(lines)
