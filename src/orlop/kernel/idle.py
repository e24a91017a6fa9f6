"""A program that does nothing: the first process of a container without a command.

x86-64. `loop: mov eax, 34 (pause); syscall; jmp loop`, behind the headers of elf(5).
"""

import fcntl
import os
import struct

_CODE = bytes.fromhex("b8220000000f05ebf7")
_BASE = 0x400000
_HEADERS = 64 + 56
_MFD_EXEC = 0x0010
_F_ADD_SEALS = 1033
_ALL_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008


def open_idle_program() -> int:
    """Return a descriptor of the program, which nobody can write to."""
    size = _HEADERS + len(_CODE)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    executable, x86_64, version = 2, 62, 1
    header = struct.pack(
        "<HHIQQQIHHHHHH",
        *(executable, x86_64, version, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    load, readable_and_executable, page = 1, 5, 0x1000
    segment = struct.pack(
        "<IIQQQQQQ", load, readable_and_executable, 0, _BASE, _BASE, size, size, page
    )
    flags = os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC
    try:
        fd = os.memfd_create("idle", flags | _MFD_EXEC)
    except OSError:  # before Linux 6.3
        fd = os.memfd_create("idle", flags)
    os.write(fd, identity + header + segment + _CODE)
    fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd
