"""The scheduler as a process of its own."""

from openqrm.bus.process import run_service
from openqrm.contracts.message import SCHEDULER
from openqrm.scheduler.app import SchedulerService
from openqrm.scheduler.settings import SchedulerSettings

if __name__ == "__main__":
    run_service(SCHEDULER, lambda bus, clock: SchedulerService(bus, clock, SchedulerSettings()))
