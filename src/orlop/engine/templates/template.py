"""One template: its process, the forks of it that wait, and those that run."""

import asyncio
import itertools
import os
import stat
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from orlop.engine.templates.child import Child
from orlop.engine.templates.zygote import Zygote
from orlop.errors import OrlopError, UnavailableError
from orlop.model.oci import Resources

_WAITING = 2  # forks that are made while nobody needs them; more where runs had to wait
_MOST_WAITING = 8
_AT_ONCE = 8  # forks on their way
_FILL_AFTER_S = 0.005
_KILLED = 137
_ENDED = "the template's process has ended"


class GoneError(UnavailableError):
    """There is no template any more, and the run has not begun."""


class Ended(NamedTuple):
    """What became of a run."""

    exit_code: int
    timed_out: bool
    usage: Sequence[int] = ()
    oom_killed: bool = False


class Place(NamedTuple):
    """Where a template's runs are, and who they are on this machine."""

    groups: str  # path of the cgroup that holds theirs
    limits: Resources  # of each
    uid: int
    gid: int


class Template:
    """Forks ahead, so that a run finds its process waiting."""

    def __init__(
        self,
        zygote: Zygote,
        place: Place,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._zygote = zygote
        self._place = place
        self._spawn = spawn
        self._numbers = itertools.count()
        self._idle: deque[Child] = deque()
        self._wanted: deque[asyncio.Future[Child]] = deque()
        self._making: set[asyncio.Task[None]] = set()
        self._children: set[Child] = set()
        self._ahead = _WAITING
        self._over = ""

    def fill(self) -> None:
        """Have as many forks made as are wanted now."""
        making = len(self._making)
        missing = len(self._wanted) + self._ahead - len(self._idle) - making
        for _ in range(0 if self._over else min(missing, _AT_ONCE - making)):
            task = self._spawn(self._make())
            self._making.add(task)
            task.add_done_callback(self._made)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._making.discard(task)
        if self._wanted:
            self.fill()

    async def _make(self) -> None:
        path = f"{self._place.groups}/{next(self._numbers)}"
        try:
            child = await Child.make(self._zygote, path, self._place.limits)
        except (OrlopError, OSError) as error:
            self._refuse(error)
            return
        self._children.add(child)
        while self._wanted:
            waiting = self._wanted.popleft()
            if not waiting.done():
                waiting.set_result(child)
                return
        self._idle.append(child)

    def _refuse(self, error: OrlopError | OSError) -> None:
        """Tell who waits longest; what nobody waits for is tried again by the next."""
        failure = error if isinstance(error, OrlopError) else UnavailableError(str(error))
        if self._zygote.gone:
            failure = GoneError(self._over or _ENDED)
        while self._wanted:
            waiting = self._wanted.popleft()
            if not waiting.done():
                waiting.set_exception(failure)
                return

    async def run(
        self, fds: Sequence[int], *, timeout_s: float | None, over: asyncio.Future[Any]
    ) -> Ended:
        """Run code (the last of *fds*) on the streams that the others are, to its end.

        It is killed after *timeout_s*, and when *over* is done.
        """
        for fd in fds[:3]:
            self._own(fd)
        beginning = asyncio.ensure_future(self._begin(fds))
        try:
            await asyncio.wait(
                {beginning, over}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not beginning.done():
                raise UnavailableError("the template has not forked in time")
            child = await beginning
        finally:
            beginning.cancel()
        try:
            return await self._finish(child, timeout_s, over)
        finally:
            self._spawn(self._discard(child))

    async def _begin(self, fds: Sequence[int]) -> Child:
        """Return a child that has been told to run; one that somebody has killed meanwhile is not.

        GoneError where there is none to be had.
        """
        while True:
            child = await self._take()
            try:
                child.go(fds)
            except ConnectionError:
                self._spawn(self._discard(child))
            else:
                return child

    async def _finish(
        self, child: Child, timeout_s: float | None, over: asyncio.Future[Any]
    ) -> Ended:
        ending = asyncio.ensure_future(child.wait())
        timed_out = False
        try:
            await asyncio.wait(
                {ending, over}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not ending.done():
                timed_out = not over.done()
                child.kill()
            told = await ending
        finally:
            ending.cancel()
        if told is not None:
            killed = told.status == _KILLED and child.was_out_of_memory
            return Ended(told.status, timed_out, told.usage, killed)
        ours = timed_out or over.done()
        if not ours and (self._over or not await self._zygote.answers()):
            raise UnavailableError(self._over or _ENDED)
        return Ended(_KILLED, timed_out, oom_killed=not ours and child.was_out_of_memory)

    async def _take(self) -> Child:
        if self._over or self._zygote.gone:
            raise GoneError(self._over or _ENDED)
        if self._idle:
            child = self._idle.popleft()
            if self._idle:  # the run is what the processors are for now
                asyncio.get_running_loop().call_later(_FILL_AFTER_S, self.fill)
            else:
                self.fill()
            return child
        self._ahead = min(self._ahead + 1, _MOST_WAITING)
        waiting: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._wanted.append(waiting)
        self.fill()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._idle.append(waiting.result())
            raise

    def _own(self, fd: int) -> None:
        """Let the run open its streams by name, as /dev/stdout: pipes are files with an owner."""
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, self._place.uid, self._place.gid)

    async def _discard(self, child: Child) -> None:
        await child.close()
        self._children.discard(child)

    async def close(self, why: str) -> None:
        """End all runs; those that wait are told *why*."""
        self._over = why
        await self._zygote.close()
        while self._wanted:
            self._refuse(GoneError(why))
        self._idle.clear()
        await asyncio.gather(*self._making, return_exceptions=True)
        await asyncio.gather(*(child.close() for child in self._children), return_exceptions=True)
        self._children.clear()
