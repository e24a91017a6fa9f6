"""The verb of sandboxes: a container that is this process's. Orlop's own, not Docker's."""

from __future__ import annotations

from orlop.client.calls import checked, raw_stream

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
        self, body: Mapping[str, Any], *, name: str | None = None
    ) -> tuple[str, http.RawStream]:
        """Create and start a container; return its id, and what holds it: closed, it is removed.

        *body* is that of create. NotFoundError if the image is not here.
        """
        connection = self._client.begin_upgrade("/sandboxes", query={"name": name}, body=body)
        response = checked(connection)
        return response.headers["orlop-container-id"], raw_stream(connection, response)
