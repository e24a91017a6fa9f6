"""Processes to put into a cgroup."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

from orlop.kernel.process import clone3
from orlop.runtime.cgroups import Cgroup, walk_in


def run_inside(cgroup: Cgroup, work: Callable[[], int]) -> int:
    """Run *work* in a child inside *cgroup*; return its result, or 128 and its signal."""
    pid = spawn(cgroup, work)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def spawn(cgroup: Cgroup, work: Callable[[], int]) -> int:
    """Start a child the way the runtime does: born in v2, and walking into v1 by itself."""
    fd, doors = cgroup.clone_fd(), cgroup.doors()
    inside, told = os.pipe()
    try:
        cloned = clone3(0, cgroup_fd=-1 if fd is None else fd)
    except OSError:
        for descriptor in (inside, told, *doors):
            os.close(descriptor)
        raise
    if cloned.pid == 0:
        code = 99
        try:
            walk_in(doors)
            os.write(told, b"1")
            code = work()
        finally:
            os._exit(code)
    os.close(told)
    os.read(inside, 1)
    for descriptor in (inside, *doors, cloned.pidfd, *([] if fd is None else [fd])):
        os.close(descriptor)
    return cloned.pid


def until(done: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


@contextlib.contextmanager
def sleeping(cgroup: Cgroup) -> Iterator[int]:
    """A child in *cgroup* that sleeps; killed and reaped at the end."""

    def sleep() -> int:
        time.sleep(60)
        return 0

    pid = spawn(cgroup, sleep)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            cgroup.thaw()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
