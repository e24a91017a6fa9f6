"""Remove a tree of any depth, which may be hostile."""

import errno
import os
from contextlib import suppress

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(name: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove the file or folder *name*; one that is already gone is no error.

    Follows no link, opens at most two folders at a time and does not recurse: nested
    folders are renamed to the top level, so neither a path longer than PATH_MAX nor a
    million levels stop it.
    """
    with suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=dir_fd)
        except IsADirectoryError:
            pass
        else:
            return
        top = os.open(name, _OPEN, dir_fd=dir_fd)
        try:
            empty_folder(top)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=dir_fd)


def empty_folder(top: int) -> None:
    """Remove everything in the folder *top*, a descriptor."""
    serial = 0
    while folders := _remove_files(top):
        for folder in folders:
            if _removed(folder, top):
                continue
            fd = os.open(folder, _OPEN, dir_fd=top)
            try:
                for inner in _remove_files(fd):
                    serial = _raise_to(top, fd, inner, serial)
            finally:
                os.close(fd)
            os.rmdir(folder, dir_fd=top)


def _raise_to(top: int, fd: int, name: str, serial: int) -> int:
    """Remove the folder *name* in *fd* if it is empty, else move it to *top* under a free name."""
    if _removed(name, fd):
        return serial
    while True:
        serial += 1
        try:
            os.rename(name, f".orlop-removing-{serial}", src_dir_fd=fd, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return serial


def _removed(name: str, dir_fd: int) -> bool:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _remove_files(fd: int) -> list[str]:
    """Remove everything in *fd* except folders, and return the names of the folders."""
    folders: list[str] = []
    with os.scandir(fd) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        if is_folder:
            folders.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return folders
