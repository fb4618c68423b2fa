"""Actors: each leads one partition's life after the other, as its plan says, and notes what it is told.

An actor whose operation takes long leaves its partition alone and goes on with the next life, so that there is work in
every fault. What it left is awaited at the end.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

from chaos.client import Client, OverError
from chaos.ledger import Promise
from chaos.plan import FAKE_HOSTS, NETWORKS, Life, Plan, Step
from openqrm.contracts.clock import Clock
from openqrm.contracts.ids import new_id
from openqrm.executor_fake.world import FakeWorld

PATIENCE_SECONDS = 4.0
STRANGER_MIB = 64
_SIMPLE = frozenset({"start", "stop", "shutdown", "reboot", "pause", "unpause", "resize", "pin", "migrate"})


class Load:
    """All actors."""

    def __init__(self, plan: Plan, client: Client, clock: Clock, world: FakeWorld) -> None:
        """`world`: the simulated hosts, on which somebody makes partitions by hand, too."""
        self._world = world
        self._plan = plan
        self._client = client
        self._clock = clock
        self._left: set[asyncio.Task[None]] = set()
        """Operations that nobody waits for any more."""

    async def run(self) -> None:
        """Ask for operations until the plan's time is over, then await what was acknowledged."""
        actors = [self._lead(lives) for lives in self._plan.lives.values()]
        house = [self._keep_house(), self._adopt()] if actors else []  # without actors a scene is alone
        await asyncio.gather(*actors, *house)
        await asyncio.gather(*self._left)

    @property
    def _over(self) -> bool:
        return self._client.now > self._plan.seconds

    async def _lead(self, lives: tuple[Life, ...]) -> None:
        generation = 0
        while not self._over:
            for life in lives:
                if self._over:
                    return
                named = life if not generation else replace(life, name=f"{life.name}-{generation}")
                try:
                    await self._live(named)
                except OverError:
                    return
            generation += 1

    async def _live(self, life: Life) -> None:
        partition_id = new_id()
        begun: list[asyncio.Task[None]] = []
        last: Promise | None = None
        for step in life.steps:
            if self._over:
                break
            await self._clock.sleep(step.pause)
            if step.waits and not await self._have_ended(begun):
                return
            promise = last = await self._promise(life, partition_id, step, last)
            if promise is None:
                continue
            acknowledged = asyncio.Event()
            begun.append(asyncio.create_task(self._carry_through(promise, acknowledged), name=str(promise)))
            self._left.add(begun[-1])
            if step.waits:
                if not await self._have_ended(begun):
                    return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await acknowledged.wait()

    async def _carry_through(self, promise: Promise, acknowledged: asyncio.Event) -> None:
        with suppress(OverError):
            await self._client.ask(promise)
            acknowledged.set()
            if promise.acknowledged:
                await self._client.end(promise)

    @staticmethod
    async def _have_ended(begun: list[asyncio.Task[None]]) -> bool:
        """Whether what was begun has ended, or does so soon."""
        if begun:
            _, late = await asyncio.wait(begun, timeout=PATIENCE_SECONDS)
            begun.clear()
            return not late
        return True

    async def _promise(self, life: Life, partition_id: UUID, step: Step, last: Promise | None) -> Promise | None:
        """What is to be asked for; None when there is nothing that the step could be about."""
        path = f"/partitions/{partition_id}"
        hints: dict[str, Any] = {}
        body: dict[str, Any] | None = step.body
        method = "POST"
        match step.verb:
            case "create":
                path, body = "/partitions", {**step.body, "name": life.name, "partition_id": str(partition_id)}
            case "cancel":
                if last is None:
                    return None
                path = f"/operations/{last.operation_id}/cancel"
            case "delete":
                method, path, body = "DELETE", f"{path}?force=true", None
            case "change":
                method = "PATCH"
            case "attach_nic":
                path += "/nics"
            case "attach_disk":
                path += "/disks"
            case "detach_nic" | "map_nic" | "detach_disk":
                view = await self._client.get(path)
                things = view["disks" if step.verb == "detach_disk" else "nics"] if view else []
                if len(things) < 2:
                    return None
                if step.verb == "detach_disk":
                    method, path, body = "DELETE", f"{path}/disks/{things[-1]['target']}", None
                else:
                    hints = {"mac": things[-1]["mac"], "network": things[-1]["network_name"]}
                    path += f"/nics/{hints['mac']}"
                    method, body = ("DELETE", None) if step.verb == "detach_nic" else ("PUT", step.body)
                    path += "/network" if step.verb == "map_nic" else ""
            case verb if verb in _SIMPLE:
                path += f"/{verb}"
        return Promise(
            new_id(),
            "operation.cancel" if step.verb == "cancel" else f"partition.{step.verb}",
            str(partition_id),
            life.name,
            method,
            path,
            body,
            self._client.now,
            hints,
        )

    async def _adopt(self) -> None:
        """Partitions that somebody makes by hand on a host are adopted and deleted."""
        random = Random(f"strangers {self._plan.seed}")  # noqa: S311 - a plan, not a secret
        number = 0
        with suppress(OverError):
            while not self._over:
                number += 1
                host, name = random.choice(FAKE_HOSTS), f"stranger-{number}"
                await self._clock.sleep(random.uniform(1, 3))
                identity = self._world.host(host).add_stranger(name, STRANGER_MIB)
                self._client.ledger.strangers.add(identity)
                path = f"/hosts/{host}/strangers"
                while not self._over:
                    if any(item["observed"]["id"] == str(identity) for item in await self._client.all(path)):
                        break
                    await self._clock.sleep(0.5)
                for verb, method, where in (
                    ("partition.adopt", "POST", f"{path}/{identity}/adopt"),
                    ("partition.delete", "DELETE", f"/partitions/{identity}?force=true"),
                ):
                    body = {} if method == "POST" else None
                    hints = {"host": host, "memory_mib": STRANGER_MIB}
                    promise = Promise(new_id(), verb, str(identity), name, method, where, body, self._client.now, hints)
                    await self._carry_through(promise, asyncio.Event())

    async def _keep_house(self) -> None:
        """What is asked of hosts and networks, now and then."""
        random = Random(f"house {self._plan.seed}")  # noqa: S311 - a plan, not a secret
        try:
            number = 0
            while not self._over:
                number += 1
                await self._clock.sleep(random.uniform(0.3, 1.5))
                name = f"n{number}"
                host = random.choice(FAKE_HOSTS)
                tags = {"tags": [f"h{random.randrange(100)}"]}
                for verb, method, path, body in (
                    ("network.create", "POST", "/networks", {"name": name, "bridge": "br2"}),
                    ("network.change", "PATCH", f"/networks/{name}", {"bridge": "br1"}),
                    ("host.change", "PATCH", f"/hosts/{host}", tags),
                    ("host.maintain", "POST", f"/hosts/{host}/maintain", {"evacuate": random.random() < 0.3}),
                    ("host.activate", "POST", f"/hosts/{host}/activate", {}),
                    ("network.delete", "DELETE", f"/networks/{name}", None),
                    ("host.enrol", "POST", "/hosts", _spare_host(number)),
                    ("host.prepare", "POST", f"/hosts/spare-{number}/prepare", {}),
                    ("host.remove", "DELETE", f"/hosts/spare-{number}", None),
                ):
                    target = host if verb.startswith("host.") and "spare" not in f"{path}{body}" else f"own {number}"
                    promise = Promise(new_id(), verb, target, target, method, path, body, self._client.now)
                    await self._carry_through(promise, asyncio.Event())
                    await self._clock.sleep(random.uniform(0, 0.3))
        except OverError:
            return


def _spare_host(number: int) -> dict[str, Any]:
    # Reached without a hypervisor, so that it has to be prepared; without memory to give, so that it stays empty.
    connection = {"uri": f"fake://spare-{number}?prepared=no&cpus=1&memory_mib=512"}
    return {"name": f"spare-{number}", "technology": "fake", "connection": connection}


def networks() -> list[dict[str, Any]]:
    """The networks that partitions use, as they are asked for."""
    return [{"name": name, "bridge": f"br{number}"} for number, name in enumerate(NETWORKS)]
