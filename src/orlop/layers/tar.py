"""Read a tar as a stream."""

import struct
from collections.abc import Iterator
from typing import Protocol

from orlop.errors import CorruptError
from orlop.layers.header import (
    BLOCK,
    FILE,
    GNU_LONG_LINK,
    GNU_LONG_NAME,
    GNU_SPARSE,
    GNU_VOLUME,
    HAS_DATA,
    KNOWN,
    MAX_EXTENSION_BYTES,
    PAX,
    PAX_GLOBAL,
    Entry,
    Extension,
    Segment,
    decimal,
    extend,
    number,
    parse,
    parse_pax,
)

_CHUNK = 1 << 20
_ZEROS = bytes(BLOCK)
_EXTENSIONS = frozenset({PAX, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK, GNU_VOLUME})
_OLD_SPARSE = struct.Struct("12s12s")
_MAX_SEGMENTS = MAX_EXTENSION_BYTES // 8


class Stream(Protocol):
    """Bytes in order. read() may return fewer than requested; b"" is the end."""

    def read(self, size: int = -1, /) -> bytes: ...


class TarReader:
    """Iterates over the entries of *stream*; read an entry's data, if at all, before the next.

    Bytes after the archive's end are read too, so that a digest of the stream covers
    everything. Every error in the archive is a CorruptError.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._unread = 0  # bytes of the current entry's data
        self._padding = 0
        self.offset = 0  # of the next unread byte in the stream
        self.unusual = False  # whether something was found that readers interpret differently

    def __iter__(self) -> Iterator[Entry]:
        extension: Extension | None = None
        while (block := self._header()) is not None:
            entry = parse(block)
            if entry.kind in _EXTENSIONS:
                extension = self._extension(entry, extension)
                continue
            if entry.kind not in KNOWN:
                raise CorruptError(f"layer has an entry of unknown type {entry.kind!r}")
            if extension is not None:
                extend(entry, extension)
            self._begin(entry)
            if entry.kind in HAS_DATA:
                self._sparse(entry, extension, block)
                self.unusual = self.unusual or entry.kind != FILE or entry.sparse is not None
                entry.kind = FILE
            extension = None
            yield entry

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield the next *count* bytes of the entry's data; each piece is valid until the next."""
        if count > self._unread:
            raise CorruptError("layer has a sparse file whose map does not fit its data")
        self._unread -= count
        while count:
            if self._at == len(self._buffer):
                self._refill()
            piece = memoryview(self._buffer)[self._at : self._at + count]
            self._at += len(piece)
            self.offset += len(piece)
            count -= len(piece)
            yield piece

    def _header(self) -> bytes | None:
        """Return the next header block, or None after the last; then the stream is at its end."""
        self._skip(self._unread + self._padding)
        self._unread = self._padding = 0
        if self._at == len(self._buffer) and not self._try_refill():
            return None  # some writers omit the closing blocks
        block = self._take(BLOCK)
        if block != _ZEROS:
            return block
        while self._try_refill():
            pass
        return None

    def _begin(self, entry: Entry) -> None:
        """Start reading the entry's data; links and the like have none."""
        if entry.kind not in HAS_DATA:
            entry.size = entry.stored = 0
        self._unread = entry.stored
        self._padding = -entry.stored % BLOCK

    def _extension(self, entry: Entry, earlier: Extension | None) -> Extension | None:
        if entry.stored > MAX_EXTENSION_BYTES:
            raise CorruptError(f"layer has a tar header of {entry.stored} bytes")
        data = self._take(entry.stored)
        self._skip(-entry.stored % BLOCK)
        if entry.kind in (PAX_GLOBAL, GNU_VOLUME):
            self.unusual = True
            return earlier  # not about files, or ignored by other engines
        now = earlier or Extension()
        if entry.kind == GNU_LONG_NAME:
            now.name = data.partition(b"\0")[0]
        elif entry.kind == GNU_LONG_LINK:
            now.link = data.partition(b"\0")[0]
        else:
            pax = parse_pax(data)
            now.pax.update(pax.pax)
            now.sparse.extend(pax.sparse)
        return now

    def _sparse(self, entry: Entry, extension: Extension | None, block: bytes) -> None:
        """Return the map of a sparse file, in any of GNU tar's formats."""
        numbers: list[int] | None = None
        if entry.kind == GNU_SPARSE:
            entry.size = number(block[483:495])
            numbers = self._old_map(block)
        elif extension is not None and b"GNU.sparse.major" in extension.pax:
            numbers = self._map_in_data(entry, extension.pax)
        elif extension is not None and b"GNU.sparse.size" in extension.pax:
            pax = extension.pax
            entry.name = pax.get(b"GNU.sparse.name", entry.name)
            entry.size = decimal(pax[b"GNU.sparse.size"])
            text = pax.get(b"GNU.sparse.map", b"")
            numbers = [decimal(part) for part in text.split(b",")] if text else extension.sparse
        if numbers is not None:
            entry.sparse = _checked(numbers, size=entry.size, stored=self._unread)

    def _old_map(self, block: bytes) -> list[int]:
        numbers: list[int] = []
        table, more = block[386:482], block[482]
        while True:
            for start in range(0, len(table), _OLD_SPARSE.size):
                offset, size = _OLD_SPARSE.unpack_from(table, start)
                if not offset.strip(b"\0 ") and not size.strip(b"\0 "):
                    break
                numbers += (number(offset), number(size))
            if not more:
                return numbers
            if len(numbers) > 2 * _MAX_SEGMENTS:
                raise CorruptError("layer has a sparse file with too long a map")
            following = self._take(BLOCK)  # between header and data, counted in neither
            table, more = following[:504], following[504]

    def _map_in_data(self, entry: Entry, pax: dict[bytes, bytes]) -> list[int] | None:
        """PAX format 1.0: the map is the data's first blocks, as decimal lines."""
        if pax[b"GNU.sparse.major"] == b"0" and b"GNU.sparse.size" not in pax:
            return None
        if (pax[b"GNU.sparse.major"], pax.get(b"GNU.sparse.minor")) != (b"1", b"0"):
            raise CorruptError("layer has a sparse file in a format that is not known")
        entry.name = pax.get(b"GNU.sparse.name", entry.name)
        entry.size = decimal(pax.get(b"GNU.sparse.realsize", b""))
        lines = self._lines()
        count = decimal(next(lines))
        if count > _MAX_SEGMENTS:
            raise CorruptError("layer has a sparse file with too long a map")
        return [decimal(next(lines)) for _ in range(2 * count)]

    def _lines(self) -> Iterator[bytes]:
        text = b""
        for _ in range(MAX_EXTENSION_BYTES // BLOCK):
            text += b"".join(self.pieces(BLOCK))
            *lines, text = text.split(b"\n")
            yield from lines
        raise CorruptError("layer has a sparse file with too long a map")

    def _take(self, count: int) -> bytes:
        while len(self._buffer) - self._at < count:
            left = self._buffer[self._at :]
            self._refill()
            self._buffer = left + self._buffer
        data = self._buffer[self._at : self._at + count]
        self._at += count
        self.offset += count
        return data

    def _skip(self, count: int) -> None:
        self.offset += count
        while count > len(self._buffer) - self._at:
            count -= len(self._buffer) - self._at
            self._refill()
        self._at += count

    def _refill(self) -> None:
        if not self._try_refill():
            raise CorruptError("layer is truncated: its tar ends too early")

    def _try_refill(self) -> bool:
        self._buffer = self._stream.read(_CHUNK)
        self._at = 0
        return bool(self._buffer)


def _checked(numbers: list[int], *, size: int, stored: int) -> list[Segment]:
    """Return the map as segments; CorruptError unless they are sorted, fit, and use all data."""
    segments = [Segment(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=False)]
    at = total = 0
    for offset, length in segments:
        if offset < at or length < 0 or offset + length > size:
            raise CorruptError("layer has a sparse file with a wrong map")
        at = offset + length
        total += length
    if len(numbers) % 2 or total != stored or size < 0:
        raise CorruptError("layer has a sparse file whose map does not fit its data")
    return segments
