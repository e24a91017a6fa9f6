"""Descriptors over Unix sockets. unix(7), SCM_RIGHTS.

By _socket, the C module: socket and what it imports cost 2 ms, and what starts
often cannot afford that. The calls are the same.
"""

import _socket
from sys import byteorder


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Return two connected sockets whose messages keep their bounds."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def connect(path: str) -> _socket.socket:
    """Return a stream socket that is connected to the one at *path*; the caller closes it."""
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made


def send_descriptor(connection: _socket.socket, fd: int, name: bytes) -> None:
    """Send *fd* with *name* beside it, which must not be empty."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, byteorder))
    connection.sendmsg([name], [rights])


def receive_descriptor(connection: _socket.socket) -> int | None:
    """Return the descriptor that comes next, close-on-exec; None at the end, or where none is."""
    _, received, _, _ = connection.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in received:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            return int.from_bytes(data[:4], byteorder)
    return None
