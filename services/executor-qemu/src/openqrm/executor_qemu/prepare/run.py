"""Carries the plan out."""

import logging
import shlex

from openqrm.contracts.errors import DriverError
from openqrm.contracts.execution import Change
from openqrm.driver.capabilities import Host, Work
from openqrm.executor_qemu.prepare.plan import Wanted, check_bridge_name, plan
from openqrm.executor_qemu.prepare.probe import probe_script, read_found
from openqrm.executor_qemu.prepare.runners import Ran, Runner, runner_for
from openqrm.executor_qemu.settings import QemuSettings

_log = logging.getLogger(__name__)

DEFAULT_BRIDGE = "br0"
_SHOWN_LINES = 6


def wanted_of(host: Host) -> Wanted:
    """What the host's connection asks for."""
    options = host.connection.options
    wanted = Wanted(
        options.get("bridge", DEFAULT_BRIDGE), options.get("bridge_uplink"), host.connection.storage_path.rstrip("/")
    )
    check_bridge_name(wanted.bridge)
    return wanted


async def prepare_host(host: Host, settings: QemuSettings, work: Work) -> tuple[Change, ...]:
    """Install and configure what is missing on the host; returns what was changed."""
    wanted = wanted_of(host)
    async with runner_for(host, settings) as runner:
        return await prepare_with(runner, host.name, wanted, work)


async def prepare_with(runner: Runner, host_name: str, wanted: Wanted, work: Work) -> tuple[Change, ...]:
    """The same through any runner."""
    await work.progress(1, "looking at the host")
    probed = await _in_shell(runner, probe_script(wanted))
    if probed.code != 0:
        raise DriverError(f"Could not look at host '{host_name}': {_last_words(probed)}")
    steps = plan(read_found(probed.output), wanted)
    changes: list[Change] = []
    for number, step in enumerate(steps):
        await work.progress(5 + 90 * number // len(steps), step.title)
        ran = await _in_shell(runner, step.command, step.stdin)
        if ran.code != 0:
            words = f"Host '{host_name}' could not be prepared while {step.title}: {_last_words(ran)}"
            if step.optional:
                _log.warning("%s", words)
                continue
            done = "; ".join(f"{change.what}: {change.after}" for change in changes)
            raise DriverError(f"{words}. {'Done before that: ' + done if done else 'Nothing was changed before that'}.")
        if step.changes:
            changes.append(Change(what=step.what, before=step.before, after=step.after))
    await _wait_for_libvirt(runner, host_name, bool(steps))
    return tuple(changes)


async def _in_shell(runner: Runner, command: str, stdin: str | None = None) -> Ran:
    # Whatever shell the user has; and daemons are not to hold the connection's output open.
    script = f"PATH=$PATH:/usr/sbin:/sbin; export PATH\n{command}"
    return await runner.run(f"/bin/sh -c {shlex.quote(script)}", stdin or "")


_WAIT = "for n in 1 2 3 4 5 6 7 8 9 10; do virsh -q -c qemu:///system version && exit 0; sleep 1; done; exit 1"


async def _wait_for_libvirt(runner: Runner, host_name: str, changed: bool) -> None:
    if not changed:
        return
    ran = await _in_shell(runner, _WAIT)
    if ran.code != 0:
        raise DriverError(f"libvirt on host '{host_name}' was installed but does not answer: {_last_words(ran)}")


def _last_words(ran: Ran) -> str:
    lines = [line.strip() for line in (ran.errors or ran.output).splitlines() if line.strip()]
    return " / ".join(lines[-_SHOWN_LINES:]) or f"it ended with code {ran.code} and no words"
