"""One HTTP exchange over a connection that is kept for the next; nothing about registries."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, Self
from urllib.parse import SplitResult, urlsplit

from orlop.errors import CorruptError, InvalidArgumentError, UnavailableError
from orlop.images.pace import Pace, PacedResponse
from orlop.model.pool import ObjectPool

_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}")  # 127.0.0.1.example is a stranger
_BLOCK = 1 << 18
_MOST_IDLE, _MOST_OF_HOST = 64, 8  # connections that are kept


class Tls(NamedTuple):
    """Whom to trust, and who we are. Paths of PEM files."""

    skip_verify: bool = False
    authorities: tuple[str, ...] = ()  # besides the system's
    client: tuple[tuple[str, str], ...] = ()  # certificate and key; "" where one file holds both

    @property
    def files(self) -> list[str]:
        """All that is read to connect."""
        return [*self.authorities, *(path for pair in self.client for path in pair if path)]


class Stream(Protocol):
    """What a body is read from."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Body(Protocol):
    """What to send. It may be opened again, for a request that is repeated."""

    @property
    def length(self) -> int: ...

    def open(self) -> Stream: ...


class Request(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: Body | None = None
    confidential: bool = False  # the body is for nobody but the host of the URL


class Answer:
    """A response, to be read and closed; closing it when all is read keeps the connection."""

    def __init__(self, response: PacedResponse, origin: "_Lease") -> None:
        self._response = response
        self._origin = origin
        self.origin = origin.origin  # who answers, which may be another than was asked first
        self.status = response.status
        self.headers = response.headers

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill *buffer*; 0 at the end. IncompleteRead (HTTPException) if it comes too early."""
        count = self._response.readinto(buffer)
        if count == 0 and self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)
        return count

    def read(self, limit: int) -> bytes:
        """Return the whole body, soon; CorruptError if it is longer than *limit* bytes."""
        self._response.hasten()
        data = self._response.read(limit + 1)
        if len(data) > limit:
            raise CorruptError(f"the answer of {self._origin.host} is longer than {limit} bytes")
        if self._response.length:
            raise http.client.IncompleteRead(data, self._response.length)
        return data

    def close(self) -> None:
        reusable = self._response.isclosed() and not self._response.will_close
        self._response.close()
        self._origin.end(reusable=reusable)

    def drain(self) -> None:
        """Read what little is left, so that the connection can be kept, and close."""
        self._response.hasten()
        try:
            self._response.read(_BLOCK)
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Keeps connections by origin. Safe in threads; close() it."""

    def __init__(self, *, timeout_s: float = 30.0, pace: Pace = Pace()) -> None:  # noqa: B008 (a tuple)
        self._timeout_s = timeout_s
        self._response = type("_Response", (PacedResponse,), {"pace": pace})
        self._lock = threading.Lock()
        self._idle = ObjectPool[http.client.HTTPConnection](
            end=http.client.HTTPConnection.close, size=_MOST_IDLE, each=_MOST_OF_HOST
        )
        self._busy: set[http.client.HTTPConnection] = set()
        self._is_broken_off = False
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    def send(self, request: Request, tls: Tls = Tls()) -> Answer:  # noqa: B008 (a tuple)
        """Send *request* and return the answer's head; OSError or HTTPException if it fails.

        A kept connection that the server closed meanwhile is replaced, once.
        """
        target = urlsplit(request.url)
        if target.scheme not in ("http", "https") or not target.hostname:
            raise InvalidArgumentError(f"cannot fetch {request.url[:200]!r}")
        key = (target.scheme, target.netloc, tls)
        kept = self._idle.take(key)
        if kept is not None:
            try:
                return self._exchange(kept, request, key)
            except (http.client.HTTPException, ConnectionError):
                kept.close()
        return self._exchange(self._connect(target, tls), request, key)

    def close(self) -> None:
        self._idle.close()

    def break_off(self) -> None:
        """End what other threads wait for, and send nothing more."""
        with self._lock:
            self._is_broken_off = True
            for connection in self._busy:
                sock: socket.socket | None = connection.sock
                if sock is not None:
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's is no threads'

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        request: Request,
        key: tuple[str, str, Tls],
    ) -> Answer:
        target = urlsplit(request.url)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        if _proxy_of(target) and target.scheme == "http":
            path = request.url
        headers = {"User-Agent": "orlop", "Accept-Encoding": "identity"} | dict(request.headers)
        try:
            self._begin(connection)
            if request.body is None:
                if request.method in ("POST", "PUT", "PATCH"):
                    headers.setdefault("Content-Length", "0")
                connection.request(request.method, path, headers=headers)
            else:
                headers["Content-Length"] = str(request.body.length)
                with contextlib.closing(request.body.open()) as stream:
                    connection.request(request.method, path, body=stream, headers=headers)
            response = connection.getresponse()
            assert isinstance(response, PacedResponse)
        except BaseException:
            self.end(connection)
            connection.close()
            raise
        return Answer(response, _Lease(self, key, connection))

    def _begin(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.add(connection)
        if connection.sock is None:
            self._check()
            connection.connect()
        self._check()

    def _check(self) -> None:
        """Raise UnavailableError once it is broken off, as of sockets that were not known then."""
        if self._is_broken_off:
            raise UnavailableError("it was broken off")

    def end(self, connection: http.client.HTTPConnection) -> None:
        """Take note that its exchange is over."""
        with self._lock:
            self._busy.discard(connection)

    def give_back(
        self, connection: http.client.HTTPConnection, key: tuple[str, str, Tls], *, reusable: bool
    ) -> None:
        """Keep a connection whose exchange is over for the next, or close it."""
        self.end(connection)
        self._idle.give_back(connection, key, reusable=reusable)

    def _connect(self, target: SplitResult, tls: Tls) -> http.client.HTTPConnection:
        proxy = urlsplit(_proxy_of(target))
        host, port = target.hostname or "", target.port
        through = (proxy.hostname, proxy.port) if proxy.hostname else (host, port)
        if target.scheme == "http":
            plain = http.client.HTTPConnection(*through, timeout=self._timeout_s, blocksize=_BLOCK)
            plain.response_class = self._response
            return plain
        context = self._context(tls)
        connection = _Secure(*through, timeout=self._timeout_s, blocksize=_BLOCK, context=context)
        connection.response_class = self._response
        connection.secure(context, host, self._check)
        if proxy.hostname:
            connection.set_tunnel(host, port)
        return connection

    def _context(self, tls: Tls) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.get(tls)
        if context is None:
            context = _make_context(tls)
            with self._lock:
                self._contexts[tls] = context
        return context


class _Secure(http.client.HTTPSConnection):
    """One whose socket is known during the handshake, so that this can be broken off."""

    def secure(self, context: ssl.SSLContext, name: str, check: Callable[[], None]) -> None:
        """Have the other side show that it is *name*; *check* is called before it is waited for."""
        self._secure = context, name, check

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        context, name, check = self._secure
        secured = context.wrap_socket(
            self.sock, server_hostname=name, do_handshake_on_connect=False
        )
        self.sock = secured
        check()
        secured.do_handshake()


class _Lease:
    """A connection while an answer is read from it."""

    def __init__(
        self,
        transport: Transport,
        key: tuple[str, str, Tls],
        connection: http.client.HTTPConnection,
    ) -> None:
        self._transport = transport
        self._key = key
        self._connection: http.client.HTTPConnection | None = connection
        self.host = key[1]
        self.origin = key[:2]

    def end(self, *, reusable: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._transport.give_back(connection, self._key, reusable=reusable)


def _make_context(tls: Tls) -> ssl.SSLContext:
    """Return what *tls* asks for; InvalidArgumentError names a file that cannot be used."""
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # many private authorities are not strict
    for path in tls.authorities:
        with _usable(path):
            context.load_verify_locations(path)
    for certificate, key in tls.client:
        with _usable(certificate):
            context.load_cert_chain(certificate, key or None, _refuse_password)
    if tls.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refuse_password() -> str:
    """Refuse an encrypted key; without this, OpenSSL asks for the password on our terminal."""
    raise OSError("the key has a password")


@contextlib.contextmanager
def _usable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # an SSLError is one
        raise InvalidArgumentError(
            f"cannot use {path}: {error.strerror or error}", hint="it must be a file in PEM form"
        ) from error


def _proxy_of(target: SplitResult) -> str:
    """Return the proxy for *target* that the environment names (HTTPS_PROXY, NO_PROXY), or ""."""
    if not any(name.lower() == f"{target.scheme}_proxy" for name in os.environ):
        return ""
    import urllib.request  # few have a proxy, and it takes 5 ms

    proxy = urllib.request.getproxies_environment().get(target.scheme, "")
    if is_loopback(target.hostname or "") or urllib.request.proxy_bypass(target.netloc):
        return ""
    return proxy


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address without port, is this machine."""
    return host in ("localhost", "::1") or _LOOPBACK.fullmatch(host) is not None
