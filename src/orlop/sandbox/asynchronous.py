"""The same sandboxes for programs with an event loop. Cancelling is safe everywhere:

a cancelled run() or exec has been killed, with all that it had started, and a
cancelled start has been undone, when the cancellation is seen.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Self

from orlop.sandbox.async_commands import AsyncCommands, begun
from orlop.sandbox.async_files import AsyncFiles
from orlop.sandbox.async_process import AsyncTerminal
from orlop.sandbox.closing import AsyncClosing
from orlop.sandbox.options import Options, named
from orlop.sandbox.result import Usage
from orlop.sandbox.sandbox import Sandbox
from orlop.sandbox.threads import in_thread, interruptible
from orlop.sandbox.timeline import Timeline


@named
class AsyncSandbox(Options, AsyncClosing, AsyncCommands):
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

    async def start(self) -> Self:
        """See Sandbox.start."""
        try:
            await interruptible(self._box.start)
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

    @property
    def _commands(self) -> Sandbox:
        return self._box

    async def terminal(  # noqa: PLR0913 (see Commands.run)
        self,
        command: Sequence[str] = ("sh",),
        *,
        rows: int = 24,
        columns: int = 80,
        timeout: float | None = None,  # noqa: ASYNC109
        environment: Mapping[str, str] | None = None,
        user: str | int = "",
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

    async def timeline(self) -> Timeline:
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
