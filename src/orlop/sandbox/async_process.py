"""Commands of a sandbox for programs with an event loop."""

import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Generic, TypeVar

from orlop.sandbox.closing import AsyncClosing
from orlop.sandbox.conversation import Conversation
from orlop.sandbox.process import OUTPUT_LIMIT, Process
from orlop.sandbox.result import Result, StreamName, Usage
from orlop.sandbox.terminal import Terminal
from orlop.sandbox.threads import in_thread

T = TypeVar("T")
C = TypeVar("C", bound=Conversation)


class AsyncConversation(AsyncClosing, Generic[C]):
    """See Conversation. A command that was waited for when that was cancelled has been killed."""

    def __init__(self, process: C) -> None:
        self._process = process

    async def close(self) -> None:
        """See Conversation.close."""
        await in_thread(self._process.close)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """See Conversation.send. Cancelled while it waits, nothing of *data* is sent."""
        given_up = threading.Event()
        sending = partial(self._process._send, data, end=end, given_up=given_up)
        await in_thread(sending, interrupt=given_up.set)

    @property
    def exit_code(self) -> int:
        """See Conversation.exit_code."""
        return self._process.exit_code

    @property
    def usage(self) -> Usage:
        """See Conversation.usage."""
        return self._process.usage

    @property
    def oom_killed(self) -> bool:
        """See Conversation.oom_killed."""
        return self._process.oom_killed

    @property
    def timed_out(self) -> bool:
        """Whether it was killed at its time limit."""
        return self._process.timed_out

    async def kill(self) -> None:
        """See Conversation.kill."""
        await in_thread(self._process.kill)

    async def _next(self, pieces: Iterator[T]) -> T | None:
        """Return the next of *pieces*; cancelled, it kills the command."""
        return await in_thread(lambda: next(pieces, None), interrupt=self._process.kill)


class AsyncProcess(AsyncConversation[Process]):
    """See Process."""

    async def __aiter__(self) -> AsyncIterator[tuple[StreamName, bytes]]:
        pieces = iter(self._process)
        while (piece := await self._next(pieces)) is not None:
            yield piece

    async def result(self, *, output_limit: int = OUTPUT_LIMIT) -> Result:
        """See Process.result."""
        waiting = partial(self._process.result, output_limit=output_limit)
        return await in_thread(waiting, interrupt=self._process.kill)


class AsyncTerminal(AsyncConversation[Terminal]):
    """See Terminal."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self._process)
        while (piece := await self._next(pieces)) is not None:
            yield piece

    async def resize(self, *, rows: int, columns: int) -> None:
        """See Terminal.resize."""
        await in_thread(partial(self._process.resize, rows=rows, columns=columns))
