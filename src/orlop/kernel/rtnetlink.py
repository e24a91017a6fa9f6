"""Move an interface into another network namespace with its addresses. rtnetlink(7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from orlop.kernel.netlink import links
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import REPLACE, Request, attribute, attributes, number, u32
from orlop.model.light import NamedTuple

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD, _IFA_F_PERMANENT, _IFA_F_NOPREFIXROUTE = 0x02, 0x80, 0x200
_RT_SCOPE_UNIVERSE = 0

_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index


class Address(NamedTuple):
    """An address of an interface with all its attributes."""

    family: int
    prefix: int
    flags: int
    parts: tuple[tuple[int, bytes], ...]  # the address, the peer's, the broadcast, …


class Rtnetlink:
    """A socket to one network namespace: that of the process when it is made."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def permanent_addresses(self, index: int) -> list[Address]:
        """Return the addresses of interface *index* that are permanent and of global scope."""
        found = []
        for body in self._netlink.dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, index), "addresses"):
            family, prefix, flags, scope, of = _ADDRESS.unpack_from(body)
            parts = attributes(body, _ADDRESS.size)
            if _IFA_FLAGS in parts:
                flags = number(parts[_IFA_FLAGS])
            if of == index and scope == _RT_SCOPE_UNIVERSE and flags & _IFA_F_PERMANENT:
                kept = tuple(
                    (kind, parts[kind])
                    for kind in (_IFA_LOCAL, _IFA_ADDRESS, _IFA_BROADCAST)
                    if kind in parts
                )
                found.append(Address(family, prefix, flags, kept))
        return found

    def move(self, index: int, namespace: int, name: str) -> None:
        """Move interface *index* into the network namespace *namespace*, renamed to *name*."""
        self._netlink.ask(links.change(index, links.Settings(namespace=namespace, name=name)))

    def set_up(self, index: int, addresses: Sequence[Address], name: str) -> None:
        """Give interface *index* its *addresses* and bring it up."""
        batch = [_packed(address, index, name) for address in addresses]
        up = links.change(index, links.Settings(up=True))._replace(what=name)
        self._netlink.ask(*batch, up)


def _packed(address: Address, index: int, name: str) -> Request:
    flags = address.flags & _IFA_F_NOPREFIXROUTE | _IFA_F_NODAD
    body = _ADDRESS.pack(address.family, address.prefix, flags & 0xFF, _RT_SCOPE_UNIVERSE, index)
    for kind, value in address.parts:
        body += attribute(kind, value)
    return Request(_RTM_NEWADDR, REPLACE, body + u32(_IFA_FLAGS, flags), name)
