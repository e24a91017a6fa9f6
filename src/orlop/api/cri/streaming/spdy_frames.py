"""Frames of SPDY/3.1, without I/O: the parts of it that Kubernetes' clients use.

A frame has a head of 8 bytes. If its first bit is set, it is a control frame: version, type,
flags, length; or else it is data: stream, flags, length. Blocks of headers are compressed, all of
one direction as one zlib stream that begins with a dictionary.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_VERSION = 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 0x01
_HEAD = struct.Struct(">II")
_NUMBER = struct.Struct(">I")
_CONTROL = 1 << 31
_MOST_CONTROL = 64 << 10  # bytes of a control frame, and of its headers once decompressed
_MOST_DATA = 32 << 10  # bytes of a data frame that we send

#: The words that compression knows from the beginning, each after its length; then the rest.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language"
    " accept-ranges age allow authorization cache-control connection content-base content-encoding"
    " content-language content-length content-location content-md5 content-range content-type date"
    " etag expect expires from host if-match if-modified-since if-none-match if-range"
    " if-unmodified-since last-modified location max-forwards pragma proxy-authenticate"
    " proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url"
    " public set-cookie keep-alive origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00"
    " Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = [word.replace("_", " ").encode() for word in _WORDS.split()]
    return b"".join(_NUMBER.pack(len(word)) + word for word in words) + _REST.encode()


_DICTIONARY = _dictionary()


class Opened(NamedTuple):
    """The client opens a stream; *is_last*: and sends nothing on it."""

    stream: int
    headers: Mapping[str, str]
    is_last: bool


class Data(NamedTuple):
    """Bytes of a stream; a frame may come in several pieces."""

    stream: int
    data: bytes
    is_last: bool


class Reset(NamedTuple):
    """The client drops a stream."""

    stream: int


class Pinged(NamedTuple):
    """The client asks for the same number."""

    number: int


Frame = Opened | Data | Reset | Pinged


class Decoder:
    """Takes bytes from a client. Other frames than those above are ignored."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._inflate = zlib.decompressobj(zdict=_DICTIONARY)
        self._data: tuple[int, int, bool] | None = None  # stream, bytes to come, whether the last

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield what *data* completes; ValueError for what is no frame, after which all is over."""
        self._received += data
        while self._received:
            if self._data is not None:
                yield self._piece(*self._data)
                continue
            if len(self._received) < _HEAD.size:
                return
            first, second = _HEAD.unpack_from(self._received)
            flags, length = second >> 24, second & 0xFFFFFF
            if first & _CONTROL:
                if length > _MOST_CONTROL:
                    raise ValueError(f"a control frame has {length} bytes")
                if len(self._received) < _HEAD.size + length:
                    return
                body = self._take(_HEAD.size + length)[_HEAD.size :]
                yield from self._control(first & 0x7FFFFFFF, flags, body)
            else:
                self._take(_HEAD.size)
                self._data = first, length, bool(flags & _FIN)
                if not length:
                    yield self._piece(*self._data)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _piece(self, stream: int, left: int, is_last: bool) -> Data:  # noqa: FBT001 - a tuple's
        data = self._take(left)
        left -= len(data)
        self._data = (stream, left, is_last) if left else None
        return Data(stream, data, is_last and not left)

    def _control(self, kind: int, flags: int, body: bytes) -> Iterator[Frame]:
        version, number = kind >> 16, kind & 0xFFFF
        if version != _VERSION:
            raise ValueError(f"SPDY of version {version}")
        if number not in (_SYN_STREAM, _RST_STREAM, _PING):
            return
        if len(body) < (10 if number == _SYN_STREAM else 4):
            raise ValueError("a control frame is too short")
        argument = _NUMBER.unpack_from(body)[0]
        if number == _SYN_STREAM:
            yield Opened(argument & 0x7FFFFFFF, self._headers(body[10:]), bool(flags & _FIN))
        elif number == _RST_STREAM:
            yield Reset(argument & 0x7FFFFFFF)
        else:
            yield Pinged(argument)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            text = self._inflate.decompress(block, _MOST_CONTROL)
        except zlib.error as error:
            raise ValueError(f"headers cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise ValueError("headers are too long")
        strings = _strings(text)
        return {name.decode("latin-1").lower(): next(strings).decode("latin-1") for name in strings}


def _strings(block: bytes) -> Iterator[bytes]:
    """Yield names and values in turn."""
    try:
        (count,) = _NUMBER.unpack_from(block)
        at = _NUMBER.size
        for _ in range(2 * count):
            (size,) = _NUMBER.unpack_from(block, at)
            at += _NUMBER.size + size
            if at > len(block):
                raise ValueError("headers are cut short")
            yield block[at - size : at]
    except struct.error:
        raise ValueError("headers are cut short") from None


class Encoder:
    """Makes the frames of the server."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=_DICTIONARY)

    def reply(self, stream: int) -> bytes:
        """Return the frame that accepts a stream, without headers."""
        block = self._deflate.compress(_NUMBER.pack(0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control_frame(_SYN_REPLY, _NUMBER.pack(stream) + block)


def data_frames(stream: int, data: bytes, *, is_last: bool = False) -> Iterator[bytes]:
    """Yield frames with *data*, or one without."""
    for at in range(0, max(len(data), 1), _MOST_DATA):
        piece = data[at : at + _MOST_DATA]
        flags = _FIN if is_last and at + _MOST_DATA >= len(data) else 0
        yield _HEAD.pack(stream, flags << 24 | len(piece)) + piece


def reset_frame(stream: int) -> bytes:
    """Return the frame that refuses a stream."""
    return _control_frame(_RST_STREAM, _NUMBER.pack(stream) + _NUMBER.pack(3))


def ping_frame(number: int) -> bytes:
    """Return the answer to a ping."""
    return _control_frame(_PING, _NUMBER.pack(number))


def leaving_frame(last: int) -> bytes:
    """Return the frame that says that no stream after *last* is accepted."""
    return _control_frame(_GOAWAY, _NUMBER.pack(last) + _NUMBER.pack(0))


def _control_frame(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(_CONTROL | _VERSION << 16 | kind, len(body)) + body
