"""An event loop of a page: descriptors by epoll(7), timers by a heap, no threads.

The shim forks, so its loop must be one that a child can simply not go on with;
asyncio would bring its signal wakeups, its selector and 9 MB along.
"""

import contextlib
import heapq
import itertools
import select
import time
import traceback
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANGUP = select.EPOLLHUP | select.EPOLLERR

_MOST_DEFECTS = 1000
_DEFECT_S = 0.01  # what would happen again at once burns no processor


class Timer:
    """A call to be made later, unless cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Level-triggered: a callback that did not take everything is called again.

    A callback may be called for nothing; it works on a descriptor that does not
    block and takes BlockingIOError for an answer. An exception that it lets out is
    a defect of ours: printed, and survived, for others live by this loop; but not
    for ever.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._stopped = False
        self._defects = 0

    def watch(self, fd: int, callback: Callable[[int], None], *, events: int = READ) -> None:
        """Call *callback* with what happened on *fd*: READ, WRITE, HANGUP bits.

        With events=0 only a hang-up is told, and told for ever: forget it then.
        """
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._fresh.add(fd)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Watch *fd* no more. One not watched, or just closed, is no error."""
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call *callback* once, after *seconds*."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), timer))
        return timer

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Dispatch until stop()."""
        while not self._stopped:
            self.step()

    def step(self) -> None:
        """Wait for one batch of events and dispatch it, then the timers that are due."""
        batch = self._epoll.poll(self._patience())
        # A number closed and opened again within the batch is another file: its
        # event is stale, and if there is news the next round tells it.
        self._fresh.clear()
        for fd, events in batch:
            callback = self._callbacks.get(fd)
            if callback is not None and fd not in self._fresh:
                self._call(callback, events)
        self._run_timers()

    def close(self) -> None:
        """Give up the epoll descriptor; what was watched stays open."""
        self._epoll.close()
        self._callbacks.clear()
        self._timers.clear()

    def _patience(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)

    def _call(self, callback: Callable[..., None], *arguments: int) -> None:
        try:
            callback(*arguments)
        except Exception:
            self._defects += 1
            if self._defects > _MOST_DEFECTS:
                raise
            traceback.print_exc()
            time.sleep(_DEFECT_S)
