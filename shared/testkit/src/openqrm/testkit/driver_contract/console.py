"""Looking at a guest."""

import pytest

from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import ByteChannel, Console, Driver, Host
from openqrm.testkit.driver_contract.base import ContractBase, Define, work

CLOSE_SECONDS = 10.0


class ConsoleContract(ContractBase):
    """Serial consoles, screens and pictures."""

    async def test_the_serial_console_can_be_written_and_closed(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        console = self.console(driver, manifest)
        partition = await self.running(driver, connected, define())
        channel = await console.open_serial(connected, partition.id)
        await channel.write(b"\r\n")
        await channel.close()
        await channel.close()
        await self.in_time(self.drained(channel), CLOSE_SECONDS)

    async def test_a_new_session_takes_the_serial_console_over(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        console = self.console(driver, manifest)
        partition = await self.running(driver, connected, define())
        older = await console.open_serial(connected, partition.id)
        newer = await console.open_serial(connected, partition.id)
        await self.in_time(self.drained(older), CLOSE_SECONDS)
        await newer.write(b"\r\n")
        await newer.close()
        await older.close()

    async def test_consoles_end_with_the_partition(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        console = self.console(driver, manifest)
        partition = await self.running(driver, connected, define())
        serial = await console.open_serial(connected, partition.id)
        screen = await console.open_vnc(connected, partition.id)
        await driver.stop(connected, partition, work())
        await self.in_time(self.drained(serial), CLOSE_SECONDS)
        await self.in_time(self.drained(screen), CLOSE_SECONDS)
        await serial.close()
        await screen.close()

    async def test_the_screen_speaks_rfb(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        console = self.console(driver, manifest)
        partition = await self.running(driver, connected, define())
        channel = await console.open_vnc(connected, partition.id)
        try:
            assert (await self.exactly(channel, 12)).startswith(b"RFB 003.")
            await channel.write(b"RFB 003.008\n")
            assert (await self.exactly(channel, 1))[0] >= 1, "the number of security types; 0 would be a refusal"
        finally:
            await channel.close()

    async def test_a_picture_of_the_screen(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        console = self.console(driver, manifest)
        partition = await self.running(driver, connected, define())
        picture = await console.take_screenshot(connected, partition.id)
        assert picture.media_type.startswith("image/")
        assert len(picture.picture) > 20

    async def test_what_does_not_run_has_no_console(
        self, driver: Driver, connected: Host, define: Define, manifest: Manifest
    ) -> None:
        console = self.console(driver, manifest)
        partition = define()
        for open_it in (console.open_serial, console.open_vnc, console.take_screenshot):
            with pytest.raises(OpenQrmError):
                await open_it(connected, partition.id)
        await driver.create(connected, partition, work())
        for open_it in (console.open_serial, console.open_vnc, console.take_screenshot):
            with pytest.raises(OpenQrmError):
                await open_it(connected, partition.id)

    def console(self, driver: Driver, manifest: Manifest) -> Console:
        """The driver as one that has consoles; skips the test when it has none."""
        self.needs(manifest, Capability.CONSOLE)
        assert isinstance(driver, Console)
        return driver

    async def drained(self, channel: ByteChannel) -> None:
        """Read until the other side has closed."""
        while await channel.read():
            pass

    async def exactly(self, channel: ByteChannel, size: int) -> bytes:
        """Read at least so many bytes; the first of them."""
        data = b""
        while len(data) < size:
            more = await self.in_time(channel.read())
            assert more, f"closed after {data!r}"
            data += more
        return data[:size]
