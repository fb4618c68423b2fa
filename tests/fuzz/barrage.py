"""Sends damaged messages and remembers what was sent."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field

from header_blocks import Block, block, hostile, proper
from mutations import Body, dump, fields, huge, shapes
from prey import KEPT, Prey, speakers
from support.raw_nats import Answer

from openqrm.contracts.ids import new_id
from openqrm.contracts.message import Kind, Message

FIELDS_EACH = {Kind.COMMAND: 8, Kind.EVENT: 5, Kind.QUERY: 5}
"""Damaged fields per message in every run; other kinds get 3."""
IN_FLIGHT = 64


@dataclass(frozen=True)
class Sent:
    """One message on its way."""

    model: type[Message]
    user: str
    body: Body
    headers: Block
    identity: str
    answer: asyncio.Future[Answer] | None

    def __str__(self) -> str:
        about = f"{self.model.subject} of {self.user}, {self.body.damage}, {self.headers.damage}"
        return f"{about}: {self.body.data[:600]!r}"


@dataclass
class Barrage:
    """Everything that is sent in one test."""

    prey: Prey
    rng: random.Random
    sent: list[Sent] = field(default_factory=list)

    async def once(self, model: type[Message]) -> None:
        """Each kind of damage to one message once, by each of its users in turn."""
        users = speakers(model)
        sample = self.prey.sample(model)
        bodies = [*shapes(sample, self.rng), huge(sample)]
        damaged = fields(self.prey.sample(model), self.rng)
        bodies += [next(damaged) for _ in range(FIELDS_EACH.get(model.message_kind, 3))]
        for user, body in zip(itertools.cycle(users), bodies, strict=False):
            await self.send(model, user, body)
        for user in users:  # whatever was left out of the turns
            await self.send(model, user, next(damaged))

    async def headers(self, model: type[Message]) -> None:
        """Each kind of damage to one message's headers once, with a body that can be read and one that cannot."""
        user = speakers(model)[0]
        subject = model.subject.split(".{")[0]
        for damage in hostile(subject, str(new_id())):
            await self.send(model, user, Body("as it should be", dump(self.prey.sample(model))), damage)
        for damage in hostile(subject, str(new_id())):
            await self.send(model, user, Body("garbage", f"garbage {new_id()}".encode()), damage)

    async def chance(self, model: type[Message]) -> None:
        """One damage to one message, as chance will have it."""
        user = self.rng.choice(speakers(model))
        sample = self.prey.sample(model)
        if self.rng.random() < 0.2:
            body = self.rng.choice(list(shapes(sample, self.rng)))
        else:
            body = next(fields(sample, self.rng))
        damage = None
        if self.rng.random() < 0.1:
            damage = self.rng.choice(hostile(model.subject.split(".{")[0], str(new_id())))
        await self.send(model, user, body, damage)

    async def send(self, model: type[Message], user: str, body: Body, headers: Block | None = None) -> None:
        """Send one message."""
        identity = f"fuzz-{len(self.sent)}-{new_id()}"
        if headers is None:
            headers = Block("proper headers", block(proper(model.subject.split(".{")[0], identity)))
        raw = await self.prey.raw(user)
        subject = self.prey.address(model)
        answer = None
        if model.message_kind in KEPT or model.message_kind is Kind.QUERY:
            answer = await raw.ask(subject, headers.data, body.data)
        else:
            await raw.publish(subject, headers.data, body.data)
        self.sent.append(Sent(model, user, body, headers, identity, answer))
        if len(self.sent) % IN_FLIGHT == 0:
            await self.answered()

    async def answered(self) -> None:
        """Wait for the answers to what was sent last."""
        waiting = [sent.answer for sent in self.sent[-2 * IN_FLIGHT :] if sent.answer and not sent.answer.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=20)
        for raw in list(self.prey.connections):
            if raw.is_open:
                await raw.flush()
