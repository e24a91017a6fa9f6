"""Warm sandboxes for programs with an event loop."""

import asyncio
import weakref
from collections.abc import Callable
from functools import partial
from typing import Self

from orlop.sandbox.asynchronous import AsyncSandbox
from orlop.sandbox.closing import AsyncClosing
from orlop.sandbox.options import named
from orlop.sandbox.pool import PoolOptions
from orlop.sandbox.sandbox import Sandbox
from orlop.sandbox.threads import in_thread
from orlop.sandbox.warm import PoolStats, Taking


@named
class AsyncPool(PoolOptions, AsyncClosing):
    """See Pool: the same options and verbs, with await: `async with await pool.take() as box`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._warm = self.warm()
        weakref.finalize(self, self._warm.drop).atexit = False  # else it goes with the program

    async def __aenter__(self) -> Self:
        return await self.start()

    async def start(self) -> Self:
        """See Pool.start."""
        self._warm.start()
        return self

    async def fill(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 (as Pool has it)
        """See Pool.fill."""
        taking = Taking(timeout=timeout)
        await self._waited(taking, partial(self._warm.fill, taking))

    async def take(self, *, timeout: float | None = None) -> AsyncSandbox:  # noqa: ASYNC109
        """See Pool.take. Where it is cancelled no sandbox is lost."""
        box = self._warm.take_ready()
        if box is None:
            box = await self._late(Taking(timeout=timeout))
        return AsyncSandbox.of(box)

    async def _late(self, taking: Taking) -> Sandbox:
        taken: list[Sandbox] = []
        try:
            await self._waited(taking, lambda: taken.append(self._warm.take(taking)))
        except asyncio.CancelledError:
            for box in taken:
                await in_thread(box.close)
            raise
        return taken[0]

    async def _waited(self, taking: Taking, wait: Callable[[], None]) -> None:
        await in_thread(wait, interrupt=partial(self._warm.give_up, taking))

    async def close(self) -> None:
        """See Pool.close."""
        await in_thread(self._warm.close)

    @property
    def ready(self) -> int:
        """See Pool.ready."""
        return self._warm.stats().ready

    @property
    def stats(self) -> PoolStats:
        """See Pool.stats."""
        return self._warm.stats()
