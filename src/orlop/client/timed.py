"""A client that notes how long its requests take, and asks the engine to note its steps.

    client = TimedClient(settings())
    identifier = client.containers.create({"Image": "alpine"})["Id"]
    client.containers.start(identifier)
    steps = client.timeline(identifier)

It is used like any other; the engine's verbs need not know.
"""

from __future__ import annotations

from orlop.client.client import Client
from orlop.errors import OrlopError
from orlop.model.timeline import Recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.client import http
    from orlop.client.address import Settings
    from orlop.client.calls import Query
    from orlop.model.timeline import Step


class TimedClient(Client):
    """Has ?timeline=1 in each request, and a step for each in *times*."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.times = Recorder("client")
        self.created = ""  # the container that was created last

    def connection(self) -> http.Connection:
        since = self.times.now()
        try:
            return super().connection()
        finally:
            self.times.note("connect", since)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        since = self.times.now()
        try:
            answer = super().call(method, path, query=_asking(query), body=body, headers=headers)
        finally:
            self.times.note(_name(method, path), since)
        if path == "/containers/create":
            self.created = str(answer["Id"])
        return answer

    def begin(self, method: str, path: str, *, query: Query | None = None) -> http.Connection:
        since = self.times.now()
        try:
            return super().begin(method, path, query=query)
        finally:
            self.times.note(_name(method, path), since)

    def begin_upgrade(
        self, path: str, *, query: Query | None = None, body: Any = None
    ) -> http.Connection:
        since = self.times.now()
        try:
            return super().begin_upgrade(path, query=_asking(query), body=body)
        finally:
            self.times.note(_name("POST", path), since)

    def timeline(self, identifier: str) -> list[Step]:
        """Return our steps so far and the engine's about a container, which may be gone."""
        own = list(self.times.steps)
        try:
            return [*own, *self.containers.timeline(identifier)]
        except OrlopError:  # the engine that did it has gone, or did nothing
            return own


def _asking(query: Query | None) -> Query:
    return {**(query or {}), "timeline": True}


def _name(method: str, path: str) -> str:
    """Return what is asked for: "POST create", "POST start"."""
    verb = path.rpartition("/")[2]
    return f"{method} {verb if verb.isalpha() and len(verb) < 20 else ''}".strip()
