"""Reading a log that logfile.py writes, in either format, while it is written and rotated."""

import calendar
import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from orlop.model.stamp import stamp
from orlop.shim.logsource import Source, open_all

_TIME_LENGTH = len("2026-01-02T03:04:05.000000000Z")


class Entry(NamedTuple):
    time_ns: int
    time: str  # as the log has it, RFC 3339 with nanoseconds
    stream: str  # "stdout" or "stderr"
    text: str  # ends in a newline unless it is a part of a longer line
    attributes: dict[str, str]


def parse(line: bytes) -> Entry | None:
    """Return the entry, or None for a line that is torn or not ours."""
    if not line.startswith(b"{"):
        return _parse_cri(line)
    try:
        fields = json.loads(line)
        moment, attributes = fields["time"], fields.get("attrs", {})
        return Entry(_time_ns(moment), moment, fields["stream"], fields["log"], attributes)
    except (ValueError, KeyError, TypeError):
        return None


def _parse_cri(line: bytes) -> Entry | None:
    try:
        moment, stream, tag, text = line.decode(errors="replace").split(" ", 3)
        return Entry(_time_ns(moment), moment, stream, text + "\n" * (tag == "F"), {})
    except (ValueError, OverflowError):
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
        self._files = open_all(path)

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
            self._files = open_all(self._path)
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
        for file in self._files:
            file.close()
        self._files = []

    def _next_file(self) -> None:
        self._files.pop(0).close()
        self._rest = b""

    def _drain(self, file: Source) -> Iterator[Entry]:
        if file.begun_again():  # as max_files=1 does
            self._rest = b""
        while block := file.read():
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                entry = parse(line) if self._wanted(line) else None
                if entry is not None and entry.stream in self._streams:
                    yield entry

    def _wanted(self, line: bytes) -> bool:
        """Whether *line*'s time is in range: by comparing text, most lines need no parsing."""
        if not self._since and not self._until:
            return True
        is_cri = not line.startswith(b"{")
        moment = line[:_TIME_LENGTH] if is_cri else line[-_TIME_LENGTH - 2 : -2]
        return self._since <= moment and (not self._until or moment <= self._until)

    def _skip_to_tail(self, wanted: int) -> None:
        """Leave every file at the place where the last *wanted* entries begin."""
        for index in range(len(self._files) - 1, -1, -1):
            wanted -= self._files[index].skip_to_tail(wanted)
            if wanted <= 0:
                for file in self._files[:index]:
                    file.close()
                del self._files[:index]
                return

    def _rotated(self, file: Source) -> list[Source]:
        """Open the files that are newer than the one we hold, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == file.identity[0]:
                return []
        files = open_all(self._path)
        known = 1 + next(
            (n for n, other in enumerate(files) if other.identity == file.identity), -1
        )
        for other in files[:known]:
            other.close()
        return files[known:]
