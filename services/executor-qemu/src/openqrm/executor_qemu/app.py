"""The executor for QEMU/KVM hosts as a process of its own."""

from openqrm.driver.executor.process import run_executor
from openqrm.executor_qemu.driver import create_driver


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_executor("openqrm.executor_qemu", create_driver)


if __name__ == "__main__":
    main()
