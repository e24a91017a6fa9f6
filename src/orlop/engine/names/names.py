"""The name service of containers.

    put(view)              set a container's names: at its start, and at every change
    open(id, namespace)    open sockets at 127.0.0.11 in its network namespace
    close(id)              at its end, because the sockets keep the namespace alive

Nothing is stored: the next engine puts and opens all running containers.
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from orlop.engine.names.forward import Connect, Forwarder, connect_from_host, connected
from orlop.engine.names.listener import Listener
from orlop.engine.names.sockets import Sockets
from orlop.engine.names.turns import Turns
from orlop.engine.names.upstreams import Upstreams
from orlop.errors import OrlopError
from orlop.network.dns.addresses import addresses
from orlop.network.dns.message import Query, bare
from orlop.network.dns.respond import failure, known, respond
from orlop.network.dns.zone import View, Zone
from orlop.network.egress.learned import Found

log = logging.getLogger(__name__)

_MOST_OPENED = 64  # addresses per answer

T = TypeVar("T")


class Inside(Protocol):
    """Runs a function in a thread that has entered the network namespace *namespace*."""

    def __call__(self, namespace: int, function: Callable[[], T], /) -> Awaitable[T]: ...


class Opening(Protocol):
    """Opens, for a container with an egress list, the addresses that its names resolved to."""

    def __call__(self, container: str, found: Sequence[Found], /) -> Awaitable[None]: ...


class Names:
    """For use from one event loop."""

    def __init__(
        self, inside: Inside, upstreams: Upstreams | None = None, opening: Opening | None = None
    ) -> None:
        self._inside = inside
        self._open: Opening = opening or _open_nothing
        self._upstreams = upstreams or Upstreams()
        self._zone = Zone()
        self._listeners: dict[str, Listener] = {}
        self._forwarder = Forwarder()
        self._turns = Turns()

    def put(self, view: View) -> None:
        """Set a container's names to *view*, for all queries from now on."""
        self._zone.put(view)

    async def open(self, container: str, namespace: int) -> None:
        """Answer the container's queries from now on; the caller keeps *namespace*."""
        sockets = await self._inside(namespace, Sockets)
        self.serve(container, sockets)

    def serve(self, container: str, sockets: Sockets) -> None:
        """Answer the container on sockets made in its namespace; we close them."""
        self._stop(container)
        client = _Client(self, container)
        self._listeners[container] = Listener(sockets, client, self._turns)

    def is_open(self, container: str) -> bool:
        return container in self._listeners

    def close(self, container: str) -> None:
        """Remove a container, and release its namespace; an unknown one is no error."""
        self._stop(container)
        self._zone.drop(container)

    def close_all(self) -> None:
        """Release all; nobody gets answers until the next engine starts."""
        for container in list(self._listeners):
            self._stop(container)
        self._turns.close()

    def _stop(self, container: str) -> None:
        listener = self._listeners.pop(container, None)
        if listener is not None:
            listener.close()

    def respond(self, container: str, message: bytes, *, stream: bool) -> bytes | Query:
        """Return the immediate answer to *container*, or the query to forward."""
        return respond(self._zone, container, message, stream=stream)

    async def forward(self, container: str, query: Query, message: bytes, *, stream: bool) -> bytes:
        """Ask the container's own servers from its network, and the host's from the host.

        With an egress list ask all from the host, and open the addresses before answering.
        """
        view = self._zone.view(container)
        if view is None:
            return failure(query)
        if view.policy is not None:
            return await self._forward_listed(view, query, stream=stream)
        return await self._ask(view, query, message, stream=stream)

    async def _forward_listed(self, view: View, query: Query, *, stream: bool) -> bytes:
        answer = known(self._zone, view.container, query, stream=stream)
        ours = answer is not None
        if answer is None:
            answer = await self._ask(view, query, bare(query), stream=stream)
        listener = self._listeners.get(view.container)
        if listener is None or view.policy is None:
            return failure(query)
        destinations = view.policy.destinations(query.name)
        some = islice(addresses(answer), _MOST_OPENED)
        found = [Found(*one, destinations, ours) for one in some]
        try:
            async with listener.opening:
                await self._open(view.container, found)
        except (OSError, OrlopError) as error:
            more = {"container": view.container, "why": str(error)}
            log.warning("what a name led to cannot be opened", extra=more)
            return failure(query)
        return answer

    async def _ask(self, view: View, query: Query, message: bytes, *, stream: bool) -> bytes:
        connect: Connect = partial(self._connect_inside, view.container)
        if not view.servers or view.policy is not None:
            connect = connect_from_host
        servers = view.servers or self._upstreams.servers()
        return await self._forwarder.ask(servers, query, message, connect=connect, stream=stream)

    async def _connect_inside(self, container: str, server: str, type_: int) -> socket.socket:
        listener = self._listeners.get(container)
        if listener is None:
            raise ConnectionAbortedError
        namespace = listener.sockets.namespace()
        try:
            return await self._inside(namespace, partial(connected, server, type_))
        finally:
            os.close(namespace)


async def _open_nothing(container: str, found: Sequence[Found]) -> None:
    del container, found


class _Client:
    """A container, as its listener sees it."""

    def __init__(self, names: Names, container: str) -> None:
        self.respond = partial(names.respond, container)
        self.forward = partial(names.forward, container)
