"""The same sandboxes for programs with an event loop. Cancelling is safe everywhere:

a cancelled run() or exec has been killed, with all that it had started, and a
cancelled start has been undone, when the cancellation is seen.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from types import TracebackType
from typing import BinaryIO, Self

from orlop.sandbox.files import Files
from orlop.sandbox.options import Options
from orlop.sandbox.process import OUTPUT_LIMIT, Process
from orlop.sandbox.result import Result, StreamName
from orlop.sandbox.sandbox import Sandbox
from orlop.sandbox.threads import in_thread


class AsyncSandbox(Options):
    """See Sandbox: the same options and verbs, with await."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {option.name: getattr(self, option.name) for option in fields(Options)}
        self._box = Sandbox(**given)

    async def __aenter__(self) -> Self:
        return await self.start()

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
    def id(self) -> str:
        """See Sandbox.id."""
        return self._box.id

    @property
    def files(self) -> "AsyncFiles":
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
    ) -> "AsyncProcess":
        """See Sandbox.exec."""
        started: list[Process] = []

        def start() -> None:
            started.append(
                self._box.exec(
                    command,
                    input=input,
                    timeout=timeout,
                    environment=environment,
                    user=user,
                    workdir=workdir,
                )
            )

        try:
            await in_thread(start)
        except asyncio.CancelledError:
            for process in started:
                await in_thread(process.close)
            raise
        return AsyncProcess(started[0])

    async def pause(self) -> None:
        """See Sandbox.pause."""
        await in_thread(self._box.pause)

    async def resume(self) -> None:
        """See Sandbox.resume."""
        await in_thread(self._box.resume)

    async def snapshot(self, name: str) -> str:
        """See Sandbox.snapshot."""
        return await in_thread(partial(self._box.snapshot, name))


class AsyncProcess:
    """See Process. One whose output somebody was waiting for when cancelled has been killed."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See Process.close."""
        await in_thread(self._process.close)

    async def __aiter__(self) -> AsyncIterator[tuple[StreamName, bytes]]:
        pieces = iter(self._process)
        while True:
            piece = await in_thread(lambda: next(pieces, None), interrupt=self._process.kill)
            if piece is None:
                return
            yield piece

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """See Process.send."""
        await in_thread(partial(self._process.send, data, end=end))

    async def result(self, *, output_limit: int = OUTPUT_LIMIT) -> Result:
        """See Process.result."""
        waiting = partial(self._process.result, output_limit=output_limit)
        return await in_thread(waiting, interrupt=self._process.kill)

    @property
    def exit_code(self) -> int:
        """See Process.exit_code."""
        return self._process.exit_code

    @property
    def timed_out(self) -> bool:
        """Whether it was killed at its time limit."""
        return self._process.timed_out

    async def kill(self) -> None:
        """See Process.kill."""
        await in_thread(self._process.kill)


class AsyncFiles:
    """See Files."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, path: str) -> bytes:
        """See Files.read."""
        return await in_thread(partial(self._files.read, path))

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """See Files.stream."""
        pieces = self._files.stream(path)
        try:
            while (piece := await in_thread(lambda: next(pieces, None))) is not None:
                yield piece
        finally:
            await in_thread(pieces.close)

    async def write(self, path: str, data: bytes | BinaryIO, *, mode: int = 0o644) -> None:
        """See Files.write."""
        await in_thread(partial(self._files.write, path, data, mode=mode))

    async def put(self, source: str | os.PathLike[str], path: str) -> None:
        """See Files.put."""
        await in_thread(partial(self._files.put, source, path))

    async def get(self, path: str, target: str | os.PathLike[str]) -> None:
        """See Files.get."""
        await in_thread(partial(self._files.get, path, target))
