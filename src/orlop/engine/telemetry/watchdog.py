"""Report callbacks that block the engine's event loop, with their stacks.

    watchdog = Watchdog()
    with asyncio.Runner(loop_factory=watchdog.new_loop) as runner, watchdog.watching():
        runner.run(...)
    watchdog.stalls  # {"orlop.store.metadata.put": 2}: how often, by the running function

The loop only notes, in its selector, whether it waits. A thread checks the loop twenty times a
second while it works, and sleeps while it waits.
"""

import asyncio
import logging
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

log = logging.getLogger(__name__)

LIMIT_S = 0.1
_EVERY_S = 0.05
_IDLE_LOOKS = 20  # checks that find the loop waiting before the thread sleeps
_QUIET_S = 1.0  # between two log lines about the same place
_MOST_FRAMES = 30
_MOST_PLACES = 99  # as labels of a metric
_OTHER = "other"
_PACKAGE = "orlop."
_RUN = asyncio.Handle._run.__code__  # calls every callback


class _Selector(selectors.DefaultSelector):
    """Notes whether the loop waits; wakes the thread if it sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.working = True
        self.sleeper: threading.Event | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.working = False
        found = super().select(timeout)
        self.working = True
        if self.sleeper is not None:
            self.sleeper.set()
            self.sleeper = None
        return found


class _Sight(NamedTuple):
    """A running callback, and since when the thread has seen it."""

    handle: object
    since_s: float
    told: bool


class Watchdog:
    """Watches one event loop."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self.stalls: dict[str, int] = {}
        self._limit_s = limit_s
        self._selector = _Selector()
        self._sight: _Sight | None = None
        self._told_s: dict[str, float] = {}
        self._stop = threading.Event()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that is watched."""
        return asyncio.SelectorEventLoop(self._selector)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch, inside the block, the loop of the calling thread."""
        loop_thread = threading.get_ident()
        thread = threading.Thread(
            target=self._watch, args=(loop_thread,), name="loop-watch", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            if self._selector.sleeper is not None:
                self._selector.sleeper.set()
            thread.join()

    def _watch(self, loop_thread: int) -> None:
        idle = 0
        processor = time.pthread_getcpuclockid(loop_thread)
        used_s = time.clock_gettime(processor)
        while not self._stop.wait(_EVERY_S):
            now_s = time.monotonic()
            if not self._selector.working:
                self._sight = None
                idle += 1
                if idle >= _IDLE_LOOKS:
                    self._sleep()
                    idle = 0
            else:
                idle = 0
                # one that holds the interpreter was not seen before, but has used the processor
                alone_s = time.clock_gettime(processor) - used_s - _EVERY_S
                self._look(sys._current_frames().get(loop_thread), now_s, alone_s)
            used_s = time.clock_gettime(processor)

    def _sleep(self) -> None:
        """Sleep until the loop works."""
        woken = threading.Event()
        self._selector.sleeper = woken
        if not (self._selector.working or self._stop.is_set()):
            woken.wait()

    def _look(self, frame: FrameType | None, now_s: float, alone_s: float) -> None:
        frames = _frames_of_callback(frame)
        if not frames:
            self._sight = None
            return
        handle = frames[-1].f_locals["self"]
        sight = self._sight
        if sight is None or sight.handle is not handle:
            sight = _Sight(handle, now_s - max(0.0, alone_s), told=False)
        if not sight.told and now_s - sight.since_s >= self._limit_s:
            self._tell(frames, now_s - sight.since_s)
            sight = sight._replace(told=True)
        self._sight = sight

    def _tell(self, frames: list[FrameType], lasted_s: float) -> None:
        place = _place(frames)
        if place not in self.stalls and len(self.stalls) >= _MOST_PLACES:
            place = _OTHER
        self.stalls[place] = self.stalls.get(place, 0) + 1
        now_s = time.monotonic()
        if now_s - self._told_s.get(place, -_QUIET_S) < _QUIET_S:
            return
        self._told_s[place] = now_s
        stack = "".join(traceback.format_list(_summary(frames))).rstrip()
        fields = {"place": place, "ms": round(lasted_s * 1000)}
        log.warning("a callback holds up the event loop\n%s", stack, extra=fields)


def _frames_of_callback(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of the callback that is being called, innermost first; [] if none is."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        if frame.f_code is _RUN:
            return frames
        frame = frame.f_back
    return []


def _place(frames: list[FrameType]) -> str:
    """Name the innermost function that belongs to Orlop."""
    for frame in frames:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_PACKAGE):
            return f"{module}.{frame.f_code.co_name}"
    return _OTHER


def _summary(frames: list[FrameType]) -> traceback.StackSummary:
    """Return the innermost frames, outermost first, as tracebacks have them."""
    shown = reversed(frames[:-1][:_MOST_FRAMES])
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in shown)
