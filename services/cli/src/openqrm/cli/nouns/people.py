"""Users, tokens, sessions and the audit."""

import sys
from typing import Annotated

import typer

from openqrm.cli.arguments import Cursor, Limit
from openqrm.cli.client import Json, ref
from openqrm.cli.errors import CliError
from openqrm.cli.output import Column
from openqrm.cli.session import Session, command
from openqrm.cli.values import given

user = typer.Typer(help="Users and their roles.", no_args_is_help=True)
token = typer.Typer(help="Tokens for programs.", no_args_is_help=True)
session_app = typer.Typer(help="Open logins.", no_args_is_help=True)
audit = typer.Typer(help="Who did what.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name")]
Role = Annotated[str | None, typer.Option(metavar="viewer|operator|admin")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking")
]

_USERS: list[Column] = [("NAME", "name"), ("ROLE", "role"), ("DISABLED", "disabled"), ("SINCE", "created_at")]
_TOKENS: list[Column] = [
    ("ID", "id"),
    ("USER", "user"),
    ("NAME", "name"),
    ("ROLE", "role"),
    ("SCOPE", lambda item: " ".join(item["nouns"]) or "everything"),
    ("EXPIRES", "expires_at"),
]
_SESSIONS: list[Column] = [
    ("ID", "id"), ("USER", "user"), ("FROM", "remote"), ("WITH", "agent"), ("SINCE", "created_at"),
    ("EXPIRES", "expires_at"),
]  # fmt: skip
_AUDIT: list[Column] = [
    ("AT", lambda item: item["at"][:19]),
    ("USER", "user_name"),
    ("WHAT", lambda item: item["verb"] or f"{item['method']} {item['path']}"),
    ("TARGET", "target"),
    ("STATUS", "status"),
    ("WHY NOT", "code"),
    ("FROM", "remote"),
    ("OPERATION", "operation_id"),
]


def ask_password(from_stdin: bool, confirm: bool, prompt: str = "Password") -> str:
    """A password, never shown."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise CliError("There is no terminal to ask for the password on: use --password-stdin.", 2)
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm))


def _list(session: Session, path: str, columns: list[Column]) -> None:
    found = session.client.get(path)
    if session.output.as_json:
        session.output.json(found)
    else:
        session.output.table(found["items"], columns)


# ------------------------------------------------------------------------------------------------ users


@command(user, "list")
def list_users(session: Session) -> None:
    """List users."""
    _list(session, "users", _USERS)


@command(user, "show")
def show_user(session: Session, name: Name) -> None:
    """Show one user."""
    session.output.show(session.client.get(f"users/{ref(name)}"))


@command(user, "create")
def create_user(session: Session, name: Name, role: Role = None, password_stdin: PasswordStdin = False) -> None:
    """Make a user: a viewer unless told otherwise."""
    body = given(name=name, role=role, password=ask_password(password_stdin, confirm=True))
    session.output.show(session.client.post("users", body))


@command(user, "change")
def change_user(
    session: Session,
    name: Name,
    role: Role = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Whether it may log in")] = None,
) -> None:
    """Change a user's role, or lock it out."""
    body = given(role=role, disabled=disabled)
    if not body:
        raise CliError("Nothing to change: give --role, --disable or --enable.", 2)
    session.output.show(session.client.patch(f"users/{ref(name)}", body))


@command(user, "password")
def change_password(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Whose; your own when left out")] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="Read the new password, and after it the present one, from standard input"
        ),
    ] = False,
) -> None:
    """Set a password. The present one is needed for your own, unless an administrator's token is used."""
    me = session.client.get("whoami")
    target = name or me["user"]
    new = ask_password(password_stdin, confirm=True, prompt="New password")
    body = {"password": new}
    if me["role"] != "admin":
        body["current"] = ask_password(password_stdin, confirm=False, prompt="Present password")
    session.client.put(f"users/{ref(target)}/password", body)
    session.output.say(f"The password of {target} is changed; open logins of {target} have ended.")


@command(user, "delete")
def delete_user(session: Session, name: Name) -> None:
    """Delete a user with its tokens and logins."""
    session.client.delete(f"users/{ref(name)}")
    session.output.say(f"{name} is deleted.")


# ------------------------------------------------------------------------------------------------ tokens and logins


@command(token, "list")
def list_tokens(session: Session) -> None:
    """List your own tokens; as an administrator all."""
    _list(session, "tokens", _TOKENS)


@command(token, "create")
def create_token(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for")],
    role: Role = None,
    scope: Annotated[
        list[str], typer.Option(help="Limit it to this noun, such as partitions or metrics; repeated")
    ] = [],  # noqa: B006 - Typer copies it
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="How long it holds; 90 when left out")] = None,
) -> None:
    """Make a token; it is shown this once."""
    made: Json = session.client.post("tokens", given(name=name, role=role, nouns=scope, days=days))
    if session.output.as_json:
        session.output.json(made)
        return
    session.output.say(f"Until {made['expires_at'][:10]}, as {made['role']}; it is not shown again:")
    session.output.console.print(made["token"])


@command(token, "revoke")
def revoke_token(session: Session, token_id: Annotated[str, typer.Argument(help="The token's id")]) -> None:
    """Revoke a token."""
    session.client.delete(f"tokens/{ref(token_id)}")
    session.output.say("The token is revoked.")


@command(session_app, "list")
def list_sessions(session: Session) -> None:
    """List your own open logins; as an administrator all."""
    _list(session, "sessions", _SESSIONS)


@command(session_app, "end")
def end_session(session: Session, session_id: Annotated[str, typer.Argument(help="The login's id")]) -> None:
    """End a login."""
    session.client.delete(f"sessions/{ref(session_id)}")
    session.output.say("The login has ended.")


@command(audit, "list")
def list_audit(
    session: Session,
    by: Annotated[str | None, typer.Option("--user", help="Only what this user did")] = None,
    target: Annotated[
        str | None, typer.Option(help="Only what was done to this (id, or the name as it was given)")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List who did what, the newest first."""
    session.page("audit", _AUDIT, False, user=by, target=target, limit=limit, cursor=cursor)
