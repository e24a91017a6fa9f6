"""Network interfaces and their addresses: rtnetlink(7), as far as moving one needs it.

Messages are written by hand and sent in batches: many requests in one datagram,
the answers looked at one by one.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence

from orlop.model.light import NamedTuple

_NEWLINK, _GETLINK = 16, 18
_NEWADDR, _GETADDR = 20, 22
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _CREATE, _REPLACE, _DUMP = 0x1, 0x4, 0x400, 0x100, 0x300

_IFLA_IFNAME, _IFLA_NET_NS_FD = 3, 28
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFF_UP = 0x1
_F_NODAD, _F_PERMANENT, _F_NOPREFIXROUTE = 0x02, 0x80, 0x200
_RT_SCOPE_UNIVERSE = 0

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, changed
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_MOST_ANSWER = 1 << 20


class Address(NamedTuple):
    """An address of an interface, as the kernel has it."""

    family: int
    prefix: int
    flags: int
    parts: tuple[tuple[int, bytes], ...]  # attributes: the address, the peer's, the broadcast


class Rtnetlink:
    """A socket to one network namespace: that of the process when it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def permanent_addresses(self, index: int) -> list[Address]:
        """Return the addresses of interface *index* that are of global scope and for ever."""
        self._send([(_GETADDR, _REQUEST | _DUMP, _ADDRESS.pack(0, 0, 0, 0, 0))])
        found = []
        for _, body in self._answers():
            family, prefix, flags, scope, of = _ADDRESS.unpack_from(body)
            parts = dict(_attributes(body[_ADDRESS.size :]))
            if _IFA_FLAGS in parts:
                flags = int.from_bytes(parts[_IFA_FLAGS], "little")
            if of == index and scope == _RT_SCOPE_UNIVERSE and flags & _F_PERMANENT:
                kept = tuple(
                    (kind, parts[kind])
                    for kind in (_IFA_LOCAL, _IFA_ADDRESS, _IFA_BROADCAST)
                    if kind in parts
                )
                found.append(Address(family, prefix, flags, kept))
        return found

    def move(self, index: int, namespace: int, name: str) -> None:
        """Move interface *index* into the network namespace *namespace*, to be called *name*."""
        attributes = _attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
        attributes += _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        body = _LINK.pack(0, 0, index, 0, 0) + attributes
        self._request([(_NEWLINK, _REQUEST | _ACK, body)], name)

    def set_up(self, index: int, addresses: Sequence[Address], name: str) -> None:
        """Give interface *index* its *addresses* and bring it up."""
        batch = [
            (_NEWADDR, _REQUEST | _ACK | _CREATE | _REPLACE, _packed(address, index))
            for address in addresses
        ]
        up = _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP)
        self._request([*batch, (_NEWLINK, _REQUEST | _ACK, up)], name)

    def _request(self, batch: Sequence[tuple[int, int, bytes]], name: str) -> None:
        self._send(batch)
        for _ in batch:
            for kind, body in self._messages():
                if kind == _ERROR and (number := -struct.unpack_from("=i", body)[0]):
                    raise OSError(number, f"rtnetlink: {os.strerror(number)}", name)

    def _send(self, batch: Sequence[tuple[int, int, bytes]]) -> None:
        messages = (
            _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body
            for number, (kind, flags, body) in enumerate(batch, 1)
        )
        self._socket.send(b"".join(messages))

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        while True:
            for kind, body in self._messages():
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, f"rtnetlink: {os.strerror(number)}")
                yield kind, body

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        data = self._socket.recv(_MOST_ANSWER)
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            yield kind, data[_HEADER.size : length]
            data = data[_aligned(length) :]


def _packed(address: Address, index: int) -> bytes:
    flags = address.flags & _F_NOPREFIXROUTE | _F_NODAD
    body = _ADDRESS.pack(address.family, address.prefix, flags & 0xFF, _RT_SCOPE_UNIVERSE, index)
    for kind, value in (*address.parts, (_IFA_FLAGS, struct.pack("=I", flags))):
        body += _attribute(kind, value)
    return body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value.ljust(_aligned(len(value)), b"\0")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(max(length, _ATTRIBUTE.size)) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
