"""The door between an event loop and verbs that wait."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from orlop.errors import OrlopError
from orlop.sandbox.interrupt import Interrupt

T = TypeVar("T")


async def in_thread(
    function: Callable[[], T],
    *,
    interrupt: Callable[[], None] | None = None,
    undo: Callable[[T], object] | None = None,
) -> T:
    """Run *function* in a thread of its own, and wait for its end even when cancelled.

    So nothing goes on behind the back of who has cancelled. *interrupt* is what
    then makes *function* return soon; *undo* is called with what it has returned nevertheless.
    No pool of threads: those that wait for a process could fill it, and who is to kill the
    process would wait for them.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # T may be None

    def work() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    context = contextvars.copy_context()  # in which a trace may be
    threading.Thread(target=context.run, args=(work,), name="orlop", daemon=True).start()
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            if cancelled is None and interrupt is not None:
                _begin(interrupt)
            cancelled = error
    if cancelled is not None:
        if future.exception() is None and undo is not None:  # seen, so asyncio does not warn
            await in_thread(partial(undo, future.result()))
        raise cancelled
    return future.result()


async def interruptible(verb: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
    """Do *verb* as in_thread() does; cancelled, what it has had current() end is ended."""
    interrupt = Interrupt()
    work = partial(interrupt.during, verb)
    return await in_thread(work, interrupt=interrupt.ask, undo=undo)


def _begin(interrupt: Callable[[], None]) -> None:
    def work() -> None:
        with contextlib.suppress(OrlopError, OSError):
            interrupt()

    threading.Thread(target=work, name="orlop-interrupt", daemon=True).start()
