"""The sockets on which a container's name server is asked: 127.0.0.11, port 53.

The port has to stay free in the container, where a name server may be what it is there for
(and listens on every address). So the kernel is told to hand over what comes to 127.0.0.11
port 53 to sockets that are bound elsewhere (bpf, BPF_SK_LOOKUP). A UDP answer then has to
come from the port 53 that its socket has not: it is sent raw, headers and all.

Where bpf is not to be had the port itself is bound, and shared with who asks to share it.
"""

import contextlib
import fcntl
import os
import socket
import struct
from contextlib import ExitStack

from orlop.kernel.socklookup import redirect
from orlop.network.dns.resolvconf import SERVER

_PORT = 53
_FREEBIND = 15  # IP_FREEBIND, <linux/in.h>
_GET_NAMESPACE = 0x894C  # SIOCGSKNS, <linux/sockios.h>
_BACKLOG = 16
_ip = struct.Struct("!BBHHHBBH4s")  # RFC 791; length, id and checksum are the kernel's
_udp = struct.Struct("!4sHHHH")  # the last of IP, and RFC 768 without a checksum
_IP_START = _ip.pack(0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, socket.inet_aton(SERVER))
_UDP_HEADER = 8


class Sockets:
    """They keep the network namespace alive that they are in: close them at the container's end."""

    def __init__(self) -> None:
        """Make them in this thread's network namespace."""
        with ExitStack() as undo:
            self._raw: socket.socket | None = None
            self._link = -1
            self.udp = undo.enter_context(_socket(socket.SOCK_DGRAM))
            self.tcp = undo.enter_context(_socket(socket.SOCK_STREAM))
            try:
                self._bind_elsewhere()
            except OSError:  # no bpf here: old kernel, or forbidden
                self._bind_in_place()
            self.tcp.listen(_BACKLOG)
            undo.pop_all()

    def _bind_elsewhere(self) -> None:
        with ExitStack() as undo:
            for one in (self.udp, self.tcp):
                one.bind((SERVER, 0))
            self.tcp.listen(_BACKLOG)  # only then can it be looked up
            raw = undo.enter_context(_socket(socket.SOCK_RAW, socket.IPPROTO_RAW))
            self._link = redirect(SERVER, _PORT, udp=self.udp.fileno(), tcp=self.tcp.fileno())
            self._raw = raw
            undo.pop_all()

    def _bind_in_place(self) -> None:
        for old in (self.udp, self.tcp):
            fresh = _socket(old.type)
            os.dup2(fresh.fileno(), old.fileno(), inheritable=False)
            fresh.close()
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                old.setsockopt(socket.SOL_SOCKET, option, 1)
            old.bind((SERVER, _PORT))

    def reply(self, answer: bytes, address: tuple[str, int]) -> None:
        """Send a UDP answer; lost where there is no room, as packets may be."""
        with contextlib.suppress(OSError):
            if self._raw is None:
                self.udp.sendto(answer, address)
                return
            host, port = address
            size = _UDP_HEADER + len(answer)
            rest = _udp.pack(socket.inet_aton(host), _PORT, port, size, 0)
            self._raw.sendto(_IP_START + rest + answer, (host, 0))

    def namespace(self) -> int:
        """Return a descriptor of the network namespace, which the caller closes."""
        return fcntl.ioctl(self.udp.fileno(), _GET_NAMESPACE)

    def close(self) -> None:
        for one in (self.udp, self.tcp, self._raw):
            if one is not None:
                one.close()
        if self._link >= 0:
            os.close(self._link)
            self._link = -1


def _socket(type_: int, protocol: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET, type_ | socket.SOCK_NONBLOCK, protocol)
    made.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)  # lo may not be up yet
    return made
