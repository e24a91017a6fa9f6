"""The verb of sandboxes: a container that is this process's. Orlop's own, not Docker's."""

from __future__ import annotations

from orlop.client.calls import checked, finish_upgrade, quote, raw_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.client import http
    from orlop.client.calls import Caller


class Sandboxes:
    def __init__(self, client: Caller) -> None:
        self._client = client

    def open(
        self, body: Mapping[str, Any], *, name: str | None = None, lifetime_s: float | None = None
    ) -> tuple[str, http.RawStream]:
        """Create and start a container; return its id, and what holds it: closed, it is removed.

        *body* is that of create. NotFoundError if the image is not here.
        """
        query = {"name": name, "lifetime": lifetime_s}

        def ask() -> tuple[http.Connection, http.Response]:
            made = self._client.begin_upgrade("/sandboxes", query=query, body=body)
            return made, checked(made)

        connection, response = self._client.heard(ask)
        return response.headers["orlop-container-id"], raw_stream(connection, response)

    def open_kept(
        self, body: Mapping[str, Any], *, name: str | None = None, lifetime_s: float | None = None
    ) -> str:
        """Create and start a container that nobody holds; return its id."""
        query = {"name": name, "lifetime": lifetime_s, "keep": True}
        return str(self._client.call("POST", "/sandboxes", query=query, body=body)["Id"])

    def fork(
        self,
        identifier: str,
        body: Mapping[str, Any],
        *,
        count: int,
        keep: bool,
        processes: bool,
        lifetime_s: float | None = None,
    ) -> list[str]:
        """Create and start *count* with copies of its files; return their ids, to be held soon.

        *body* is that of create, but for the image, which is the same. With *processes*
        copies of what runs in it go on in them.
        """
        path = f"/sandboxes/{quote(identifier)}/fork"
        query = {"count": count, "lifetime": lifetime_s, "keep": keep, "processes": processes}
        return list(self._client.call("POST", path, query=query, body=body)["Ids"])

    def hold(self, identifier: str) -> http.RawStream:
        """Return what holds one that a fork has made."""
        return finish_upgrade(self._client.begin_upgrade(f"/sandboxes/{quote(identifier)}/hold"))

    def usage(self, identifier: str) -> list[int]:
        """Return what all that has run in it has used so far: numbers as in shim/usage.py."""
        path = f"/sandboxes/{quote(identifier)}/usage"
        return list(self._client.call("GET", path)["Usage"])
