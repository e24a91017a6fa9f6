"""One process of the guest, and how it comes to be: in the container, or beside it."""

import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from orlop.errors import ExhaustedError, InvalidArgumentError
from orlop.model import guestwire as wire
from orlop.model.guestwire import WINDOW
from orlop.runtime.bundle import Starting, Stdio

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126

Make = Callable[[Mapping[str, Any], Stdio | None], Starting]


class GuestProcess:
    """One process: its pipes, what waits to be written to it, and what the host lets it write."""

    def __init__(
        self, pid: int, stdin: int, outputs: dict[int, int], starting: Starting | None = None
    ) -> None:
        self.pid = pid
        self.stdin: int | None = stdin
        self.outputs = outputs  # descriptor -> kind of frame
        self.starting = starting  # until its program runs
        self.terminal = starting.console if starting else None
        self.report = b""
        self.pending = bytearray()
        self.input_ended = False
        self.credit = WINDOW
        self.status: int | None = None

    def interests(self) -> Iterator[tuple[int, int]]:
        """Yield what poll(2) is to wait for."""
        if self.starting is not None:
            yield self.starting.report, select.POLLIN
            return
        if self.credit:
            yield from ((fd, select.POLLIN) for fd in self.outputs)
        if self.stdin is not None and self.pending:
            yield self.stdin, select.POLLOUT

    def take(self, data: bytes) -> None:
        """Take input for the process; no bytes are its end. Raises ExhaustedError beyond WINDOW."""
        if self.input_ended:
            return
        if len(self.pending) + len(data) > WINDOW:
            raise ExhaustedError("the host sends more input than it was granted")
        self.pending += data
        self.input_ended = not data
        self.close_input_if_done()

    def write(self) -> int:
        """Write input that waits; return how many bytes are gone."""
        if self.stdin is None or not self.pending:
            return 0
        try:
            count = os.write(self.stdin, self.pending)
        except BlockingIOError:
            return 0
        except OSError:  # it has closed its input
            count = len(self.pending)
        del self.pending[:count]
        self.close_input_if_done()
        return count

    def read(self, fd: int, most: int) -> bytes:
        """Return what *fd* has; nothing at its end, and then it is closed."""
        try:
            data = os.read(fd, most)
        except OSError:  # a terminal that nobody has open
            data = b""
        if not data:
            del self.outputs[fd]
            os.close(fd)
        return data

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.status is None:
            os.kill(self.pid, number)

    def resize(self, height: int, width: int) -> None:
        """Set the size of its terminal, if it has one."""
        with suppress(OSError):
            if self.stdin is not None and self.terminal is not None:
                size = struct.pack("HHHH", height, width, 0, 0)
                fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, size)

    def close_input_if_done(self) -> None:
        """Close its input once all of it is written; a terminal's stays."""
        if self.input_ended and not self.pending and self.terminal is None:
            self.close_input()

    def close_input(self) -> None:
        """Close its input."""
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def close(self) -> None:
        """Close all that is ours of it."""
        self.close_input()
        for fd in self.outputs:
            os.close(fd)
        self.outputs.clear()


def contained(make: Make, what: Mapping[str, Any]) -> GuestProcess:
    """Start a process of the container by *make*. Raises OrlopError or OSError; nothing is left."""
    if what["terminal"]:
        starting = make(what, None)
        assert starting.console is not None
        master = starting.console
        os.set_blocking(master, False)
        feed, outputs = os.dup(master), {master: wire.STDOUT}
        return GuestProcess(starting.pid, feed, outputs, starting)
    feed, reads, theirs = _pipes()
    try:
        starting = make(what, Stdio(*theirs))
    except BaseException:
        for fd in (feed, *reads):
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return GuestProcess(starting.pid, feed, reads, starting)


def beside(what: Mapping[str, Any]) -> GuestProcess:
    """Start a process of the agent's own system. Raises InvalidArgumentError."""
    args, env, cwd = what["args"], what.get("env", {}), what.get("cwd", "/")
    if not (isinstance(args, list) and args and isinstance(env, dict)):
        raise InvalidArgumentError("a process needs its arguments")
    feed, reads, theirs = _pipes()
    pid = os.fork()
    if pid == 0:
        _become(args, env, str(cwd), theirs)
    for fd in theirs:
        os.close(fd)
    return GuestProcess(pid, feed, reads)


def _pipes() -> tuple[int, dict[int, int], tuple[int, int, int]]:
    """Return our end of stdin, our ends of the outputs, and the process's three."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    (stdin, feed), (read_out, stdout), (read_err, stderr) = pipes
    os.set_blocking(feed, False)
    return feed, {read_out: wire.STDOUT, read_err: wire.STDERR}, (stdin, stdout, stderr)


def _become(args: list[str], env: dict[str, str], cwd: str, streams: tuple[int, ...]) -> None:
    status = _NOT_EXECUTABLE
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.setsid()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.chdir(cwd)
        os.execvpe(args[0], args, env)
    except FileNotFoundError as error:
        status = _NOT_FOUND
        os.write(2, f"{args[0]}: {error.strerror}\n".encode())
    except OSError as error:
        os.write(2, f"{args[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(status)
