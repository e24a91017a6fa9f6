"""Command lines on terminals of their own."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

from tests.integration.cli.conftest import CommandLine


class Terminal:
    """A command line on a terminal of its own."""

    def __init__(self, cli: CommandLine, *words: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.modes = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [*cli.words, *words],
            env=cli.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def expect(self, text: bytes, *, timeout_s: float = 20) -> None:
        """Read until *text* was seen."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                self.seen += os.read(self.master, 4096)
            assert time.monotonic() < deadline, self.seen
        self.seen = self.seen.partition(text)[2]

    def read_to_end(self, *, timeout_s: float = 60) -> bytes:
        """Return all that the command writes until it ends."""
        os.close(self.slave)
        self.slave = -1
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not select.select([self.master], [], [], 0.2)[0]:
                continue
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:  # EIO: the other side is closed
                return self.seen
        raise AssertionError(self.seen)

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # it has no controlling terminal to get it from

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        if self.slave >= 0:
            os.close(self.slave)


@contextlib.contextmanager
def terminal(cli: CommandLine, *words: str) -> Iterator[Terminal]:
    made = Terminal(cli, *words)
    try:
        yield made
    finally:
        made.close()
