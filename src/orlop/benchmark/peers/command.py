"""Peers that are asked by their command lines: one process a request, as their users have it."""

import itertools
import os
import subprocess
from collections.abc import Mapping, Sequence

from orlop.benchmark.driver import PATIENCE_S, Driver
from orlop.errors import UnavailableError

_ERROR_LENGTH = 300
_numbers = itertools.count()


class CommandDriver(Driver):
    """A driver whose verbs are programs."""

    #: Where programs run; podman's monitor leaves a file there.
    folder: str | None = None

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}

    def call(self, *words: str) -> bytes:
        """Run a program to its end, and return its output; UnavailableError where it fails.

        It is in a session of its own: ctrl-c ends the benchmark, which lets it finish.
        """
        try:
            done = subprocess.run(
                words,
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"{words[0]} has not ended after {PATIENCE_S:g} seconds"
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-_ERROR_LENGTH:]
            raise UnavailableError(f"{words[0]} exited with {done.returncode}: {said}")
        return done.stdout

    def detach(self, *words: str) -> None:
        """Run a program whose child keeps the streams that it was given."""
        process = subprocess.run(
            words,
            env=self._environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
            start_new_session=True,
        )
        if process.returncode:
            raise UnavailableError(f"{words[0]} exited with {process.returncode}")


def unique() -> str:
    """Return a name that no other container has."""
    return f"orlop-bench-{os.getpid()}-{next(_numbers)}"


def parts(words: Sequence[str], size: int = 50) -> list[Sequence[str]]:
    """Cut *words* into as many as a command line is given at once."""
    return [words[begin : begin + size] for begin in range(0, len(words), size)]
