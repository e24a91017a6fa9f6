"""A netlink socket: batches of requests, their answers, and dumps. netlink(7).

A batch is one send. The kernel continues after a request that failed, so the caller
undoes the whole batch if it matters.
"""

from __future__ import annotations

import _socket as socket  # importing socket costs twice as much as all other imports here
import os
import struct
from collections.abc import Iterator, Sequence

from orlop.kernel.netlink.wire import DUMP, HEADER, PLAIN, Request, attributes, message, text

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_NETLINK_ADD_MEMBERSHIP = 1
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_CAPPED, _NLM_F_ACK_TLVS, _NLM_F_DUMP_INTR = 0x100, 0x200, 0x10
_NLMSGERR_ATTR_MSG = 1

_ERROR = struct.Struct("=i")
_MOST_ANSWER = 1 << 16  # a dump's pieces are of 32 KiB at most
_MOST_BATCH = 100  # answers that surely fit the socket's buffer
_TRIES = 8  # of a dump that changes while we read it


class Netlink:
    """A socket to one network namespace: that of the thread when it is made.

    It stays with that namespace wherever the thread goes, and keeps it alive.
    """

    def __init__(self, family: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, readable when a group that it joined has a notification."""
        return self._socket.fileno()

    def join(self, *groups: int) -> None:
        """Subscribe to notifications: RTNLGRP_ numbers. Send no requests on such a socket."""
        self._socket.bind((0, 0))  # the kernel's own news are not told to port 0
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def heard(self) -> list[tuple[int, bytes]]:
        """Return the notifications that have arrived, type and body, without waiting.

        OSError ENOBUFS if some were lost.
        """
        found: list[tuple[int, bytes]] = []
        while True:
            try:
                data = self._socket.recv(_MOST_ANSWER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            found += [(kind, data[start:end]) for kind, _, _, start, end in _split(data)]

    def ask(self, *requests: Request) -> list[bytes]:
        """Send the requests as one batch; return the answers, b"" for a plain acknowledgement.

        Raises:
            OSError: the first failure: `filename` is its *what*, `strerror` the kernel's
                message if there is one. The other requests may have succeeded.
        """
        answers: list[bytes] = []
        for start in range(0, len(requests), _MOST_BATCH):
            answers += self._ask(requests[start : start + _MOST_BATCH])
        return answers

    def find(self, request: Request) -> bytes | None:
        """Send one request for an object; None if it does not exist."""
        try:
            return self.ask(request)[0]
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise

    def dump(self, kind: int, body: bytes, what: str) -> list[bytes]:
        """Return all objects that *body* selects, as a consistent snapshot."""
        for _ in range(_TRIES):
            self._send([Request(kind, DUMP, body, what)])
            found, torn = self._pieces(what)
            if not torn:
                return found
        return found

    def _ask(self, requests: Sequence[Request]) -> list[bytes]:
        first = self._send(requests)
        answers = [b""] * len(requests)
        refused: OSError | None = None
        left = len(requests)
        while left:
            data = self._socket.recv(_MOST_ANSWER)
            for kind, flags, sequence, start, end in _split(data):
                place = sequence - first
                if not 0 <= place < len(requests):
                    continue  # an answer to an abandoned batch
                if kind != _NLMSG_ERROR:
                    answers[place] = data[start:end]
                    continue
                left -= 1
                code = _ERROR.unpack_from(data, start)[0]
                if code and refused is None:
                    refused = _refusal(code, flags, data[start:end], requests[place].what)
        try:
            if refused is not None:
                raise refused
        finally:
            del refused  # it refers to this frame: a cycle that only the garbage collector breaks
        return answers

    def _send(self, requests: Sequence[Request]) -> int:
        """Send them, and return the sequence number of the first."""
        number = first = self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        data = b""
        for number, (kind, flags, body, _) in enumerate(requests, first):
            data += message(kind, flags, number, body)
        self._sequence = number
        self._socket.send(data)
        return first

    def _pieces(self, what: str) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        torn = False
        while True:
            data = self._socket.recv(_MOST_ANSWER)
            for kind, flags, sequence, start, end in _split(data):
                if sequence != self._sequence:
                    continue
                torn = torn or bool(flags & _NLM_F_DUMP_INTR)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    code = _ERROR.unpack_from(data, start)[0] if end - start >= 4 else 0
                    if code:
                        raise _refusal(code, flags, data[start:end], what)
                    return found, torn
                found.append(data[start:end])


_MISSING = frozenset((2, 3, 19, 99))  # ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL


def _split(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Return type, flags, number, and where the body begins and ends, of each message."""
    start = 0
    while len(data) - start >= 16:
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, start)
        if length < 16:
            return
        yield kind, flags, sequence, start + 16, min(start + length, len(data))
        start += (length + 3) & ~3


def _refusal(code: int, flags: int, body: bytes, what: str) -> OSError:
    reason = os.strerror(-code)
    if flags & _NLM_F_ACK_TLVS:
        skipped = 16 if flags & _NLM_F_CAPPED else max(16, HEADER.unpack_from(body, 4)[0])
        parts = attributes(body, 4 + (skipped + 3 & ~3)) if len(body) >= 20 else {}
        if _NLMSGERR_ATTR_MSG in parts:
            reason = text(parts[_NLMSGERR_ATTR_MSG]).rstrip(".")
    return OSError(-code, f"rtnetlink: {reason}", what)


def get(kind: int, body: bytes, what: str) -> Request:
    """Return a request for one object."""
    return Request(kind, PLAIN, body, what)
