"""A docker command on a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Protocol


class Engine(Protocol):
    """What knows how a command finds it."""

    def environment(self) -> dict[str, str]: ...


class Terminal:
    """A command, docker's if not another's, whose standard streams are a terminal."""

    def __init__(self, engine: Engine, *arguments: str, front: Sequence[str] = ("docker",)) -> None:
        self.output = b""
        self.master, slave = pty.openpty()
        environment = engine.environment() | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            [*front, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, *, rows: int, columns: int) -> None:
        """Change the size as a window does; the command controls no terminal that would tell it."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Read until *pattern* has come; what is before its end is consumed."""
        deadline = time.monotonic() + 20
        while not (match := re.search(pattern.encode(), self.output)):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.master], [], [], left)[0]
            assert ready, f"{pattern!r} did not come: {self.output!r}"
            try:
                piece = os.read(self.master, 65536)
            except OSError:
                piece = b""
            assert piece, f"the terminal closed before {pattern!r}: {self.output!r}"
            self.output += piece
        self.output = self.output[match.end() :]
        return match

    def wait(self) -> int:
        """Return the exit code of the command."""
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.output += os.read(self.master, 65536)
        assert self.process.poll() is not None, f"the command goes on: {self.output!r}"
        return self.process.returncode

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
