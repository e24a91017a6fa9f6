"""A container's folder: ROOT/<id>, 0700, with its record, its lock and the gate of its start.

state.json   the container's record; written atomically
config.json  the bundle's, as it was when the container was created
gate         FIFO: a byte lets the program run; removed after that was requested
outcome      FIFO: the result of the start, for `start`
lock         held by the command that creates, starts or deletes, but not by its children
"""

from __future__ import annotations

import fcntl
import os
import stat

from orlop.errors import AlreadyExistsError, CorruptError, InvalidArgumentError, NotFoundError
from orlop.lifecycle.statefile import RECORD
from orlop.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Any

    from orlop.lifecycle.statefile import Record

_FURTHER = "_+-."
_MOST_NAME = 1024
_MOST_BYTES = 16 << 20


def check_id(name: str) -> str:
    """Return *name* if it is valid for a container: it becomes the name of a folder."""
    plain = name
    for character in _FURTHER:
        plain = plain.replace(character, "")
    fits = not plain or (plain.isascii() and plain.isalnum())
    if not name or not fits or name in (".", "..") or len(name) > _MOST_NAME:
        raise InvalidArgumentError("invalid container ID format")
    return name


class Folder:
    """The folder of container *name* under *root*, which may not exist."""

    __slots__ = ("name", "path", "root")

    def __init__(self, root: str, name: str) -> None:
        self.root = root
        self.name = check_id(name)
        self.path = os.path.join(root, name)

    def file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def make(self) -> None:
        """Make the folder. AlreadyExistsError if it exists."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            raise AlreadyExistsError("container with given ID already exists") from None

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def owner(self) -> str:
        """Return the name of the container's user, or its number if it has no name."""
        import pwd

        uid = os.stat(self.path).st_uid
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def load(self) -> Record:
        """Return the record. NotFoundError if there is none."""
        try:
            record: Record = jsontext.loads(read(self.file("state.json")))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("container does not exist") from None
        except CorruptError as error:
            raise self._corrupt(str(error)) from None
        if not _has(record, RECORD):
            raise self._corrupt("it lacks what a container's has")
        return record

    def _corrupt(self, reason: str) -> CorruptError:
        return CorruptError(
            f"state.json of container {self.name} is damaged: {reason}",
            hint=f"kill what is left of it, and remove {self.path}",
        )

    def save(self, record: Record) -> None:
        """Replace the record atomically."""
        replace(self.file("state.json"), jsontext.dumps(record))

    def remove(self) -> None:
        """Remove the folder with its content; a missing one is no error."""
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        _remove_below(entry.path)
                    else:
                        os.unlink(entry.path)
            os.rmdir(self.path)
        except FileNotFoundError:
            return


def _has(value: Any, shape: Mapping[str, Any]) -> bool:
    """Whether *value* is an object with the names of *shape*, with the right types."""
    return isinstance(value, dict) and all(
        _has(value.get(name), kind) if isinstance(kind, dict) else isinstance(value.get(name), kind)
        for name, kind in shape.items()
    )


def _remove_below(path: str) -> None:
    """Remove a folder with only files, such as the notify socket's."""
    with os.scandir(path) as entries:
        for entry in entries:
            os.unlink(entry.path)
    os.rmdir(path)


class Lock:
    """The lock of a folder, held during a with statement.

    It is a record lock, which belongs to the process: a child that waits at the gate has
    copies of our descriptors, but not the lock. fcntl_locking(2).
    """

    __slots__ = ("_fd", "_folder", "_wait")

    def __init__(self, folder: Folder, *, wait: bool = True) -> None:
        self._folder = folder
        self._wait = wait
        self._fd = -1

    def __enter__(self) -> Lock:
        while not self._taken():
            continue
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def _taken(self) -> bool:
        """Take the lock; False if the folder was removed or made again while we waited."""
        name = self._folder.file("lock")
        try:
            self._fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("container does not exist") from None
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(self._fd), os.stat(name)):
                return True
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(self._fd)
            raise
        os.close(self._fd)
        return False


def is_locked(folder: Folder) -> bool:
    """Whether a command is working on the container right now."""
    try:
        with Lock(folder, wait=False):
            return False
    except BlockingIOError:
        return True
    except PermissionError:  # EACCES means the same
        return True


def end_holder(folder: Folder) -> None:
    """Kill the process that holds the lock. fcntl_locking(2), F_GETLK."""
    import struct

    try:
        fd = os.open(folder.file("lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        if kind != fcntl.F_UNLCK and pid > 0:
            os.kill(pid, 9)  # it holds the lock right now, so the pid is valid
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def all_folders(root: str) -> Iterator[Folder]:
    """Yield the folders under *root*, by name; none if there is no root."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        try:
            folder = Folder(root, name)
        except InvalidArgumentError:
            continue
        if folder.exists():
            yield folder


def read(path: str) -> bytes:
    """Return a file's content, up to a limit; InvalidArgumentError for a pipe or a device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder, read(2) says it
            raise InvalidArgumentError(f"{path} is no regular file")
        data = b""
        while len(data) <= _MOST_BYTES and (part := os.read(fd, 1 << 20)):
            data += part
    finally:
        os.close(fd)
    if len(data) > _MOST_BYTES:
        raise InvalidArgumentError(f"{path} is larger than {_MOST_BYTES >> 20} MiB")
    return data


def replace(path: str, text: str | bytes, *, mode: int = 0o600) -> None:
    """Write a file beside *path* and rename it; links are not followed."""
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{name}")
    left = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(beside, flags, mode)
    except FileExistsError:  # from a killed process, or an attacker
        os.unlink(beside)
        fd = os.open(beside, flags, mode)
    try:
        while left:
            left = left[os.write(fd, left) :]
    finally:
        os.close(fd)
    os.replace(beside, path)
