"""Bind a function of libc, or a system call by number, for the rest of this room.

Every call has its own prototype, raises an OSError that names the call, and is repeated
after EINTR. We avoid find_library, which runs a compiler.
"""

import errno
import os

from orlop.kernel import light_ctypes as ctypes
from orlop.model.light import Any, Callable, Protocol
from orlop.model.light_context import partial

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


class KernelCall(Protocol):
    """A bound call: returns the kernel's result, or raises OSError about *path*."""

    def __call__(self, *args: object, path: str | bytes | None = None) -> int: ...


def bind(name: str, *argtypes: Any, restype: Any = ctypes.c_int) -> KernelCall:
    """Bind libc's *name* with a prototype of its own.

    `_libc.name.argtypes` would be shared by the whole process.
    """
    function = ctypes.CFUNCTYPE(restype, *argtypes, use_errno=True)((name, _libc))
    return _checked(name, function)


def bind_number(name: str, number: int, *argtypes: Any) -> KernelCall:
    """Bind system call *number*, for when libc has no wrapper.

    Numbers from 424 up are the same on every architecture; for older ones see
    `by_machine`.
    """
    prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, *argtypes, use_errno=True)
    return _checked(name, partial(prototype(("syscall", _libc)), number))


def by_machine(*, x86_64: int, aarch64: int) -> int:
    """Return the system call's number on this machine. <asm/unistd.h>."""
    return aarch64 if os.uname().machine == "aarch64" else x86_64


def _checked(name: str, function: Callable[..., int]) -> KernelCall:
    def call(*args: object, path: str | bytes | None = None) -> int:
        while (result := function(*args)) == -1:
            number = ctypes.get_errno()
            if number != errno.EINTR:  # ctypes does not retry; PEP 475 covers only the stdlib
                raise OSError(number, f"{name}: {os.strerror(number)}", path)
        return result

    return call
