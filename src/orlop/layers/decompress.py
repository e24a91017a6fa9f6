"""Decompress a layer's blob to its tar, in bounded memory, whatever the blob claims to be.

The compression is detected from the first bytes, not from the media type: registries have
layers with the wrong type, and other engines accept them.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from orlop.errors import CorruptError, UnsupportedError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = bytes(range(0x50, 0x60))  # first byte of a zstd frame to be skipped; RFC 8878, 3.1.2
_SKIPPABLE_REST = b"\x2a\x4d\x18"
_UNSUPPORTED = {b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
_MOST_MAGIC = 6
_CHUNK = 1 << 20
_LEAST_SLICE, _MOST_SLICE = 64, 4096  # bytes passed to zstd: 4 bytes may become 128 KiB


class Decompressor(Protocol):
    def feed(self, data: memoryview) -> Iterator[bytes]:
        """Yield the decompressed *data* in pieces of bounded size; CorruptError."""

    def end(self) -> None:
        """End the input; CorruptError if it is incomplete."""


class Layer:
    """Decompresses a layer of any kind."""

    def __init__(self) -> None:
        self._start = b""
        self._inner: Decompressor | None = None

    def feed(self, data: memoryview) -> Iterator[bytes]:
        if self._inner is None:
            self._start += data
            if len(self._start) < _MOST_MAGIC:
                return
            self._inner = _choose(self._start)
            data = memoryview(self._start)
        yield from self._inner.feed(data)

    def rest(self) -> Iterator[bytes]:
        """Yield the bytes of a layer that is shorter than any magic number; then as end()."""
        if self._inner is None:
            self._inner = _choose(self._start)
            yield from self._inner.feed(memoryview(self._start))
        self._inner.end()


class _Plain:
    def feed(self, data: memoryview) -> Iterator[bytes]:
        yield bytes(data)

    def end(self) -> None:
        pass


class _Member(Protocol):
    """The interface of zlib's decompressobj() and similar objects."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes | memoryview, max_length: int = ..., /) -> bytes: ...


class _Gzip:
    """Several gzip members, as pigz and others write; zeros may follow the last."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._new: Callable[[], _Member] = functools.partial(isal_zlib.decompressobj, wbits=31)
        self._error = cast("type[Exception]", isal_zlib.error)
        self._member: _Member = self._new()
        self._fresh = True  # no byte of the member has been read

    def feed(self, data: memoryview) -> Iterator[bytes]:
        left: bytes | memoryview = data
        while left:
            if self._fresh and not bytes(left[:1]).strip(b"\0"):
                left = bytes(left).lstrip(b"\0")
                continue
            self._fresh = False
            try:
                piece = self._member.decompress(left, _CHUNK)
            except self._error as error:
                raise CorruptError(f"layer is not valid gzip: {error}") from error
            if piece:
                yield piece
            left = self._member.unconsumed_tail
            if self._member.eof:
                left = self._member.unused_data
                self._member = self._new()
                self._fresh = True

    def end(self) -> None:
        if not self._fresh:
            raise CorruptError("layer is truncated: its gzip ends too early")


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._error: type[Exception] = zstandard.ZstdError
        self._new = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj
        self._frame = self._new()
        self._fresh = True
        self._slice = _MOST_SLICE

    def feed(self, data: memoryview) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            left = bytes(data[start : start + self._slice])
            start += len(left)
            while left:
                self._fresh = False
                try:
                    piece = self._frame.decompress(left)
                except self._error as error:
                    raise CorruptError(f"layer is not valid zstd: {error}") from error
                yield from self._pieces(piece)
                left = b""
                if self._frame.eof:
                    left = self._frame.unused_data
                    self._frame = self._new()
                    self._fresh = True

    def end(self) -> None:
        if not self._fresh:
            raise CorruptError("layer is truncated: its zstd ends too early")

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield *data* in pieces of bounded size, and reduce the next slice if it grew much."""
        if len(data) > _CHUNK:
            self._slice = max(_LEAST_SLICE, self._slice // 8)
        elif len(data) < _CHUNK // 8:
            self._slice = min(_MOST_SLICE, self._slice * 2)
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]


def _choose(start: bytes) -> Decompressor:
    for magic, name in _UNSUPPORTED.items():
        if start.startswith(magic):
            raise UnsupportedError(f"layer is compressed with {name}", hint="use gzip or zstd")
    if start.startswith(_GZIP):
        return _Gzip()
    if start.startswith(_ZSTD) or (start[:1] in _SKIPPABLE and start[1:4] == _SKIPPABLE_REST):
        return _Zstd()
    return _Plain()
