"""Steps: mask paths of proc and sys, or make them read-only."""

import errno
import os
import stat

from orlop.kernel.mount import (
    MountAttr,
    clone_mount,
    mount_setattr,
    move_mount,
)
from orlop.kernel.paths import open_in_root
from orlop.runtime.child import Child
from orlop.runtime.failure import StepError
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options

_A = MountAttr
#: For an empty folder.
EMPTY = Options(set_=int(_A.RDONLY | _A.NOSUID | _A.NODEV | _A.NOEXEC))
_RDONLY = int(_A.RDONLY)
_NULL = os.makedev(1, 3)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def mask_paths(child: Child) -> None:
    """Cover files with the null device and folders with one empty, read-only tmpfs."""
    if not child.plan.masked:
        return
    null = _open_null(child.root)
    empty = -1
    for path in child.plan.masked:
        target = _open(child.root, path)
        if target < 0:
            continue
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            cover = clone_mount(null)
            mount_setattr(cover, set_=_RDONLY)  # otherwise root could chmod the node
        else:
            cover = clone_mount(empty) if empty >= 0 else filesystem("tmpfs", "", EMPTY)
        move_mount(cover, target)
        os.close(target)
        if empty < 0 and cover != null and stat.S_ISDIR(os.fstat(cover).st_mode):
            empty = cover  # attached now, so it can be cloned
        else:
            os.close(cover)
    os.close(null)


def protect_paths(child: Child) -> None:
    """Make paths read-only, with everything mounted below them."""
    for path in child.plan.readonly:
        target = _open(child.root, path)
        if target < 0:
            continue
        copy = clone_mount(target, recursive=True)
        mount_setattr(copy, set_=_RDONLY, recursive=True)
        move_mount(copy, target)
        os.close(copy)
        os.close(target)


def _open_null(root: int) -> int:
    """Open the container's null device, and check it: the image may have put a link there."""
    fd = open_in_root(root, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
        raise StepError("/dev/null in the container is not the null device")
    return fd


def _open(root: int, path: str) -> int:
    try:
        return open_in_root(root, path)
    except OSError as error:
        if error.errno in _ABSENT:
            return -1
        raise
