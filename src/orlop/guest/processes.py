"""Processes of the guest: their streams to and from the host, with credit in both directions.

Output is read from a process only while the host has granted credit for it, and input is granted
again when the process has taken it. So neither side holds more than WINDOW bytes of a stream.
"""

import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

from orlop.errors import ExhaustedError, InvalidArgumentError
from orlop.model import guestwire as wire
from orlop.model.guestwire import CREDIT_BYTES, MOST_PAYLOAD, WINDOW, Frame

_MOST_PROCESSES = 512
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126

Send = Callable[[Frame], None]


class GuestProcess:
    """One process: its pipes, what waits to be written to it, and what the host lets it write."""

    def __init__(self, pid: int, stdin: int, outputs: dict[int, int]) -> None:
        self.pid = pid
        self.stdin: int | None = stdin
        self.outputs = outputs  # descriptor -> kind of frame
        self.pending = bytearray()
        self.input_ended = False
        self.credit = WINDOW
        self.status: int | None = None

    def interests(self) -> Iterator[tuple[int, int]]:
        """Yield what poll(2) is to wait for."""
        if self.credit:
            yield from ((fd, select.POLLIN) for fd in self.outputs)
        if self.stdin is not None and self.pending:
            yield self.stdin, select.POLLOUT


class Processes:
    """The processes that the host has asked for, by stream."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._by_stream: dict[int, GuestProcess] = {}

    def answer(self, frame: Frame) -> None:
        """Do what *frame* asks. What comes for a process that has ended is dropped."""
        if frame.kind == wire.RUN:
            self._run(frame.stream, json.loads(frame.payload))
        elif frame.kind not in (wire.STDIN, wire.SIGNAL, wire.CREDIT):
            raise InvalidArgumentError(f"the host may not send frames of kind {frame.kind}")
        elif process := self._by_stream.get(frame.stream):
            self._tell(process, frame)

    def interests(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors, and events of them, to poll for."""
        for process in self._by_stream.values():
            yield from process.interests()

    def move(self, fd: int) -> None:
        """Copy what *fd*, which poll(2) has reported, gives or takes."""
        for stream, process in list(self._by_stream.items()):
            if fd in process.outputs:
                self._read(stream, process, fd)
            elif fd == process.stdin:
                self._write(stream, process)

    def reap(self) -> None:
        """Collect every process that has ended; orphans of the guest are among them."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                for stream, process in list(self._by_stream.items()):
                    if process.pid == pid:
                        code = os.waitstatus_to_exitcode(status)
                        process.status = code if code >= 0 else 128 - code
                        self._finish(stream, process)

    def _run(self, stream: int, what: dict[str, object]) -> None:
        if stream == 0 or stream in self._by_stream:
            raise InvalidArgumentError(f"stream {stream} is taken")
        if len(self._by_stream) >= _MOST_PROCESSES:
            raise ExhaustedError(f"a virtual machine runs at most {_MOST_PROCESSES} processes")
        self._by_stream[stream] = _start(what)

    def _tell(self, process: GuestProcess, frame: Frame) -> None:
        if frame.kind == wire.SIGNAL:
            if process.status is None:
                os.kill(process.pid, int(frame.payload))
        elif frame.kind == wire.CREDIT:
            (more,) = CREDIT_BYTES.unpack(frame.payload)
            process.credit = min(process.credit + more, WINDOW)
        elif not process.input_ended:
            if len(process.pending) + len(frame.payload) > WINDOW:
                raise ExhaustedError("the host sends more input than it was granted")
            process.pending += frame.payload
            process.input_ended = not frame.payload
            if not process.pending and process.input_ended:
                _close_input(process)

    def _read(self, stream: int, process: GuestProcess, fd: int) -> None:
        data = os.read(fd, min(MOST_PAYLOAD, process.credit))
        process.credit -= len(data)
        self._send(Frame(process.outputs[fd], stream, data))
        if not data:
            os.close(fd)
            del process.outputs[fd]
            self._finish(stream, process)

    def _write(self, stream: int, process: GuestProcess) -> None:
        if process.stdin is None:
            return
        try:
            count = os.write(process.stdin, process.pending)
        except BrokenPipeError:
            count = len(process.pending)
        except BlockingIOError:
            return
        del process.pending[:count]
        self._send(Frame(wire.CREDIT, stream, CREDIT_BYTES.pack(count)))
        if not process.pending and process.input_ended:
            _close_input(process)

    def _finish(self, stream: int, process: GuestProcess) -> None:
        """Report the end once the process has been reaped and its output has been sent."""
        if process.status is not None and not process.outputs:
            _close_input(process)
            del self._by_stream[stream]
            self._send(Frame(wire.EXITED, stream, str(process.status).encode()))


def _close_input(process: GuestProcess) -> None:
    if process.stdin is not None:
        os.close(process.stdin)
        process.stdin = None


def _start(what: dict[str, object]) -> GuestProcess:
    """Fork; the child enters its root, if it has one, and executes its program."""
    args, root, cwd = what["args"], what.get("root"), what.get("cwd", "/")
    env = what.get("env", {})
    if not (isinstance(args, list) and args and isinstance(env, dict)):
        raise InvalidArgumentError("a process needs its arguments")
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    (stdin, feed), (read_out, stdout), (read_err, stderr) = pipes
    pid = os.fork()
    if pid == 0:
        _become(args, env, (str(root) if root else None, str(cwd)), (stdin, stdout, stderr))
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    os.set_blocking(feed, False)
    return GuestProcess(pid, feed, {read_out: wire.STDOUT, read_err: wire.STDERR})


def _become(
    args: list[str], env: dict[str, str], place: tuple[str | None, str], streams: tuple[int, ...]
) -> None:
    root, cwd = place
    status = _NOT_EXECUTABLE
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.setsid()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        if root is not None:
            os.chroot(root)
        os.chdir(cwd)
        os.execvpe(args[0], args, env)
    except FileNotFoundError as error:
        status = _NOT_FOUND
        os.write(2, f"{args[0]}: {error.strerror}\n".encode())
    except OSError as error:
        os.write(2, f"{args[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(status)
