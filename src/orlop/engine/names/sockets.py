"""The sockets of a container's name server: 127.0.0.11, port 53.

The container may itself run a name server on port 53 of every address, so the port must stay
free. A BPF program (BPF_SK_LOOKUP) directs packets for 127.0.0.11 port 53 to sockets bound
elsewhere. A UDP answer must come from port 53, which its socket does not have, so it is sent
raw, with all headers.

Without bpf the port itself is bound, and shared with programs that allow sharing.
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
_ip = struct.Struct("!BBHHHBBH4s")  # RFC 791; the kernel sets length, id and checksum
_udp = struct.Struct("!4sHHHH")  # the last field of IP, and RFC 768 without a checksum
_IP_START = _ip.pack(0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, socket.inet_aton(SERVER))
_UDP_HEADER = 8


class Sockets:
    """They keep their network namespace alive: close them at the container's end."""

    def __init__(self) -> None:
        """Make them in this thread's network namespace."""
        with ExitStack() as undo:
            self._raw: socket.socket | None = None
            self._link = -1
            self.udp = undo.enter_context(_socket(socket.SOCK_DGRAM))
            self.tcp = undo.enter_context(_socket(socket.SOCK_STREAM))
            try:
                self._bind_elsewhere()
            except OSError:  # no bpf: an old kernel, or not permitted
                self._bind_in_place()
            self.tcp.listen(_BACKLOG)
            undo.pop_all()

    def _bind_elsewhere(self) -> None:
        with ExitStack() as undo:
            for one in (self.udp, self.tcp):
                one.bind((SERVER, 0))
            self.tcp.listen(_BACKLOG)  # necessary before a lookup can return it
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
        """Send a UDP answer; if there is no room it is lost, as packets may be."""
        with contextlib.suppress(OSError):
            if self._raw is None:
                self.udp.sendto(answer, address)
                return
            host, port = address
            size = _UDP_HEADER + len(answer)
            rest = _udp.pack(socket.inet_aton(host), _PORT, port, size, 0)
            self._raw.sendto(_IP_START + rest + answer, (host, 0))

    def namespace(self) -> int:
        """Return a descriptor of the network namespace; the caller closes it."""
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
