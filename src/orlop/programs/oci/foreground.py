"""Serve a process in the foreground: its streams and terminal, its signals, its exit code."""

from __future__ import annotations

import os
import select

from orlop.cli import signals, terminal
from orlop.kernel.process import pidfd_send_signal, wait_exit
from orlop.kernel.terminal import set_size
from orlop.runtime.bundle import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from orlop.lifecycle.notify import Notifier
    from orlop.runtime.bundle import Starting

_PART = 4096  # a writable pipe accepts at least this much at once. pipe(7)
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class Copy:
    """Copies from one descriptor to another."""

    __slots__ = ("pending", "source", "target")

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.pending = b""

    def wants(self) -> tuple[int, int]:
        """Return the descriptor and the event to wait for."""
        return (self.target, select.POLLOUT) if self.pending else (self.source, select.POLLIN)

    def go_on(self) -> bool:
        """Copy a part; False at the end of the input, or if nobody reads the output."""
        try:
            if not self.pending:
                self.pending = os.read(self.source, _PART)
                return bool(self.pending)
            self.pending = self.pending[os.write(self.target, self.pending) :]
        except BlockingIOError:
            return True
        except OSError:  # a terminal that is closed everywhere, a pipe without a reader
            return False
        return True


class Notice(Copy):
    """Passes on a container's message that it is ready."""

    __slots__ = ("_notifier", "_pid")

    def __init__(self, notifier: Notifier, pid: int) -> None:
        super().__init__(notifier.fileno(), -1)
        self._notifier = notifier
        self._pid = pid

    def go_on(self) -> bool:
        """Pass it on once."""
        return not self._notifier.pass_on(self._pid)


class Streams:
    """The process's 0, 1 and 2. A terminal of ours is not passed on; its data is copied.

    With the terminal, a process could change its settings, and read later input.
    """

    def __init__(self) -> None:
        self.copies: list[Copy] = []
        self._theirs: list[int] = []
        chosen = []
        for number in (0, 1, 2):
            chosen.append(self._choose(number))
        self.stdio = Stdio(*chosen)

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Close the process's ends, after it has them."""
        while self._theirs:
            os.close(self._theirs.pop())

    def forget(self) -> None:
        """Close our ends, because the process has a terminal instead."""
        while self.copies:
            copy = self.copies.pop()
            os.close(copy.target if copy.source == 0 else copy.source)

    def _choose(self, number: int) -> int:
        if not os.isatty(number):
            return number
        reader, writer = os.pipe()
        theirs, copy = (writer, Copy(reader, number)) if number else (reader, Copy(0, writer))
        self.copies.append(copy)
        self._theirs.append(theirs)
        return theirs


class Foreground:
    """In its context signals are forwarded to the process; serve() returns when it has ended."""

    def __init__(self) -> None:
        self._pidfd = -1
        self._forwarding = signals.Forwarding(self._deliver)

    def __enter__(self) -> Foreground:
        self._forwarding.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forwarding.__exit__(kind, error, traceback)

    def serve(self, starting: Starting, streams: Streams, notifier: Notifier | None = None) -> int:
        """Copy until the process ends; return its exit code.

        The code is 128 plus the signal's number if a signal ended it.
        """
        self._pidfd = starting.pidfd
        self._forwarding.start()
        streams.release()
        notices: list[Copy] = [] if notifier is None else [Notice(notifier, starting.pid)]
        if starting.console is None:
            _copy([*streams.copies, *notices], starting.pidfd)
            return wait_exit(starting.pidfd)
        streams.forget()
        master = starting.console
        keyboard = os.dup(master)  # for poll(2), which watches each direction separately
        os.set_blocking(master, False)
        _resize(master)
        signals.on_resize(lambda: _resize(master))
        with terminal.Raw(0, newlines=True):
            _copy([Copy(0, keyboard), Copy(master, 1), *notices], starting.pidfd)
            return wait_exit(starting.pidfd)

    def _deliver(self, number: int) -> None:
        try:
            pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return


def _resize(master: int) -> None:
    """Set the size of the process's terminal to that of ours."""
    if size := terminal.size(0):
        set_size(master, height=size[0], width=size[1])


def _copy(copies: list[Copy], pidfd: int) -> None:
    """Copy until the process has ended and all its output is read."""
    ended = False
    while True:
        poller = select.poll()
        waiting = {}
        for copy in copies:
            fd, event = copy.wants()
            waiting[fd] = copy
            poller.register(fd, event)
        if not ended:
            poller.register(pidfd, select.POLLIN)
        outputs = [copy for copy in copies if copy.target in (1, 2)]
        is_read = ended and not any(copy.pending for copy in outputs)
        ready = poller.poll(0 if is_read else None)
        if is_read and not any(waiting[fd] in outputs for fd, _ in ready):
            return
        for fd, _ in ready:
            if fd == pidfd:
                ended = True
            elif not waiting[fd].go_on():
                _finish(copies, waiting[fd])


def _finish(copies: list[Copy], copy: Copy) -> None:
    """Remove *copy*; at the end of our input, also close the process's."""
    copies.remove(copy)
    if copy.source == 0 and not os.isatty(copy.target):
        os.close(copy.target)
