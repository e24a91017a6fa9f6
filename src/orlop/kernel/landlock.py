"""Give up access to files and to the network, for good. landlock(7), <linux/landlock.h>."""

import os
import struct

from orlop.kernel.light_ctypes import c_char_p, c_int, c_size_t, c_uint
from orlop.kernel.syscall import bind_number
from orlop.model.light import Mapping
from orlop.model.light_enum import STRICT, IntFlag

_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
_CONNECT_TCP, _BIND_TCP = 2, 1
_SCOPES = 3  # abstract sockets and signals


class Access(IntFlag, boundary=STRICT):
    """The allowed access to files below a path. LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_FOLDER = 1 << 3
    REMOVE_FOLDER = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_FOLDER = 1 << 7
    MAKE_FILE = 1 << 8
    MAKE_SOCKET = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_LINK = 1 << 12
    REFER = 1 << 13  # ABI 2
    TRUNCATE = 1 << 14  # ABI 3
    IOCTL_DEVICE = 1 << 15  # ABI 5


READ = Access.READ_FILE | Access.READ_FOLDER
EVERYTHING = Access((1 << 16) - 1) & ~Access.EXECUTE & ~Access.IOCTL_DEVICE
_OF_FILES = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEVICE
)
_NEEDED = 2  # without REFER no file can be moved to another folder

_create_ruleset = bind_number("landlock_create_ruleset", 444, c_char_p, c_size_t, c_uint)
_add_rule = bind_number("landlock_add_rule", 445, c_int, c_int, c_char_p, c_uint)
_restrict_self = bind_number("landlock_restrict_self", 446, c_int, c_uint)


def abi() -> int:
    """Return the version of the kernel's interface, 0 if restrict() is not available."""
    try:
        version = _create_ruleset(None, 0, _VERSION)
    except OSError:  # not built in, or not switched on
        return 0
    return version if version >= _NEEDED else 0


def restrict(allowed: Mapping[str, Access], *, connects: bool) -> None:
    """Restrict this thread, and its future children, to the *allowed* paths.

    Paths that do not exist are skipped. From abi() 4 on TCP ports cannot be bound, and
    connected to only if *connects*; from 6 on processes outside cannot be signalled. Needs
    no_new_privs; mounts can no longer be changed.
    """
    version = abi()
    handled = _handled(version)
    net = 0 if version < 4 else _BIND_TCP | (0 if connects else _CONNECT_TCP)
    attributes = struct.pack("=QQQ", handled, net, _SCOPES if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _create_ruleset(attributes[:size], size, 0)
    try:
        for path, access in allowed.items():
            _allow(ruleset, path, int(access) & handled)
        _restrict_self(ruleset, 0)
    finally:
        os.close(ruleset)


def _handled(version: int) -> int:
    bits = 16 if version >= 5 else 15 if version >= 3 else 14
    return (1 << bits) - 1


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not os.path.isdir(path):
            access &= int(_OF_FILES)
        _add_rule(ruleset, _PATH_BENEATH, struct.pack("=Qi", access, fd), 0)
    finally:
        os.close(fd)
