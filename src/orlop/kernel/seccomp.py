"""Install a filter of system calls. seccomp(2), <linux/seccomp.h>."""

import struct

from orlop.kernel import light_ctypes as ctypes
from orlop.kernel.syscall import bind_number, by_machine
from orlop.model.light_enum import STRICT, IntFlag

_SET_MODE_FILTER = 1

_seccomp = bind_number(
    "seccomp", by_machine(x86_64=317, aarch64=277), ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p
)


class FilterFlag(IntFlag, boundary=STRICT):
    """SECCOMP_FILTER_FLAG_*."""

    TSYNC = 1
    LOG = 2
    SPEC_ALLOW = 4
    NEW_LISTENER = 8
    TSYNC_ESRCH = 16
    WAIT_KILLABLE_RECV = 32


def load(program: bytes, flags: int) -> int:
    """Filter this thread and its future children by *program*, classic BPF (`sock_filter`s).

    A filter cannot be removed. With FilterFlag.NEW_LISTENER this returns the
    descriptor, close-on-exec, on which the filter's notifications are read and
    answered; from then on any of our own calls may cause one.

    Raises:
        OSError: EACCES without CAP_SYS_ADMIN in this user namespace, unless the
            process has no_new_privs. EINVAL: the kernel refuses the program.
    """
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(
        struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code)), 16
    )
    return _seccomp(_SET_MODE_FILTER, int(flags), ctypes.addressof(fprog))
