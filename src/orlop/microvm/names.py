"""Questions of a guest to the name server of its jail's network namespace, 127.0.0.11.

The guest has a loopback of its own, so its agent takes the questions there, and they come here over
the channel. Only messages of DNS over UDP, each up to 4 KiB.
"""

import socket
from collections import OrderedDict
from contextlib import suppress

from orlop.model.guestwire import NAME_SERVER

_MOST_WAITING = 256
_MOST_BYTES = 4096
_ID_BYTES = 2


class Names:
    """One socket to the name server; who asked is known by an id of our own."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._waiting: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._next = 0

    def fileno(self) -> int:
        """Return the socket's descriptor, readable when there is an answer."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; questions that wait get no answer."""
        self._socket.close()

    def ask(self, stream: int, message: bytes) -> None:
        """Pass a question on; one that cannot be sent is lost, as over UDP."""
        if not _ID_BYTES < len(message) <= _MOST_BYTES:
            return
        while len(self._waiting) >= _MOST_WAITING:
            self._waiting.popitem(last=False)
        self._next = (self._next + 1) % (1 << 16)
        self._waiting[self._next] = (stream, message[:_ID_BYTES])
        with suppress(OSError):
            self._socket.sendto(self._next.to_bytes(_ID_BYTES) + message[_ID_BYTES:], NAME_SERVER)

    def answer(self) -> tuple[int, bytes] | None:
        """Return the next answer, with the stream of its question; None if there is none."""
        try:
            message, sender = self._socket.recvfrom(_MOST_BYTES)
        except OSError:
            return None
        found = self._waiting.pop(int.from_bytes(message[:_ID_BYTES]), None)
        if found is None or sender != NAME_SERVER:
            return None
        stream, own_id = found
        return stream, own_id + message[_ID_BYTES:]
