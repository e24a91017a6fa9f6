"""Mounting: the descriptor-based calls (Linux 5.2), and mount(2) for the rest.

A mount made by fsmount() or cloned by open_tree() is detached: it is in no
namespace, and disappears with its descriptor unless move_mount() attaches it.
"""

import _codecs
import os

from orlop.kernel import light_ctypes as ctypes
from orlop.kernel.light_ctypes import c_char_p, c_int, c_size_t, c_uint, c_ulong, c_void_p
from orlop.kernel.syscall import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    bind,
    bind_number,
    by_machine,
)
from orlop.model.light_enum import STRICT, IntEnum, IntFlag


class MountFlag(IntFlag, boundary=STRICT):
    """Flags of mount(2). <linux/mount.h> MS_*."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


class MountAttr(IntFlag, boundary=STRICT):
    """Attributes of one mount. mount_setattr(2), <linux/mount.h> MOUNT_ATTR_*."""

    RDONLY = 0x01
    NOSUID = 0x02
    NODEV = 0x04
    NOEXEC = 0x08
    NOATIME = 0x10
    STRICTATIME = 0x20
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


#: The bits for access times; setting one clears all others.
ATIME_MASK = 0x70


class Unmount(IntFlag, boundary=STRICT):
    """Flags of umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class OpenTree(IntFlag, boundary=STRICT):
    """Flags of open_tree(2); CLOEXEC is always set by open_tree()."""

    CLONE = 1
    EMPTY_PATH = AT_EMPTY_PATH
    RECURSIVE = AT_RECURSIVE
    SYMLINK_NOFOLLOW = 0x100


class MoveMount(IntFlag, boundary=STRICT):
    """Flags of move_mount(2). <linux/mount.h> MOVE_MOUNT_*."""

    F_SYMLINKS = 0x01
    F_AUTOMOUNTS = 0x02
    F_EMPTY_PATH = 0x04
    T_SYMLINKS = 0x10
    T_AUTOMOUNTS = 0x20
    T_EMPTY_PATH = 0x40
    SET_GROUP = 0x100
    BENEATH = 0x200


class FsConfig(IntEnum):
    """Commands of fsconfig(2). <linux/mount.h> FSCONFIG_*."""

    SET_FLAG = 0
    SET_STRING = 1
    SET_FD = 5
    CMD_CREATE = 6
    CMD_RECONFIGURE = 7


class _MountAttrArgument(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_CLOEXEC = os.O_CLOEXEC
_FSOPEN_CLOEXEC = 1
_SET_FLAG = int(FsConfig.SET_FLAG)
_SET_STRING = int(FsConfig.SET_STRING)
_SET_FD = int(FsConfig.SET_FD)
_CREATE = int(FsConfig.CMD_CREATE)
_RECONFIGURE = int(FsConfig.CMD_RECONFIGURE)
_FSPICK_CLOEXEC_EMPTY_PATH = 0x1 | 0x8
_MOVE_BY_FD = int(MoveMount.F_EMPTY_PATH | MoveMount.T_EMPTY_PATH)
_CLONE_BY_FD = int(OpenTree.CLONE | OpenTree.EMPTY_PATH) | _CLOEXEC

_mount = bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = bind("umount2", c_char_p, c_int)
_pivot_root = bind_number("pivot_root", by_machine(x86_64=155, aarch64=41), c_char_p, c_char_p)
_open_tree = bind_number("open_tree", 428, c_int, c_char_p, c_uint)
_move_mount = bind_number("move_mount", 429, c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = bind_number("fsopen", 430, c_char_p, c_uint)
_fsconfig = bind_number("fsconfig", 431, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = bind_number("fsmount", 432, c_int, c_uint, c_uint)
_fspick = bind_number("fspick", 433, c_int, c_char_p, c_uint)
_mount_setattr = bind_number("mount_setattr", 442, c_int, c_char_p, c_uint, c_void_p, c_size_t)


def mount(
    source: str, target: str, *, fstype: str = "", flags: int = 0, data: str | None = None
) -> None:
    """Mount in one call, at a path. mount(2); *data* is at most one page."""
    _mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode(),
        flags,
        None if data is None else os.fsencode(data),
        path=target,
    )


def umount(target: str, flags: Unmount) -> None:
    """Unmount what is at *target*. umount2(2)."""
    _umount2(os.fsencode(target), flags, path=target)


def mount_points() -> list[tuple[str, str]]:
    """Return the path and the type of each mount of ours. proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line.split() for line in file]
    return [
        (
            os.fsdecode(_codecs.escape_decode(words[4])[0]),  # no codec that is imported late
            words[words.index(b"-", 6) + 1].decode(),
        )
        for words in lines
    ]


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root and attach the old one at *put_old*. pivot_root(2)."""
    _pivot_root(os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def open_tree(path: str | bytes, flags: OpenTree, *, dir_fd: int = AT_FDCWD) -> int:
    """Return a descriptor for the mount at *path*; the caller closes it.

    With OpenTree.CLONE it is a detached copy. open_tree(2), Linux 5.2.
    """
    return _open_tree(dir_fd, os.fsencode(path), int(flags) | _CLOEXEC, path=path)


def clone_mount(fd: int, *, recursive: bool = False) -> int:
    """Return a detached copy of the file or folder *fd* (may be O_PATH)."""
    return _open_tree(fd, b"", _CLONE_BY_FD | (AT_RECURSIVE if recursive else 0))


def move_mount(source_fd: int, target_fd: int) -> None:
    """Attach the mount *source_fd* at *target_fd*; no path is resolved."""
    _move_mount(source_fd, b"", target_fd, b"", _MOVE_BY_FD)


def fsopen(fstype: str) -> int:
    """Begin a new file system; return its configuration descriptor. fsopen(2)."""
    return _fsopen(fstype.encode(), _FSOPEN_CLOEXEC, path=fstype)


def fsconfig_flag(fd: int, key: str) -> None:
    """Set an option without a value."""
    _fsconfig(fd, _SET_FLAG, os.fsencode(key), None, 0, path=key)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """Set an option to a text of at most 255 bytes."""
    _fsconfig(fd, _SET_STRING, os.fsencode(key), os.fsencode(value), 0, path=f"{key}={value}")


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """Set an option to an open file; for overlay's layers, Linux 6.13."""
    _fsconfig(fd, _SET_FD, os.fsencode(key), None, value, path=key)


def fsconfig_create(fd: int) -> None:
    """Create the configured file system. If it fails, fs_messages() has the reason."""
    _fsconfig(fd, _CREATE, None, None, 0)


def fspick(fd: int) -> int:
    """Begin to reconfigure the file system of the mount *fd*; returns as fsopen(). fspick(2)."""
    return _fspick(fd, b"", _FSPICK_CLOEXEC_EMPTY_PATH)


def fsconfig_reconfigure(fd: int) -> None:
    """Apply the new configuration."""
    _fsconfig(fd, _RECONFIGURE, None, None, 0)


def fs_messages(fd: int) -> str:
    """Return the kernel's messages about the configuration on *fd*, or ""."""
    lines: list[str] = []
    while len(lines) < 16:
        try:
            lines.append(os.read(fd, 1024).decode(errors="replace").strip())
        except OSError:  # ENODATA: no more messages
            break
    return "; ".join(lines)


def fsmount(fd: int, attributes: int = 0) -> int:
    """Return a detached mount of the file system that *fd* has created. fsmount(2)."""
    return _fsmount(fd, _FSOPEN_CLOEXEC, attributes)


def mount_setattr(
    fd: int,
    *,
    set_: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """Change the mount *fd* refers to; *propagation* is one MountFlag. Linux 5.12."""
    argument = _MountAttrArgument(set_, clear, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _mount_setattr(fd, b"", flags, ctypes.byref(argument), ctypes.sizeof(argument))
