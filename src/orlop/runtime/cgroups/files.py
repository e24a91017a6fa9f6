"""Read and write the kernel's cgroup files, and explain a refusal."""

import errno
import os

from orlop.errors import (
    ExhaustedError,
    InvalidArgumentError,
    OrlopError,
    PermissionDeniedError,
    UnsupportedError,
    WrongStateError,
)
from orlop.model.light import Callable, Iterable, Iterator
from orlop.runtime.cgroups.interface import Write

_MOST_BYTES = 1 << 20
_LINKS_OF_EMPTY = 2
_LONG_PATH = 3000  # PATH_MAX is 4096, and a name 255


def write(path: str, value: str) -> None:
    """Write *value* in one write(2), as cgroup files require."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    """Return the file's text without the final newline."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _MOST_BYTES):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="replace").rstrip("\n")


def read_or(path: str, default: str) -> str:
    """Return the file's text, or *default* if this kernel does not have the file."""
    try:
        return read(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
            return default
        raise


def read_number(path: str, default: int = 0) -> int:
    """Return the file's one number; *default* for a missing file or a word ("max")."""
    value = read_or(path, "")
    return int(value) if value.lstrip("-").isdigit() else default


def read_table(path: str) -> dict[str, int]:
    """Return a file of "name number" lines; {} if it does not exist."""
    pairs = (line.rpartition(" ") for line in read_or(path, "").splitlines())
    return {name: int(value) for name, _, value in pairs if name and value.isdigit()}


def below(directory: str) -> Iterator[str]:
    """Yield the cgroups below *directory*, deepest first. One that disappears is skipped.

    A container that may write there can nest them deeper than a path can be long: each
    name is valid only until the next is requested.
    """
    if _has_no_folders(directory):
        return
    frames = [_Frame(directory)]
    try:
        while frames:
            frame = frames[-1]
            if frame.names:
                frames.append(_Frame(f"{frame.base}/{frame.names.pop()}"))
            else:
                frames.pop().close()
                if frames:
                    yield frame.place
    finally:
        for frame in frames:
            frame.close()


def _has_no_folders(directory: str) -> bool:
    """Whether it has no folders, by its number of links, which is that of its folders and two.

    Looking costs a fifth of listing. fs/kernfs/inode.c, kernfs_refresh_inode().
    """
    try:
        return os.stat(directory).st_nlink == _LINKS_OF_EMPTY
    except FileNotFoundError:
        return True


class _Frame:
    """A folder on the way down: its content and its name."""

    __slots__ = ("_fd", "base", "names", "place")

    def __init__(self, place: str) -> None:
        self.place = self.base = place
        self._fd = -1
        self.names: list[str] = []
        try:
            if len(place) > _LONG_PATH:
                self._fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                self.base = f"/proc/self/fd/{self._fd}"
            with os.scandir(self.base) as entries:
                self.names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def apply(directory: str, limit: Write) -> None:
    """Make the write *limit*, or its alternative if its file does not exist.

    Raises:
        InvalidArgumentError, WrongStateError, UnsupportedError, PermissionDeniedError,
        ExhaustedError: see `refusal`.
        FileNotFoundError: the cgroup is gone.
    """
    try:
        write(f"{directory}/{limit.file}", limit.value)
    except FileNotFoundError as error:
        if not os.path.isdir(directory):
            raise
        if limit.instead is not None:
            apply(directory, limit.instead)
        elif not limit.optional:
            raise refusal(limit, error) from error
    except OSError as error:
        if error.errno == errno.ENODEV and not os.path.isdir(directory):
            raise FileNotFoundError(errno.ENOENT, "the cgroup has gone", directory) from error
        raise refusal(limit, error) from error


def apply_all(place: Callable[[Write], str], limits: Iterable[Write]) -> None:
    """Make all the writes *limits* in the cgroups that *place* returns; raises as apply().

    A refused write is repeated at the end: pairs like quota and period, or memory and
    memory with swap, must be consistent after each write, and the right order depends on
    both the old and the new values.
    """
    refused = []
    for limit in limits:
        try:
            apply(place(limit), limit)
        except InvalidArgumentError:
            refused.append(limit)
    for limit in refused:
        apply(place(limit), limit)


def refusal(limit: Write, error: OSError) -> OrlopError:
    """Return what *error* means to the user who asked for *limit*."""
    what = f"{limit.field} {limit.value!r}"
    match error.errno:
        case errno.ENOENT | errno.EOPNOTSUPP:
            return UnsupportedError(f"this kernel cannot limit {limit.field}: no {limit.file}")
        case errno.EBUSY if limit.field.startswith("memory"):
            return WrongStateError(
                f"{what} is below what the processes use now", hint="ask for more"
            )
        case errno.EPERM | errno.EACCES | errno.EROFS:
            return PermissionDeniedError(
                f"no permission to set {what}: {limit.file} refuses it",
                hint="a parent cgroup allows less, or this cgroup is not delegated to you",
            )
        case errno.ENOSPC | errno.ENOMEM:
            return ExhaustedError(f"the kernel has no room for {what}")
        case errno.ENODEV:
            return InvalidArgumentError(f"{what} names a device that does not exist")
        case _:
            reason = os.strerror(error.errno or 0).lower()
            return InvalidArgumentError(
                f"the kernel does not take {what}: {reason}", hint=f"written to {limit.file}"
            )
