"""Open paths that cannot leave a root, even if somebody changes the tree meanwhile."""

import errno
import os
import stat
import struct

from orlop.kernel import light_ctypes as ctypes
from orlop.kernel.light_ctypes import c_char_p, c_int, c_size_t, c_void_p
from orlop.kernel.syscall import bind, bind_number
from orlop.model.light_enum import STRICT, IntEnum, IntFlag


class Resolve(IntFlag, boundary=STRICT):
    """How openat2(2) may resolve a path. <linux/openat2.h> RESOLVE_*."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20


class FileSystem(IntEnum):
    """Magic numbers of file systems, for statfs(2). <linux/magic.h>."""

    TMPFS = 0x01021994
    CGROUP = 0x27E0EB
    CGROUP2 = 0x63677270
    DEVPTS = 0x1CD1
    PROC = 0x9FA0
    SYSFS = 0x62656572
    NSFS = 0x6E736673
    OVERLAY = 0x794C7630


_IN_ROOT = int(Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)
_PLAIN = int(Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS)
_NO_XDEV = int(Resolve.NO_XDEV)
_BENEATH = int(Resolve.BENEATH | Resolve.NO_MAGICLINKS)
_MOST_LINKS = 40  # the kernel's own limit, path_resolution(7)

_openat2 = bind_number("openat2", 437, c_int, c_char_p, c_char_p, c_size_t)
_fstatfs = bind("fstatfs", c_int, c_void_p)


def openat2(dir_fd: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open *path* as *resolve* allows; close-on-exec. Retries EAGAIN, which renames cause."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    for _ in range(128):
        try:
            return _openat2(dir_fd, name, how, len(how), path=path)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, "openat2: the path keeps changing", path)


def open_in_root(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Open *path* as a process with the root *root* would, without magic links."""
    return openat2(root, path.lstrip("/") or ".", flags, resolve=_IN_ROOT)


def open_beneath(folder: int, path: str, flags: int = os.O_PATH) -> int:
    """Open *path* under *folder*. Links are followed; EXDEV for one that leads outside."""
    return openat2(folder, path, flags, resolve=_BENEATH)


def open_plain(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Open *path* under *root*, refusing (ELOOP) every symbolic link in it."""
    return openat2(root, path.lstrip("/") or ".", flags, resolve=_PLAIN)


def open_on_mount(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Like open_plain(), and refuse (EXDEV) everything mounted below *root*."""
    return openat2(root, path.lstrip("/") or ".", flags, resolve=_PLAIN | _NO_XDEV)


def make_directories(root: int, path: str, *, mode: int = 0o755) -> int:
    """Open the folder *path* under *root*, making missing folders; the caller closes it.

    A dangling link is followed, inside the root, and its target made.
    """
    return _make(root, path, mode=mode, links=_MOST_LINKS)


def make_file(root: int, path: str, *, mode: int = 0o644) -> int:
    """Open *path* under *root* (O_PATH), making an empty file and its folders if missing.

    A dangling link is followed, inside the root, and its target made.
    """
    for _ in range(_MOST_LINKS):
        try:
            return open_in_root(root, path)
        except FileNotFoundError:
            pass
        folder, name = os.path.split(path.rstrip("/"))
        parent = make_directories(root, folder)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, mode, dir_fd=parent))
            return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileExistsError:
            target = _dangling(parent, name)
            if not target:
                raise
            path = os.path.join(folder, target)
        finally:
            os.close(parent)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def change_mode(name: str | bytes, mode: int, *, dir_fd: int) -> None:
    """Set the mode of *name* in a folder where others may swap it. ELOOP for a link.

    chmod(2) follows links, and an absolute one would lead to a file of the host.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        change_mode_of(fd, mode)
    finally:
        os.close(fd)


def change_mode_of(fd: int, mode: int) -> None:
    """Set the mode of the file *fd* (may be O_PATH), which must not be a link."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def open_regular(name: str | bytes, *, dir_fd: int) -> int:
    """Open the file *name* for reading. ENXIO, without opening, if it is not a regular file.

    Opening a device may have side effects, and opening a FIFO may block.
    """
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.ENXIO, "not a regular file", name)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def file_system_type(fd: int) -> int:
    """Return the magic number of the file system *fd* is on. statfs(2)."""
    buffer = ctypes.create_string_buffer(256)
    _fstatfs(fd, buffer)
    return int(ctypes.c_long.from_buffer(buffer).value)


def _make(root: int, path: str, *, mode: int, links: int) -> int:
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    folder, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise OSError(errno.ENOENT, "not a path that can be made", path)
    parent = _make(root, folder or "/", mode=mode, links=links)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:  # or a dangling link
            if target := _dangling(parent, name):
                if not links:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                return _make(root, os.path.join(folder, target), mode=mode, links=links - 1)
        return openat2(parent, name, os.O_PATH | os.O_DIRECTORY, resolve=_PLAIN)
    finally:
        os.close(parent)


def _dangling(parent: int, name: str) -> str:
    if file_system_type(parent) == FileSystem.PROC:  # its links change, and lead anywhere
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    try:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return os.readlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    return ""
