"""Fill a tmpfs with the files of the folder below it (option tmpcopyup)."""

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 64


def copy_up(source: int, target: int) -> None:
    """Copy the tree under the folder *source* (may be O_PATH) into the folder *target*.

    Files, folders, links and device nodes, with modes, owners and times; each hard
    link becomes a file. OSError for a tree deeper than 64 folders.
    """
    opened = os.open(".", _DIRECTORY, dir_fd=source)
    try:
        _copy_folder(opened, target, depth=0)
    finally:
        os.close(opened)


def _copy_folder(source: int, target: int, *, depth: int) -> None:
    if depth > _DEEPEST:
        raise OSError(errno.ELOOP, "folders are nested too deeply to be copied")
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, dir_fd=target)
            inner, outer = (os.open(name, _DIRECTORY, dir_fd=fd) for fd in (source, target))
            try:
                _copy_folder(inner, outer, depth=depth + 1)
            finally:
                os.close(inner)
                os.close(outer)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(name, source, target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        _copy_status(name, status, target)


def _copy_file(name: str, source: int, target: int) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=target)
    try:
        while os.sendfile(writer, reader, None, 1 << 20):
            pass
    finally:
        os.close(reader)
        os.close(writer)


def _copy_status(name: str, status: os.stat_result, target: int) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
