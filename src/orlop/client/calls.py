"""Requests to one engine: on a kept connection, on a separate one, or streaming."""

from __future__ import annotations

from orlop.client import http
from orlop.errors import UnavailableError
from orlop.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from orlop.client.address import Settings

    T = TypeVar("T")
    #: A query's values; None leaves one out, a list repeats it, a mapping becomes JSON.
    Query = Mapping[str, str | int | bool | float | list[str] | Mapping[str, list[str]] | None]

API_VERSION = "1.45"
_TRIES = 3  # because a dying engine may still accept connections
_PREFIX = f"/v{API_VERSION}"
_JSON = {"Content-Type": "application/json"}
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@")


class Caller:
    """A connection to one engine, and more for operations that stream.

    It connects, and starts an engine, only at the first operation.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._kept: http.Connection | None = None
        self._latest: http.Connection | None = None
        self._is_shut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connection; the caller can still be used."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def connection(self) -> http.Connection:
        """Return a new connection; start the engine if none is running."""
        made = http.Connection(self.settings.address)
        try:
            made.connect()
        except OSError as error:
            from orlop.client import launch

            launch.connect(made, self.settings, refusal=error)
        self._latest = made
        if self._is_shut:
            made.shut()
        return made

    def shut(self) -> None:
        """Abort other threads' waits here, now or later, as if the engine were gone."""
        self._is_shut = True
        if self._latest is not None:
            self._latest.shut()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Make one request on the kept connection and return its JSON answer, None if empty."""
        target, data, sent = _request(path, query, body, headers)

        def ask() -> http.Response:
            if self._kept is None or not self._kept.usable:
                self.close()
                self._kept = self.connection()
            return self._kept.request(method, target, body=data, headers=sent)

        is_whole = data is None or isinstance(data, bytes)
        return http.check(self.heard(ask) if is_whole else ask()).json()

    def heard(self, ask: Callable[[], T]) -> T:
        """Return the result of *ask*, which sends one request; retry if no engine has read it.

        A unix socket is reset only if the peer has not read everything, so nothing is done
        twice. Linux, net/unix/af_unix.c, unix_release_sock().
        """
        tries = 1 if self.settings.address.path is None else _TRIES
        while True:
            tries -= 1
            try:
                return ask()
            except (ConnectionResetError, BrokenPipeError) as error:
                self.close()
                if not tries:
                    raise UnavailableError("the engine has gone", hint="try again") from error

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.Response:
        """Make one request on a separate connection; the response may stream.

        A *body* of bytes or an iterable of bytes is sent unchanged, any other as JSON.
        """
        target, data, sent = _request(path, query, body, headers)
        connection = self.connection()
        connection.send(method, target, body=data, headers=sent)
        return checked(connection)

    def begin(self, method: str, path: str, *, query: Query | None = None) -> http.Connection:
        """Send a request on a separate connection without waiting for the answer."""
        connection = self.connection()
        target, data, sent = _request(path, query, None, None)
        connection.send(method, target, body=data, headers=sent)
        return connection

    def begin_upgrade(
        self, path: str, *, query: Query | None = None, body: Any = None
    ) -> http.Connection:
        """Request a raw stream on a separate connection; see finish_upgrade()."""
        connection = self.connection()
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        target, data, sent = _request(path, query, body, upgrade)
        connection.send("POST", target, body=data, headers=sent)
        return connection

    def messages(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[Any]:
        """Make one request and yield the JSON values of its answer, one per line, as they come."""
        response = self.open(method, path, query=query, body=body, headers=headers)
        try:
            for line in response.lines():
                yield jsontext.loads(line)
        finally:
            response.close()


def _request(
    path: str, query: Query | None, body: Any, headers: Mapping[str, str] | None
) -> tuple[str, Any, Mapping[str, str]]:
    target = _PREFIX + path + (encode(query) if query else "")
    if body is None or isinstance(body, bytes) or not isinstance(body, (dict, list)):
        return target, body, headers or {}
    return (
        target,
        jsontext.dumps(body).encode(errors="surrogateescape"),
        {**_JSON, **(headers or {})},
    )


def encode(query: Query) -> str:
    """Return *query* as ?a=b&c=d, without values that are None, False or empty."""
    pairs = []
    for name, value in query.items():
        if value is None or value is False or value in ("", [], {}):
            continue
        if isinstance(value, list):
            pairs += [f"{name}={quote(item)}" for item in value]
        elif value is True:
            pairs.append(f"{name}=1")
        elif isinstance(value, (str, int, float)):
            pairs.append(f"{name}={quote(str(value))}")
        else:
            pairs.append(f"{name}={quote(jsontext.dumps(value))}")
    return "?" + "&".join(pairs) if pairs else ""


def quote(text: str) -> str:
    """Percent-encode *text* for a path or a query. RFC 3986, section 2.1."""
    data = text.encode(errors="surrogateescape")
    if _PLAIN.issuperset(data):
        return text
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)


def finish_upgrade(connection: http.Connection) -> http.RawStream:
    """Return the raw stream that *connection* has become, or raise the engine's error."""
    return raw_stream(connection, checked(connection))


def checked(connection: http.Connection) -> http.Response:
    """Return the response; raise its error, with the connection closed."""
    try:
        return http.check(connection.receive())
    except BaseException:
        connection.close()
        raise


def raw_stream(connection: http.Connection, response: http.Response) -> http.RawStream:
    """Return the raw stream of *connection* after *response*."""
    return http.RawStream(*connection.upgrade(), headers=response.headers)
