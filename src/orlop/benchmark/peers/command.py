"""Peers that are asked by their command lines: one process a request, as their users have it."""

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from orlop.benchmark.driver import PATIENCE_S, BenchDriver
from orlop.errors import UnavailableError

_ERROR_LENGTH = 300
_numbers = itertools.count()


class CommandDriver(BenchDriver):
    """A driver whose verbs are programs."""

    #: Where programs run; podman's monitor leaves a file there.
    folder: str | None = None

    def call(self, *words: str) -> bytes:
        """Run a program to its end, and return its output; UnavailableError where it fails.

        It is in a session of its own: ctrl-c ends the benchmark, which lets it finish.
        """
        return self._run(words, subprocess.PIPE, subprocess.PIPE).stdout

    def detach(self, *words: str) -> None:
        """Run a program whose child keeps the streams that it was given."""
        with tempfile.TemporaryFile() as errors:
            self._run(words, subprocess.DEVNULL, errors)

    def _run(
        self, words: Sequence[str], output: int, errors: int | IO[bytes]
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=PATIENCE_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"{words[0]} has not ended after {PATIENCE_S:g} seconds"
            ) from None
        if done.returncode:
            if not isinstance(errors, int):
                errors.seek(0)
                done.stderr = errors.read()
            said = done.stderr.decode(errors="replace").strip()[-_ERROR_LENGTH:]
            raise UnavailableError(f"{words[0]} exited with {done.returncode}: {said}")
        return done


def orlop_program(name: str) -> str:
    """Return a program of Orlop's: the one beside our interpreter, if it is there."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def unique() -> str:
    """Return a name that no other container has."""
    return f"orlop-bench-{os.getpid()}-{next(_numbers)}"


def parts(words: Sequence[str], size: int = 50) -> list[Sequence[str]]:
    """Cut *words* into as many as a command line is given at once."""
    return [words[begin : begin + size] for begin in range(0, len(words), size)]
