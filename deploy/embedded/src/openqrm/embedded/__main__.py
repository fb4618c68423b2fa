"""`make up`: start everything in this process, show how to reach it, stop everything on Ctrl-C."""

import asyncio
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO, cast

import structlog
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from openqrm.bus.process import allow_many_files
from openqrm.bus.settings import about_a_setting
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.errors import OpenQrmError
from openqrm.embedded.account import service_account
from openqrm.embedded.errors import StartError
from openqrm.embedded.log_file import LogFile
from openqrm.embedded.settings import EmbeddedSettings
from openqrm.embedded.state import StateFolder, default_state_folder
from openqrm.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from openqrm.embedded.app import EmbeddedStack

_out = Console(highlight=False, soft_wrap=True)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """Show a line of progress."""
    with suppress(OSError):  # a terminal that was closed
        _out.print("[dim]openqrm:[/dim]", escape(sentence))


def complain(sentence: str) -> None:
    """Show what went wrong."""
    with suppress(OSError):
        _errors.print(f"openqrm: {sentence}", markup=False, style="red")


async def run(settings: EmbeddedSettings) -> int:
    """Start, serve until asked to stop, stop; returns the exit code."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    with StateFolder(default_state_folder(), await service_account()) as state:
        for warning in state.warnings:
            say(warning)
        path = state.path / "openqrm.log"
        with LogFile(path) as log:
            configure_logs(settings.log_level, stream=cast(TextIO, log))
            # not before it is known that it can start: the services take a second to load
            from openqrm.embedded.app import EmbeddedStack
            from openqrm.gateway.app import StartupError

            stack = EmbeddedStack(state, settings, SystemClock(), say, complain)
            try:
                return await _serve(stack, state, settings, asked)
            except (OpenQrmError, StartError, OSError):
                raise
            except StartupError as error:
                raise StartError(str(error)) from error
            except Exception as error:
                if sentence := about_a_setting(error):
                    raise StartError(sentence) from error
                structlog.get_logger(service="embedded").exception("openQRM ends")
                first_line = (str(error) or "it gave no reason").splitlines()[0]
                raise StartError(f"an unexpected {type(error).__name__}; {path} tells where: {first_line}") from error
            finally:
                await stack.stop()
                say("stopped")


async def _serve(stack: "EmbeddedStack", state: StateFolder, settings: EmbeddedSettings, asked: asyncio.Event) -> int:
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(asked.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return 130
    stopping.cancel()
    await starting
    _show(stack, state)
    from openqrm.embedded import first_steps
    from openqrm.embedded.app import SETUP

    steps = first_steps.FirstSteps(stack.bus(SETUP), state, settings.bridge, say)
    await steps.start()
    enrol = stack.ability is not None and stack.ability.available
    if stack.ability is not None and not stack.ability.available:
        say(f"this machine cannot be a QEMU host: {stack.ability.reason}")
    taking = asyncio.create_task(first_steps.take(steps, say, enrol, settings.demo_image))
    await asked.wait()
    taking.cancel()
    for result in await asyncio.gather(taking, return_exceptions=True):
        if isinstance(result, Exception):
            structlog.get_logger(service="embedded").error("a first step broke", exc_info=result)
    await steps.stop()
    return 0


def _show(stack: "EmbeddedStack", state: StateFolder) -> None:
    say(f"serving at {stack.url}")
    say(f"the administrator's token lies in {stack.token_file}")
    say(f"state and log lie in {state.path}; Ctrl-C stops everything, guests run on")


def main() -> int:
    """The entry; no traceback reaches the person who started it."""
    try:
        allow_many_files()
        return asyncio.run(run(EmbeddedSettings()))
    except StartError as error:
        complain(str(error))
    except ValidationError as error:
        complain(about_a_setting(error) or str(error).splitlines()[0])
    except OpenQrmError as error:
        complain(error.message)
    except OSError as error:
        complain(f"{error.strerror or error}{': ' + str(error.filename) if error.filename else ''}.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
