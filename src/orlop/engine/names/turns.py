"""A bound on the time that floods can take: half of the event loop's, however many there are."""

import asyncio
import time
from collections import deque
from collections.abc import Callable


class Turns:
    """Lets work that has no end in sight go on piece by piece, one piece after the other.

    After each piece the loop belongs to others for as long as the piece took.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], bool]] = deque()
        self._handle: asyncio.TimerHandle | None = None

    def add(self, work: Callable[[], bool]) -> None:
        """Call *work* when its turn comes, and again for as long as it returns True."""
        self._waiting.append(work)
        if self._handle is None:
            self._next(0.0)

    def _next(self, pause_s: float) -> None:
        self._handle = asyncio.get_running_loop().call_later(pause_s, self._take)

    def _take(self) -> None:
        self._handle = None
        work = self._waiting.popleft()
        begun = time.monotonic()
        if work():
            self._waiting.append(work)
        if self._waiting and self._handle is None:
            self._next(time.monotonic() - begun)

    def close(self) -> None:
        self._waiting.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
