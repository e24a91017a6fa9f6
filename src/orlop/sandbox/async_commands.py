"""The verbs that start commands, for programs with an event loop."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from orlop.sandbox.async_process import AsyncProcess
from orlop.sandbox.commands import Commands
from orlop.sandbox.conversation import Conversation
from orlop.sandbox.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result
from orlop.sandbox.threads import in_thread, interruptible

C = TypeVar("C", bound=Conversation)


class AsyncCommands(Protocol):
    """See Commands. A cancelled verb has killed its command when the cancellation is seen."""

    @property
    def _commands(self) -> Commands: ...

    async def run(  # noqa: PLR0913 (see Commands.run)
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109 (it ends the process, not the waiting)
        output_limit: int = OUTPUT_LIMIT,
        environment: Mapping[str, str] | None = None,
        user: str | int = "",
        workdir: str = "",
    ) -> Result:
        """See Commands.run."""
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
        user: str | int = "",
        workdir: str = "",
    ) -> AsyncProcess:
        """See Commands.exec."""
        start = partial(
            self._commands.exec,
            command,
            input=input,
            timeout=timeout,
            environment=environment,
            user=user,
            workdir=workdir,
        )
        return AsyncProcess(await begun(start))


async def begun(start: Callable[[], C]) -> C:
    """Return what *start* starts; where that is cancelled, it has been killed."""
    started: list[C] = []
    try:
        await interruptible(lambda: started.append(start()))
    except asyncio.CancelledError:
        for conversation in started:
            await in_thread(conversation.close)
        raise
    return started[0]
