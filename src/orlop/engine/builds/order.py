"""What stages that run at the same time tell, in the order of the stages."""

import asyncio
from collections.abc import Sequence

from orlop.engine.builds.request import BuildEvent, Tell

_MOST_HELD_BYTES = 1 << 20
_OVERHEAD = 100  # of an event, about


class InOrder:
    """Passes on what the first unfinished stage tells, and holds what later ones do.

    A stage that tells too much waits for its turn: earlier ones never wait for it.
    """

    def __init__(self, tell: Tell, stages: Sequence[int]) -> None:
        self._tell = tell
        self._left = list(stages)
        self._held: dict[int, list[BuildEvent]] = {number: [] for number in stages}
        self._bytes = 0
        self._over: set[int] = set()
        self._lock = asyncio.Lock()
        self._moved = asyncio.Event()

    async def tell(self, stage: int, event: BuildEvent) -> None:
        while stage != self._left[0] and self._bytes > _MOST_HELD_BYTES:
            self._moved.clear()
            await self._moved.wait()
        self.note(stage, event)
        if stage == self._left[0]:
            await self._flush(stage)

    def note(self, stage: int, event: BuildEvent) -> None:
        """Hold an event for the next call of tell() or finish()."""
        self._held[stage].append(event)
        self._bytes += len(event.data) + _OVERHEAD

    async def finish(self, stage: int) -> None:
        """Let the later stages have their turn: *stage* tells no more."""
        self._over.add(stage)
        while self._left and self._left[0] in self._over:
            await self._flush(self._left[0])
            del self._left[0]
            self._moved.set()
        if self._left:
            await self._flush(self._left[0])

    async def fail(self, stage: int) -> None:
        """Tell at once what *stage* has told so far: it ends the build."""
        await self._flush(stage)

    async def _flush(self, stage: int) -> None:
        async with self._lock:
            held = self._held[stage]
            while held:
                event = held.pop(0)
                self._bytes -= len(event.data) + _OVERHEAD
                await self._tell(event)
            self._moved.set()
