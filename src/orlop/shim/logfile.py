"""Writing a container's log, in the json-file format or in Kubernetes' CRI format.

json-file is one JSON object a line: {"log": text, "stream": "stdout", "attrs": {…}, "time": RFC
3339}; "attrs" only where log options ask for attributes. A line of output longer than 16 KiB
becomes several entries, of which only the last ends in a newline; that is how other
readers of the format expect it. The newest file has no suffix, older ones .1, .2, …, or
.1.gz, .2.gz, … once compressed.

CRI is "TIME stdout F line"; a part of a longer line has P for F.
"""

import contextlib
import os
from _json import encode_basestring
from collections.abc import Callable, Mapping, Sequence

from orlop.model.stamp import stamp

MAX_PARTIAL = 16 << 10  # bytes of output in one entry
_MOST_BACK = 4
_BLOCK = 64 << 10
COMPRESSED = ".gz"
_SENTINEL = "\x7f"  # ASCII, and JSON leaves it as it is


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


def entries(piece: bytes, *, stream: str, time_text: str, attributes: str = "") -> str:
    """Return the entries for *piece*, which is whole lines or one part of a line.

    *attributes* is their member "attrs" as JSON, with its comma.

    Without a loop over the lines: JSON's escaping runs once over all of them,
    newlines passing through as a sentinel that then becomes the entries' seams.
    """
    text = piece.decode("utf-8", "replace")
    tail = f'","stream":"{stream}",{attributes}"time":"{time_text}"}}\n'
    if _SENTINEL in text:
        return "".join(f'{{"log":{encode_basestring(line)[:-1]}{tail}' for line in _lines(text))
    seam = f'\\n{tail}{{"log":"'
    body = encode_basestring(text.replace("\n", _SENTINEL)).replace(_SENTINEL, seam)
    if text.endswith("\n"):
        return '{"log":' + body[: -len('{"log":""')]
    return f'{{"log":{body[:-1]}{tail}'


def cri_entries(piece: bytes, *, stream: str, time_text: str) -> bytes:
    """Return the entries for *piece*, as entries() does, in the CRI format."""
    head = f"{time_text} {stream} F ".encode()
    if piece.endswith(b"\n"):
        return head + piece[:-1].replace(b"\n", b"\n" + head) + b"\n"
    if len(piece) > MAX_PARTIAL - _MOST_BACK:  # as cut() cuts them: others are the last
        head = head.replace(b" F ", b" P ")
    return head + piece + b"\n"


def _lines(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _character_start(data: bytes, end: int) -> int:
    """Move *end* back, by at most three, so that no UTF-8 character is cut in two."""
    for back in range(_MOST_BACK):
        if end - back >= len(data) or data[end - back] & 0xC0 != 0x80:
            return end - back
    return end


class LogFile:
    """The files of one container's log, open for appending.

    Never raises for a log that cannot be written: the container must run on. What
    is lost is counted, and the log says so as soon as it can be written again.
    """

    def __init__(
        self,
        path: str,
        *,
        max_size: int,
        max_files: int,
        attributes: Mapping[str, str] | None = None,
        on_rotated: Callable[[str], None] | None = None,
        is_cri: bool = False,
    ) -> None:
        self._path = path
        self._is_cri = is_cri
        self._max_size = max_size  # bytes; 0 or less for no limit
        self._max_files = max(1, max_files)
        self._attributes = _attributes(attributes)
        self._on_rotated = on_rotated
        self._fd = -1
        self._size = 0
        self._lost = 0
        self._reason = ""
        self._open()

    def append(self, pieces: Sequence[bytes], stream: str, time_ns: int) -> None:
        """Write *pieces*, as cut() returns them."""
        time_text = stamp(time_ns)
        if self._lost:
            self._confess(time_text)
        for piece in pieces:
            data = self._entries(piece, stream, time_text, self._attributes)
            if not self._write(data):
                self._lost += max(1, piece.count(b"\n"))

    def _entries(self, piece: bytes, stream: str, time_text: str, attributes: str = "") -> bytes:
        if self._is_cri:
            return cri_entries(piece, stream=stream, time_text=time_text)
        return entries(piece, stream=stream, time_text=time_text, attributes=attributes).encode()

    def reopen(self) -> None:
        """Go on in a new file: somebody has moved this one away."""
        self.close()
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _confess(self, time_text: str) -> None:
        text = f"orlop: {self._lost} log entries lost: {self._reason}\n"
        if self._write(self._entries(text.encode(), "stderr", time_text)):
            self._lost = 0

    def _write(self, data: bytes) -> bool:
        """Write entries, as many into each file as its size allows, and at least one."""
        start = 0
        while self._max_size > 0 and len(data) - start > self._max_size - self._size:
            room = max(0, self._max_size - self._size)
            end = data.rfind(b"\n", start, start + room) + 1
            if end == 0 and self._size == 0:
                end = data.find(b"\n", start) + 1
            if end and not self._write_into_file(data[start:end]):
                return False
            start = end or start
            if start == len(data):
                return True
            if not self._rotate():
                break
        return self._write_into_file(data[start:])

    def _write_into_file(self, data: bytes) -> bool:
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

    def _rotate(self) -> bool:
        """Move each file up by one, dropping the oldest. What fails leaves the log growing."""
        try:
            if self._max_files == 1:
                os.ftruncate(self._fd, 0)
                self._size = 0
                return True
            older = older_files(self._path)
            for number in range(len(older), 0, -1):
                name = older[number - 1]
                if number >= self._max_files - 1:
                    os.unlink(name)
                else:
                    os.rename(name, f"{self._path}.{number + 1}{suffix_of(name)}")
            os.rename(self._path, f"{self._path}.1")
        except OSError as error:
            self._reason = os.strerror(error.errno or 0)
            return False
        os.close(self._fd)
        self._fd, self._size = -1, 0
        if self._on_rotated is not None:
            self._on_rotated(self._path)
        return True


def older_files(path: str) -> list[str]:
    """Return the names of the rotated files of the log at *path*, newest first."""
    names: list[str] = []
    while True:
        base = f"{path}.{len(names) + 1}"
        name = next((n for n in (base, base + COMPRESSED) if os.path.lexists(n)), None)
        if name is None:
            return names
        names.append(name)


def suffix_of(name: str) -> str:
    """Return COMPRESSED for the name of a compressed file, else nothing."""
    return COMPRESSED if name.endswith(COMPRESSED) else ""


def _attributes(attributes: Mapping[str, str] | None) -> str:
    """Return the member of an entry that has *attributes*."""
    if not attributes:
        return ""
    members = (
        f"{encode_basestring(key)}:{encode_basestring(value)}"
        for key, value in sorted(attributes.items())
    )
    return f'"attrs":{{{",".join(members)}}},'


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
