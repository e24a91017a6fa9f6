"""Talking to a command that runs: its output read, its input sent, its time limit minded."""

import os
import select
import time
import weakref
from collections.abc import Collection, Iterator

from orlop.client.failure import check_descriptors
from orlop.errors import UnavailableError
from orlop.model.timeline import OFF
from orlop.sandbox.closing import Closing
from orlop.sandbox.processes.input import Input
from orlop.sandbox.result import StreamName, Usage
from orlop.sandbox.timeline import Timeline
from orlop.sandbox.way import Command, End, Handle, Runs

_AFTER_LIMIT_S = 1.0  # by then the engine has killed it
_AFTER_KILL_S = 15.0  # the engine itself gives up after ten


class Conversation(Closing):
    """What Process and Terminal have in common.

    At the time limit the command is killed with all that it has started, as by kill(). The
    engine does so, whether or not the output is read; who reads is there for an engine that
    was killed meanwhile, and knows of no limits when it comes back.
    """

    def __init__(self, box: Runs, command: Command) -> None:
        self._begun_s = time.monotonic()
        self._times, self._begun_ns = command.times, command.times.now()
        self._limit_s = command.timeout and self._begun_s + command.timeout + _AFTER_LIMIT_S
        self._timed_out = False
        self._wake = _event() if command.has_input else -1  # there is input to send
        try:
            self._handle = box.exec(command)
        except BaseException:
            _close(self._wake)
            raise
        self._input = Input(self._handle)
        self._dropped = weakref.finalize(self, _let_go, self._handle, self._wake)

    def _pieces(self) -> Iterator[tuple[StreamName, bytes]]:
        """Yield output as it comes, until all of it and the command have ended."""
        handle = self._handle
        while handle.readable:
            ready = handle.readable if handle.pending else self._ready()
            if ready:
                yield from handle.receive(ready)

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Have *data* written to its input, and with *end* its input closed then.

        What does not fit goes out while the output is read, by iterating or by result(). Where
        16 MB of what was sent before wait for the command to read them, this waits, too, but
        for the last: who sends so much in pieces has to read in another thread, or task.
        """
        self._input.put(data, end=end)
        if self._input and self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    @property
    def exit_code(self) -> int:
        """Known once all output has been read; WrongStateError before."""
        return self._end().exit_code

    @property
    def usage(self) -> Usage:
        """What it has used in all, known when its exit code is."""
        return self._end().usage

    @property
    def timed_out(self) -> bool:
        """Whether it was killed at its time limit, or its sandbox's; known as its exit code is."""
        return self._timed_out or (not self._handle.readable and self._end().timed_out)

    @property
    def oom_killed(self) -> bool:
        """Whether it was killed for want of memory, known when its exit code is."""
        return self._end().oom_killed

    def _end(self) -> End:
        return self._handle.end()

    def _timeline(self) -> Timeline:
        """Return its steps until now, of one that is timed and has ended."""
        times = self._times
        if times is OFF:
            return Timeline()
        steps = self._handle.steps()
        if steps:
            times.note("answer", max(step.end_ns for step in steps))
        times.note("run", self._begun_ns)
        return Timeline([*times.steps, *steps])

    def kill(self) -> None:
        """Kill it and all that it has started; one that has ended is no error."""
        self._handle.kill()

    def close(self) -> None:
        """Kill it, unless its output has ended, and let go of it."""
        if not self._dropped.alive:
            return
        try:
            if not self._handle.ended:
                self.kill()
        finally:
            self._input.close()
            with self._input.lock:
                self._dropped()

    def _ready(self) -> Collection[int]:
        """Return what can be read, waiting for it. Sends input, and minds the time limit."""
        handle = self._handle
        events = dict.fromkeys(handle.readable, select.POLLIN)
        if self._input and handle.writable >= 0:
            events[handle.writable] = events.get(handle.writable, 0) | select.POLLOUT
        if self._wake >= 0:
            events[self._wake] = select.POLLIN
        found = self._poll(events)
        if not found:
            self._expire()
        if self._wake in found:
            os.eventfd_read(self._wake)
        if self._input and found.get(handle.writable, 0) & ~select.POLLIN:
            self._input.flush()
        return [fd for fd in handle.readable if found.get(fd, 0) & ~select.POLLOUT]

    def _poll(self, events: dict[int, int]) -> dict[int, int]:
        """Return what descriptors are ready for; nothing at the time limit."""
        poll = select.poll()
        for descriptor, wanted in events.items():
            poll.register(descriptor, wanted)
        limit_s = self._limit_s
        wait_ms = None if limit_s is None else max(0.0, limit_s - time.monotonic()) * 1000
        return dict(poll.poll(wait_ms))

    def _expire(self) -> None:
        if self._timed_out:
            raise UnavailableError("a process that was killed has not ended")
        self._timed_out = True
        self._limit_s = time.monotonic() + _AFTER_KILL_S
        self.kill()


def _event() -> int:
    try:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except OSError as error:
        check_descriptors(error)
        raise


def _let_go(handle: Handle, wake: int) -> None:
    handle.close()
    _close(wake)


def _close(wake: int) -> None:
    if wake >= 0:
        os.close(wake)
