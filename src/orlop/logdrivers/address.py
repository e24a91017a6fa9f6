"""Addresses of log services: tcp://host:port, udp://…, unix:///path."""

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from orlop.errors import InvalidArgumentError

CONNECT_S = 10.0
_FAREWELL_S = 3.0


class TLS(NamedTuple):
    """How a peer is known, and we are to it; paths of PEM files."""

    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


class Address(NamedTuple):
    scheme: str  # tcp, udp, tls, unix, unixgram
    host: str  # path, for unix and unixgram
    port: int = 0

    def __str__(self) -> str:
        if self.scheme.startswith("unix"):
            return f"{self.scheme}://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def connect(self, tls: TLS | None = None) -> socket.socket:
        """Return a connected socket that blocks. OSError where nobody answers in time."""
        if self.scheme.startswith("unix"):
            return _connect_unix(self.host, datagrams=self.scheme == "unixgram")
        if self.scheme == "udp":
            return _connect_udp(self.host, self.port)
        sock = socket.create_connection((self.host, self.port), CONNECT_S)
        try:
            if self.scheme == "tls":
                sock = _secured(sock, self.host, tls or TLS())
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock


def close(sock: socket.socket) -> None:
    """Close a connection; over TLS, once the peer has closed it too, or after some seconds.

    The peer may have sent what nobody reads, such as session tickets. If we close then, the
    kernel resets the connection, and the peer loses the messages that it has not read yet.
    """
    if type(sock) is socket.socket:
        sock.close()
        return
    with contextlib.suppress(OSError):  # it sends its last word, and does not wait for the peer's
        sock.settimeout(0)
        sock.unwrap()  # type: ignore[attr-defined] # an ssl.SSLSocket
    with socket.socket(fileno=sock.detach()) as raw, contextlib.suppress(OSError):
        raw.shutdown(socket.SHUT_WR)
        until = time.monotonic() + _FAREWELL_S
        while (left := until - time.monotonic()) > 0:
            raw.settimeout(left)
            if not raw.recv(1 << 16):
                break


def parse_address(text: str, *, option: str, schemes: Sequence[str], port: int) -> Address:
    """Return the address; *port* is the default. InvalidArgumentError for what is none.

    One without a scheme has the first of *schemes*, where that is "".
    """
    wrong = InvalidArgumentError(
        f"log option {option}: no address {text[:200]!r}",
        hint="such as " + ", ".join(f"{name}://{_example(name)}" for name in schemes if name),
    )
    if not schemes[0] and "://" not in text:
        text = f"{schemes[1]}://{text}"
    try:
        parts = urlsplit(text)
        number = parts.port
    except ValueError:
        raise wrong from None
    if (
        not parts.scheme
        or parts.scheme not in schemes
        or parts.query
        or parts.fragment
        or parts.username
    ):
        raise wrong
    if parts.scheme.startswith("unix"):
        if parts.netloc or not parts.path.startswith("/") or "\0" in text:
            raise wrong
        return Address(parts.scheme, parts.path)
    if not parts.hostname or parts.path.strip("/"):
        raise wrong
    return Address(parts.scheme, parts.hostname, port if number is None else number)


def _example(scheme: str) -> str:
    return "/path" if scheme.startswith("unix") else "host:port"


def _connect_unix(path: str, *, datagrams: bool) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_udp(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _secured(sock: socket.socket, host: str, tls: TLS) -> socket.socket:
    """Return the connection with TLS; what is wrong with certificates is an OSError, too."""
    import ssl  # few need it

    context = ssl.create_default_context(cafile=tls.ca_file or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # many private authorities are not strict
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key or None, _refuse_password)
    return context.wrap_socket(sock, server_hostname=host)


def _refuse_password() -> str:
    """Refuse an encrypted key; without this, OpenSSL asks for the password on our terminal."""
    raise OSError("the key has a password")


def check_files(tls: TLS) -> None:
    """Raise InvalidArgumentError for a file that cannot be read."""
    for path in filter(None, (tls.ca_file, tls.certificate, tls.key)):
        if not os.path.isfile(path):
            raise InvalidArgumentError(f"no file {path[:200]!r} for a log driver's TLS")
