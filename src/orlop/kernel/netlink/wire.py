"""Encode and decode netlink's requests and attributes. netlink(7)."""

from __future__ import annotations

import _socket as socket  # importing socket costs twice as much as all other imports here
import struct
import sys
from collections.abc import Iterator

from orlop.model.light import NamedTuple

_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
_NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLM_F_DUMP = 0x300
_NLA_F_NESTED = 0x8000
_KIND_BITS = 0x3FFF

#: Flags of a request besides the request for an answer.
PLAIN = _NLM_F_REQUEST | _NLM_F_ACK
CREATE = PLAIN | _NLM_F_CREATE | _NLM_F_EXCL
REPLACE = PLAIN | _NLM_F_CREATE | _NLM_F_REPLACE
APPEND = PLAIN | _NLM_F_CREATE | _NLM_F_APPEND
DUMP = _NLM_F_REQUEST | _NLM_F_DUMP

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, number, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_U32 = struct.Struct("=I")


class Request(NamedTuple):
    """One request; *what* names its object, for the error's text."""

    kind: int
    flags: int
    body: bytes
    what: str


def message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """Return a request with its header, padded to where the next one of a batch begins."""
    head = HEADER.pack(HEADER.size + len(body), kind, flags, number, 0)
    return head + body + b"\0" * (-len(body) & 3)


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length & 3)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, b"".join(parts))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u16_network(kind: int, value: int) -> bytes:
    """Return a number of two bytes in network order, as ports are."""
    return attribute(kind, value.to_bytes(2, "big"))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def string(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """Return the attributes that begin at *start*, the last one of each kind."""
    return dict(each_attribute(data, start))


def each_attribute(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    end = len(data)
    while end - start >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            return
        yield kind & _KIND_BITS, data[start + 4 : start + length]
        start += (length + 3) & ~3


def number(value: bytes) -> int:
    """Return the number in an attribute of any size, in the machine's byte order."""
    return int.from_bytes(value, sys.byteorder)


def text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")


def family_of(address: str) -> int:
    """Return AF_INET6 for an address with a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def packed(address: str) -> bytes:
    """Return the address's bytes; OSError if it is not an address."""
    return socket.inet_pton(family_of(address), address)


def unpacked(value: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)


def split_prefix(address: str) -> tuple[str, int]:
    """Return address and prefix length of "10.0.0.1/8"; without a slash all bits."""
    bare, slash, prefix = address.partition("/")
    return bare, int(prefix) if slash else 128 if ":" in bare else 32


def hardware(address: str) -> bytes:
    """Return the six bytes of a MAC address; ValueError if it is not one."""
    value = bytes.fromhex(address.replace(":", "").replace("-", ""))
    if len(value) != 6:
        raise ValueError(f"{address!r} is not a MAC address")
    return value


def hardware_text(value: bytes) -> str:
    return value.hex(":")
