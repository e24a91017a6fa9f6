"""The part of D-Bus that we need for systemd: calls, answers, signals.

Why we use no library: docs/decisions/systemd-bus.md.
https://dbus.freedesktop.org/doc/dbus-specification.html
"""

import os
import socket
import struct
from collections import deque

from orlop.model.light import Any, Iterator, NamedTuple, Sequence

_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = (
    *(1, 2, 3, 4, 5, 6),
    8,
)
_FIELD_TYPES = {_PATH: "o", _SIGNATURE: "g"}
_HEADER = "yyyyuua(yv)"
_MOST_BYTES = 1 << 27
_MOST_SIGNALS = 1024
_MOST_LINE = 4096

#: Type -> struct's letter, size. A boolean is a word.
_FIXED = {
    "y": ("B", 1),
    "b": ("I", 4),
    "n": ("h", 2),
    "q": ("H", 2),
    "i": ("i", 4),
    "u": ("I", 4),
    "x": ("q", 8),
    "t": ("Q", 8),
    "d": ("d", 8),
}
_ALIGNMENT = {"s": 4, "o": 4, "a": 4, "(": 8, "{": 8, "g": 1, "v": 1}


class Variant(NamedTuple):
    """A value with its type."""

    signature: str
    value: Any


class Object(NamedTuple):
    """The target of a call: *destination* is "" on a connection without a bus."""

    destination: str
    path: str
    interface: str


class Signal(NamedTuple):
    path: str
    member: str
    values: tuple[Any, ...]


class RefusedError(Exception):
    """The peer refused a call; *name* is D-Bus's, "org.freedesktop.DBus.Error.Failed"."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


def complete_types(signature: str) -> Iterator[str]:
    """Yield the types in *signature*: "sa(sv)" has "s" and "a(sv)"."""
    start = 0
    while start < len(signature):
        end = start
        while signature[end] == "a":
            end += 1
        if signature[end] in "({":
            depth = 1
            while depth:
                end += 1
                depth += (signature[end] in "({") - (signature[end] in ")}")
        yield signature[start : end + 1]
        start = end + 1


def pack(signature: str, values: Sequence[Any]) -> bytes:
    """Encode *values* for a message, in little-endian order."""
    out = bytearray()
    for kind, value in zip(complete_types(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def unpack(signature: str, data: bytes, *, order: str = "<") -> tuple[Any, ...]:
    """Decode the values in *data*."""
    return _Reader(data, order).take_all(signature)


def _alignment(kind: str) -> int:
    return _FIXED[kind][1] if kind in _FIXED else _ALIGNMENT[kind[0]]


def _put(out: bytearray, kind: str, value: Any) -> None:
    out += bytes(-len(out) % _alignment(kind))
    match kind[0]:
        case "s" | "o":
            data = value.encode()
            out += struct.pack("<I", len(data)) + data + b"\0"
        case "g":
            out += bytes([len(value)]) + value.encode() + b"\0"
        case "v":
            _put(out, "g", value[0])
            _put(out, value[0], value[1])
        case "a":
            _put_array(out, kind[1:], value)
        case "(" | "{":
            for inner, part in zip(complete_types(kind[1:-1]), value, strict=True):
                _put(out, inner, part)
        case _:
            out += struct.pack("<" + _FIXED[kind][0], value)


def _put_array(out: bytearray, kind: str, values: Sequence[Any]) -> None:
    place = len(out)
    out += bytes(4)
    out += bytes(-len(out) % _alignment(kind))
    start = len(out)
    for value in values:
        _put(out, kind, value)
    struct.pack_into("<I", out, place, len(out) - start)


class _Reader:
    """Reads values from *data*, one after the other."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = order
        self.place = 0

    def take_all(self, signature: str) -> tuple[Any, ...]:
        return tuple(self._take(kind) for kind in complete_types(signature))

    def align(self, size: int) -> None:
        self.place += -self.place % size

    def _take(self, kind: str) -> Any:
        self.align(_alignment(kind))
        match kind[0]:
            case "s" | "o":
                return self._text(self._number("I", 4))
            case "g":
                return self._text(self._number("B", 1))
            case "v":
                return self._take(self._take("g"))
            case "a":
                size = self._number("I", 4)
                self.align(_alignment(kind[1:]))
                end = self.place + size
                values = []
                while self.place < end:
                    values.append(self._take(kind[1:]))
                return values
            case "(" | "{":
                return self.take_all(kind[1:-1])
            case _:
                return self._number(*_FIXED[kind])

    def _number(self, letter: str, size: int) -> Any:
        self.align(size)
        (value,) = struct.unpack_from(self._order + letter, self._data, self.place)
        self.place += size
        return value

    def _text(self, size: int) -> str:
        text = self._data[self.place : self.place + size]
        self.place += size + 1
        return text.decode(errors="replace")


class Connection:
    """A connection to the socket at *address*: a path, or an abstract name after a NUL.

    OSError if nobody listens or the peer closes; TimeoutError if it sends nothing for
    *timeout_s*.
    """

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        self._serial = 0
        self._signals: deque[Signal] = deque(maxlen=_MOST_SIGNALS)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(address)
            self._authenticate()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def call(self, to: Object, member: str, signature: str = "", *values: Any) -> tuple[Any, ...]:
        """Call a method and return its results; RefusedError if it is refused."""
        self._serial += 1
        body = pack(signature, values)
        fields: list[tuple[int, str | int]] = [
            (_PATH, to.path),
            (_INTERFACE, to.interface),
            (_MEMBER, member),
        ]
        if to.destination:
            fields.append((_DESTINATION, to.destination))
        if signature:
            fields.append((_SIGNATURE, signature))
        typed = [(code, (_FIELD_TYPES.get(code, "s"), value)) for code, value in fields]
        head = (ord("l"), _CALL, 0, 1, len(body), self._serial, typed)
        packed = pack(_HEADER, head)
        self._socket.sendall(packed + bytes(-len(packed) % 8) + body)
        while True:
            kind, told, result = self._receive()
            if kind in (_RETURN, _ERROR) and told.get(_REPLY_SERIAL) == self._serial:
                break
        if kind == _ERROR:
            raise RefusedError(told.get(_ERROR_NAME, ""), str(result[0]) if result else "")
        return result

    def signals(self) -> Iterator[Signal]:
        """Yield the signals that have arrived, and wait for more."""
        while True:
            while self._signals:
                yield self._signals.popleft()
            self._receive()

    def _receive(self) -> tuple[int, dict[int, Any], tuple[Any, ...]]:
        """Return the next message's kind, fields and values; also store it if it is a signal."""
        fixed = self._read(16)
        order = "<" if fixed[:1] == b"l" else ">"
        body_size, _, fields_size = struct.unpack_from(order + "III", fixed, 4)
        rest = fields_size + -fields_size % 8
        if rest + body_size > _MOST_BYTES:
            raise OSError("a D-Bus message is longer than the protocol allows")
        data = fixed + self._read(rest)
        *_, pairs = unpack(_HEADER, data, order=order)
        fields = dict(pairs)
        values = unpack(fields.get(_SIGNATURE, ""), self._read(body_size), order=order)
        if data[1] == _SIGNAL:
            self._signals.append(Signal(fields.get(_PATH, ""), fields.get(_MEMBER, ""), values))
        return data[1], fields, values

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the other side of D-Bus hung up")
            data += part
        return bytes(data)

    def _authenticate(self) -> None:
        """Authenticate as the socket's user: in a user namespace only the peer knows our id.

        Wait for each answer, because systemd may not read a call that arrives with BEGIN.
        """
        self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        answer = self._line()
        if answer.startswith(b"DATA"):
            answer = self._line()
        if not answer.startswith(b"OK"):
            raise PermissionError(
                f"D-Bus does not take us for user {os.geteuid()}: {answer.decode(errors='replace')}"
            )

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            part = self._socket.recv(1)  # only the line: messages follow it
            if not part or len(line) > _MOST_LINE:
                raise ConnectionResetError("the other side of D-Bus hung up")
            line += part
        return line.rstrip()
