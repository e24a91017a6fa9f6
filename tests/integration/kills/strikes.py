"""SIGKILL at one step of an operation, exactly: strace(1) kills at the n-th call of one kind.

First the operation runs whole, and its calls that change anything are noted; then it
runs again and again, and each time the process dies as it begins another one of them.
"""

import contextlib
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

#: Calls whose effect outlives the process: files, other processes, messages.
CALLS = (
    "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,"
    "pwrite64,write,sendmsg,sendto,clone,clone3,fork,vfork,waitid,pidfd_send_signal,kill,ftruncate"
)
_LETS_GO_S = 1.0
_PACE = 7  # points of one operation where it is struck; ORLOP_EVERY_STEP=1 tries every one
_LINE = re.compile(r"^(\d+ +)?(\w+)\((.*)$")


class Point(NamedTuple):
    """The n-th call of one kind by one thread."""

    call: str
    number: int
    arguments: str

    def __str__(self) -> str:
        return f"{self.call} #{self.number} ({self.arguments[:100]})"


@contextlib.contextmanager
def tracing(pid: int, *options: str, follow: bool) -> Iterator[None]:
    """Have strace look at *pid* meanwhile; returns once it does.

    With *follow* also at its threads, and at what it starts.
    """
    command = ["strace", *(["-f"] if follow else []), "-p", str(pid), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as strace:
        assert strace.stderr is not None
        attached = strace.stderr.readline()
        assert b"attached" in attached, attached
        try:
            yield
        finally:
            strace.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                strace.wait(_LETS_GO_S)
            strace.kill()  # as it may wait for ever where a process dies just then


@contextlib.contextmanager
def noting(pid: int, file: Path, *, follow: bool = True) -> Iterator[list[Point]]:
    """Yield a list that in the end has each call of *pid* that changed something."""
    points: list[Point] = []
    with tracing(pid, "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(file), follow=follow):
        yield points
    counts: Counter[tuple[str, str]] = Counter()
    for line in file.read_text(errors="replace").splitlines():
        if found := _LINE.match(line):
            thread, call, arguments = found.groups()
            counts[thread, call] += 1
            points.append(Point(call, counts[thread, call], arguments))


@contextlib.contextmanager
def striking(pid: int, point: Point, *, follow: bool = True) -> Iterator[None]:
    """Kill *pid* when it comes to *point*."""
    wanted = f"inject={point.call}:signal=KILL:when={point.number}"
    with tracing(pid, "-e", wanted, "-o", os.devnull, follow=follow):
        yield


def chosen(points: Sequence[Point]) -> list[Point]:
    """Return some of the points, the first and the last among them; each kind and number once."""
    unique = list({(point.call, point.number): point for point in points}.values())
    if os.environ.get("ORLOP_EVERY_STEP") or len(unique) <= _PACE:
        return unique
    return [unique[round(i * (len(unique) - 1) / (_PACE - 1))] for i in range(_PACE)]
