"""One run of a template: its pipes are ours, its end is told by the engine."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from orlop.client.http import RawStream
from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.model import jsontext
from orlop.model.timeline import Step
from orlop.sandbox.arguments import check_input, check_output_limit, check_seconds
from orlop.sandbox.processes.pipes import PipeHandle, close_all
from orlop.sandbox.processes.process import OUTPUT_LIMIT, Process
from orlop.sandbox.result import Result, StreamName
from orlop.sandbox.way import Command, End, Handle
from orlop.sandbox.ways.execs import usage_of


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


def run_on(stream: RawStream, code: Code) -> Result:
    """Run *code* to its end. *stream* is one of Client.templates.runs(), for one run at a time.

    NotBegunError where the template was gone; UnavailableError where it went meanwhile.
    """
    command = Command(words=["python3"], has_input=bool(code.input))  # the engine has its limit
    with Process(_Template(stream, code), command) as process:
        if code.input:
            process.send(code.input, end=True)
        return process.result(output_limit=code.output_limit)


class _Template:
    """See Runs."""

    def __init__(self, stream: RawStream, code: Code) -> None:
        self._stream = stream
        self._code = code

    def exec(self, command: Command) -> Handle:
        return _RunHandle(self._stream, self._code)


class _RunHandle(PipeHandle):
    """See Handle. To kill it is to end the stream, which is of no more use then."""

    def __init__(self, stream: RawStream, code: Code) -> None:
        super().__init__()
        self._stream = stream
        theirs: list[int] = []
        try:
            self._open_pipes(theirs)
            theirs.append(_file(code.text))
            self._ask(code, theirs)
        except BaseException:
            self._close_pipes()
            raise
        finally:
            close_all(theirs)
        if not code.input:
            self.end_input()

    def _ask(self, code: Code, fds: Sequence[int]) -> None:
        told = {"timeout_s": code.timeout}
        try:
            self._stream.send_with(jsontext.dumps(told).encode(), fds)
        except OSError as error:
            raise LostStreamError("the template's engine is gone") from error

    @property
    def readable(self) -> Collection[int]:
        return (*self._outputs, *(() if self.ended else (self._stream.fileno(),)))

    @property
    def pending(self) -> bool:
        return self._stream.pending

    def receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        yield from self._receive(ready)
        if self._end is None and self._stream.fileno() in ready:
            self._end = self._told()
            yield from self._drain()

    def _told(self) -> End:
        data = self._stream.receive()
        if not data:
            raise UnavailableError("the engine has gone, and what became of the run is not known")
        answer = jsontext.loads(data)
        if "exit_code" not in answer:
            kind = NotBegunError if answer.get("gone") else UnavailableError
            raise kind(str(answer.get("error")))
        return End(
            answer["exit_code"],
            usage_of(answer["usage"]),
            timed_out=answer["timed_out"],
            oom_killed=answer["oom_killed"],
        )

    def steps(self) -> Sequence[Step]:
        return ()

    def kill(self) -> None:
        self._stream.end_input()

    def close(self) -> None:
        self._close_pipes()


def _file(code: str | bytes) -> int:
    """Return a descriptor of a file in memory that holds *code*."""
    fd = os.memfd_create("orlop-run", os.MFD_CLOEXEC)
    try:
        left = memoryview(code.encode() if isinstance(code, str) else code)
        while left:
            left = left[os.write(fd, left) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
