"""The same templates for programs with an event loop."""

import asyncio
from functools import partial
from typing import Self

from orlop.sandbox.closing import AsyncClosing
from orlop.sandbox.options import named
from orlop.sandbox.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result
from orlop.sandbox.template import Template
from orlop.sandbox.template_options import TemplateOptions
from orlop.sandbox.threads import in_thread, interruptible


@named
class AsyncTemplate(TemplateOptions, AsyncClosing):
    """See Template: the same options and verbs, with await. A cancelled run has been killed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._template = Template(**self.given())

    async def __aenter__(self) -> Self:
        return await self.start()

    async def start(self) -> Self:
        """See Template.start. Cancelled, it has been undone."""
        started: list[Template] = []
        try:
            await interruptible(lambda: started.append(self._template.start()))
        except asyncio.CancelledError:
            for template in started:
                await in_thread(template.close)
            raise
        return self

    async def close(self) -> None:
        """See Template.close."""
        await in_thread(self._template.close)

    @property
    def id(self) -> str:
        """See Template.id."""
        return self._template.id

    async def run(
        self,
        code: str | bytes,
        *,
        input: bytes = b"",  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109 (it ends the run, not the waiting)
        output_limit: int = OUTPUT_LIMIT,
    ) -> Result:
        """See Template.run."""
        work = partial(
            self._template.run, code, input=input, timeout=timeout, output_limit=output_limit
        )
        return await interruptible(work)
