"""The product under test, running in a lab, and how tests talk to it: through its gateway and in no other way.

`Site` is the way in; see README.md beside this package.
"""

from product.console import ConsoleClosedError, Screen, SerialConsole
from product.gateway import Gateway, OperationFailedError, RefusedError
from product.guest import Guest
from product.running import Product
from product.site import BRIDGED, ISOLATED, Site, expect_failure, expect_refusal
from product.waiting import sleep, wait_until

__all__ = [
    "BRIDGED",
    "ISOLATED",
    "ConsoleClosedError",
    "Gateway",
    "Guest",
    "OperationFailedError",
    "Product",
    "RefusedError",
    "Screen",
    "SerialConsole",
    "Site",
    "expect_failure",
    "expect_refusal",
    "sleep",
    "wait_until",
]
