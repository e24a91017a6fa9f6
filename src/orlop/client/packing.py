"""Tar streams: made of files and folders here, and read as they arrive."""

from __future__ import annotations

import io
import os
import posixpath
import tarfile

from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

_READ_BYTES = 256 << 10


def pack(source: str, *, name: str) -> Iterator[bytes]:
    """Yield a tar stream of *source*, in which it is called *name*."""
    with tarfile.TarFile(fileobj=io.BytesIO(), mode="w") as archive:
        for path, entry in _walk(source, name):
            header = archive.gettarinfo(path, arcname=entry)
            if header is None:  # a socket
                continue
            yield header.tobuf(tarfile.PAX_FORMAT)
            if header.isreg():
                with open(path, "rb") as file:
                    yield from contents(file, header.size, what=path)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _walk(path: str, name: str) -> Iterator[tuple[str, str]]:
    yield path, name
    if os.path.isdir(path) and not os.path.islink(path.rstrip("/")):
        for child in sorted(os.listdir(path)):
            yield from _walk(os.path.join(path, child), posixpath.join(name, child))


def contents(file: BinaryIO, size: int, *, what: str) -> Iterator[bytes]:
    """Yield exactly *size* bytes, as the header has promised, and fill the last block."""
    left = size
    while left and (piece := file.read(min(left, _READ_BYTES))):
        left -= len(piece)
        yield piece
    if left:
        raise InvalidArgumentError(f"{what} became shorter while it was copied")
    yield bytes(-size % tarfile.BLOCKSIZE)


class PieceReader(io.RawIOBase):
    """A file to read from, made of pieces as they arrive."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
