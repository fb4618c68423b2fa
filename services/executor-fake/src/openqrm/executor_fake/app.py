"""The fake executor as a process of its own: `python -m openqrm.executor_fake.app`."""

from openqrm.driver.executor import run_executor
from openqrm.executor_fake.driver import create_driver


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_executor("openqrm.executor_fake", create_driver)


if __name__ == "__main__":
    main()
