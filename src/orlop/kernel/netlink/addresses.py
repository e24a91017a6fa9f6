"""Addresses of interfaces. rtnetlink(7), <linux/if_addr.h>."""

from __future__ import annotations

import _socket as socket  # importing socket costs twice as much as all other imports here
import struct

from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import (
    PLAIN,
    REPLACE,
    Request,
    attribute,
    attributes,
    family_of,
    number,
    packed,
    split_prefix,
    u8,
    u32,
    unpacked,
)
from orlop.model.light import NamedTuple

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS, _IFA_PROTO = 1, 2, 4, 8, 11
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x02, 0x08, 0x40
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253

_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index


class Address(NamedTuple):
    """An address of an interface, as the kernel has it."""

    ifindex: int  # the interface's
    address: str  # "10.0.0.1/8"
    scope: int  # 0 for everywhere
    tentative: bool  # not used yet: duplicate address detection runs
    duplicate: bool  # not used: another host has it
    mark: int = 0  # as given to add()


def add(index: int, address: str, *, mark: int = 0) -> Request:
    """Add *address* ("10.0.0.1/8") to interface *index*, usable at once; repeating is no error.

    IPv6 duplicate address detection, which takes a second, is skipped. *mark*, a byte above
    the kernel's own (3), identifies who added it, since Linux 5.18.
    """
    bare, prefix = split_prefix(address)
    data = packed(bare)
    family = family_of(bare)
    scope = _RT_SCOPE_LINK if _is_link_local(data) else _RT_SCOPE_UNIVERSE
    body = _ADDRESS.pack(family, prefix, _IFA_F_NODAD, scope, index)
    body += attribute(_IFA_LOCAL, data) + attribute(_IFA_ADDRESS, data)
    if family == socket.AF_INET6:
        body += u32(_IFA_FLAGS, _IFA_F_NODAD)
    elif prefix < 31:
        host = (1 << (32 - prefix)) - 1
        last = int.from_bytes(data, "big") | host
        body += attribute(_IFA_BROADCAST, last.to_bytes(4, "big"))
    if mark:
        body += u8(_IFA_PROTO, mark)
    return Request(_RTM_NEWADDR, REPLACE, body, address)


def remove(index: int, address: str) -> Request:
    bare, prefix = split_prefix(address)
    data = packed(bare)
    body = _ADDRESS.pack(family_of(bare), prefix, 0, 0, index)
    body += attribute(_IFA_LOCAL, data) + attribute(_IFA_ADDRESS, data)  # both, or any prefix fits
    return Request(_RTM_DELADDR, PLAIN, body, address)


def each(netlink: Netlink, index: int = 0) -> list[Address]:
    """Return the addresses of interface *index*, or of all."""
    body = _ADDRESS.pack(0, 0, 0, 0, index)
    return [read(answer) for answer in netlink.dump(_RTM_GETADDR, body, "addresses")]


def read(body: bytes) -> Address:
    """Return the address in an answer or a notification."""
    _, prefix, flags, scope, index = _ADDRESS.unpack_from(body)
    parts = attributes(body, _ADDRESS.size)
    if _IFA_FLAGS in parts:
        flags = number(parts[_IFA_FLAGS])
    own = parts.get(_IFA_LOCAL) or parts[_IFA_ADDRESS]
    return Address(
        ifindex=index,
        address=f"{unpacked(own)}/{prefix}",
        scope=scope,
        tentative=bool(flags & _IFA_F_TENTATIVE),
        duplicate=bool(flags & _IFA_F_DADFAILED),
        mark=number(parts.get(_IFA_PROTO, b"")),
    )


def _is_link_local(data: bytes) -> bool:
    if len(data) == 4:
        return data[:2] == b"\xa9\xfe"
    return data[0] == 0xFE and data[1] & 0xC0 == 0x80
