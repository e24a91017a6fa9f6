"""The streams of a process without a terminal."""

import os

from orlop.runtime.bundle import Stdio
from orlop.shim.protocol import IO


class Pipes:
    """The pipes of a process without a terminal: our ends, and those that it gets."""

    def __init__(self, io: IO, *, null: int) -> None:
        self.ours: dict[str, int] = {}
        self._theirs: dict[str, int] = {}
        self._null = null
        try:
            for name in ("stdout", "stderr"):
                self.ours[name], self._theirs[name] = os.pipe()
            if io["stdin"]:
                self._theirs["stdin"], self.ours["stdin"] = os.pipe()
        except OSError:
            self.close()
            raise

    @property
    def stdio(self) -> Stdio:
        theirs = self._theirs
        return Stdio(theirs.get("stdin", self._null), theirs["stdout"], theirs["stderr"])

    @property
    def inodes(self) -> dict[str, int]:
        return {name: os.fstat(fd).st_ino for name, fd in self._theirs.items()}

    def close_theirs(self) -> None:
        for fd in self._theirs.values():
            os.close(fd)
        self._theirs.clear()

    def close(self) -> None:
        self.close_theirs()
        for fd in self.ours.values():
            os.close(fd)
        self.ours.clear()
