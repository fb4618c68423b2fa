"""The weighers, one per file. The multipliers are settings of the same names."""

from openqrm.scheduler.weighers.base import Weigher
from openqrm.scheduler.weighers.cpu_balance import CpuBalanceWeigher
from openqrm.scheduler.weighers.memory_balance import MemoryBalanceWeigher
from openqrm.scheduler.weighers.spread import SpreadWeigher

WEIGHERS: tuple[Weigher, ...] = (CpuBalanceWeigher(), MemoryBalanceWeigher(), SpreadWeigher())
