"""The kernel's own floor: a loop in C that does what any runtime has to do, and nothing else."""

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orlop.benchmark.driver import Driver, Start, timed
from orlop.benchmark.image import Image, compile_program
from orlop.benchmark.shelf import Shelf
from orlop.errors import NotFoundError, UnavailableError


class Floor(Driver):
    """floor.c: all namespaces, an overlay, mounts, pivot_root, exec; no limits, no seccomp.

    A start is asked for by a line, of a program that runs: one for each client.
    """

    name = "floor"
    note = "has no image, no limits, no seccomp policy, no engine"

    def __init__(self, image: Image, folder: Path) -> None:
        self._program = folder / "floor"
        if not image.compiled or not compile_program("floor.c", self._program):
            raise NotFoundError("there is no C compiler that links statically")
        self._image = image
        self._folder = folder
        self._numbers = itertools.count()
        self._processes = Shelf(self._start)

    def once(self) -> Start:
        with self._processes.one() as process:
            return timed(self._image, lambda: self._ask(process))

    def _start(self) -> subprocess.Popen[bytes]:
        scratch = self._folder / f"scratch-{next(self._numbers)}"
        scratch.mkdir()
        return subprocess.Popen(
            [str(self._program), str(self._image.rootfs), str(scratch), *self._image.probe()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def _ask(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        written = process.stdout.readline()
        if not written.strip().isdigit() or process.stdout.readline() != b"ended\n":
            raise UnavailableError("floor.c could not start a process")
        return written

    def close(self) -> None:
        """End the programs: each ends with its input."""
        self._processes.empty(subprocess.Popen.communicate)


@contextmanager
def floor(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[Floor]]:
    """Compile it."""
    del run, start
    driver = Floor(image, folder)
    try:
        yield [driver]
    finally:
        driver.close()
