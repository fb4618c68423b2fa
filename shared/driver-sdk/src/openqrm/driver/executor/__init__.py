"""Turns a driver into a service on the bus. Only this package of the driver SDK knows the bus."""

from openqrm.driver.executor.process import run_executor
from openqrm.driver.executor.service import ExecutorService, service_name
from openqrm.driver.executor.settings import ExecutorSettings

__all__ = ["ExecutorService", "ExecutorSettings", "run_executor", "service_name"]
