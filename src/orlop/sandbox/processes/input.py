"""A command's input: kept until it is read, and never copied."""

import select
import threading
from collections import deque
from typing import Protocol

from orlop.errors import WrongStateError
from orlop.sandbox.arguments import check_input
from orlop.sandbox.interrupt import current

_SEND_BYTES = 256 << 10
_MOST_KEPT = 16 << 20  # more is taken once less than that waits
_LOOK_S = 0.1  # at whether who waits is still to: close() wakes nobody


class Reader(Protocol):
    """Of way.Handle, who it goes to."""

    @property
    def writable(self) -> int: ...

    def send(self, data: bytes | memoryview) -> int: ...

    def end_input(self) -> None: ...


class Input:
    """Pieces that are sent as there is room for them, by whichever thread finds it."""

    def __init__(self, reader: Reader) -> None:
        self.lock = threading.Lock()  # of the reader's descriptor
        self._reader = reader
        self._pieces: deque[memoryview] = deque()
        self._kept = 0
        self._ends = self._closed = False

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._pieces)

    def put(self, data: bytes, *, end: bool) -> None:
        """Send what fits of *data*, and keep the rest; with *end* nothing comes after it.

        Where 16 MB wait already it is waited until less do, but for the last: nothing comes
        after that. Nothing of it is sent where the wait is interrupted.
        """
        check_input(data)
        piece = memoryview(bytes(data))
        while not self._put(piece, end=end):
            current().check()
            self._await_room()

    def _put(self, data: memoryview, *, end: bool) -> bool:
        with self.lock:
            if self._closed:
                raise WrongStateError("the command has been let go of")
            self._flush()
            if data and not end and self._kept >= _MOST_KEPT:
                return False
            if data:
                self._pieces.append(data)
                self._kept += len(data)
            self._ends = self._ends or end
            self._flush()
            return True

    def _await_room(self) -> None:
        writable = self._reader.writable
        if writable >= 0:
            poll = select.poll()
            poll.register(writable, select.POLLOUT)
            poll.poll(_LOOK_S * 1000)

    def flush(self) -> None:
        """Send as much as there is room for."""
        with self.lock:
            self._flush()

    def _flush(self) -> None:
        pieces = self._pieces
        try:
            while pieces and (count := self._reader.send(pieces[0][:_SEND_BYTES])):
                self._kept -= count
                pieces[0] = pieces[0][count:]
                if not pieces[0]:
                    pieces.popleft()
        except OSError:  # it reads no more
            pieces.clear()
            self._kept = 0
        if self._ends and not pieces:
            self._ends = False
            self._reader.end_input()

    def close(self) -> None:
        """Take no more."""
        with self.lock:
            self._closed = True
            self._pieces.clear()
            self._kept = 0
