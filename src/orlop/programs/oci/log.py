"""The log: lines in the format of logrus, as runc writes them, which other programs parse.

time="2026-01-01T00:00:00Z" level=error msg="container does not exist"
{"level":"error","msg":"container does not exist","time":"2026-01-01T00:00:00Z"}
"""

from __future__ import annotations

import os
import time

from orlop.errors import InvalidArgumentError
from orlop.model import jsontext

_FORMATS = ("text", "json")


class Log:
    """Writes errors and warnings to a file, and to stderr for interactive users."""

    def __init__(self, path: str = "", kind: str = "text") -> None:
        if kind not in _FORMATS:
            raise InvalidArgumentError(f'invalid log-format "{kind}"')
        self._path = path.removeprefix("file:")
        self._json = kind == "json"
        if path.startswith(("journald:", "syslog:")):  # crun's: a service's stderr is the journal
            self._path = ""

    def error(self, message: str) -> None:
        """Write *message* to the log, and as plain text to stderr if the log is elsewhere."""
        self._write("error", message)
        if self._path:
            _write(2, message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def debug(self, message: str) -> None:
        self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        line = self._line(level, message)
        if not self._path:
            _write(2, line)
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            _write(2, f"cannot open log {self._path}: {error.strerror}")
            return
        _write(fd, line)
        os.close(fd)

    def _line(self, level: str, message: str) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            return jsontext.dumps({"level": level, "msg": message, "time": when})
        return f'time="{when}" level={level} msg={_quoted(message)}'


def _write(fd: int, line: str) -> None:
    """Write a line; failures are ignored, because there is nobody to report them to."""
    if not line.isprintable():  # rare: it quotes a bundle or a process
        from orlop.model.plain import one_line

        line = one_line(line)
    try:
        os.write(fd, (line + "\n").encode(errors="backslashreplace"))
    except OSError:
        return


def _quoted(message: str) -> str:
    """Quote a message of more than one plain word, as logrus does."""
    plain = message
    for character in "-._/@^+":
        plain = plain.replace(character, "")
    bare = plain.isascii() and (plain.isalnum() or (not plain and bool(message)))
    return message if bare else jsontext.dumps(message)
