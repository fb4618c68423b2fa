"""The filters, one per file, in the order in which they are asked: a host is refused by the first that refuses it.

What somebody chose comes first, what a host lacks for good next, what it lacks right now last.
"""

from openqrm.scheduler.filters.base import Filter
from openqrm.scheduler.filters.capabilities import CapabilitiesFilter
from openqrm.scheduler.filters.cpu import CpuFilter
from openqrm.scheduler.filters.exclusion import ExclusionFilter
from openqrm.scheduler.filters.memory import MemoryFilter
from openqrm.scheduler.filters.networks import NetworksFilter
from openqrm.scheduler.filters.shared_storage import SharedStorageFilter
from openqrm.scheduler.filters.state import StateFilter
from openqrm.scheduler.filters.storage import StorageFilter
from openqrm.scheduler.filters.tags import TagsFilter
from openqrm.scheduler.filters.technology import TechnologyFilter

FILTERS: tuple[Filter, ...] = (
    ExclusionFilter(),
    TechnologyFilter(),
    StateFilter(),
    TagsFilter(),
    CapabilitiesFilter(),
    NetworksFilter(),
    SharedStorageFilter(),
    MemoryFilter(),
    CpuFilter(),
    StorageFilter(),
)
