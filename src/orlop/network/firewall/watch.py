"""Notice when somebody removes our rules or bridges: `nft flush ruleset`, a reload.

The kernel notifies about all changes of rules and links. It drops by filters what is not of
interest: our own changes of rules, by the address of their socket, and links that do not go.
A container that starts makes and changes links some 25 times.
"""

import ctypes
import errno
import select
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from typing import NamedTuple

from orlop.kernel.netlink import links

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTABLES, _RTNLGRP_LINK = 7, 1
_SO_ATTACH_FILTER = 26
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _DELRULE, _DELSET, _DELSETELEM = 0, 2, 3, 5, 8, 11, 14
_DELETIONS = frozenset((_DELTABLE, _DELCHAIN, _DELRULE, _DELSET, _DELSETELEM))
_RTM_DELLINK = 17
_OTHERS = (b"FORWARD\0", b"DOCKER-USER\0", b"firewalld\0")  # chains and tables that beside.py uses
_HEADER = struct.Struct("=IHHII")
_QUEUED_BYTES = 1 << 20
_LONGEST_BYTES = 1 << 16
# BPF_LD|W|ABS, BPF_LD|H|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_LOAD_WORD, _LOAD_HALF, _EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_DROP, _PASS = (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)


class Changes(NamedTuple):
    """Changes by others: to our *rules*, or those that beside.py handles, and to *bridges*."""

    rules: bool = False
    bridges: frozenset[str] = frozenset()


class Watch:
    """Listens in the caller's network namespace; readable when there are notifications.

    Args:
        table: the name of our table, and of our rules in other tables.
        port: the netlink address that our own changes come from, `Firewall.port`.
    """

    def __init__(self, table: str, port: int) -> None:
        self._tag = table.encode()
        self._rules = _subscribe(_NETLINK_NETFILTER, _NFNLGRP_NFTABLES, _without(port))
        self._links = _subscribe(socket.NETLINK_ROUTE, _RTNLGRP_LINK, _of(_RTM_DELLINK))
        self._poll = select.epoll()
        self._poll.register(self._rules, select.EPOLLIN)
        self._poll.register(self._links, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable when changes() may have a result."""
        return self._poll.fileno()

    def close(self) -> None:
        self._poll.close()
        self._rules.close()
        self._links.close()

    def changes(self, bridges: Collection[str]) -> Changes:
        """Return the changes of rules and those *bridges* since the last call; never waits.

        If the kernel has lost notifications, everything counts as changed.
        """
        try:
            rules = [self._matters(kind, body) for kind, body in _messages(self._rules)]
            gone = {
                links.read(body).name
                for kind, body in _messages(self._links)
                if kind == _RTM_DELLINK
            }
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._drain()
            return Changes(rules=True, bridges=frozenset(bridges))
        return Changes(any(rules), frozenset(gone & {*bridges}))

    def _matters(self, kind: int, body: bytes) -> bool:
        subsystem, what = kind >> 8, kind & 0xFF
        if subsystem != _NFTABLES:
            return False
        if what in _DELETIONS:
            return self._tag in body
        return what in {_NEWTABLE, _NEWCHAIN} and any(name in body for name in _OTHERS)

    def _drain(self) -> None:
        for one in (self._rules, self._links):
            while True:
                try:
                    list(_messages(one))
                    break
                except OSError:
                    continue


def _subscribe(protocol: int, group: int, program: bytes) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUED_BYTES)
        _attach(made, program)
        made.bind((0, 0))  # without an address it counts as the kernel, and hears nothing
        made.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        made.close()
        raise
    return made


def _without(port: int) -> bytes:
    """Return a classic BPF program that drops messages that come from *port*.

    The port is at offset 12 of the first message's header, as the kind is at offset 4, in the
    machine's byte order, while programs load numbers in network order.
    """
    return _program((_LOAD_WORD, 0, 0, 12), (_EQUAL, 0, 1, _swapped(port, 4)), _DROP, _PASS)


def _of(kind: int) -> bytes:
    """Return a classic BPF program that drops messages that are not of this *kind*."""
    return _program((_LOAD_HALF, 0, 0, 4), (_EQUAL, 1, 0, _swapped(kind, 2)), _DROP, _PASS)


def _swapped(number: int, size: int) -> int:
    return int.from_bytes(number.to_bytes(size, sys.byteorder), "big")


def _program(*steps: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _attach(to: socket.socket, program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    to.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(program) // 8, ctypes.addressof(code)),
    )


def _messages(of: socket.socket) -> Iterator[tuple[int, bytes]]:
    while True:
        try:
            data = of.recv(_LONGEST_BYTES)
        except BlockingIOError:
            return
        start = 0
        while len(data) - start >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data, start)
            if length < _HEADER.size:
                break
            yield kind, data[start + _HEADER.size : start + length]
            start += (length + 3) & ~3
