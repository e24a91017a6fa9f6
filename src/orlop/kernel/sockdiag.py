"""Make TCP forget connections that have ended. sock_diag(7)."""

from __future__ import annotations

import _socket as socket
import struct
from contextlib import suppress

from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import PLAIN, Request

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DESTROY = 20, 21
_FIN_WAIT2, _TIME_WAIT = 5, 6
_REQUEST = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states
_OVER = 1 << _FIN_WAIT2 | 1 << _TIME_WAIT
_ANY = bytes(48)  # inet_diag_sockid
_ID = slice(4, 52)  # of inet_diag_msg


def forget_ended() -> None:
    """Forget ended TCP connections of this network namespace whose data has arrived.

    That frees their ports, which TCP otherwise keeps for a minute. OSError EOPNOTSUPP if
    the kernel was built without INET_DIAG_DESTROY.
    """
    with Netlink(_NETLINK_SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _OVER)
            with suppress(FileNotFoundError):  # a kernel without IPv6
                for found in netlink.dump(_BY_FAMILY, request + _ANY, "connections"):
                    with suppress(FileNotFoundError):  # TCP has just forgotten it
                        netlink.ask(Request(_DESTROY, PLAIN, request + found[_ID], "connection"))
