"""Operations that are the same for every driver: freeze, kill, list, remove."""

import errno
import os
import time
from itertools import chain

from orlop.errors import WrongStateError
from orlop.kernel.procstat import has_ended, read_stat
from orlop.model.light import Callable, Iterable, Iterator
from orlop.model.light_context import suppress
from orlop.runtime.cgroups.files import below, read, write
from orlop.runtime.cgroups.layout import detect

_SHORTEST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.02
_SIGKILL = 9
REMOVE_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 10.0


def walk_in(doors: Iterable[int]) -> None:
    """Move the calling thread, which must be the process's only one, into a cgroup.

    If a thread moves itself, the kernel does not take the lock that makes migration slow
    (cgroup_procs_write_start() in the kernel): 0.1 ms instead of 5 to 15. The kernel
    checks the rights of the process that opened the *doors* (Cgroup.doors).
    """
    for door in doors:
        os.write(door, b"0")


def _wait(done: Callable[[], bool], *, timeout_s: float) -> bool:
    """Call *done* at growing intervals; return False if it never returned true."""
    deadline = time.monotonic() + timeout_s
    pause_s = _SHORTEST_WAIT_S
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_WAIT_S)
    return True


def check_thawed(path: str, *, freezer: str | None, unified: str | None) -> None:
    """Raise WrongStateError if the cgroup *path*, or one above it, is frozen.

    A process that enters it would stop, and under v1 could not even be killed.
    *freezer* and *unified* are its directories in those hierarchies.
    """
    frozen = freezer is not None and read(f"{freezer}/freezer.state") != "THAWED"
    if unified is not None:
        frozen |= "frozen 1" in read(f"{unified}/cgroup.events").splitlines()
    if frozen:
        raise WrongStateError(f"cgroup {path} is frozen", hint="thaw it, or name another one")


def freeze_v2(directory: str, *, timeout_s: float) -> None:
    """Freeze through cgroup.freeze; after a TimeoutError the request still stands.

    cgroup-v2.rst, "Core Interface Files": cgroup.freeze and cgroup.events.
    """
    write(f"{directory}/cgroup.freeze", "1")
    events = f"{directory}/cgroup.events"
    if not _wait(lambda: "frozen 1" in read(events).splitlines(), timeout_s=timeout_s):
        raise TimeoutError(f"cgroup {directory} did not freeze within {timeout_s:g} s")


def freeze_v1(directory: str, *, timeout_s: float) -> None:
    """Freeze through freezer.state, and thaw again on a TimeoutError.

    If a task forks meanwhile, the state stays FREEZING until it is written again;
    hence the repeated write. freezer-subsystem.rst.
    """
    state = f"{directory}/freezer.state"

    def frozen() -> bool:
        write(state, "FROZEN")
        return read(state) == "FROZEN"

    if not _wait(frozen, timeout_s=timeout_s):
        write(state, "THAWED")
        raise TimeoutError(f"cgroup {directory} did not freeze within {timeout_s:g} s")


def leave_freezer(pid: int) -> None:
    """Move process *pid* out of its v1 freezer, because in a frozen one no signal ends it.

    Other processes in it stay frozen. freezer-subsystem.rst
    """
    for hierarchy in detect().v1:
        if "freezer" in hierarchy.controllers:
            with suppress(OSError):
                write(f"{hierarchy.mountpoint}/cgroup.procs", str(pid))


def pids(directory: str) -> Iterator[int]:
    """Yield the processes in *directory* and below it; none if it is gone."""
    for place in chain((directory,), below(directory)):
        try:
            listed = read(f"{place}/cgroup.procs")
        except OSError as error:
            # EOPNOTSUPP: a threaded cgroup, whose processes its domain lists.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
            continue
        yield from (int(line) for line in listed.splitlines())


def send(directory: str, number: int) -> int:
    """Signal each process once and return how many there were."""
    count = 0
    for pid in pids(directory):
        if pid > 0:  # 0 is a process that our pid namespace has no number for
            count += 1
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    return count


def kill_v2(directory: str) -> None:
    """Kill all with cgroup.kill (Linux 5.14), which no fork escapes; else by rounds."""
    try:
        write(f"{directory}/cgroup.kill", "1")
    except FileNotFoundError:
        if os.path.isdir(directory):
            kill_by_rounds(directory)
    except OSError as error:
        if error.errno != errno.ENODEV:  # removed between open and write: it was empty
            raise


def kill_by_rounds(directory: str) -> None:
    """Send SIGKILL until no process is left.

    Raises:
        WrongStateError: processes were left after KILL_TIMEOUT_S.
    """

    def killed() -> bool:
        left = any(alive(pid) for pid in pids(directory))
        if left:
            send(directory, _SIGKILL)
        return not left

    if not _wait(killed, timeout_s=KILL_TIMEOUT_S):
        raise WrongStateError(f"processes in cgroup {directory} do not die")


def alive(pid: int) -> bool:
    """Whether *pid* is still running; a zombie is not."""
    try:
        return not has_ended(read_stat(pid))
    except (FileNotFoundError, ProcessLookupError):
        return False


def remove(directory: str, *, timeout_s: float = REMOVE_TIMEOUT_S) -> None:
    """Remove *directory* and the cgroups below it; one already gone is no error.

    The kernel releases a dead process a moment after its parent has reaped it.

    Raises:
        WrongStateError: it is still in use after *timeout_s* seconds.
    """
    if _removed(directory):
        return

    def gone() -> bool:
        left = [place for place in chain(below(directory), (directory,)) if not _removed(place)]
        return not left

    if not _wait(gone, timeout_s=timeout_s):
        raise WrongStateError(f"cgroup {directory} is in use", hint="kill its processes first")


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True
