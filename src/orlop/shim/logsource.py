"""The files of a log, plain or compressed, for reading."""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from orlop.shim.compression import HEADER, identity, identity_before
from orlop.shim.logfile import COMPRESSED

_BLOCK = 64 << 10
_TRIES = 20


class Source(Protocol):
    """One file, read from its beginning or from where skip_to_tail() has gone."""

    @property
    def identity(self) -> tuple[int, int]:
        """Inode and mtime, of the file or that it had before it was compressed."""

    def read(self) -> bytes:
        """Return the next block; b"" at the end, which may move."""

    def skip_to_tail(self, wanted: int) -> int:
        """Go to where the last *wanted* lines begin; return how many there are."""

    def begun_again(self) -> bool:
        """Whether the file was emptied; then it is read from its beginning."""

    def close(self) -> None: ...


class PlainSource:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def identity(self) -> tuple[int, int]:
        return identity(self._fd)

    def read(self) -> bytes:
        return os.read(self._fd, _BLOCK)

    def skip_to_tail(self, wanted: int) -> int:
        position, found = _tail_position(self._fd, wanted)
        os.lseek(self._fd, position, os.SEEK_SET)
        return found

    def begun_again(self) -> bool:
        if os.lseek(self._fd, 0, os.SEEK_CUR) <= os.fstat(self._fd).st_size:
            return False
        os.lseek(self._fd, 0, os.SEEK_SET)
        return True

    def close(self) -> None:
        os.close(self._fd)


class CompressedSource:
    """Is decompressed as it is read: nothing of it is kept."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        before = identity_before(os.pread(fd, HEADER.size, 0))
        self.identity = before if any(before) else identity(fd)
        self._blocks = self._decompressed()
        self._ahead = b""

    def read(self) -> bytes:
        block, self._ahead = self._ahead, b""
        return block or next(self._blocks, b"")

    def skip_to_tail(self, wanted: int) -> int:
        lines = sum(block.count(b"\n") for block in self._decompressed())
        found = min(lines, max(wanted, 0))
        left = lines - found
        self._blocks = self._decompressed()
        while left > 0:
            block = next(self._blocks)
            count = block.count(b"\n")
            if count > left:
                at = -1
                for _ in range(left):
                    at = block.index(b"\n", at + 1)
                self._ahead = block[at + 1 :]
            left -= count
        return found

    def begun_again(self) -> bool:
        return False

    def close(self) -> None:
        os.close(self._fd)

    def _decompressed(self) -> Iterator[bytes]:
        stream, position = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
        while block := os.pread(self._fd, _BLOCK, position):
            position += len(block)
            with contextlib.suppress(zlib.error):  # torn by somebody: what is before it counts
                while data := stream.decompress(block, _BLOCK):
                    yield data
                    block = stream.unconsumed_tail


def open_all(path: str) -> list[Source]:
    """Open every file of the log, oldest first, none twice and none missed by a rotation."""
    for _ in range(_TRIES):
        files = _open_chain(path)
        try:
            settled = not files or os.stat(path).st_ino == files[-1].identity[0]
        except FileNotFoundError:
            settled = False
        identities = {file.identity for file in files}
        if settled and len(identities) == len(files):
            return files
        for file in files:
            file.close()
    return []


def _open_chain(path: str) -> list[Source]:
    files: list[Source] = []
    current = _open(path, PlainSource)
    while current is not None:
        files.insert(0, current)
        older = f"{path}.{len(files)}"
        current = _open(older, PlainSource) or _open(older + COMPRESSED, CompressedSource)
    return files


def _open(path: str, kind: Callable[[int], Source]) -> Source | None:
    try:
        return kind(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    except FileNotFoundError:
        return None


def _tail_position(fd: int, wanted: int) -> tuple[int, int]:
    """Return where the last *wanted* lines of the file begin, and how many there are from there.

    Reads from the end in blocks, so the cost is that of the tail and not of the file.
    """
    end = os.fstat(fd).st_size
    if wanted <= 0:
        return end, 0
    found, position = -1, end  # the file's last newline begins no line
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(fd, position - start, start)
        count = block.count(b"\n")
        if found + count < wanted:
            found += count
            position = start
            continue
        at = len(block)
        while found < wanted:
            at = block.rfind(b"\n", 0, at)
            found += 1
        return start + at + 1, wanted
    return 0, found + 1
