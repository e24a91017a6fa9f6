"""Runners for programs with an event loop."""

from collections.abc import Mapping, Sequence
from functools import partial

from orlop.sandbox.async_process import AsyncProcess
from orlop.sandbox.asynchronous import begun
from orlop.sandbox.options import Options
from orlop.sandbox.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result
from orlop.sandbox.runner import Runner


class AsyncRunner(Options):
    """See Runner: the same options and verbs, with await.

    A cancelled run() has been killed, with its sandbox, when the cancellation is seen.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._runner = Runner(**self.given())

    async def run(
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109 (it ends the process, not the waiting)
        output_limit: int = OUTPUT_LIMIT,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> Result:
        """See Runner.run."""
        process = await self.exec(
            command, input=input, timeout=timeout, environment=environment, workdir=workdir
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
        workdir: str = "",
    ) -> AsyncProcess:
        """See Runner.exec."""
        start = partial(
            self._runner.exec,
            command,
            input=input,
            timeout=timeout,
            environment=environment,
            workdir=workdir,
        )
        return AsyncProcess(await begun(start))
