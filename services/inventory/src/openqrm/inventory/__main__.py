"""Inventory as a process of its own."""

from openqrm.bus.process import run_service
from openqrm.contracts.message import INVENTORY
from openqrm.inventory.app import InventoryService
from openqrm.inventory.settings import InventorySettings

if __name__ == "__main__":
    run_service(INVENTORY, lambda bus, clock: InventoryService(bus, clock, InventorySettings(), bus.tracing))
