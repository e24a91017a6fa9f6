"""Waking up when a file changes. inotify(7)."""

import enum
import os
from ctypes import c_char_p, c_int, c_uint32

from orlop.kernel.syscall import bind


class Watch(enum.IntFlag, boundary=enum.STRICT):
    """What to be woken for. <linux/inotify.h> IN_*."""

    MODIFY = 0x00000002
    CLOSE_WRITE = 0x00000008
    MOVED_TO = 0x00000080
    CREATE = 0x00000100
    DELETE = 0x00000200
    ONLYDIR = 0x01000000


_inotify_init1 = bind("inotify_init1", c_int)
_inotify_add_watch = bind("inotify_add_watch", c_int, c_char_p, c_uint32)


def inotify_init() -> int:
    """Return a descriptor that becomes readable on an event; non-blocking, close-on-exec."""
    return _inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)


def inotify_add_watch(fd: int, path: str, events: Watch) -> int:
    """Watch *path* too, and return the watch's number. A folder tells of the files in it."""
    return _inotify_add_watch(fd, os.fsencode(path), events, path=path)


def inotify_drain(fd: int) -> bool:
    """Take every event there is, unread; whether there was one."""
    found = False
    try:
        while os.read(fd, 65536):
            found = True
    except BlockingIOError:
        pass
    return found
