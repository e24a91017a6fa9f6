"""Reading a log that logfile.py writes, while it is written and rotated."""

import calendar
import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from orlop.shim.logfile import stamp

_BLOCK = 64 << 10
_TIME_LENGTH = len("2026-01-02T03:04:05.000000000Z")
_TRIES = 20


class Entry(NamedTuple):
    time_ns: int
    time: str  # as the log has it, RFC 3339 with nanoseconds
    stream: str  # "stdout" or "stderr"
    text: str  # ends in a newline unless it is a part of a longer line


def parse(line: bytes) -> Entry | None:
    """Return the entry, or None for a line that is torn or not ours."""
    try:
        fields = json.loads(line)
        return Entry(_time_ns(fields["time"]), fields["time"], fields["stream"], fields["log"])
    except (ValueError, KeyError, TypeError):
        return None


def _time_ns(text: str) -> int:
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return _epoch_s(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0") or 0)


@functools.lru_cache(maxsize=8)  # neighbours are of the same second
def _epoch_s(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


class LogReader:
    """The log at *path* as it is now, and then what is added: read(), then more() for ever.

    The files are opened first, so that a rotation meanwhile takes nothing away.
    A log that does not exist (yet) is an empty one.
    """

    def __init__(
        self,
        path: str,
        *,
        since_ns: int = 0,
        until_ns: int = 0,
        tail: int | None = None,
        streams: frozenset[str] = frozenset({"stdout", "stderr"}),
    ) -> None:
        self._path = path
        self._since = stamp(since_ns).encode() if since_ns else b""
        self._until = stamp(until_ns).encode() if until_ns else b""
        self._tail = tail
        self._streams = streams
        self._rest = b""
        self._files = _open_all(path)

    def read(self) -> Iterator[Entry]:
        """Yield what the log holds, oldest first; with *tail*, at most the last so many entries."""
        if self._tail is not None:
            self._skip_to_tail(self._tail)
        while self._files:
            yield from self._drain(self._files[0])
            if len(self._files) == 1:
                return
            self._next_file()

    def more(self) -> Iterator[Entry]:
        """Yield what was added since; nothing if nothing was. Follows rotation."""
        if not self._files:
            self._files = _open_all(self._path)
        while self._files:
            yield from self._drain(self._files[0])
            if len(self._files) == 1:
                newer = self._rotated(self._files[0])
                yield from self._drain(self._files[0])  # what came before it was rotated away
                self._files.extend(newer)
            if len(self._files) == 1:
                return
            self._next_file()

    @property
    def past_until(self) -> bool:
        """Whether nothing that comes can be old enough for *until*."""
        return bool(self._until) and stamp(time.time_ns()).encode() > self._until

    def close(self) -> None:
        for fd in self._files:
            os.close(fd)
        self._files = []

    def _next_file(self) -> None:
        os.close(self._files.pop(0))
        self._rest = b""

    def _drain(self, fd: int) -> Iterator[Entry]:
        if os.lseek(fd, 0, os.SEEK_CUR) > os.fstat(fd).st_size:  # max_files=1 starts it again
            os.lseek(fd, 0, os.SEEK_SET)
            self._rest = b""
        while block := os.read(fd, _BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                entry = parse(line) if self._wanted(line) else None
                if entry is not None and entry.stream in self._streams:
                    yield entry

    def _wanted(self, line: bytes) -> bool:
        """Whether *line*'s time is in range: by comparing text, most lines need no parsing."""
        if not self._since and not self._until:
            return True
        moment = line[-_TIME_LENGTH - 2 : -2]
        return self._since <= moment and (not self._until or moment <= self._until)

    def _skip_to_tail(self, wanted: int) -> None:
        """Leave every file at the place where the last *wanted* entries begin."""
        for index in range(len(self._files) - 1, -1, -1):
            position, found = _tail_position(self._files[index], wanted)
            os.lseek(self._files[index], position, os.SEEK_SET)
            wanted -= found
            if wanted <= 0:
                for fd in self._files[:index]:
                    os.close(fd)
                del self._files[:index]
                return

    def _rotated(self, fd: int) -> list[int]:
        """Open the files that are newer than the one we hold, oldest first."""
        ours = os.fstat(fd).st_ino
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == ours:
                return []
        files = _open_all(self._path)
        inodes = [os.fstat(file).st_ino for file in files]
        known = inodes.index(ours) + 1 if ours in inodes else 0
        for file in files[:known]:
            os.close(file)
        return files[known:]


def _open_all(path: str) -> list[int]:
    """Open every file of the log, oldest first, none twice and none missed by a rotation."""
    for _ in range(_TRIES):
        files = _open_chain(path)
        try:
            settled = not files or os.stat(path).st_ino == os.fstat(files[-1]).st_ino
        except FileNotFoundError:
            settled = False
        inodes = {os.fstat(fd).st_ino for fd in files}
        if settled and len(inodes) == len(files):
            return files
        for fd in files:
            os.close(fd)
    return []


def _open_chain(path: str) -> list[int]:
    files: list[int] = []
    name, number = path, 0
    with contextlib.suppress(FileNotFoundError):
        while True:
            files.insert(0, os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
            number += 1
            name = f"{path}.{number}"
    return files


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
