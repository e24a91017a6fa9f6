"""The verbs of templates: sandboxes whose Python is started once. Orlop's own, not Docker's."""

from __future__ import annotations

from orlop.client.calls import checked, quote, raw_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.client import http
    from orlop.client.calls import Caller


class Templates:
    def __init__(self, client: Caller) -> None:
        self._client = client

    def open(
        self, body: Mapping[str, Any], *, name: str | None = None, lifetime_s: float | None = None
    ) -> tuple[str, http.RawStream]:
        """Begin one; return its id, and what holds it. NotFoundError if the image is not here.

        *body* is that of a container's create, and "Template".
        """
        query = {"name": name, "lifetime": lifetime_s}
        connection = self._client.begin_upgrade("/templates", query=query, body=body)
        response = checked(connection)
        return response.headers["orlop-container-id"], raw_stream(connection, response)

    def begin_runs(self, identifier: str) -> http.Connection:
        """Ask for a connection for runs, which finish_upgrade() returns once it is warm.

        InvalidArgumentError then if it cannot be.
        """
        return self._client.begin_upgrade(f"/templates/{quote(identifier)}/runs")
