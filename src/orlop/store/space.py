"""Free space that untrusted data must leave on a disk, because the rest of the host needs it."""

import os

from orlop.errors import ExhaustedError

_SHARE = 50  # 1/50 of the disk: 2 %
_MOST_BYTES = 1 << 30
_EVERY_BYTES, _EVERY_FILES = 16 << 20, 4096  # between two checks, or half of the free share


class Space:
    """The file system of the open file or folder *fd*, into which *what* is written.

    take() raises ExhaustedError when 2 % of the disk, or 1 GiB, are left, or 2 % of its files.
    """

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what
        status = os.fstatvfs(fd)
        self._least_bytes = min(status.f_blocks * status.f_frsize // _SHARE, _MOST_BYTES)
        self._least_files = status.f_files // _SHARE  # 0 if there is no limit
        self._every_bytes = min(_EVERY_BYTES, self._least_bytes // 2)
        self._every_files = min(_EVERY_FILES, self._least_files // 2) or _EVERY_FILES
        self._bytes = self._every_bytes  # since the last check; the first take() checks
        self._files = 0

    def take(self, count: int, *, files: int = 0) -> None:
        """Count *count* bytes, and *files*, that are about to be written."""
        self._bytes += count
        self._files += files
        if self._bytes >= self._every_bytes or self._files >= self._every_files:
            self._bytes = self._files = 0
            self._look()

    def _look(self) -> None:
        status = os.fstatvfs(self._fd)
        if status.f_bavail * status.f_frsize < self._least_bytes:
            self._refuse(f"{self._least_bytes:,} bytes")
        if status.f_favail < self._least_files:
            self._refuse(f"{self._least_files:,} files")

    def _refuse(self, left: str) -> None:
        raise ExhaustedError(
            f"no space left to write {self._what}: less than {left} would be free on the disk",
            hint="free some with `orlop system prune`",
        )
