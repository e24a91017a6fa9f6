"""A command that runs in a sandbox: its streams, its time limit, its end."""

import os
import select
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from orlop.client.address import Settings
from orlop.client.client import Client
from orlop.client.stream import STDERR, Demultiplexer
from orlop.errors import InvalidArgumentError, NotFoundError, UnavailableError, WrongStateError
from orlop.sandbox.options import variables
from orlop.sandbox.result import Result, StreamName

OUTPUT_LIMIT = 16 << 20
_SEND_BYTES = 256 << 10
_AFTER_KILL_S = 15.0  # the engine itself gives up after ten


def exec_body(
    command: Sequence[str],
    *,
    has_input: bool,
    environment: Mapping[str, str] | None,
    user: str,
    workdir: str,
) -> dict[str, Any]:
    """Return the body of POST /containers/…/exec."""
    if isinstance(command, (str, bytes)) or not command:
        raise InvalidArgumentError("a command is a list of words", hint='["sh", "-c", "…"]')
    return {
        "Cmd": list(command),
        "Env": variables(environment or {}),
        "User": user,
        "WorkingDir": workdir,
        "Tty": False,
        "AttachStdin": has_input,
        "AttachStdout": True,
        "AttachStderr": True,
        "Group": True,
    }


class Process:
    """Iterating gives ("stdout" or "stderr", bytes) as they come, until all output has ended.

    At the time limit, which is minded while its output is read, it is killed with all
    that it has started, as by kill().
    """

    def __init__(
        self, settings: Settings, container: str, body: Mapping[str, Any], *, timeout: float | None
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise InvalidArgumentError(f"invalid timeout {timeout!r}", hint="seconds, above 0")
        self.timed_out = False
        self._settings = settings
        self._begun_s = time.monotonic()
        self._limit_s = None if timeout is None else self._begun_s + timeout
        self._frames = Demultiplexer()
        self._input = memoryview(b"")
        self._input_ends = False
        self._sending = threading.Lock()  # send() may come from another thread
        self._exit_code: int | None = None
        with Client(settings) as client:
            self._id, self._stream = client.execs.run(container, body)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # there is input to send

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[StreamName, bytes]]:
        while data := self._receive():
            for stream, piece in self._frames.feed(data):
                yield ("stderr" if stream == STDERR else "stdout"), piece

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Have *data* written to its input, and with *end* its input closed then.

        It goes out while the output is read, by iterating or by result().
        """
        with self._sending:
            self._input = memoryview(bytes(self._input) + data)
            self._input_ends = self._input_ends or end
            self._flush()
            if self._input:
                os.eventfd_write(self._wake, 1)

    def result(self, *, output_limit: int = OUTPUT_LIMIT) -> Result:
        """Wait for its end; keep the first *output_limit* bytes of each stream."""
        kept = {"stdout": bytearray(), "stderr": bytearray()}
        cut = {"stdout": False, "stderr": False}
        for stream, piece in self:
            room = max(0, output_limit - len(kept[stream]))
            kept[stream] += piece[:room]
            cut[stream] = cut[stream] or len(piece) > room
        return Result(
            exit_code=self.exit_code,
            stdout=bytes(kept["stdout"]),
            stderr=bytes(kept["stderr"]),
            stdout_truncated=cut["stdout"],
            stderr_truncated=cut["stderr"],
            timed_out=self.timed_out,
            duration_s=time.monotonic() - self._begun_s,
        )

    @property
    def exit_code(self) -> int:
        """Known once all output has been read; WrongStateError before."""
        if self._exit_code is None:
            self._exit_code = self._frames.status
        if self._exit_code is None:
            self._exit_code = self._asked_exit_code()
        return self._exit_code

    def _asked_exit_code(self) -> int:
        """Return what the engine says of one that could not be run."""
        with Client(self._settings) as client:
            code = client.execs.inspect(self._id)["ExitCode"]
        if code is None:
            raise WrongStateError("the process has not ended", hint="read its output first")
        return int(code)

    def kill(self) -> None:
        """Kill it and all that it has started; one that has ended is no error."""
        try:
            with Client(self._settings) as client:
                client.execs.kill(self._id)
        except NotFoundError:  # it went with its sandbox
            pass

    def close(self) -> None:
        """Kill it, unless its output has ended, and let go of it."""
        if self._stream.fileno() < 0:
            return
        try:
            if self._frames.status is None and self._exit_code is None:
                self.kill()
        finally:
            self._stream.close()
            os.close(self._wake)

    def _receive(self) -> bytes:
        """Return more of the stream; b"" at its end. Sends input, and minds the time limit."""
        stream = self._stream
        while not stream.pending:
            waits = select.POLLIN | (select.POLLOUT if self._input else 0)
            ready = self._poll(waits)
            if ready is None:
                self._expire()
            elif ready & ~select.POLLOUT:
                break
            elif ready:
                with self._sending:
                    self._flush()
        return stream.receive()

    def _poll(self, events: int) -> int | None:
        """Return what the stream is ready for, 0 to ask again; None at the time limit."""
        poll = select.poll()
        poll.register(self._stream.fileno(), events)
        poll.register(self._wake, select.POLLIN)
        limit_s = self._limit_s
        wait_ms = None if limit_s is None else max(0.0, limit_s - time.monotonic()) * 1000
        found = dict(poll.poll(wait_ms))
        if self._wake in found:
            os.eventfd_read(self._wake)
        return found.get(self._stream.fileno(), 0) if found else None

    def _expire(self) -> None:
        if self.timed_out:
            raise UnavailableError("a process that was killed has not ended")
        self.timed_out = True
        self._limit_s = time.monotonic() + _AFTER_KILL_S
        self.kill()

    def _flush(self) -> None:
        """Send as much of the input as there is room for."""
        try:
            while self._input and (
                count := self._stream.try_send(bytes(self._input[:_SEND_BYTES]))
            ):
                self._input = self._input[count:]
        except OSError:  # it reads no more
            self._input = memoryview(b"")
        if self._input_ends and not self._input:
            self._input_ends = False
            self._stream.end_input()
