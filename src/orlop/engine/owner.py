"""The process whose end is a sandbox's: what names it for good, to each engine that comes."""

import os

from orlop.kernel.procstat import has_ended, read_stat

UNKNOWN = "unknown"  # in another pid namespace, or on another machine
_START_FIELD = 19  # starttime, among the fields from the third on


def describe(pid: int) -> str:
    """Return what names process *pid* for good, also to an engine after this one."""
    try:
        return f"{pid}:{read_stat(pid)[_START_FIELD].decode()}" if pid > 0 else UNKNOWN
    except OSError:
        return UNKNOWN


def open_process(owner: str) -> int | None:
    """Return a pidfd of the very process that *owner* describes; None if it is gone."""
    text, _, start = owner.partition(":")
    if not start:
        return None
    try:
        descriptor = os.pidfd_open(int(text))
    except OSError:
        return None
    try:
        fields = read_stat(int(text))
        if fields[_START_FIELD].decode() == start and not has_ended(fields):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
