"""The one thread that changes the machine's network.

It is a separate thread because it enters other network namespaces, and because its work must
be done in order. It is started when first needed.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from orlop.engine.threads import finished

if TYPE_CHECKING:
    from orlop.engine.networks.host import Host

P = ParamSpec("P")
T = TypeVar("T")


class NetworkThread:
    """Runs methods of a Host in order; *on_made* is called in the loop, once."""

    def __init__(self, make: "Callable[[], Host]", on_made: "Callable[[Host], None]") -> None:
        self._make = make
        self._on_made = on_made
        self._told = False
        self._executor: ThreadPoolExecutor | None = None
        self._host: Host | None = None

    @property
    def started(self) -> bool:
        return self._executor is not None

    async def call(
        self, method: "Callable[Concatenate[Host, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run Host.method in the thread and wait for its end, even when cancelled."""
        work = functools.partial(self._work, method, *args, **kwargs)
        try:
            return await finished(asyncio.get_running_loop().run_in_executor(self._running(), work))
        finally:
            if not self._told and self._host is not None:
                self._told = True
                self._on_made(self._host)

    def post(
        self, method: "Callable[Concatenate[Host, P], None]", *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Queue Host.method; its errors are logged."""
        self._running().submit(functools.partial(self._work, method, *args, **kwargs))

    def _running(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")
        return self._executor

    def _work(
        self, method: "Callable[Concatenate[Host, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if self._host is None:
            self._host = self._make()
        return method(self._host, *args, **kwargs)

    def close(self) -> None:
        """End the thread once its work is done."""
        if self._executor is not None:
            if self._host is not None:
                self._executor.submit(self._host.close)
            self._executor.shutdown(wait=True)
            self._executor = self._host = None
