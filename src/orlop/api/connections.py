"""Limits on the number of connections to a listening socket, and timeouts for silent ones."""

import asyncio
from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple, Protocol

from orlop.errors import ExhaustedError


class Limits(NamedTuple):
    """The limits for clients of one listening socket."""

    most: int = 4096  # connections
    most_of_one: int = 2048  # of one client: a process, or an address
    head_s: float = 30.0  # from a request's first byte to the end of its headers
    silent_s: float = 300.0  # without a request


class Places:
    """Counts connections: *most* in all, *most_of_one* of one client."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._taken: Counter[Hashable] = Counter()
        self._total = 0

    @property
    def are_full(self) -> bool:
        """Whether no client can have another connection."""
        return self._total >= self._most

    def are_full_for(self, client: Hashable) -> bool:
        """Whether *client* cannot have another connection."""
        return self.are_full or self._taken[client] >= self._most_of_one

    def take(self, client: Hashable) -> None:
        """Count one more; ExhaustedError if there are too many, in all or of *client*."""
        if self.are_full_for(client):
            raise ExhaustedError(
                f"the engine is busy: {self._total} connections,"
                f" {self._taken[client]} of this program",
                hint="close some",
            )
        self._taken[client] += 1
        self._total += 1

    def give_back(self, client: Hashable) -> None:
        """Count one less."""
        self._total -= 1
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]


class Silent(Protocol):
    """A connection without a request."""

    @property
    def client(self) -> Hashable:
        """The peer."""

    def abort(self) -> None:
        """Close now, and give its place back."""


class Admission:
    """Counts the connections of one socket, and closes silent ones.

    A client may always close a connection without a request, and so may we (RFC 9112, 9.5).
    So if there is no place for a new one, the connection that was silent longest is closed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = Places(limits.most, limits.most_of_one)
        self._silent: dict[Silent, float] = {}  # with the time to close each; the oldest first
        self._sweep: asyncio.TimerHandle | None = None
        self._pause_s = min(limits.head_s, limits.silent_s) / 4

    def take(self, client: Hashable) -> None:
        """Count a connection; ExhaustedError if all others have requests."""
        if self._places.are_full_for(client):
            self._make_room(client)
        self._places.take(client)

    def give_back(self, client: Hashable) -> None:
        self._places.give_back(client)

    def _make_room(self, client: Hashable) -> None:
        anybody = self._places.are_full
        for one in self._silent:
            if anybody or one.client == client:
                one.abort()
                return

    def wait_for_request(self, connection: Silent) -> None:
        """Close *connection* if no request begins in time."""
        loop = asyncio.get_running_loop()
        self._silent[connection] = loop.time() + self._limits.silent_s
        if self._sweep is None:
            self._sweep = loop.call_later(self._pause_s, self._close_late)

    def wait_for_headers(self, connection: Silent) -> None:
        """Close *connection* if its headers do not end in time."""
        now = asyncio.get_running_loop().time()
        self._silent[connection] = now + self._limits.head_s

    def stop_waiting(self, connection: Silent) -> None:
        """Stop the timeout of *connection*: it has a request, or has ended."""
        self._silent.pop(connection, None)

    def _close_late(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for late in [one for one, at in self._silent.items() if at <= now]:
            late.abort()
            self._silent.pop(late, None)
        if self._silent:
            self._sweep = loop.call_later(self._pause_s, self._close_late)

    def close(self) -> None:
        """Stop all timeouts."""
        if self._sweep is not None:
            self._sweep.cancel()
