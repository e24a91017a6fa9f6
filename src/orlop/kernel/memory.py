"""Our own memory, page by page. madvise(2), proc_pid_pagemap(5)."""

import array
import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from orlop.kernel.syscall import bind

#: Bytes from start to end.
Range = tuple[int, int]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_READ_WRITE = 0x3
_SHARED_ANONYMOUS, _PRIVATE_ANONYMOUS = 0x21, 0x22

_READ_EXECUTE = 0x5

_mprotect = bind("mprotect", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_madvise = bind("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_mmap = bind(
    "mmap",
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
    restype=ctypes.c_ssize_t,
)


def shared_number() -> ctypes.c_int:
    """Return a number, initially 0, shared with all future forks. It is never freed."""
    return ctypes.c_int.from_address(_mmap(None, _PAGE, _READ_WRITE, _SHARED_ANONYMOUS, -1, 0))


def make_executable(code: bytes) -> int:
    """Return the address of *code*, in pages that are executable and read-only. Never freed."""
    size = -(-len(code) // _PAGE) * _PAGE
    address = _mmap(None, size, _READ_WRITE, _PRIVATE_ANONYMOUS, -1, 0)
    ctypes.memmove(address, code, len(code))
    _mprotect(address, size, _READ_EXECUTE)
    return address


def own_pages(ranges: Iterable[Range]) -> None:
    """Copy the pages that we share after a fork now, instead of at the first write to each.

    If the kernel refuses, only time is lost. MADV_POPULATE_WRITE.
    """
    for start, end in ranges:
        with suppress(OSError):
            _madvise(start, end - start, _MADV_POPULATE_WRITE)


class Pages:
    """Our private pages. A fork shares those that neither process has written to since.

    It reads /proc/self when it is made, and works after that is out of reach. OSError as open(2).
    """

    def __init__(self) -> None:
        self._memory = list(_private_memory())
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)

    def written(self) -> list[Range]:
        """Return the pages that only we have. Works once."""
        found: list[Range] = []
        for start, end in self._memory:
            entries = array.array("Q")
            length, offset = (end - start) // _PAGE * 8, start // _PAGE * 8
            entries.frombytes(os.pread(self._pagemap, length, offset))
            for index, entry in enumerate(entries):
                if entry & _PRESENT and entry & _EXCLUSIVE:
                    page = start + index * _PAGE
                    if found and found[-1][1] == page:
                        page = found.pop()[0]
                    found.append((page, start + (index + 1) * _PAGE))
        os.close(self._pagemap)
        return found


def _private_memory() -> Iterator[Range]:
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            bounds, access, _ = line.split(maxsplit=2)
            if access == "rw-p":
                start, _, end = bounds.partition("-")
                yield int(start, 16), int(end, 16)
