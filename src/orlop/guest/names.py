"""The guest's name server: takes questions on its loopback, and has the host answer them."""

import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from orlop.model import guestwire as wire
from orlop.model.guestwire import NAME_SERVER, Frame

_MOST_WAITING = 1024
_MOST_BYTES = 4096


class Names:
    """A UDP socket at 127.0.0.11, the address that resolv.conf names."""

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send = send
        self._socket: socket.socket | None = None
        self._askers: OrderedDict[int, tuple[str, int]] = OrderedDict()
        self._number = 0

    def open(self) -> None:
        """Begin to serve; the loopback has to be up."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(NAME_SERVER)

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 before open()."""
        return self._socket.fileno() if self._socket else -1

    def take(self) -> None:
        """Pass the next question on."""
        assert self._socket is not None
        try:
            message, asker = self._socket.recvfrom(_MOST_BYTES)
        except BlockingIOError:
            return
        while len(self._askers) >= _MOST_WAITING:
            self._askers.popitem(last=False)
        self._number = self._number % wire.MOST_STREAM + 1
        self._askers[self._number] = asker
        self._send(Frame(wire.QUESTION, self._number, message))

    def answer(self, frame: Frame) -> None:
        """Give the host's answer to who has asked."""
        asker = self._askers.pop(frame.stream, None)
        if asker is not None and self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(frame.payload, asker)
