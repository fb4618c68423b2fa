"""Following live events, through interruptions of the connection."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from openqrm.cli.client import Client, Json, unreachable
from openqrm.cli.errors import CliError, ProblemError
from openqrm.cli.output import Output
from openqrm.contracts.clock import Clock

RETRY_SECONDS = 2.0


def refusal(client: Client, error: InvalidStatus) -> CliError:
    """Why a WebSocket was refused."""
    try:
        document = json.loads(error.response.body or b"")
        return ProblemError(error.response.status_code, document)
    except (ValueError, AttributeError):
        return CliError(f"{client.server.url} refused the connection (HTTP {error.response.status_code}).")


class EventFollower:
    """Yields events, coming back where it was whenever the connection breaks."""

    def __init__(self, client: Client, output: Output, clock: Clock) -> None:
        self._client = client
        self._output = output
        self._clock = clock
        self._since: int | None = None
        self._was_connected = False

    def follow(self, subjects: list[str], resources: list[str], since: int | None) -> Iterator[Json]:
        """Events from `since` on, or from now on; it ends with an error only when the server refuses."""
        self._since = since
        while True:
            broken = False
            try:
                yield from self._once(subjects, resources)
            except InvalidStatus as error:
                if error.response.status_code < 500:
                    raise refusal(self._client, error) from error
                broken = True
            except (OSError, InvalidHandshake, ConnectionClosed) as error:
                if not self._was_connected:
                    raise unreachable(self._client.server, error) from error
                broken = True
            if broken:
                self._output.say(f"The connection broke; trying again, from event {self._since} on.")
            self._wait()

    def _wait(self) -> None:
        asyncio.run(self._clock.sleep(RETRY_SECONDS))

    def _once(self, subjects: list[str], resources: list[str]) -> Iterator[Json]:
        params: dict[str, Any] = {"subject": subjects, "resource": resources, "since": self._since}
        url, headers = self._client.websocket("events/ws", params)
        tls = self._client.tls()
        with connect(url, additional_headers=headers, ssl=tls, max_size=None, open_timeout=10) as socket:
            for text in socket:
                document: Json = json.loads(text)
                notice = document.get("notice")
                if notice is None:
                    self._since = document["sequence"]
                    yield document
                elif notice == "following":
                    self._since = document["since"]
                    self._was_connected = True
                elif notice == "gap":
                    self._output.say(document["detail"])
                    self._since = document["first_available"] - 1
                else:
                    self._output.say(document["reason"])


def summary(event: Json) -> str:
    """One line about an event for people."""
    data = event["data"] if isinstance(event["data"], dict) else {}
    words: list[str] = []
    for noun in ("partition", "host", "network", "image", "operation"):
        thing = data.get(noun)
        if isinstance(thing, dict):
            words += [str(thing.get("name") or f"{thing.get('verb')} {thing.get('target_name')}")]
            if thing.get("state"):
                words.append(str(thing["state"]))
            if noun == "operation" and thing.get("state") == "running":
                words.append(f"{thing['progress']} %")
            if noun == "operation" and thing.get("error"):
                words.append(thing["error"]["message"])
    if data.get("reason"):
        words.append(str(data["reason"]))
    return " · ".join(words) or str(event["about"] or "")
