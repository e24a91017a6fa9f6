"""The C library's allocator, set to return freed memory. mallopt(3)."""

import ctypes
from contextlib import suppress

from orlop.kernel.syscall import bind

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE_BYTES = 128 << 10  # the default, at which it then stays
_ARENAS = 2


def keep_little() -> None:
    """Return the memory of large buffers to the kernel when they are freed.

    By default glibc keeps freed buffers of up to 32 MiB, in an arena for each thread. Other C
    libraries have no such option, and keep less.
    """
    with suppress(AttributeError):
        mallopt = bind("mallopt", ctypes.c_int, ctypes.c_int)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
