"""What every driver must do, the fake one included: the promises of openqrm.driver.capabilities as tests.

A driver's tests/test_contract.py has one subclass and supplies its hosts and its hands:

    class TestContract(DriverContract):
        package = "openqrm.executor_fake"

        @pytest.fixture
        async def driver(self): ...        # closed by whoever made it
        @pytest.fixture
        async def host(self): ...          # a host without partitions of ours
        @pytest.fixture
        async def hands(self): ...         # a Hands

More fixtures can be supplied: `second_host` (to migrate to), `unreachable_host`, `plain_host` (to prepare). Tests that
need what is not supplied are skipped, with the reason; tests of capabilities that are not declared are not.
"""

from openqrm.testkit.driver_contract.access import AccessContract
from openqrm.testkit.driver_contract.attempts import AttemptsContract
from openqrm.testkit.driver_contract.console import ConsoleContract
from openqrm.testkit.driver_contract.devices import DevicesContract
from openqrm.testkit.driver_contract.hands import Hands
from openqrm.testkit.driver_contract.lifecycle import LifecycleContract
from openqrm.testkit.driver_contract.migration import MigrationContract
from openqrm.testkit.driver_contract.observation import ObservationContract
from openqrm.testkit.driver_contract.running import RunningContract


class DriverContract(
    AccessContract,
    ObservationContract,
    LifecycleContract,
    AttemptsContract,
    RunningContract,
    DevicesContract,
    MigrationContract,
    ConsoleContract,
):
    """Everything that a driver must do."""


__all__ = ["DriverContract", "Hands"]
