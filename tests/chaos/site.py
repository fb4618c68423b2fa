"""The data centre that is struck: a stack whose services reach NATS and PostgreSQL by wires, and hosts for it."""

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
from support.stack import Stack

from chaos.client import Client
from chaos.ledger import Ledger, Promise
from chaos.load import networks
from chaos.plan import FAKE_HOSTS, QEMU_HOSTS
from chaos.wire import AckSieve, Connect, Wire
from openqrm.bus.streams import all_durables
from openqrm.contracts.ids import new_id

RESTART_SECONDS = 1.0
"""How soon what ended is started again; the units say 2 s."""
FAKE_HOST = "cpus=64&memory_mib=65536&latency_ms=15&migration_ms=400"
QUICK = {
    # The same behaviour as in production, with what waits made short.
    "OPENQRM_INVENTORY_SWEEP_SECONDS": "1",
    "OPENQRM_INVENTORY_STUCK_SECONDS": "3",
    "OPENQRM_INVENTORY_WAITING_SECONDS": "3",
    "OPENQRM_INVENTORY_MAC_QUARANTINE_SECONDS": "1",
    "OPENQRM_EXECUTOR_DEFAULT_TIMEOUT": "20",
    "OPENQRM_EXECUTOR_CREATE_TIMEOUT": "30",
    "OPENQRM_EXECUTOR_DELETE_TIMEOUT": "30",
    "OPENQRM_EXECUTOR_MIGRATE_TIMEOUT": "40",
    "OPENQRM_EXECUTOR_DISK_TIMEOUT": "20",
    "OPENQRM_EXECUTOR_RETRY_LIMIT": "10",
    "OPENQRM_EXECUTOR_UNREACHABLE_LIMIT": "20",
    "OPENQRM_EXECUTOR_SET_ASIDE": "0.5",
    "OPENQRM_EXECUTOR_PING_INTERVAL": "1",
    "OPENQRM_EXECUTOR_PING_TIMEOUT": "4",
    "OPENQRM_EXECUTOR_OBSERVE_INTERVAL": "3",
    "OPENQRM_EXECUTOR_OBSERVE_TIMEOUT": "10",
    "OPENQRM_EXECUTOR_RECONNECT_LONGEST": "3",
    "OPENQRM_QEMU_CALL_TIMEOUT_SECONDS": "10",
}


class Site:
    """Start it, strike it, look at it, close it. `lab`: a running lab, whose hosts become QEMU hosts."""

    def __init__(self, lab: Any = None) -> None:
        self.lab = lab
        self.stack = Stack(("fake", "qemu") if lab else ("fake",), QUICK, RESTART_SECONDS)
        self.clock = self.stack.clock
        self.ledger = Ledger()
        self.bus_wires: dict[str, Wire] = {}
        self.database_wires: dict[str, Wire] = {}
        self.redelivery: float | None = None
        """Seconds after which a message that nobody acknowledged comes again; None: as in production."""
        self.client: Client

    @property
    def fake_hosts(self) -> list[str]:
        """The fake hosts that exist, spare ones included, by the files that they are kept in."""
        return sorted(file.stem for file in self.stack.fake_hosts.glob("*.json"))

    async def start(self) -> None:
        """Start everything and enrol the hosts."""
        await self.stack.start_servers()
        if self.redelivery is not None:
            await self._hasten(self.redelivery)
        for service in self.stack.services:
            await self._wire(service)
        if self.lab:
            self._put_into_lab()
        await self.stack.start_services()
        self.client = Client(self.stack.url, self.stack.token, self.ledger, self.clock)
        await self._enrol()

    async def close(self, keep_folder: bool) -> None:
        """End everything."""
        if hasattr(self, "client"):
            await self.client.close()
        for wire in (*self.bus_wires.values(), *self.database_wires.values()):
            await wire.stop()
        await self.stack.stop(keep_folder)

    async def _hasten(self, seconds: float) -> None:
        environment = self.stack.environment("provisioner")
        user, password = environment["OPENQRM_NATS_USER"], environment["OPENQRM_NATS_PASSWORD"]
        connection = await nats.connect(environment["OPENQRM_NATS_URL"], user=user, password=password)
        stream_of = connection.jetstream()
        for durable in all_durables(self.stack.technologies):
            known = await stream_of.consumer_info(durable.stream, durable.name)
            await stream_of.add_consumer(durable.stream, known.config.evolve(ack_wait=seconds))
        await connection.close()

    # -------------------------------------------------------------------------------------------- wires

    async def _wire(self, service: str) -> None:
        overrides = self.stack.overrides.setdefault(service, {})
        bus = Wire(f"{service} to NATS", self._listen(service), self._to_nats, AckSieve())
        self.bus_wires[service] = bus
        overrides["OPENQRM_NATS_URL"] = f"nats://127.0.0.1:{bus.port}"
        await bus.start()
        setting = f"OPENQRM_{service.upper()}_DSN"
        if dsn := self.stack.environment(service).get(setting):
            database = Wire(f"{service} to PostgreSQL", self._listen(service), self._to_postgres)
            self.database_wires[service] = database
            overrides[setting] = re.sub(r"@/(\w+)\?.*", rf"@127.0.0.1:{database.port}/\1", dsn)
            await database.start()

    def _listen(self, service: str) -> socket.socket:
        """A socket where the service can reach it, which is the lab's network for the executor of its hosts."""

        def listen() -> socket.socket:
            return socket.create_server(("127.0.0.1", 0))

        found: socket.socket = self.lab.in_controller(listen) if service == "executor-qemu" else listen()
        return found

    @property
    def _to_nats(self) -> Connect:
        return lambda: asyncio.open_connection("127.0.0.1", self.stack.nats_port)

    @property
    def _to_postgres(self) -> Connect:
        return lambda: asyncio.open_unix_connection(str(self.stack.postgres.socket_folder / ".s.PGSQL.5432"))

    def _put_into_lab(self) -> None:
        lab = self.lab

        def launch(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
            with log.open("ab") as out:
                # The lab adds the variables to those of this process.
                process: subprocess.Popen[bytes] = lab.popen_in_controller(command, environment, stdout=out, stderr=out)
            return process

        self.stack.launchers["executor-qemu"] = launch
        self.stack.overrides["executor-qemu"] |= {
            "OPENQRM_QEMU_SSH_PRIVATE_KEY": str(lab.ssh_key),
            "OPENQRM_QEMU_PKI_PATH": str(lab.pki()),
        }

    # -------------------------------------------------------------------------------------------- hosts

    async def _enrol(self) -> None:
        for technology in self.stack.technologies:
            async with asyncio.timeout(60):
                while not await self._announced(technology):
                    await self.clock.sleep(0.1)
        for body in networks():
            await self.do("network.create", "POST", "/networks", body)
        bodies = [
            {"name": name, "technology": "fake", "connection": {"uri": f"fake://{name}?{FAKE_HOST}"}}
            for name in FAKE_HOSTS
        ]
        bodies += [self._qemu_host(name) for name in QEMU_HOSTS] if self.lab else []
        await asyncio.gather(*(self.do("host.enrol", "POST", "/hosts", body) for body in bodies))

    async def _announced(self, technology: str) -> bool:
        items = (await self.client.get("/technologies"))["items"]
        return any(item["name"] == technology and item["manifest"] for item in items)

    def _qemu_host(self, name: str) -> dict[str, Any]:
        address = self.lab.members[name].address
        connection: dict[str, Any] = {"storage_path": "/lab/local/disks", "uri": f"qemu+tls://{address}/system"}
        if name != QEMU_HOSTS[0]:
            line = next(line for line in self.lab.known_hosts.read_text().splitlines() if line.startswith(f"{name},"))
            connection |= {"uri": f"qemu+ssh://root@{address}/system", "host_key": " ".join(line.split()[1:3])}
        else:
            connection["options"] = {"vnc_listen": "0.0.0.0"}  # noqa: S104 - inside the lab
        return {"name": name, "technology": "qemu", "connection": connection, "cpu_overcommit": 50}

    async def do(self, verb: str, method: str, path: str, body: Mapping[str, Any] | None, target: str = "") -> Promise:
        """Ask for something and await its end, which must be success."""
        name = str((body or {}).get("name", path))
        promise = Promise(
            new_id(),
            verb,
            target or name,
            name,
            method,
            path,
            dict(body) if body is not None else None,
            self.client.now,
        )
        await self.client.ask(promise)
        if promise.acknowledged:
            await self.client.end(promise)
        assert promise.state == "succeeded", f"{promise}"
        return promise

    def process_of(self, name: str) -> int | None:
        """The process id of a part of the stack while it runs."""
        return self.stack.processes[name].pid

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to one process."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)
