"""Turns a driver into a service on the bus. Only this package of the driver SDK knows the bus."""

from openqrm.driver.executor.process import create_executor, run_executor
from openqrm.driver.executor.service import ExecutorService
from openqrm.driver.executor.settings import ExecutorSettings

__all__ = ["ExecutorService", "ExecutorSettings", "create_executor", "run_executor"]
