"""The loopback interface of the current network namespace. netdevice(7)."""

import _socket
import fcntl
import struct

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def raise_loopback() -> None:
    """Bring "lo" up, which also gives it 127.0.0.1 and ::1. Needs CAP_NET_ADMIN."""
    request = struct.pack("16sH14x", b"lo", _IFF_UP)
    anything = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        fcntl.ioctl(anything.fileno(), _SIOCSIFFLAGS, request)
    finally:
        anything.close()
