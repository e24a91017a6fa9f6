"""The verbs of networks. Bodies and answers: Docker Engine API 1.45, "Network"."""

from __future__ import annotations

from orlop.client.calls import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.client.calls import Caller

    Filters = Mapping[str, list[str]]


class Networks:
    """All by name, id or unique beginning of an id."""

    def __init__(self, client: Caller) -> None:
        self._client = client

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self._client.call("POST", "/networks/create", body=body)
        return made

    def inspect(self, name: str, *, verbose: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call(
            "GET", f"/networks/{quote(name)}", query={"verbose": verbose}
        )
        return found

    def remove(self, name: str) -> None:
        self._client.call("DELETE", f"/networks/{quote(name)}")

    def connect(self, name: str, container: str, settings: Mapping[str, Any]) -> None:
        """Put a container on the network; *settings* are the API's EndpointSettings."""
        body = {"Container": container, "EndpointConfig": settings}
        self._client.call("POST", f"/networks/{quote(name)}/connect", body=body)

    def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        self._client.call("POST", f"/networks/{quote(name)}/disconnect", body=body)

    def join(self, token: str, *, address: str = "") -> dict[str, Any]:
        """Have a network of other hosts here too; its id and name."""
        body = {"Token": token, "Address": address}
        joined: dict[str, Any] = self._client.call("POST", "/networks/join", body=body)
        return joined

    def token(self, name: str) -> str:
        """Return what another host needs to join."""
        return str(self._client.call("GET", f"/networks/{quote(name)}/token")["Token"])

    def members(self, name: str) -> list[dict[str, Any]]:
        """Return the hosts of a network of several hosts."""
        found: list[dict[str, Any]] = self._client.call("GET", f"/networks/{quote(name)}/members")
        return found

    def prune(self, *, filters: Filters | None = None) -> list[str]:
        """Remove the networks that no container uses; return their names."""
        answer = self._client.call("POST", "/networks/prune", query={"filters": filters})
        return list((answer or {}).get("NetworksDeleted") or [])

    def list(self, *, filters: Filters | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.call(
            "GET", "/networks", query={"filters": filters}
        )
        return found
