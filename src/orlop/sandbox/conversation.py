"""Talking to a command that runs: its output read, its input sent, its time limit minded."""

import os
import select
import threading
import time
import weakref
from collections.abc import Collection, Iterator

from orlop.errors import InvalidArgumentError, UnavailableError, WrongStateError
from orlop.sandbox.closing import Closing
from orlop.sandbox.result import StreamName, Usage
from orlop.sandbox.way import Command, End, Handle, Runs

_SEND_BYTES = 256 << 10
_AFTER_KILL_S = 15.0  # the engine itself gives up after ten


class Conversation(Closing):
    """What Process and Terminal have in common.

    At the time limit, which is minded while its output is read, the command is killed with
    all that it has started, as by kill().
    """

    def __init__(self, box: Runs, command: Command, *, timeout: float | None) -> None:
        if timeout is not None and not timeout > 0:
            raise InvalidArgumentError(f"invalid timeout {timeout!r}", hint="seconds, above 0")
        self._begun_s = time.monotonic()
        self._limit_s = None if timeout is None else self._begun_s + timeout
        self._timed_out = False
        self._input = memoryview(b"")
        self._input_ends = False
        self._sending = threading.Lock()  # send() may come from another thread
        self._handle = box.exec(command)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # there is input to send
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

        It goes out while the output is read, by iterating or by result().
        """
        if not self._dropped.alive:
            raise WrongStateError("the command has been let go of")
        with self._sending:
            self._input = memoryview(bytes(self._input) + data)
            self._input_ends = self._input_ends or end
            self._flush()
            if self._input:
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
        """Whether it was killed at its time limit."""
        return self._timed_out

    def _end(self) -> End:
        return self._handle.end()

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
            self._dropped()

    def _ready(self) -> Collection[int]:
        """Return what can be read, waiting for it. Sends input, and minds the time limit."""
        handle = self._handle
        events = dict.fromkeys(handle.readable, select.POLLIN)
        if self._input and handle.writable >= 0:
            events[handle.writable] = events.get(handle.writable, 0) | select.POLLOUT
        found = self._poll({**events, self._wake: select.POLLIN})
        if not found:
            self._expire()
        if self._wake in found:
            os.eventfd_read(self._wake)
        if self._input and found.get(handle.writable, 0) & ~select.POLLIN:
            with self._sending:
                self._flush()
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

    def _flush(self) -> None:
        """Send as much of the input as there is room for."""
        try:
            while self._input and (count := self._handle.send(bytes(self._input[:_SEND_BYTES]))):
                self._input = self._input[count:]
        except OSError:  # it reads no more
            self._input = memoryview(b"")
        if self._input_ends and not self._input:
            self._input_ends = False
            self._handle.end_input()


def _let_go(handle: Handle, wake: int) -> None:
    handle.close()
    os.close(wake)
