"""The door between the engine's event loop and code that blocks."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: For who waits for other machines: however many those are, the engine's own work has threads.
_MOST_ABROAD = 32
_abroad = ThreadPoolExecutor(_MOST_ABROAD, thread_name_prefix="registry")
#: For who waits for clients, which send and read as slowly as they like.
_MOST_BESIDE = 32
_beside = ThreadPoolExecutor(_MOST_BESIDE, thread_name_prefix="client")

_under_way: set[asyncio.Future[Any]] = set()


def under_way() -> int:
    """Return how many blocking calls are being made, or wait for a thread."""
    return len(_under_way)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking *function* in a worker thread and wait for it to end.

    Even when cancelled: a thread cannot be interrupted, and to return early
    would let the caller drop its locks while the work still runs.

    Never call unshare() or setns() through here, for the thread goes back to
    the pool changed. Those run in a child process.
    """
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await finished(_begun(call))


async def abroad(function: Callable[[], T], *, break_off: Callable[[], None] = lambda: None) -> T:
    """As in_thread(), for a *function* that asks another machine, which may take its time.

    Cancelled, *break_off* is called, so that *function* ends soon.
    """
    call = functools.partial(contextvars.copy_context().run, function)
    return await finished(_begun(call, _abroad), break_off=break_off)


async def beside_client(function: Callable[[], T]) -> T:
    """As in_thread(), for a *function* that waits for a client to send or to read."""
    call = functools.partial(contextvars.copy_context().run, function)
    return await finished(_begun(call, _beside))


def _begun(call: Callable[[], T], threads: ThreadPoolExecutor | None = None) -> asyncio.Future[T]:
    work = asyncio.get_running_loop().run_in_executor(threads, call)
    _under_way.add(work)
    work.add_done_callback(_under_way.discard)
    return work


async def finished(work: asyncio.Future[T], *, break_off: Callable[[], None] = lambda: None) -> T:
    """Wait for the end of *work* in a thread, however often cancelled; then say so."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            if cancelled is None:
                break_off()
            cancelled = error
    try:
        if cancelled is None:
            return work.result()
        if not work.cancelled():
            work.exception()  # seen, so asyncio does not warn
        raise cancelled
    finally:
        del work, cancelled  # an error names this frame: a cycle that would hold what failed
