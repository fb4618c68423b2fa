"""Consoles: a session's two-way byte stream between the gateway and the executor that holds the guest's console."""

from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Technology
from openqrm.contracts.message import EXECUTOR, GATEWAY, Frame, Query


class ConsoleKind(StrEnum):
    """Which console of the guest."""

    SERIAL = "serial"
    VNC = "vnc"


class ConsoleSession(BaseModel):
    """An open session; frames go by `console.received.<session>` and `console.sent.<session>`."""

    model_config = ConfigDict(frozen=True)

    session_id: UUID
    kind: ConsoleKind


class OpenConsole(
    Query[ConsoleSession],
    subject="partition.open_console.{technology}.{host}",
    publishers=(GATEWAY,),
    consumers=(EXECUTOR,),
):
    """Open a console. The executor closes it when frames from the other side stop for 60 seconds."""

    host_id: UUID
    technology: Technology
    partition_id: UUID
    session_id: UUID
    kind: ConsoleKind


class Screenshot(BaseModel):
    """A picture of the guest's screen."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    media_type: str
    picture: bytes


class TakeScreenshot(
    Query[Screenshot],
    subject="partition.take_screenshot.{technology}.{host}",
    publishers=(GATEWAY,),
    consumers=(EXECUTOR,),
):
    """Take a picture of a running guest's screen."""

    host_id: UUID
    technology: Technology
    partition_id: UUID


class ConsoleFrame(Frame):
    """Bytes one way. An empty frame keeps the session alive; `closed` ends it and says why."""

    session_id: UUID
    number: int = Field(ge=0, description="Counts from 0 in each direction; a gap means that bytes were lost")
    data: bytes = b""
    closed: str | None = None


class ConsoleSent(ConsoleFrame, subject="console.sent.{session}", publishers=(EXECUTOR,), consumers=(GATEWAY,)):
    """From the guest."""


class ConsoleReceived(ConsoleFrame, subject="console.received.{session}", publishers=(GATEWAY,), consumers=(EXECUTOR,)):
    """To the guest."""
