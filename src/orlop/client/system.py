"""The verbs of the engine itself. Bodies and answers: Docker Engine API 1.45, "System"."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from orlop.client.calls import Caller

    Filters = Mapping[str, list[str]]


class System:
    def __init__(self, client: Caller) -> None:
        self._client = client

    def version(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("GET", "/version")
        return found

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("GET", "/info")
        return found

    def disk_usage(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("GET", "/system/df")
        return found

    def metrics(self) -> str:
        """Return what Prometheus reads."""
        return self._client.open("GET", "/metrics").read().decode()

    def events(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        filters: Filters | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield events as they happen, those since *since* first, until *until* if given."""
        query = {"since": since, "until": until, "filters": filters}
        return self._client.messages("GET", "/events", query=query)

    def login(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have the engine try a user name and password at a registry."""
        answer: dict[str, Any] = self._client.call("POST", "/auth", body=body)
        return answer or {}
