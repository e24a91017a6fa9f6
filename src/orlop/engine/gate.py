"""A gate: many pass at once, until somebody closes it, who first waits for those on their way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Commands pass one on their way into a sandbox; it is closed while that is being frozen.

    A process that is made in a frozen cgroup stands still before it is of any use, and so
    does the launcher that makes it, for which others wait.
    """

    def __init__(self) -> None:
        self._passing = self._closing = 0
        self._open, self._empty = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._empty.set()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Pass, once it is open."""
        while self._closing:
            await self._open.wait()
        self._passing += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._passing -= 1
            if not self._passing:
                self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Close it, and go in when the last has passed."""
        self._closing += 1
        self._open.clear()
        try:
            await self._empty.wait()
            yield
        finally:
            self._closing -= 1
            if not self._closing:
                self._open.set()
