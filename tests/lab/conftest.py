"""The running lab, and the product running in it, for every test below this folder that is marked `lab`."""

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from product import Product, Site
from product.site import build_image
from qemu_lab import Lab
from qemu_lab.plan import Folder

_SITE = pytest.StashKey[Site]()
_LOG_BEFORE = pytest.StashKey[int]()
_LOG_LINES = 80


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A fresh lab with three hypervisors, beside the one that is brought up by hand."""
    by_hand = Folder.from_environment().path
    folder = Folder(by_hand.with_name(f"{by_hand.name}-tests"))
    running = Lab(folder)
    running.down()
    Product(running, folder.path / "product").forget()
    running.up()
    yield running
    if not os.environ.get("OPENQRM_LAB_KEEP"):
        running.down()
        assert running.leftovers() == []


@pytest.fixture(scope="session")
def demo_image() -> Path:
    """The image that every guest boots. It stays, for the next run."""
    by_hand = Folder.from_environment().path
    return build_image(by_hand.with_name(f"{by_hand.name}-image"))


@pytest.fixture(scope="session")
def product(lab: Lab) -> Iterator[Product]:
    """openQRM, serving in the controller's network."""
    running = Product(lab, lab.shared.parent / "product")
    running.start()
    try:
        yield running
        running.stop()
    finally:
        if kept := os.environ.get("OPENQRM_LAB_LOG"):
            running.keep_log(Path(kept))
        if not os.environ.get("OPENQRM_LAB_KEEP"):
            running.forget()


@pytest.fixture(scope="session")
def whole_site(request: pytest.FixtureRequest, lab: Lab, product: Product, demo_image: Path) -> Site:
    """The data centre for all tests."""
    made = Site(lab, product)
    request.config.stash[_SITE] = made
    made.set_up(demo_image)
    return made


@pytest.fixture(scope="module")
def site(whole_site: Site) -> Iterator[Site]:
    """The data centre, healed and emptied when the module's tests are done."""
    yield whole_site
    whole_site.tidy()
    assert whole_site.remains() == []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note where the product's log stands."""
    site = item.config.stash.get(_SITE, None)
    item.stash[_LOG_BEFORE] = site.product.log_size() if site else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what product and hosts said during a test that failed."""
    report = yield
    site = item.config.stash.get(_SITE, None)
    if site is not None and report.failed:
        said = site.product.log_since(item.stash.get(_LOG_BEFORE, 0)).splitlines()[-_LOG_LINES:]
        report.sections.append(("openqrm.log during the test", "\n".join(said)))
        report.sections.append(("libvirtd of the hosts", site.host_logs()))
    return report
