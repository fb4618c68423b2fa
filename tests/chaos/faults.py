"""Carries out the plan's faults, at their times, and undoes those that last."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from random import Random

import psutil
from support.stack import family

from chaos.plan import QEMU_HOSTS, Fault, Plan, Victim, Way
from chaos.site import RESTART_SECONDS, Site

COMMAND_SECONDS = 10
_GUESTS = "for F in /run/libvirt/qemu/*.pid; do [ $F = /run/libvirt/qemu/driver.pid ] || cat $F; echo; done 2>/dev/null"
"""Prints the process ids of a host's guests; driver.pid is libvirtd's own."""


class Axe:
    """Strikes."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self._site = site
        self._random = Random(f"axe at work {plan.seed}")  # noqa: S311 - a plan, not a secret
        self.log: list[str] = []
        """What was done, with seconds since the load began."""

    async def run(self) -> None:
        """Carry out every fault of the plan; returns when the last one is undone."""
        await asyncio.gather(*(self._strike(fault) for fault in self._plan.faults))

    async def _strike(self, fault: Fault) -> None:
        await self._site.clock.sleep(max(0.0, fault.at - self._site.client.now))
        undo = await self._begin(fault)
        if undo is None:
            return
        try:
            await self._site.clock.sleep(fault.seconds)
        finally:
            await undo()
            self._note(fault, "is over")

    def _note(self, fault: Fault, what: str) -> None:
        self.log.append(f"{self._site.client.now:5.1f} s  {fault.victim}: {fault.way} {what}")

    async def _begin(self, fault: Fault) -> Callable[[], Awaitable[None]] | None:
        match fault.victim:
            case Victim.LIBVIRTD:
                return await self._libvirtd(fault)
            case Victim.GUEST:
                return await self._guest(fault)
            case Victim.HOST:
                return await self._cable(fault)
        match fault.way:
            case Way.KILL:
                return self._kill(fault)
            case Way.STOP:
                return self._stop(fault)
        return self._wire(fault)

    # -------------------------------------------------------------------------------------------- processes

    def _kill(self, fault: Fault) -> None:
        pid = self._site.process_of(fault.victim)
        self._note(fault, f"(process {pid})" if pid else "met nobody: it is just being started")
        if pid:
            self._site.signal(pid, signal.SIGKILL)

    def _stop(self, fault: Fault) -> Callable[[], Awaitable[None]] | None:
        pid = self._site.process_of(fault.victim)
        if pid is None:
            self._note(fault, "met nobody: it is just being started")
            return None
        stopped = family(pid)  # PostgreSQL has a process for each connection
        self._send(stopped, "suspend")
        self._note(fault, f"(process {pid}) for {fault.seconds} s")

        async def resume() -> None:
            self._send(stopped, "resume")

        return resume

    @staticmethod
    def _send(processes: list[psutil.Process], what: str) -> None:
        for process in processes:
            try:
                getattr(process, what)()  # psutil looks whether it is still the same process
            except psutil.NoSuchProcess:
                continue

    def _wire(self, fault: Fault) -> Callable[[], Awaitable[None]]:
        site = self._site
        to_bus = fault.way in (Way.CUT_BUS, Way.HOLD_BUS)
        wire = (site.bus_wires if to_bus else site.database_wires)[fault.victim]
        breaks = fault.way in (Way.CUT_BUS, Way.CUT_DATABASE)
        (wire.cut if breaks else wire.hold)()
        self._note(fault, f"for {fault.seconds} s")

        async def mend() -> None:
            (wire.join if breaks else wire.release)()

        return mend

    # -------------------------------------------------------------------------------------------- QEMU hosts

    def _host_of(self, fault: Fault) -> str:
        return QEMU_HOSTS[fault.which % len(QEMU_HOSTS)]

    async def _in_lab(self, host: str, script: str, *arguments: str) -> str:
        command = ["timeout", str(COMMAND_SECONDS), "sh", "-c", f"{script} || true", "sh", *arguments]
        said: str = await asyncio.to_thread(self._site.lab.run, host, command)
        return said.strip()

    async def _libvirtd(self, fault: Fault) -> Callable[[], Awaitable[None]]:
        host = self._host_of(fault)
        kills = fault.way is Way.KILL
        await self._in_lab(host, f"kill -{'KILL' if kills else 'STOP'} $(cat /run/libvirtd.pid)")
        self._note(fault, f"on {host} for {fault.seconds} s")

        async def mend() -> None:
            if kills:
                await self._site.clock.sleep(RESTART_SECONDS)
                await asyncio.to_thread(self._site.lab.start_libvirtd, host)
            else:
                await self._in_lab(host, "kill -CONT $(cat /run/libvirtd.pid)")

        return mend

    async def _guest(self, fault: Fault) -> Callable[[], Awaitable[None]] | None:
        for host in (self._host_of(fault), *QEMU_HOSTS):
            running = (await self._in_lab(host, _GUESTS)).split()
            if running:
                break
        else:
            self._note(fault, "met nobody: no guest runs")
            return None
        pid = running[fault.which % len(running)]
        name = "KILL" if fault.way is Way.KILL else "STOP"
        await self._in_lab(host, f"kill -{name} {pid}")
        self._note(fault, f"(QEMU {pid} on {host}) for {fault.seconds} s")
        if fault.way is Way.KILL:
            return None

        async def go_on() -> None:
            await self._in_lab(host, f"grep -q qemu /proc/{pid}/comm && kill -CONT {pid}")

        return go_on

    async def _cable(self, fault: Fault) -> Callable[[], Awaitable[None]]:
        host = self._host_of(fault)
        await asyncio.to_thread(self._site.lab.link, host, up=False)
        self._note(fault, f"of {host} for {fault.seconds} s")

        async def mend() -> None:
            await asyncio.to_thread(self._site.lab.link, host, up=True)

        return mend
