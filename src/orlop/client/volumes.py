"""The verbs of volumes. Bodies and answers: Docker Engine API 1.45, "Volume"."""

from __future__ import annotations

from orlop.client.calls import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.client.calls import Caller

    Filters = Mapping[str, list[str]]


class Volumes:
    def __init__(self, client: Caller) -> None:
        self._client = client

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self._client.call("POST", "/volumes/create", body=body)
        return made

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("GET", f"/volumes/{quote(name)}")
        return found

    def remove(self, name: str, *, force: bool = False) -> None:
        self._client.call("DELETE", f"/volumes/{quote(name)}", query={"force": force})

    def prune(self, *, filters: Filters | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.call(
            "POST", "/volumes/prune", query={"filters": filters}
        )
        return answer

    def list(self, *, filters: Filters | None = None) -> list[dict[str, Any]]:
        answer = self._client.call("GET", "/volumes", query={"filters": filters})
        return list(answer.get("Volumes") or [])
