"""The same sandboxes for programs with an event loop. Cancelling is safe everywhere:

a cancelled run() or exec has been killed, with all that it had started, and a
cancelled start has been undone, when the cancellation is seen.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from orlop.model.timeline import Step
from orlop.sandbox.async_files import AsyncFiles
from orlop.sandbox.async_process import AsyncProcess, AsyncTerminal
from orlop.sandbox.conversation import Conversation
from orlop.sandbox.options import Options
from orlop.sandbox.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result, Usage
from orlop.sandbox.sandbox import Sandbox
from orlop.sandbox.threads import in_thread

C = TypeVar("C", bound=Conversation)


class AsyncSandbox(Options):
    """See Sandbox: the same options and verbs, with await."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._box = Sandbox(**self.given())

    @classmethod
    def of(cls, box: Sandbox) -> Self:
        """Return *box* with this class's verbs; it is one sandbox still."""
        made = cls(**box.given())
        made._box = box
        return made

    async def __aenter__(self) -> Self:
        return self if self.started else await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> Self:
        """See Sandbox.start."""
        try:
            await in_thread(self._box.start)
        except asyncio.CancelledError:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """See Sandbox.close."""
        await in_thread(self._box.close)

    @property
    def started(self) -> bool:
        """See Sandbox.started."""
        return self._box.started

    @property
    def alive(self) -> bool:
        """See Sandbox.alive."""
        return self._box.alive

    @property
    def watched(self) -> int:
        """See Sandbox.watched."""
        return self._box.watched

    @property
    def id(self) -> str:
        """See Sandbox.id."""
        return self._box.id

    @property
    def files(self) -> AsyncFiles:
        """Its files: read, write, copy folders in and out."""
        return AsyncFiles(self._box.files)

    async def run(  # noqa: PLR0913 (see Sandbox.run)
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109 (it ends the process, not the waiting)
        output_limit: int = OUTPUT_LIMIT,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
    ) -> Result:
        """See Sandbox.run."""
        process = await self.exec(
            command,
            input=input,
            timeout=timeout,
            environment=environment,
            user=user,
            workdir=workdir,
        )
        async with process:
            return await process.result(output_limit=output_limit)

    async def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = b"",  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109
        environment: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
    ) -> AsyncProcess:
        """See Sandbox.exec."""
        start = partial(
            self._box.exec,
            command,
            input=input,
            timeout=timeout,
            environment=environment,
            user=user,
            workdir=workdir,
        )
        return AsyncProcess(await begun(start))

    async def terminal(  # noqa: PLR0913
        self,
        command: Sequence[str] = ("sh",),
        *,
        rows: int = 24,
        columns: int = 80,
        timeout: float | None = None,  # noqa: ASYNC109
        environment: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
    ) -> AsyncTerminal:
        """See Sandbox.terminal."""
        start = partial(
            self._box.terminal,
            command,
            rows=rows,
            columns=columns,
            timeout=timeout,
            environment=environment,
            user=user,
            workdir=workdir,
        )
        return AsyncTerminal(await begun(start))

    async def pause(self) -> None:
        """See Sandbox.pause."""
        await in_thread(self._box.pause)

    async def resume(self) -> None:
        """See Sandbox.resume."""
        await in_thread(self._box.resume)

    async def snapshot(self, name: str) -> str:
        """See Sandbox.snapshot."""
        return await in_thread(partial(self._box.snapshot, name))

    async def usage(self) -> Usage:
        """See Sandbox.usage."""
        return await in_thread(self._box.usage)

    async def timeline(self) -> Sequence[Step]:
        """See Sandbox.timeline."""
        return await in_thread(self._box.timeline)

    async def address(self, port: int) -> tuple[str, int]:
        """See Sandbox.address."""
        return await in_thread(partial(self._box.address, port))

    async def fork(self, count: int = 1, *, processes: bool = False) -> "list[AsyncSandbox]":
        """See Sandbox.fork."""
        forks: list[Sandbox] = []

        def fork() -> None:
            forks.extend(self._box.fork(count, processes=processes))
            _ = [box.alive for box in forks]  # which waits for their start, and nothing else does

        try:
            await in_thread(fork)
        except asyncio.CancelledError:
            for box in forks:
                await in_thread(box.close)
            raise
        return [AsyncSandbox.of(box) for box in forks]


async def begun(start: Callable[[], C]) -> C:
    """Return what *start* starts; where that is cancelled, it has been killed."""
    started: list[C] = []
    try:
        await in_thread(lambda: started.append(start()))
    except asyncio.CancelledError:
        for conversation in started:
            await in_thread(conversation.close)
        raise
    return started[0]
