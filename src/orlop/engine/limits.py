"""What ends after some time, unless it has ended before."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class TimeLimits(Generic[Key]):
    """Limits by the key of what they are for; each is kept until that has ended."""

    def __init__(self, end: Callable[[Key], None]) -> None:
        """*end* is called with the key of what is to end."""
        self._end = end
        self._timers: dict[Key, asyncio.TimerHandle | None] = {}  # None: its time is over

    def begin(self, key: Key, after_s: float) -> None:
        """Have it end in *after_s* seconds; ended() is the caller's."""
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(max(0.0, after_s), self._over, key)

    def _over(self, key: Key) -> None:
        self._timers[key] = None
        self._end(key)

    def cut(self, key: Key) -> None:
        """Say that its time is over: it is being ended with another."""
        self.ended(key)
        self._timers[key] = None

    def ended(self, key: Key) -> bool:
        """Forget it; return whether its time was over."""
        try:
            timer = self._timers.pop(key)
        except KeyError:
            return False
        if timer is not None:
            timer.cancel()
        return timer is None
