"""The unfinished line at the end of each stream's output."""

import contextlib
import os
import struct

from orlop.shim.logfile import MAX_PARTIAL

_LENGTH = struct.Struct("<I")
_SLOTS = {"stdout": 0, "stderr": _LENGTH.size + MAX_PARTIAL}


class Unfinished:
    """The unfinished line of each stream, kept in a file too: it outlives a killed writer.

    Best effort: where the file cannot be written, a kill costs the line.
    """

    def __init__(self, path: str, *, resume: bool) -> None:
        self._path = path
        self._fd = -1
        self._lines: dict[str, bytes] = {}
        if resume:
            self._load()
        else:
            self._remove()

    def get(self, stream: str) -> bytes:
        return self._lines.get(stream, b"")

    def set(self, stream: str, rest: bytes) -> None:
        if not rest and not self._lines.get(stream):
            return
        self._lines[stream] = rest
        with contextlib.suppress(OSError):
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
            os.pwrite(self._fd, _LENGTH.pack(len(rest)) + rest, _SLOTS[stream])

    def take_all(self) -> dict[str, bytes]:
        """Return what is left, and keep nothing."""
        lines, self._lines = self._lines, {}
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._remove()
        return lines

    def _load(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        for stream, slot in _SLOTS.items():
            data = os.pread(self._fd, _LENGTH.size + MAX_PARTIAL, slot)
            length = _LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else 0
            self._lines[stream] = data[_LENGTH.size :][:length]

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
