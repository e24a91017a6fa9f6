"""The kernel's connection tracking (nf_conntrack): find connections, and forget them.

<linux/netfilter/nfnetlink_conntrack.h>, spoken over netlink.
"""

from __future__ import annotations

import _socket as socket  # importing socket costs twice as much as all other imports here
import struct
from contextlib import suppress

from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import (
    PLAIN,
    Request,
    attribute,
    attributes,
    nested,
    u8,
    u16_network,
    u32,
    unpacked,
)
from orlop.model.light import NamedTuple

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)  # CTA_IP_V4_SRC, CTA_IP_V6_SRC; CTA_IP_V4_DST, ...
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
# of nf_internals.h
_BY_SOURCE, _BY_PROTOCOL, _BY_SOURCE_PORT, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 4, 1 << 5
_GENERIC = struct.Struct("=BBH")  # nfgenmsg: family, version, resource


class Flow(NamedTuple):
    """A connection: where its first packet was sent to, and who answers."""

    family: int
    protocol: int
    destination: str
    destination_port: int
    answering: str
    answering_port: int
    handle: bytes  # the kernel's key for it


class Conntrack:
    """A connection to conntrack in one network namespace: the thread's when it is made."""

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_NETFILTER)

    def __enter__(self) -> Conntrack:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def flows(self, family: int, protocol: int, port: int | None = None) -> list[Flow]:
        """Return the connections of *protocol*, or those whose first packet went to *port*.

        The kernel filters since Linux 5.8; for older kernels we filter again. It walks its
        whole table, which takes some milliseconds.
        """
        wanted, by = u8(_CTA_PROTO_NUM, protocol), _BY_PROTOCOL
        if port is not None:
            wanted += u16_network(_CTA_PROTO_DST_PORT, port)
            by |= _BY_DESTINATION_PORT
        body = _GENERIC.pack(family, 0, 0)
        body += nested(_CTA_TUPLE_ORIG, nested(_CTA_TUPLE_PROTO, wanted))
        body += nested(_CTA_FILTER, u32(_CTA_FILTER_ORIG_FLAGS, by))
        found = (_read(answer) for answer in self._netlink.dump(_GET, body, "connections"))
        return [
            flow
            for flow in found
            if flow.protocol == protocol and port in (None, flow.destination_port)
        ]

    def forget_all(self, protocol: int, port: int, answering: tuple[str, int]) -> None:
        """Forget connections whose first packet went to *port* and that *answering* answers.

        The kernel forgets any number in one request. Since Linux 6.11; OSError EINVAL before.
        IPv4 only: for IPv6 the kernel takes all addresses except that one.
        """
        address, answering_port = answering
        sent = u8(_CTA_PROTO_NUM, protocol) + u16_network(_CTA_PROTO_DST_PORT, port)
        back = u8(_CTA_PROTO_NUM, protocol) + u16_network(_CTA_PROTO_SRC_PORT, answering_port)
        source = attribute(_SOURCES[0], socket.inet_pton(socket.AF_INET, address))
        by_back = _BY_SOURCE | _BY_PROTOCOL | _BY_SOURCE_PORT
        body = _GENERIC.pack(socket.AF_INET, 0, 0)
        body += nested(_CTA_TUPLE_ORIG, nested(_CTA_TUPLE_PROTO, sent))
        body += nested(
            _CTA_TUPLE_REPLY, nested(_CTA_TUPLE_IP, source), nested(_CTA_TUPLE_PROTO, back)
        )
        body += nested(
            _CTA_FILTER,
            u32(_CTA_FILTER_ORIG_FLAGS, _BY_PROTOCOL | _BY_DESTINATION_PORT),
            u32(_CTA_FILTER_REPLY_FLAGS, by_back),
        )
        self._netlink.ask(Request(_DELETE, PLAIN, body, "connections"))

    def forget_address(self, address: str) -> None:
        """Forget connections to or from an IPv4 address, as forget_all() does."""
        source = attribute(_SOURCES[0], socket.inet_pton(socket.AF_INET, address))
        for which, flags in (
            (_CTA_TUPLE_ORIG, (_BY_SOURCE, 0)),
            (_CTA_TUPLE_REPLY, (0, _BY_SOURCE)),
        ):
            body = _GENERIC.pack(socket.AF_INET, 0, 0)
            body += nested(which, nested(_CTA_TUPLE_IP, source))
            body += nested(
                _CTA_FILTER,
                u32(_CTA_FILTER_ORIG_FLAGS, flags[0]),
                u32(_CTA_FILTER_REPLY_FLAGS, flags[1]),
            )
            self._netlink.ask(Request(_DELETE, PLAIN, body, "connections"))

    def forget(self, flow: Flow) -> None:
        """Forget *flow*: its next packet is checked anew. A flow that is gone is no error."""
        body = _GENERIC.pack(flow.family, 0, 0) + flow.handle
        with suppress(FileNotFoundError):
            self._netlink.ask(Request(_DELETE, PLAIN, body, "connection"))


def _read(body: bytes) -> Flow:
    parts = attributes(body, _GENERIC.size)
    sent, answered = attributes(parts[_CTA_TUPLE_ORIG]), attributes(parts[_CTA_TUPLE_REPLY])
    to, back = attributes(sent[_CTA_TUPLE_IP]), attributes(answered[_CTA_TUPLE_IP])
    ports, back_ports = attributes(sent[_CTA_TUPLE_PROTO]), attributes(answered[_CTA_TUPLE_PROTO])
    known_by = (_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE)
    return Flow(
        family=body[0],
        protocol=ports[_CTA_PROTO_NUM][0],
        destination=next(unpacked(to[kind]) for kind in _DESTINATIONS if kind in to),
        destination_port=int.from_bytes(ports.get(_CTA_PROTO_DST_PORT, b""), "big"),
        answering=next(unpacked(back[kind]) for kind in _SOURCES if kind in back),
        answering_port=int.from_bytes(back_ports.get(_CTA_PROTO_SRC_PORT, b""), "big"),
        handle=b"".join(
            attribute(kind | (0x8000 if kind == _CTA_TUPLE_ORIG else 0), parts[kind])
            for kind in known_by
            if kind in parts
        ),
    )
