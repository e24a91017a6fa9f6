"""Processes of the guest: their streams to and from the host, with credit in both directions.

Output is read from a process only while the host has granted credit for it, and input is granted
again when the process has taken it. So neither side holds more than WINDOW bytes of a stream.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from orlop.errors import ExhaustedError, InvalidArgumentError, OrlopError
from orlop.guest.container import Container
from orlop.guest.process import GuestProcess, beside, contained
from orlop.model import guestwire as wire
from orlop.model.guestwire import CREDIT_BYTES, MOST_PAYLOAD, MOST_REQUEST, WINDOW, Frame
from orlop.runtime.parent import settle

_MOST_PROCESSES = 512
_STARTS = (wire.RUN, wire.START, wire.EXEC)
_TO_PROCESSES = (wire.STDIN, wire.SIGNAL, wire.CREDIT, wire.RESIZE)

Send = Callable[[Frame], None]


class Processes:
    """The processes that the host has asked for, by stream."""

    def __init__(self, send: Send, open_names: Callable[[], None]) -> None:
        self._send = send
        self._by_stream: dict[int, GuestProcess] = {}
        self._parts: dict[int, bytes] = {}
        self._container = Container(open_names)

    def answer(self, frame: Frame) -> None:
        """Do what *frame* asks. What comes for a process that has ended is dropped."""
        if frame.kind == wire.PART:
            self._parts[frame.stream] = self._whole(frame)
        elif frame.kind in _STARTS:
            self._start(frame.stream, frame.kind, json.loads(self._whole(frame)))
        elif frame.kind not in _TO_PROCESSES:
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
            if process.starting is not None:
                if fd == process.starting.report:
                    self._settle(stream, process)
            elif fd in process.outputs:
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

    def _whole(self, frame: Frame) -> bytes:
        """Return the request so far. Raises ExhaustedError if it is too long."""
        whole = self._parts.pop(frame.stream, b"") + frame.payload
        if len(whole) + sum(map(len, self._parts.values())) > MOST_REQUEST:
            raise ExhaustedError(f"a request is longer than {MOST_REQUEST} bytes")
        return whole

    def _start(self, stream: int, kind: int, what: dict[str, Any]) -> None:
        if stream == 0 or stream in self._by_stream:
            raise InvalidArgumentError(f"stream {stream} is taken")
        if len(self._by_stream) >= _MOST_PROCESSES:
            raise ExhaustedError(f"a virtual machine runs at most {_MOST_PROCESSES} processes")
        if kind == wire.RUN:
            process = beside(what)
        else:
            ours = self._container
            process = contained(ours.start if kind == wire.START else ours.execute, what)
        self._by_stream[stream] = process

    def _settle(self, stream: int, process: GuestProcess) -> None:
        """Read how a start gets on, and tell the host when that is known."""
        starting = process.starting
        assert starting is not None
        if data := os.read(starting.report, MOST_PAYLOAD):
            process.report += data
            return
        process.starting = None
        try:
            settle(starting, process.report)
        except OrlopError as error:
            del self._by_stream[stream]
            process.close()
            self._send(wire.failure(stream, error))
            return
        self._send(Frame(wire.STARTED, stream))
        self._finish(stream, process)

    def _tell(self, process: GuestProcess, frame: Frame) -> None:
        if frame.kind == wire.SIGNAL:
            process.signal(int(frame.payload))
        elif frame.kind == wire.RESIZE:
            height, width = map(int, frame.payload.split())
            process.resize(height, width)
        elif frame.kind == wire.CREDIT:
            (more,) = CREDIT_BYTES.unpack(frame.payload)
            process.credit = min(process.credit + more, WINDOW)
        else:
            process.take(frame.payload)

    def _read(self, stream: int, process: GuestProcess, fd: int) -> None:
        if not process.credit:
            return
        kind = process.outputs[fd]
        data = process.read(fd, min(MOST_PAYLOAD, process.credit))
        process.credit -= len(data)
        self._send(Frame(kind, stream, data))
        if not data:
            self._finish(stream, process)

    def _write(self, stream: int, process: GuestProcess) -> None:
        if count := process.write():
            self._send(Frame(wire.CREDIT, stream, CREDIT_BYTES.pack(count)))

    def _finish(self, stream: int, process: GuestProcess) -> None:
        """Report the end once the process has been reaped and its output has been sent."""
        if process.status is not None and not process.outputs and process.starting is None:
            process.close()
            del self._by_stream[stream]
            self._container.ended(process.pid)
            self._send(Frame(wire.EXITED, stream, str(process.status).encode()))
