"""Compressing a log's rotated files, each in a process of its own: the pump goes on meanwhile."""

import contextlib
import os
import struct
import traceback
from typing import NamedTuple

from orlop.kernel.process import pidfd_open, set_parent_death_signal
from orlop.shim.helper import close_others
from orlop.shim.logfile import COMPRESSED, older_files, suffix_of
from orlop.shim.loop import Loop

_BLOCK = 64 << 10
_NICE = 19
_LEVEL = 1
_SIGKILL = 9
#: RFC 1952 with one extra field, "OL": inode and mtime that the file had before. A reader that
#: has read half of it, and finds it compressed, knows it by them.
HEADER = struct.Struct("<4sI2BH2sHQQ")
_MAGIC = b"\x1f\x8b\x08\x04"
_UNIX = 3
_FIELD = b"OL"


class Compressions:
    """One at a time for each log, the newest file first. What fails stays as it is."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._running: dict[str, _Compression] = {}

    def compress(self, path: str) -> None:
        """Compress the files of the log at *path* that were rotated away."""
        if path in self._running:
            return
        with contextlib.suppress(OSError):
            name = next((n for n in older_files(path) if not suffix_of(n)), None)
            if name is not None:
                self._begin(path, name)

    def _begin(self, path: str, name: str) -> None:
        beside = f"{path}.compressing"
        source = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)  # of a pump that was killed
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(beside, flags, 0o640)
            pid = os.fork()
        except OSError:
            os.close(source)
            raise
        if pid == 0:
            _compress(source, target)
        os.close(target)
        compression = _Compression(path, beside, source, pid)
        self._running[path] = compression
        pidfd = pidfd_open(pid)
        self._loop.watch(pidfd, lambda _events: self._ended(compression, pidfd))

    def _ended(self, compression: "_Compression", pidfd: int) -> None:
        self._loop.forget(pidfd)
        os.close(pidfd)
        done = os.waitpid(compression.pid, 0)[1] == 0
        del self._running[compression.path]
        with contextlib.suppress(OSError):
            if not done or not compression.put():
                os.unlink(compression.beside)
        os.close(compression.source)
        if done:
            self.compress(compression.path)  # files rotated meanwhile


class _Compression(NamedTuple):
    path: str  # of the log
    beside: str  # what is being written
    source: int  # kept open, so that no other file gets its inode
    pid: int

    def put(self) -> bool:
        """Put the compressed file in the other's place, wherever that is now."""
        source = os.fstat(self.source)
        for name in older_files(self.path):
            if os.path.samestat(os.stat(name), source):
                os.rename(self.beside, name + COMPRESSED)
                os.unlink(name)
                return True
        return False


def _compress(source: int, target: int) -> None:
    """Copy and exit: 0 if all is written."""
    status = 1
    try:
        set_parent_death_signal(_SIGKILL)
        close_others({2, source, target})
        os.nice(_NICE)
        _copy(source, target)
        status = 0
    except OSError:
        pass  # a full disk, most likely: the file stays as it is
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _copy(source: int, target: int) -> None:
    import zlib  # the pump needs none

    checksum = size = 0
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    names = identity(source)
    header = HEADER.pack(_MAGIC, 0, 0, _UNIX, HEADER.size - 12, _FIELD, 16, *names)
    with open(target, "wb", buffering=_BLOCK, closefd=False) as file:
        file.write(header)
        while block := os.read(source, _BLOCK):
            checksum = zlib.crc32(block, checksum)
            size += len(block)
            file.write(stream.compress(block))
        file.write(stream.flush())
        file.write(struct.pack("<II", checksum, size & 0xFFFFFFFF))


def identity(fd: int) -> tuple[int, int]:
    """Return inode and mtime: no other file that is rotated away ever has both."""
    stat = os.fstat(fd)
    return stat.st_ino, stat.st_mtime_ns


def identity_before(header: bytes) -> tuple[int, int]:
    """Return what identity() was of a file that is compressed; zeros for one that is not ours."""
    if len(header) < HEADER.size:
        return 0, 0
    magic, _, _, _, _, field, _, inode, mtime_ns = HEADER.unpack_from(header)
    return (inode, mtime_ns) if magic == _MAGIC and field == _FIELD else (0, 0)
