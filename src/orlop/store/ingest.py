"""Write a blob: hashed while it is written, and named when the hash matches."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from orlop.errors import CorruptError
from orlop.model.digest import Digest
from orlop.store.faults import explained
from orlop.store.space import Space

_BLOCK = 1 << 20


class Writer:
    """Writes one blob. A context manager; leaving it without commit() keeps the bytes.

    The next writer of the same digest verifies them again and continues from there: see
    `offset`.
    """

    def __init__(self, partial: Path, target: Path, *, size: int | None, durable: bool) -> None:
        self._partial = partial
        self._target = target
        self._size = size
        self._durable = durable
        self._fd = _locked(partial)
        self._hash = hashlib.sha256()
        self._space = Space(self._fd, self._name)
        self.offset = 0  # bytes written and hashed so far
        try:
            self._adopt()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def done(self) -> bool:
        """Whether the blob is complete: nothing has to be written."""
        try:
            there = self._target.stat().st_size
        except FileNotFoundError:
            return False
        return self._size is None or there == self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append *data*. CorruptError, and nothing kept, if it exceeds the announced size."""
        view = memoryview(data)
        if self._size is not None and self.offset + len(view) > self._size:
            self.restart()
            raise CorruptError(f"{self._name} is longer than {self._size} bytes")
        self._hash.update(view)
        self._space.take(len(view))
        with explained(self._name):
            while view:
                written = os.write(self._fd, view)
                self.offset += written
                view = view[written:]

    def replay(self, buffer: bytearray) -> Iterator[memoryview]:
        """Yield the bytes that are here already, piece by piece, through *buffer*."""
        position = 0
        while position < self.offset:
            count = os.preadv(self._fd, [buffer], position)
            if count == 0:
                raise CorruptError(f"{self._name} was cut while it was written")
            yield memoryview(buffer)[:count]
            position += count

    def restart(self) -> None:
        """Discard everything that has been written."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.offset = 0

    def commit(self) -> None:
        """Publish the blob. CorruptError, and nothing kept, if it does not match its digest."""
        if self._size is not None and self.offset != self._size:
            short = f"{self._name} ends after {self.offset} of {self._size} bytes"
            self.restart()
            raise CorruptError(short)
        actual = self._hash.hexdigest()
        if actual != self._target.name:
            self.restart()
            raise CorruptError(f"{self._name} is not what its digest says: got sha256:{actual}")
        with explained(self._name):
            os.fchmod(self._fd, 0o444)
            if self._durable:
                os.fsync(self._fd)
            os.rename(self._partial, self._target)
            if self._durable:
                _sync_folder(self._target.parent)

    def close(self) -> None:
        """Release the lock. An empty file is removed, because it is of no use."""
        if self._fd < 0:
            return
        with suppress(OSError):
            if self.offset == 0 and os.fstat(self._fd).st_nlink and not self._committed():
                self._partial.unlink()
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _name(self) -> str:
        return f"blob sha256:{self._target.name}"

    def _committed(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._fd), self._target.stat())
        return False

    def _adopt(self) -> None:
        """Hash the bytes of an interrupted writer, or drop them if they cannot be the beginning."""
        left = os.fstat(self._fd).st_size
        if self._size is not None and left > self._size:
            os.ftruncate(self._fd, 0)
        buffer = bytearray(_BLOCK)
        while count := os.readv(self._fd, [buffer]):
            self._hash.update(memoryview(buffer)[:count])
            self.offset += count


class Receiver:
    """Writes one blob whose digest is known only at its end. A context manager.

    Leaving it without commit() leaves nothing behind.
    """

    def __init__(self, folder: Path, blobs: Path, *, durable: bool) -> None:
        self._partial = folder / f"new-{secrets.token_hex(16)}"
        self._blobs = blobs
        self._durable = durable
        self._hash = hashlib.sha256()
        self._fd = _locked(self._partial)
        self._space = Space(self._fd, "a new blob")
        self.size = 0  # bytes so far

    @property
    def digest(self) -> Digest:
        """The digest of what has been written so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def write(self, data: bytes | memoryview) -> int:
        """Append all of *data*; return its length, as a file would."""
        view = memoryview(data)
        self._hash.update(view)
        self._space.take(len(view))
        with explained("a new blob"):
            while view:
                written = os.write(self._fd, view)
                self.size += written
                view = view[written:]
        return len(data)

    def commit(self) -> Digest:
        """Publish the blob, and return its digest. Lease `digest` first if it must stay."""
        with explained(f"blob {self.digest}"):
            os.fchmod(self._fd, 0o444)
            if self._durable:
                os.fsync(self._fd)
            os.rename(self._partial, self._blobs / self._hash.hexdigest())
            if self._durable:
                _sync_folder(self._blobs)
        return self.digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            self._partial.unlink()
        os.close(self._fd)


def _locked(path: Path) -> int:
    """Return a descriptor of *path*, locked; wait for another holder."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass  # the previous holder finished, and the file was renamed
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def is_busy(path: str | Path) -> bool:
    """Whether a live writer holds the ingest at *path*; FileNotFoundError if it is gone."""
    fd = _try_lock(path)
    if fd is not None:
        os.close(fd)
    return fd is None


def remove_unless_busy(path: Path) -> None:
    """Remove the ingest at *path* unless a live writer holds it; FileNotFoundError if gone."""
    fd = _try_lock(path)
    if fd is None:
        return
    try:
        path.unlink()  # under the lock: a writer that waits for it sees that the file is gone
    finally:
        os.close(fd)


def _try_lock(path: str | Path) -> int | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
