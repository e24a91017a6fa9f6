"""Wait for a descriptor, with a timeout. poll(2)."""

import os
import select


def is_readable(fd: int, *, timeout_s: float) -> bool:
    """Whether *fd* is readable, or a pidfd's process has ended, now or within *timeout_s*."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def await_any(*fds: int) -> list[int]:
    """Wait until at least one descriptor is readable, and return all that are."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll()]


def read_in_time(fd: int, timeout_s: float | None) -> bytes:
    """Read what is there or arrives within *timeout_s*, else TimeoutError. None waits for ever."""
    if timeout_s is not None and not is_readable(fd, timeout_s=timeout_s):
        raise TimeoutError(f"nothing to read within {timeout_s:g} s")
    return os.read(fd, 4096)
