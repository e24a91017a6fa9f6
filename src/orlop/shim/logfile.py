"""Writing a container's log in the json-file format.

One JSON object a line: {"log": text, "stream": "stdout", "time": RFC 3339}. A
line of output longer than 16 KiB becomes several entries, of which only the last
ends in a newline; that is how other readers of the format expect it. The newest
file has no suffix, older ones .1, .2, …
"""

import contextlib
import os
import struct
import time
from _json import encode_basestring

MAX_PARTIAL = 16 << 10  # bytes of output in one entry
_BLOCK = 64 << 10
_LENGTH = struct.Struct("<I")
_SLOTS = {"stdout": 0, "stderr": _LENGTH.size + MAX_PARTIAL}
_SENTINEL = "\x7f"  # ASCII, and JSON leaves it as it is


def stamp(time_ns: int) -> str:
    """Return the UTC time with all nine digits, so that text sorts as time does."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut output into pieces of at most MAX_PARTIAL: whole lines together, or a part of one.

    Also returns the unfinished line at the end, shorter than MAX_PARTIAL.
    """
    pieces = []
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + MAX_PARTIAL) + 1
        if end == 0:
            if len(data) - start < MAX_PARTIAL:
                break
            end = _character_start(data, start + MAX_PARTIAL)
        pieces.append(data[start:end])
        start = end
    return pieces, data[start:]


def entries(piece: bytes, *, stream: str, time_text: str) -> str:
    """Return the entries for *piece*, which is whole lines or one part of a line.

    Without a loop over the lines: JSON's escaping runs once over all of them,
    newlines passing through as a sentinel that then becomes the entries' seams.
    """
    text = piece.decode("utf-8", "replace")
    tail = f'","stream":"{stream}","time":"{time_text}"}}\n'
    if _SENTINEL in text:
        return "".join(f'{{"log":{encode_basestring(line)[:-1]}{tail}' for line in _lines(text))
    seam = f'\\n{tail}{{"log":"'
    body = encode_basestring(text.replace("\n", _SENTINEL)).replace(_SENTINEL, seam)
    if text.endswith("\n"):
        return '{"log":' + body[: -len('{"log":""')]
    return f'{{"log":{body[:-1]}{tail}'


def _lines(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _character_start(data: bytes, end: int) -> int:
    """Move *end* back, by at most three, so that no UTF-8 character is cut in two."""
    for back in range(4):
        if end - back >= len(data) or data[end - back] & 0xC0 != 0x80:
            return end - back
    return end


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


class LogFile:
    """The files of one container's log, open for appending.

    With *resume* it goes on where a writer was killed, in the middle of a line.

    Never raises for a log that cannot be written: the container must run on. What
    is lost is counted, and the log says so as soon as it can be written again.
    """

    def __init__(self, path: str, *, max_size: int, max_files: int, resume: bool = False) -> None:
        self._path = path
        self._max_size = max_size  # bytes; 0 or less for no limit
        self._max_files = max(1, max_files)
        self._fd = -1
        self._size = 0
        self._lost = 0
        self._reason = ""
        self._unfinished = Unfinished(f"{path}.unfinished", resume=resume)
        self._open()

    def write(self, stream: str, data: bytes) -> None:
        """Append output; an unfinished line waits for its end, or for finish()."""
        pieces, rest = cut(self._unfinished.get(stream) + data)
        if pieces:
            self._append(pieces, stream)
        self._unfinished.set(stream, rest)

    def finish(self) -> None:
        """Write the lines that will find no end."""
        for stream, rest in self._unfinished.take_all().items():
            if rest:
                self._append([rest], stream)

    def close(self) -> None:
        self.finish()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, pieces: list[bytes], stream: str) -> None:
        time_text = stamp(time.time_ns())
        if self._lost:
            self._confess(time_text)
        for piece in pieces:
            data = entries(piece, stream=stream, time_text=time_text).encode()
            if not self._write(data):
                self._lost += max(1, piece.count(b"\n"))

    def _confess(self, time_text: str) -> None:
        text = f"orlop: {self._lost} log entries lost: {self._reason}\n"
        line = entries(text.encode(), stream="stderr", time_text=time_text)
        if self._write(line.encode()):
            self._lost = 0

    def _write(self, data: bytes) -> bool:
        if 0 < self._max_size < self._size + len(data) and self._size:
            self._rotate()
        if self._fd < 0 and not self._open():
            return False
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._reason = os.strerror(error.errno or 0)
            return False
        if written < len(data):  # the disk is full: no half line may stay
            self._reason = "the disk is full"
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            return False
        self._size += written
        return True

    def _open(self) -> bool:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._path, flags, 0o640)
            self._size = repair(self._fd)
        except OSError as error:
            self._reason = os.strerror(error.errno or 0)
            return False
        return True

    def _rotate(self) -> None:
        """Move each file up by one, dropping the oldest. What fails leaves the log growing."""
        try:
            if self._max_files == 1:
                os.ftruncate(self._fd, 0)
                self._size = 0
                return
            for number in range(self._max_files - 2, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
            os.rename(self._path, f"{self._path}.1")
        except OSError as error:
            self._reason = os.strerror(error.errno or 0)
            return
        os.close(self._fd)
        self._fd = -1


def repair(fd: int) -> int:
    """Cut off an entry that a killed writer left torn at the end; return the size in bytes."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end
