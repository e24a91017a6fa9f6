"""Write the archive that the kernel unpacks as its first root file system.

Linux, Documentation/driver-api/early-userspace/buffer-format.rst: the format `newc`.
"""

import os
import stat
from typing import BinaryIO

_MAGIC = b"070701"
_END = "TRAILER!!!"


class CpioWriter:
    """Adds entries to an archive; folders above an entry are added by themselves."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._folders = {""}
        self._inode = 0

    def folder(self, path: str) -> None:
        """Add a folder, and those above it, unless they are there."""
        path = path.strip("/")
        if path not in self._folders:
            self.folder(os.path.dirname(path))
            self._folders.add(path)
            self._entry(path, stat.S_IFDIR | 0o755)

    def file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Add a regular file."""
        self.folder(os.path.dirname(path))
        self._entry(path, stat.S_IFREG | mode, data)

    def device(self, path: str, major: int, minor: int) -> None:
        """Add a character device."""
        self.folder(os.path.dirname(path))
        self._entry(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def close(self) -> None:
        """Write the end of the archive; the file stays open."""
        self._entry(_END, 0)

    def _entry(
        self, path: str, mode: int, data: bytes = b"", *, device: tuple[int, int] = (0, 0)
    ) -> None:
        name = path.strip("/").encode() + b"\0"
        self._inode += 1
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        header = _MAGIC + b"".join(b"%08x" % field for field in fields) + name
        self._file.write(_padded(header) + _padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
