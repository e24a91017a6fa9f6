"""Sandboxes that wait to be taken: started by a few threads, watched by one, closed by all.

wanted -> starting -> ready -> taken, its taker's from then on
                        |
                        +-> died: another is wanted
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import NamedTuple

from orlop.errors import OrlopError, UnavailableError, WrongStateError
from orlop.sandbox.boxes.sandbox import Sandbox
from orlop.sandbox.closing import not_open
from orlop.sandbox.interrupt import current

_FIRST_PAUSE_S = 0.1  # after a start that failed; twice as long after the next, and so on
_LONGEST_PAUSE_S = 5.0
_AGAIN_MS = 1000  # until one that could not be closed is tried again


class PoolStats(NamedTuple):
    """Of now, and since the pool was started."""

    ready: int
    starting: int
    taken: int
    waited: int  # of those taken, how many were not ready when they were asked for
    died: int  # while they were ready
    failed: int  # starts


class Warm:
    """Keeps *size* sandboxes that *make* starts, *parallel* of them at a time."""

    def __init__(self, make: Callable[[], Sandbox], *, size: int, parallel: int) -> None:
        self._make = make
        self._size = size
        self._parallel = parallel
        self._changed = threading.Condition()  # guards all below
        self._open = False
        self._dropped = False
        self._ready: deque[Sandbox] = deque()
        self._graves: list[Sandbox] = []  # ended by themselves, and not closed yet
        self._starting = 0
        self._waits = 0  # of takers, that have begun
        self._taken = self._waited = self._died = self._failed = 0
        self._failure: Exception | None = None
        self._threads: list[threading.Thread] = []
        self._wake = -1  # tells the watcher that there is more to watch

    def start(self) -> None:
        """Begin to fill it."""
        if self._threads:
            raise WrongStateError("the pool has been started")
        self._open = True
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        works = [self._watch, *([self._fill] * self._parallel)]
        self._threads = [
            threading.Thread(target=work, name="orlop-pool", daemon=True) for work in works
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let no other start, and return when all are gone that nobody has taken."""
        with self._changed:
            if not self._open:
                return
            self._shut()
        for thread in self._threads:
            thread.join()
        self._forget_wake()

    def drop(self) -> None:
        """Begin to close it. For finalizers, which may run amid anything: it takes no lock."""
        self._dropped = True
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def stats(self) -> PoolStats:
        with self._changed:
            return PoolStats(
                ready=len(self._ready),
                starting=self._starting,
                taken=self._taken,
                waited=self._waited,
                died=self._died,
                failed=self._failed,
            )

    def take_ready(self, *, waited: bool = False) -> Sandbox | None:
        """Return one if one is ready; never waits. *waited*: the taker has done so before."""
        with self._changed:
            box = self._pop()
            self._waited += waited and box is not None
            return box

    def take(self, *, timeout: float | None) -> Sandbox:
        """Return one, waiting for it.

        UnavailableError after *timeout* seconds, or where one could not be started meanwhile;
        WrongStateError once the pool is closed.
        """
        ends_s = time.monotonic() + (inf if timeout is None else timeout)
        box = self.take_ready()
        while box is None:
            self._await(lambda: bool(self._ready), ends_s - time.monotonic())
            box = self.take_ready(waited=True)
        return box

    def fill(self, *, timeout: float | None) -> None:
        """Return when all are ready; raises as take()."""
        self._await(lambda: len(self._ready) >= self._size, inf if timeout is None else timeout)

    def _await(self, enough: Callable[[], bool], left_s: float) -> None:
        """Wait until there is *enough*, or somebody interrupts it."""
        interrupt = current()
        with interrupt.ending(self._notify), self._changed:
            self._wait_for(lambda: interrupt.asked or enough(), left_s)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait_for(self, enough: Callable[[], bool], left_s: float) -> None:
        known = self._failed
        self._waits += 1
        self._changed.notify_all()
        self._changed.wait_for(
            lambda: enough() or not self._open or self._failed > known,
            None if left_s == inf else max(0.0, left_s),
        )
        if not self._open:
            raise not_open("pool", was_started=bool(self._threads))
        if enough():
            return
        if self._failed > known:
            raise UnavailableError(f"no sandbox: {self._failure}") from self._failure
        raise UnavailableError("no sandbox was ready in time")

    def _pop(self) -> Sandbox | None:
        if not self._open:
            raise not_open("pool", was_started=bool(self._threads))
        self._set_aside()
        if not self._ready:
            return None
        self._taken += 1
        self._changed.notify_all()
        return self._ready.popleft()

    def _set_aside(self) -> None:
        """Take those out, from the first to one that is well, that have ended by themselves."""
        while self._ready and not self._ready[0].alive:
            self._graves.append(self._ready.popleft())
            self._died += 1
            self._tell()

    def _shut(self) -> None:
        self._open = False
        self._tell()

    def _forget_wake(self) -> None:
        wake, self._wake = self._wake, -1
        os.close(wake)

    def _tell(self) -> None:
        self._changed.notify_all()
        os.eventfd_write(self._wake, 1)

    def _fill(self) -> None:
        """Start sandboxes as long as more are wanted; then close what is left."""
        pause_s = _FIRST_PAUSE_S
        while self._claimed():
            try:
                self._add(self._make())  # no name here: it would keep one that was taken alive
            except Exception as error:  # whatever it is, a taker is to hear of it
                self._fail(error, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S
        while (left := self._left()) is not None:
            with suppress(OrlopError, OSError):  # it goes with this process
                left.close()

    def _claimed(self) -> bool:
        """Wait until another is wanted, and undertake to start it; False at the pool's end."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._open or len(self._ready) + self._starting < self._size
            )
            self._starting += self._open
            return self._open

    def _add(self, box: Sandbox) -> None:
        with self._changed:
            self._starting -= 1
            self._ready.append(box)
            self._tell()

    def _fail(self, error: Exception, pause_s: float) -> None:
        """Tell those that wait, and try again after a while, or for the next who waits."""
        with self._changed:
            self._starting -= 1
            self._failed += 1
            self._failure = error
            self._changed.notify_all()
            before = self._waits
            self._changed.wait_for(lambda: not self._open or self._waits > before, pause_s)

    def _left(self) -> Sandbox | None:
        with self._changed:
            return self._ready.popleft() if self._ready else None

    def _watch(self) -> None:
        """Look after those that are ready, until the pool's end."""
        while self._bury():
            poll = select.poll()
            with self._changed:
                watched = [box.watched for box in self._ready if box.alive]
            for descriptor in (self._wake, *watched):
                if descriptor >= 0:
                    poll.register(descriptor, select.POLLIN)
            poll.poll(_AGAIN_MS if self._graves else None)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            if self._dropped:
                with self._changed:
                    self._shut()
        if self._dropped:  # and so nobody else waits for the end
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()
            self._forget_wake()

    def _bury(self) -> bool:
        """Close those that have ended by themselves; False at the pool's end."""
        with self._changed:
            dead = [box for box in self._ready if not box.alive]
            for box in dead:
                self._ready.remove(box)
            self._died += len(dead)
            self._graves += dead
            self._changed.notify_all()
            going, graves = self._open, list(self._graves)
        for box in graves:
            with suppress(OrlopError, OSError):  # no engine: try again, or it goes with us
                box.close()
                with self._changed:
                    self._graves.remove(box)
        return going
