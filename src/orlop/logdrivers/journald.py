"""The driver journald: systemd's native protocol.

A datagram for each entry, or, of one that is too large, the descriptor of a file in memory.
systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping

from orlop.logdrivers.driver import Message
from orlop.logdrivers.wire import About
from orlop.model.stamp import stamp

PATH = "/run/systemd/journal/socket"
_ERROR, _INFORMATION = "3", "6"
_LENGTH = struct.Struct("<Q")


class Journald:
    OPTIONS: frozenset[str] = frozenset()

    def __init__(self, _options: Mapping[str, str], about: About) -> None:
        fields = {
            "CONTAINER_ID": about["id"][:12],
            "CONTAINER_ID_FULL": about["id"],
            "CONTAINER_NAME": about["name"],
            "CONTAINER_TAG": about["tag"],
            "IMAGE_NAME": about["image"],
            "SYSLOG_IDENTIFIER": about["tag"],
        }
        for name, value in about["attributes"].items():
            fields[field_name(name)] = value
        self._fields = b"".join(
            _field(name, text.encode()) for name, text in fields.items() if name
        )
        self._socket: socket.socket | None = None

    def open(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.connect(PATH)
        except BaseException:
            sock.close()
            raise
        self._socket = sock

    def send(self, message: Message) -> None:
        if self._socket is None:
            self.open()
        if self._socket is None:
            return
        entry = self._entry(message)
        try:
            self._socket.send(entry)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            _send_file(self._socket, entry)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _entry(self, message: Message) -> bytes:
        parts = [
            _field("PRIORITY", (_ERROR if message.stream == "stderr" else _INFORMATION).encode()),
            _field("MESSAGE", message.line),
            _field("SYSLOG_TIMESTAMP", stamp(message.time_ns).encode()),
            self._fields,
        ]
        if message.part is not None:
            parts += [
                _field("CONTAINER_PARTIAL_MESSAGE", b"true"),
                _field("CONTAINER_PARTIAL_ID", message.part.id.encode()),
                _field("CONTAINER_PARTIAL_ORDINAL", b"%d" % message.part.ordinal),
                _field("CONTAINER_PARTIAL_LAST", b"true" if message.part.last else b"false"),
            ]
        return b"".join(parts)


def field_name(name: str) -> str:
    """Return a field's name, as Docker makes it of a label's: A-Z, 0-9 and _, not _ at first."""
    letters = (c.upper() if c.isascii() and c.isalnum() else "_" for c in name)
    return "".join(letters).lstrip("_")


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + _LENGTH.pack(len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def _send_file(sock: socket.socket, entry: bytes) -> None:
    fd = os.memfd_create("journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", buffering=0, closefd=False) as file:
            file.write(entry)
        rights = struct.pack("i", fd)
        sock.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        os.close(fd)
