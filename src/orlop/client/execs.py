"""Operations on further processes in a container. Docker Engine API 1.45, "Exec"."""

from __future__ import annotations

from orlop.client.calls import checked, finish_upgrade, quote, raw_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.client import http
    from orlop.client.calls import Caller


class Execs:
    def __init__(self, client: Caller) -> None:
        self._client = client

    def create(self, container: str, body: Mapping[str, Any]) -> str:
        """Create an exec, without starting it; return its id."""
        answer = self._client.call("POST", f"/containers/{quote(container)}/exec", body=body)
        return str(answer["Id"])

    def run(self, container: str, body: Mapping[str, Any]) -> tuple[str, http.RawStream]:
        """Create and start it; return its id and its streams.

        This is one request, Orlop's own, whose last frame is the exit code
        (Demultiplexer.status). An engine that does not know it gets two requests.
        """
        path = f"/containers/{quote(container)}/exec"
        connection = self._client.begin_upgrade(path, query={"start": True}, body=body)
        response = checked(connection)
        if response.status == 201:
            identifier = str(response.json()["Id"])
            connection.close()
            return identifier, self.start(identifier, terminal=body["Tty"])
        return response.headers["orlop-exec-id"], raw_stream(connection, response)

    def start(self, identifier: str, *, terminal: bool) -> http.RawStream:
        """Start it, and return its streams."""
        body = {"Detach": False, "Tty": terminal}
        path = f"/exec/{quote(identifier)}/start"
        return finish_upgrade(self._client.begin_upgrade(path, body=body))

    def start_detached(self, identifier: str, *, terminal: bool) -> None:
        """Start it without attaching."""
        body = {"Detach": True, "Tty": terminal}
        self._client.call("POST", f"/exec/{quote(identifier)}/start", body=body)

    def inspect(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("GET", f"/exec/{quote(identifier)}/json")
        return found

    def kill(self, identifier: str) -> None:
        """Kill it, and if it was created with "Group" everything that it has started."""
        self._client.call("POST", f"/exec/{quote(identifier)}/kill")

    def resize(self, identifier: str, *, height: int, width: int) -> None:
        query = {"h": height, "w": width}
        self._client.call("POST", f"/exec/{quote(identifier)}/resize", query=query)
