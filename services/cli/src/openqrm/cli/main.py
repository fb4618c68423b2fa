"""The program `openqrm`."""

import os
import sys

import typer

from openqrm.cli.nouns import host, image, network, operation, partition, people, small, top
from openqrm.cli.session import Defaults, OutputOption, UrlOption

EPILOG = (
    "Which server: --url, else OPENQRM_URL and OPENQRM_TOKEN, else 'openqrm login', else the openQRM of this machine. "
    "Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 login needed."
)

app = typer.Typer(
    name="openqrm",
    help="openQRM: servers, partitions, hosts, networks and images of a data centre.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(partition.app, name="partition")
app.add_typer(host.app, name="host")
app.add_typer(network.app, name="network")
app.add_typer(image.app, name="image")
app.add_typer(operation.app, name="operation")
app.add_typer(small.mac, name="mac")
app.add_typer(small.resource, name="resource")
app.add_typer(small.technology, name="technology")
app.add_typer(small.dead_letter, name="dead-letter")
app.add_typer(people.user, name="user")
app.add_typer(people.token, name="token")
app.add_typer(people.session_app, name="session")
app.add_typer(people.audit, name="audit")
top.add(app)


@app.callback()
def shared(context: typer.Context, output: OutputOption = None, url: UrlOption = None) -> None:
    """Take the shared options in front of a command's name, too."""
    context.obj = Defaults(output, url)


def main() -> None:
    """Run it; whatever happens, a person gets a sentence and a script an exit code."""
    try:
        app(prog_name="openqrm")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads our output has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("OPENQRM_DEBUG"):
            raise
        sys.stderr.write(
            f"error: openqrm met an unexpected {type(error).__name__}: {error}. "
            "Set OPENQRM_DEBUG=1 and run it again for the details.\n"
        )
        sys.exit(1)
