from openqrm.contracts.clock import SystemClock
from openqrm.driver.manifest import check_manifest, load_manifest
from openqrm.executor_qemu.driver import create_driver


async def test_the_driver_has_what_it_declares_and_a_reason_for_the_rest() -> None:
    driver = create_driver(SystemClock())
    manifest = load_manifest("openqrm.executor_qemu")
    check_manifest(driver, manifest)
    assert manifest.technology == "qemu"
    await driver.close()
