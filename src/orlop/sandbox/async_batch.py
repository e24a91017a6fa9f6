"""Many sandboxes at once for programs with an event loop."""

import asyncio

from orlop.sandbox.asynchronous import AsyncSandbox
from orlop.sandbox.batch import Batch, BatchOptions
from orlop.sandbox.closing import AsyncClosed
from orlop.sandbox.options import named
from orlop.sandbox.threads import in_thread, interruptible


@named
class AsyncBatch(BatchOptions, AsyncClosed):
    """See Batch: `async with orlop.AsyncBatch(count=100) as boxes`.

    Where its start is cancelled none is left when the cancellation is seen.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._batch = Batch(**self.given())

    async def __aenter__(self) -> list[AsyncSandbox]:
        return await self.start()

    async def start(self) -> list[AsyncSandbox]:
        """See Batch.start."""
        try:
            boxes = await interruptible(self._batch.start)
        except asyncio.CancelledError:
            await self.close()
            raise
        return [AsyncSandbox.of(box) for box in boxes]

    async def close(self) -> None:
        """See Batch.close."""
        await in_thread(self._batch.close)
