"""The kernel's own floor: a loop in C that does what any runtime has to do, and nothing else."""

import itertools
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orlop.benchmark.driver import IDLE, BenchDriver, ForkedCopies, TimedStart, timed
from orlop.benchmark.image import Image, compile_program
from orlop.errors import NotFoundError, UnavailableError, UnsupportedError
from orlop.model.pool import ObjectPool

_MOST_PROCESSES = 256


class Floor(BenchDriver):
    """floor.c: all namespaces, an overlay, mounts, pivot_root, exec; no limits, no seccomp.

    A start is asked for by a line, of a program that runs: one for each client, and one that
    has all those that stay.
    """

    name = "floor"
    is_floor = True
    note = "has no image, no limits, no seccomp policy, no engine"

    def __init__(self, image: Image, folder: Path, run: Path) -> None:
        self._program = folder / "floor"
        if not image.compiled or not compile_program("floor.c", self._program):
            raise NotFoundError("there is no C compiler that links statically")
        self._image = image
        self._run_folder = run  # in memory, as what Orlop's sandboxes write
        self._numbers = itertools.count()
        self._processes = ObjectPool[subprocess.Popen[bytes]](
            end=lambda process: process.communicate(), size=_MOST_PROCESSES
        )
        self._kept: subprocess.Popen[bytes] | None = None  # whose children stay
        self._kept_scratch = self._scratch()
        self._lock = threading.Lock()

    def once(self) -> TimedStart:
        with self._processes.lent(None, lambda: self._start(self._scratch())) as process:
            return timed(self._image, lambda: self._run(process))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        if command is not IDLE or cpus is not None:
            raise UnsupportedError("the floor has no limits")
        return self._ask("o")

    def execute(self, identifier: str) -> None:
        self._ask(f"e {identifier}")

    def write(self, identifier: str, name: str, data: bytes) -> None:
        (self._kept_scratch / f"upper-{identifier}" / name).write_bytes(data)

    def fork(self, identifier: str, count: int) -> ForkedCopies:
        first = int(self._ask(f"f {identifier} {count}"))
        ids = [str(number) for number in range(first, first + count)]
        return ForkedCopies(time.perf_counter(), ids)

    def remove(self, identifiers: Sequence[str]) -> None:
        for identifier in identifiers:
            self._ask(f"r {identifier}")

    def _scratch(self) -> Path:
        return self._run_folder / f"scratch-{next(self._numbers)}"

    def _start(self, scratch: Path) -> subprocess.Popen[bytes]:
        scratch.mkdir()
        return subprocess.Popen(
            [str(self._program), str(self._image.rootfs), str(scratch), *self._image.probe()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def _run(self, process: subprocess.Popen[bytes]) -> bytes:
        written = _asked(process, "s")
        if not written.isdigit() or _line(process) != b"ended":
            raise UnavailableError("floor.c could not start a process")
        return written

    def _ask(self, line: str) -> str:
        """Return what is answered by the one whose children stay."""
        with self._lock:
            if self._kept is None:
                self._kept = self._start(self._kept_scratch)
            answer = _asked(self._kept, line).decode()
        if not answer:
            raise UnavailableError(f"floor.c could not do {line!r}")
        return answer

    def close(self) -> None:
        """End the programs: each ends with its input, and what it has started with it."""
        self._processes.close()
        if self._kept is not None:
            self._kept.communicate()


def _asked(process: subprocess.Popen[bytes], line: str) -> bytes:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    return _line(process)


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline().rstrip(b"\n")


@contextmanager
def floor(image: Image, folder: Path, run: Path, *, start: bool) -> Iterator[list[Floor]]:
    """Compile it."""
    del start
    driver = Floor(image, folder, run)
    try:
        yield [driver]
    finally:
        driver.close()
