"""The installation that is fuzzed, with things in it that may be harmed and things that must not be."""

import json
import re
from typing import Any

from installation import ROOT, Client, Installation, new_folder
from support.raw_nats import RawNats

from openqrm.contracts.ids import new_id
from openqrm.contracts.message import (
    CLIENT,
    EXECUTOR,
    GATEWAY,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    Kind,
    Message,
    all_messages,
)

SAMPLES = ROOT / "shared/contracts/samples"
TECHNOLOGY = "fake"

USERS = {
    INVENTORY: INVENTORY,
    SCHEDULER: SCHEDULER,
    GATEWAY: GATEWAY,
    EXECUTOR: f"executor-{TECHNOLOGY}",
    CLIENT: "client",
    HA_MONITOR: INVENTORY,  # not built yet: inventory, which may publish again whatever is kept, speaks for it
}
"""Role to the NATS user of the installation that has it."""

ADDRESS = "fake://{}?cpus=64&memory_mib=262144"
QUICK_EXECUTOR = {
    "OPENQRM_EXECUTOR_DEFAULT_TIMEOUT": "3",
    "OPENQRM_EXECUTOR_RETRY_LIMIT": "0.5",
    "OPENQRM_EXECUTOR_UNREACHABLE_LIMIT": "1",
    "OPENQRM_EXECUTOR_SET_ASIDE": "0.2",
}
"""The same behaviour as ever, with what waits made short (seconds)."""

KEPT = (Kind.COMMAND, Kind.ROUTED_COMMAND, Kind.EVENT)


class Prey:
    """A running installation: host `prey` with a partition for the fuzz, host `watched` for what must go on."""

    def __init__(self) -> None:
        self.site = Installation(new_folder(), {"OPENQRM_FAKE_FOLDER": None, **QUICK_EXECUTOR})
        self._raw: dict[str, RawNats] = {}
        self._ids: dict[str, str] = {}
        """What stands for the ids and names of the samples."""
        self.forged: set[str] = set()
        """Ids of dead letters that nobody but we told of."""

    async def start(self) -> None:
        """Start it and make what it needs."""
        await self.site.start()
        client = self.client
        await client.run("POST", "/networks", {"name": "lan", "bridge": "br1"})
        for name in ("prey", "watched"):
            connection = {"uri": ADDRESS.format(name)}
            host = {"name": name, "technology": TECHNOLOGY, "connection": connection, "tags": [name]}
            await client.run("POST", "/hosts", host)
        prey = await client.partition("prey 1", host="prey", memory_mib=256, nics=[{"network": "lan"}])
        await client.partition("watched 1", host="watched", memory_mib=256)
        host_id, network_id = prey["host_id"], prey["nics"][0]["network_id"]
        self._ids = {
            _sample_id(2): prey["id"],
            _sample_id(3): host_id,
            _sample_id(4): host_id,
            _sample_id(5): network_id,
            "kvm1": "prey",
            "kvm2": "prey",
            "web 1": "prey 1",
            '"qemu"': f'"{TECHNOLOGY}"',
            "qemu+ssh://root@prey/system": ADDRESS.format("prey"),
            "52:54:00:12:34:56": prey["nics"][0]["mac"],
        }

    async def stop(self) -> None:
        """End it; it must end as if nothing had happened."""
        for raw in self._raw.values():
            await raw.close()
        status = await self.site.interrupt() if self.site.runs else None
        await self.site.close()
        assert status == 0, f"it did not end well: exit status {status}"

    @property
    def connections(self) -> list[RawNats]:
        """Of all users so far."""
        return list(self._raw.values())

    @property
    def client(self) -> Client:
        """The administrator, by HTTP."""
        return self.site.client()

    @property
    def passwords(self) -> dict[str, str]:
        """Of the NATS users, as the installation made them."""
        found = json.loads((self.site.state / "secrets.json").read_text())["passwords"]
        return {name.removeprefix("nats-"): word for name, word in found.items() if name.startswith("nats-")}

    async def raw(self, user: str) -> RawNats:
        """An open connection of a user; made anew when the server has ended it."""
        if user not in self._raw or not self._raw[user].is_open:
            url = self.site.word["nats_url"]
            self._raw[user] = await RawNats(url, user, self.passwords[user]).open()
        return self._raw[user]

    def sample(self, model: type[Message]) -> Any:
        """The sample of a message, about things that are there, with an id of its own."""
        name = re.sub("[{}]", "", model.subject)
        text = (SAMPLES / f"{name}.json").read_text("utf-8")
        for old, new in self._ids.items():
            text = text.replace(old, new)
        body = json.loads(text)
        if model.message_kind is Kind.COMMAND:
            body["operation_id"] = str(new_id())
        return body

    def address(self, model: type[Message]) -> str:
        """A subject that the message can go to."""
        places = {
            "technology": TECHNOLOGY,
            "host": self._ids[_sample_id(3)],
            "session": str(new_id()),
            "trace": "0" * 32,
        }
        return model.subject.format(**places)


def speakers(model: type[Message]) -> list[str]:
    """The users that may publish a message: its publishers, and inventory for whatever is kept."""
    roles = set(model.publishers) | ({INVENTORY} if model.message_kind in KEPT else set())
    return sorted({USERS[role] for role in roles})


def heard(*kinds: Kind) -> list[type[Message]]:
    """The messages of some kinds, by subject."""
    return [model for model in all_messages().values() if model.message_kind in kinds]


def _sample_id(number: int) -> str:
    """The ids of the samples, as tests/contracts/make_samples.py makes them."""
    return f"019cec77-6600-7000-8000-{number:012x}"
