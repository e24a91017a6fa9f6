"""Limit floods of queries to a quarter of the event loop's time."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_PAUSE = 3  # times the duration of a piece


class Turns:
    """Runs long work piece by piece, one piece after the other.

    After each piece the loop serves others for three times as long as the piece took.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], float | None]] = deque()
        self._handle: asyncio.TimerHandle | None = None

    def add(self, work: Callable[[], float | None]) -> None:
        """Call *work* when its turn comes, and again until it returns None.

        Otherwise it returns the seconds of work that will follow from this piece.
        """
        self._waiting.append(work)
        if self._handle is None:
            self._next(0.0)

    def _next(self, pause_s: float) -> None:
        self._handle = asyncio.get_running_loop().call_later(pause_s, self._take)

    def _take(self) -> None:
        self._handle = None
        work = self._waiting.popleft()
        begun = time.monotonic()
        follows_s = work()
        if follows_s is not None:
            self._waiting.append(work)
        if self._waiting and self._handle is None:
            took_s = time.monotonic() - begun + (follows_s or 0.0)
            self._next(took_s * _PAUSE)

    def close(self) -> None:
        self._waiting.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
