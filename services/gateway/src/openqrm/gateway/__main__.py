"""The gateway as a process of its own."""

import sys

from openqrm.bus.process import run_service
from openqrm.contracts.message import GATEWAY
from openqrm.gateway.app import GatewayService, StartupError
from openqrm.gateway.settings import GatewaySettings

if __name__ == "__main__":
    try:
        run_service(GATEWAY, lambda bus, clock: GatewayService(bus, clock, GatewaySettings(), bus.tracing))
    except StartupError as error:
        sys.exit(str(error))
