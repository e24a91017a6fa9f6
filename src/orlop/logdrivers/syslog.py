"""The driver syslog: RFC 3164, RFC 5424, and the form of /dev/log."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from orlop.errors import InvalidArgumentError
from orlop.logdrivers import options as values
from orlop.logdrivers.address import TLS, Address, check_files, close, parse_address
from orlop.logdrivers.driver import Message
from orlop.logdrivers.wire import About

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_PORT = 514
#: By number; 12 to 15 have no name that options know.
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "", "", "", ""),
    *(f"local{number}" for number in range(8)),
)
_ERROR, _INFORMATION = 3, 6
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_TLS = "syslog-tls-"


class Syslog:
    OPTIONS = frozenset(
        (
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        )
    )

    def __init__(self, options: Mapping[str, str], about: About) -> None:
        self._addresses = _addresses(options.get("syslog-address", ""))
        self._facility = _facility(options.get("syslog-facility", ""))
        self._format = options.get("syslog-format", "")
        if self._format not in _FORMATS:
            raise InvalidArgumentError(
                f"log option syslog-format cannot be {self._format[:50]!r}",
                hint="rfc3164, rfc5424 or rfc5424micro",
            )
        self._tls = TLS(
            ca_file=options.get(_TLS + "ca-cert", ""),
            certificate=options.get(_TLS + "cert", ""),
            key=options.get(_TLS + "key", ""),
            verify=not values.truth(options, _TLS + "skip-verify"),
        )
        check_files(self._tls)
        self._tag = about["tag"]
        self._counted = self._addresses[0].scheme == "tls" and "5424" in self._format
        self._socket: socket.socket | None = None

    def open(self) -> None:
        *others, last = self._addresses
        for address in others:
            with contextlib.suppress(OSError):
                self._socket = address.connect(self._tls)
                return
        self._socket = last.connect(self._tls)

    def send(self, message: Message) -> None:
        if not message.line:
            return
        if self._socket is None:
            self.open()
        if self._socket is not None:
            self._socket.sendall(self._framed(message))

    def close(self) -> None:
        if self._socket is not None:
            close(self._socket)
            self._socket = None

    def _framed(self, message: Message) -> bytes:
        severity = _ERROR if message.stream == "stderr" else _INFORMATION
        data = self._head(self._facility << 3 | severity, message.time_ns) + message.line + b"\n"
        return b"%d %b" % (len(data), data) if self._counted else data  # RFC 5425

    def _head(self, priority: int, time_ns: int) -> bytes:
        seconds, tag, pid = time_ns // 1_000_000_000, self._tag, os.getpid()
        host = os.uname().nodename
        if self._format.startswith("rfc5424"):
            moment = _rfc3339(time_ns, micro=self._format.endswith("micro"))
            return f"<{priority}>1 {moment} {host} {tag} {pid} {tag} - ".encode()
        local = time.localtime(seconds)
        moment = f"{time.strftime('%b', local)} {local.tm_mday:2d} {time.strftime('%T', local)}"
        host = f" {host}" if self._format else ""
        return f"<{priority}>{moment}{host} {tag}[{pid}]: ".encode()


def _addresses(text: str) -> list[Address]:
    if not text:
        return [Address(kind, path) for path in _LOCAL for kind in ("unixgram", "unix")]
    schemes = ("udp", "tcp", "tcp+tls", "unix", "unixgram")
    address = parse_address(text, option="syslog-address", schemes=schemes, port=_PORT)
    return [address._replace(scheme="tls") if address.scheme == "tcp+tls" else address]


def _facility(text: str) -> int:
    if not text or text in _FACILITIES:
        return _FACILITIES.index(text or "daemon")
    if text.isascii() and text.isdecimal() and int(text[:9]) < len(_FACILITIES):
        return int(text)
    raise InvalidArgumentError(f"log option syslog-facility cannot be {text[:50]!r}")


def _rfc3339(time_ns: int, *, micro: bool) -> str:
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    digits = f".{fraction // 1000:06d}" if micro else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + digits + zone
