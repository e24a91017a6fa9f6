"""One run of a template: its pipes are ours, its end is told by the engine."""

import os
import select
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from orlop.client.http import RawStream
from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.model import jsontext
from orlop.sandbox.arguments import check_input, check_output_limit, check_seconds
from orlop.sandbox.execs import usage_of
from orlop.sandbox.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result

_READ_BYTES = 64 << 10
_WRITE_BYTES = 64 << 10


class NotBegunError(UnavailableError):
    """The template was gone before the run began, so that another can have it."""


class LostStreamError(NotBegunError):
    """The stream led nowhere, and the run has not begun; the template may be well."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """What is to run in a template; InvalidArgumentError for what cannot be."""

    text: str | bytes
    input: bytes = b""
    timeout: float | None = None
    output_limit: int = OUTPUT_LIMIT

    def __post_init__(self) -> None:
        if not isinstance(self.text, str | bytes):
            raise InvalidArgumentError(f"code is no text: {self.text!r}")
        check_input(self.input)
        check_seconds("timeout", self.timeout)
        check_output_limit(self.output_limit)


class Run:
    """Sends *code* on a *stream* of Client.templates.runs(), which is good for one at a time."""

    def __init__(self, stream: RawStream, code: Code) -> None:
        self._stream = stream
        self._code = code
        self._outputs: dict[int, Output] = {}
        self._input = memoryview(code.input)
        self._input_fd = -1
        self._begun_s = time.monotonic()

    def finish(self) -> Result:
        """Run it, and wait for its end.

        NotBegunError where the template was gone; UnavailableError where it went meanwhile.
        """
        limit = self._code.output_limit
        with ExitStack() as ours:
            stdout, stderr = Output(limit), Output(limit)
            with ExitStack() as theirs:
                fds = [self._open_input(ours, theirs)]
                for output in (stdout, stderr):
                    inside, outside = _pipe(ours, theirs)
                    self._outputs[inside] = output
                    fds.append(outside)
                fds.append(_file(self._code.text, theirs))
                self._send(fds)
            answer = self._converse()
        if "exit_code" not in answer:
            kind = NotBegunError if answer.get("gone") else UnavailableError
            raise kind(str(answer.get("error")))
        return Result(
            exit_code=answer["exit_code"],
            stdout=bytes(stdout.kept),
            stderr=bytes(stderr.kept),
            stdout_truncated=stdout.cut,
            stderr_truncated=stderr.cut,
            timed_out=answer["timed_out"],
            duration_s=time.monotonic() - self._begun_s,
            usage=usage_of(answer["usage"]),
            oom_killed=answer["oom_killed"],
        )

    def kill(self) -> None:
        """End it, from another thread; its stream is of no more use then."""
        self._stream.end_input()

    def _open_input(self, ours: ExitStack, theirs: ExitStack) -> int:
        if not self._input:
            return _closing(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), theirs)
        outside, inside = os.pipe2(os.O_CLOEXEC)
        self._input_fd = inside
        ours.callback(self._end_input)
        os.set_blocking(inside, False)
        return _closing(outside, theirs)

    def _send(self, fds: Sequence[int]) -> None:
        told = {"timeout_s": self._code.timeout}
        try:
            self._stream.send_with(jsontext.dumps(told).encode(), fds)
        except OSError as error:
            raise LostStreamError("the template's engine is gone") from error

    def _converse(self) -> dict[str, Any]:
        """Read what it writes, and write what it reads, until it has ended."""
        poll = select.poll()
        for fd in self._outputs:
            poll.register(fd, select.POLLIN)
        if self._input_fd >= 0:
            poll.register(self._input_fd, select.POLLOUT)
        poll.register(self._stream.fileno(), select.POLLIN)
        ended = False
        while not ended:
            for fd, _ in poll.poll():
                if fd == self._stream.fileno():
                    ended = True
                elif not self._move(fd):
                    poll.unregister(fd)
        for fd, output in self._outputs.items():  # all who could write have ended
            while output.read(fd):
                pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        data = self._stream.receive()
        if not data:
            message = "the engine has gone, and what became of the run is not known"
            return {"error": message}
        answer: dict[str, Any] = jsontext.loads(data)
        return answer

    def _move(self, fd: int) -> bool:
        """Read or write what *fd* is ready for; False where it has ended."""
        if fd != self._input_fd:
            return self._outputs[fd].read(fd)
        if self._feed():
            return True
        self._input_fd = -1
        os.close(fd)
        return False

    def _feed(self) -> bool:
        """Write some of the input; False where no more can or need be."""
        try:
            written = os.write(self._input_fd, self._input[:_WRITE_BYTES])
        except BlockingIOError:
            return True
        except OSError:  # it reads no more
            return False
        self._input = self._input[written:]
        return bool(self._input)

    def _end_input(self) -> None:
        if self._input_fd >= 0:
            os.close(self._input_fd)
            self._input_fd = -1


class Output:
    """What is kept of a stream."""

    def __init__(self, limit: int) -> None:
        self.kept = bytearray()
        self.cut = False
        self._limit = limit

    def read(self, fd: int) -> bool:
        """Take what is there; False at the end, and where there is nothing now."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        room = max(0, self._limit - len(self.kept))
        self.kept += data[:room]
        self.cut = self.cut or len(data) > room
        return bool(data)


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """Return the ends to read from, without waiting, and to write to."""
    inside, outside = os.pipe2(os.O_CLOEXEC)
    _closing(inside, ours)
    _closing(outside, theirs)
    os.set_blocking(inside, False)
    return inside, outside


def _file(code: str | bytes, stack: ExitStack) -> int:
    """Return a descriptor of a file in memory that holds *code*."""
    fd = _closing(os.memfd_create("orlop-run", os.MFD_CLOEXEC), stack)
    left = memoryview(code.encode() if isinstance(code, str) else code)
    while left:
        left = left[os.write(fd, left) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _closing(fd: int, stack: ExitStack) -> int:
    stack.callback(_close, fd)
    return fd


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)
