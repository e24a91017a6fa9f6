"""A cgroup as who is in it sees it: mounts that launchers, of other mount namespaces, can copy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orlop.kernel.mount import MountAttr, MountFlag, mount_setattr, move_mount
from orlop.runtime.filesystems import bind, filesystem
from orlop.runtime.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_SEALED = int(MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC)
_RDONLY = int(MountAttr.RDONLY)
_PRIVATE = int(MountFlag.PRIVATE)


def make_view(directories: Mapping[str, str]) -> list[int]:
    """Return a mount that shows a cgroup's *directories*, read-only, by their controllers.

    Behind it in the list are those that must be open for as long as it is to be copied; all
    are the caller's. OSError.
    """
    opened: list[int] = []
    try:
        if set(directories) == {""}:
            opened.append(filesystem("tmpfs", "orlop", Options(set_=_SEALED)))
            opened.insert(0, _show(directories[""], opened[0]))
        else:
            words = (("mode", "755"), ("size", "64k"))
            opened.append(filesystem("tmpfs", "tmpfs", Options(set_=_SEALED, filesystem=words)))
            _fill(opened[0], directories)
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return opened


def _fill(root: int, directories: Mapping[str, str]) -> None:
    for controllers, path in directories.items():
        name = controllers.removeprefix("name=") or "unified"
        os.mkdir(name, 0o755, dir_fd=root)
        target = os.open(name, _PATH, dir_fd=root)
        try:
            os.close(_show(path, target))
        finally:
            os.close(target)
        for alias in name.split(",") if "," in name else ():
            os.symlink(name, alias, dir_fd=root)
    mount_setattr(root, set_=_RDONLY)


def _show(directory: str, target: int) -> int:
    shown = bind(directory, recursive=False)
    try:
        mount_setattr(shown, set_=_SEALED | _RDONLY, propagation=_PRIVATE)
        move_mount(shown, target)
    except BaseException:
        os.close(shown)
        raise
    return shown
