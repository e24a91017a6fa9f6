"""A minimum speed for answers, so that a slow server cannot hold us for ever.

A timeout for each read is not enough, because one byte resets it. So we count the time that
we wait for the server, and in each minute of waiting some data has to arrive.
"""

import http.client
import io
import math
import socket
import time
from typing import Any, NamedTuple


class Pace(NamedTuple):
    """Less than *least_bytes* in *every_s* of waiting is too slow."""

    every_s: float = 60.0
    least_bytes: float = 256 << 10


class TooSlowError(TimeoutError):
    """The server sends too slowly."""


class PacedResponse(http.client.HTTPResponse):
    """A response read at a Pace. Its head, and the rest after hasten(), has one *every_s*."""

    pace = Pace()

    def __init__(self, sock: socket.socket, *arguments: object, **options: object) -> None:
        super().__init__(sock, *arguments, **options)  # type: ignore[arg-type] # as they come
        self._paced = _Paced(self.fp.detach(), self.pace)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        with_time = self.hasten()
        super().begin()
        self._paced.pace = with_time

    def hasten(self) -> Pace:
        """Expect the rest within one *every_s*; return the pace used so far."""
        before = self._paced.pace
        self._paced.start(before._replace(least_bytes=math.inf))
        return before


class _Paced(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw = raw
        self.start(pace)

    def start(self, pace: Pace) -> None:
        """Start counting, with *pace*."""
        self.pace = pace
        self._waited_s = 0.0
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        begun_s = time.monotonic()
        count: int | None = self._raw.readinto(buffer)
        self._waited_s += time.monotonic() - begun_s
        self._bytes += count or 0
        if count and self._waited_s >= self.pace.every_s:
            if self._bytes < self.pace.least_bytes:
                raise TooSlowError(f"{self._bytes} bytes in {self._waited_s:.0f} s")
            self.start(self.pace)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
