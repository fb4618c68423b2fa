"""Prepares a NATS of the user's own: streams and consumers, and the rights of each service's user.

python -m openqrm.bus.provisioning streams qemu xen     creates or updates streams and durable consumers
python -m openqrm.bus.provisioning accounts qemu xen    prints the users' permissions for nats-server's configuration
"""

import argparse
import asyncio
import json
import sys

from nats.errors import Error as NatsError

from openqrm.bus.access import rights
from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import provision
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.message import CLIENT, EXECUTOR, GATEWAY, HA_MONITOR, INVENTORY, SCHEDULER
from openqrm.telemetry.tracing import Tracing


def permissions(technologies: list[str]) -> dict[str, object]:
    """The `permissions` of each NATS user, by the user's name, as nats-server's configuration has them."""
    users = {name: (name, None) for name in (INVENTORY, SCHEDULER, GATEWAY, HA_MONITOR, CLIENT)}
    roles: dict[str, tuple[str, str | None]] = {**users, **{f"executor-{t}": (EXECUTOR, t) for t in technologies}}
    found: dict[str, object] = {}
    for user, (role, technology) in roles.items():
        allowed = rights(role, user, technology)
        found[user] = {
            "publish": {"allow": list(allowed.publish), "deny": list(allowed.publish_denied)},
            "subscribe": {"allow": list(allowed.subscribe)},
            "allow_responses": True,
        }
    return found


async def _make_streams(technologies: list[str]) -> None:
    settings = BusSettings()
    bus = Bus(settings, "provisioner", SystemClock(), Tracing("provisioner"))
    await bus.connect()
    await provision(bus.js, technologies, settings.replicas)
    await bus.stop()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="openqrm-provision", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["streams", "accounts"])
    parser.add_argument("technologies", nargs="+")
    arguments = parser.parse_args()
    if arguments.what == "accounts":
        sys.stdout.write(json.dumps(permissions(arguments.technologies), indent=2) + "\n")
        return 0
    try:
        asyncio.run(_make_streams(arguments.technologies))
    except (NatsError, OSError) as error:
        sys.stderr.write(f"NATS could not be prepared: {error}. Check OPENQRM_NATS_URL and the user's rights.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
