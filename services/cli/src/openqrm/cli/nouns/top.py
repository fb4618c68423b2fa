"""Commands without a noun: logging in, events, consoles, traces, health."""

import asyncio
import socket
import sys
from datetime import datetime
from importlib.metadata import version as version_of
from typing import Annotated

import httpx
import typer
from rich.markup import escape

from openqrm.cli.arguments import Partition
from openqrm.cli.client import Client, ref, unreachable
from openqrm.cli.config import Server, config_file, find_server, forget_login, save_login
from openqrm.cli.errors import CliError
from openqrm.cli.events import EventFollower, summary
from openqrm.cli.nouns.people import ask_password
from openqrm.cli.session import Session, command
from openqrm.cli.terminal import Terminal, VncProxy
from openqrm.cli.waterfall import waterfall
from openqrm.contracts.clock import SystemClock


def add(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "login")(login)
    command(app, "logout")(logout)
    command(app, "whoami")(whoami)
    command(app, "status")(status)
    command(app, "health")(status)
    command(app, "version")(version)
    command(app, "events")(events)
    command(app, "console")(console)
    command(app, "vnc")(vnc)
    command(app, "trace")(trace)
    command(app, "metrics")(metrics)


def login(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="URL", help="Such as https://openqrm.example:8080")],
    user: Annotated[str | None, typer.Option(help="Log in with this user's password; asked for when left out")] = None,
    token: Annotated[str | None, typer.Option(help="Keep this token instead; - reads it from standard input")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input")
    ] = False,
    ca_file: Annotated[str | None, typer.Option(help="CA certificates to know the server by")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="How long the login holds; 90 when left out")
    ] = None,
) -> None:
    """Log in to a server: the token that it gives is kept for the commands to come."""
    url = find_server(address, "-", ca_file).url
    if token is None:
        if user is None:
            if not sys.stdin.isatty():
                raise CliError("There is no terminal to ask on: give --user with --password-stdin, or --token.", 2)
            user = str(typer.prompt("User"))
        token = _token_for(Server(url, None, "the command line", ca_file), user,
                           ask_password(password_stdin, confirm=False), days)  # fmt: skip
    elif token == "-":  # noqa: S105 - standard input
        token = sys.stdin.readline().strip()
    with Client(Server(url, token, "the command line", ca_file)) as client:
        me = client.get("whoami")
    path = save_login(url, token, ca_file)
    session.output.say(f"Logged in to {url} as {me['user']} ({me['role']}); kept in {path}.")


def _token_for(server: Server, user: str, password: str, days: int | None) -> str:
    """A password's session makes a token, and ends."""
    with Client(server) as client:
        answer = client.send("POST", "session", body={"user": user, "password": password})
        cookie = answer.headers["set-cookie"].split(";", 1)[0]
        same_origin = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
        body = {"name": f"openqrm on {socket.gethostname()}"} | ({"days": days} if days else {})
        made = client.send("POST", "tokens", body=body, headers=same_origin).json()
        client.send("DELETE", "session", headers=same_origin)
    return str(made["token"])


def logout(session: Session) -> None:
    """Revoke the token that 'openqrm login' got, and forget it."""
    if not config_file().exists():
        raise CliError("There is no login to end.")
    server = find_server()
    try:
        with Client(server) as client:
            me = client.get("whoami")
            if me["credential"] == "token":
                client.delete(f"tokens/{me['credential_id']}")
    except CliError as error:
        session.output.say(f"The token could not be revoked at the server: {error.message}")
    forget_login()
    session.output.say(f"Logged out of {server.url}.")


def whoami(session: Session) -> None:
    """Who you are for the server, and what you may do."""
    session.output.show(session.client.get("whoami"))


def status(session: Session) -> None:
    """Whether the server is healthy, and what it looks after."""
    server = find_server(session.url)
    try:
        answer = httpx.get(f"{server.url}/health", timeout=10, verify=Client(server).tls() or True)
        health = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise unreachable(server, error) from error
    document = {"url": server.url, **health}
    if health.get("status") == "ok" and server.token:
        client = session.client
        hosts = list(client.pages("hosts"))
        document["hosts"] = {
            state: sum(host["state"] == state for host in hosts) for state in {h["state"] for h in hosts}
        }
        document["partitions_on_hosts"] = sum(host["partitions"] for host in hosts)
        document["technologies"] = [t["name"] for t in client.get("technologies")["items"] if t["available"]]
    session.output.show(document)
    if health.get("status") != "ok":
        missing = " and ".join(part for part in ("bus", "database") if not health.get(part))
        detail = health.get("detail") or f"It cannot reach its {missing or 'parts'}."
        raise CliError(f"The server at {server.url} cannot do its work: {detail}")


def version(session: Session) -> None:
    """The version of this program."""
    number = version_of("openqrm-cli")
    if session.output.as_json:
        session.output.json({"version": number})
    else:
        session.output.console.print(number)


def events(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on")] = False,
    subject: Annotated[
        list[str], typer.Option(help="Such as 'partition.*', 'operation.failed' or 'host.>'; may be repeated")
    ] = [],  # noqa: B006 - Typer copies it
    resource: Annotated[
        list[str], typer.Option(help="Only what is about, or mentions, this: an id, or a partition's or host's name")
    ] = [],  # noqa: B006
    since: Annotated[int | None, typer.Option(min=0, help="Only after this sequence number")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Look at this many newest, when --since is left out")
    ] = 100,
) -> None:
    """Print events: the newest, or with --follow what happens. JSON comes as one document per line."""
    resources = [_resource_id(session, text) for text in resource]
    if not follow:
        window = {"since": since, "limit": 1000} if since is not None else {"last": limit, "limit": limit}
        page = session.client.get("events", subject=subject, resource=resources, **window)
        if page["gap"]:
            session.output.say(page["gap"])
        for event in page["items"]:
            _print_event(session, event)
        return
    follower = EventFollower(session.client, session.output, SystemClock())
    for event in follower.follow(subject, resources, since):
        _print_event(session, event)


def _resource_id(session: Session, text: str) -> str:
    """An id as it is; a name of a partition, else of a host, as its id."""
    if len(text) == 36 and text.count("-") == 4:
        return text
    try:
        return str(session.client.get(f"partitions/{ref(text)}")["id"])
    except CliError:
        return str(session.client.get(f"hosts/{ref(text)}")["id"])


def _print_event(session: Session, event: dict[str, object]) -> None:
    if session.output.as_json:
        session.output.line(event)
        return
    time = str(event["time"] or "")
    if time:
        time = datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    text = escape(summary(event))
    session.output.console.print(f"[dim]{event['sequence']:>8} {time}[/] [bold]{event['subject']}[/] {text}")


def console(
    session: Session,
    name: Partition,
    linger: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="After the end of piped input: leave when the guest is silent so long"),
    ] = 2.0,
) -> None:
    """Attach to a partition's serial console. Leave with Ctrl-]. Works between pipes, too."""
    Terminal(session.client, session.output).attach(name, linger)


def vnc(
    session: Session,
    name: Partition,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine; any free one when left out")] = 0,
    once: Annotated[bool, typer.Option("--once", help="End when the first viewer leaves")] = False,
) -> None:
    """Offer a partition's screen to VNC viewers on this machine."""
    asyncio.run(VncProxy(session.client, session.output, name).serve(port, once))


def trace(
    session: Session, operation: Annotated[str, typer.Argument(help="Id of an operation, or of a trace")]
) -> None:
    """Print what each service did for an operation, and when."""
    found = session.client.get(f"traces/{ref(operation)}")
    if session.output.as_json:
        session.output.json(found)
        return
    session.output.console.print(waterfall(found))
    if not found["complete"]:
        session.output.say("There are more spans than are shown.")


def metrics(session: Session) -> None:
    """Print the server's metrics in Prometheus's format."""
    sys.stdout.write(session.client.send("GET", "/metrics").text)
