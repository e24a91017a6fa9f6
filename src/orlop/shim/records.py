"""What the shim writes down so that its successor knows: who runs, and how the others ended.

`running/<key>` is there from before a process is made until nothing is left of it;
`exits/<key>` from before it is reaped until the engine forgets it. The key's "/"
is a "." in a file's name. Both folders are on a tmpfs, normally: a reboot ends
containers and records alike.
"""

import contextlib
import json
import os
from typing import Any, NotRequired, TypedDict, cast

from orlop.errors import InvalidArgumentError
from orlop.kernel.procstat import read_stat
from orlop.shim.protocol import IO, Exit

_MAX_NAME = 128
_BESIDE = "~"  # in no key


class Record(TypedDict):
    """A process of ours. pid is 0 while it is being made: its cgroup tells what came of it."""

    id: str
    exec_id: NotRequired[str]
    group: NotRequired[str]  # its cgroup below the container's
    pid: int
    start_ticks: int  # /proc/PID/stat field 22: with the pid it names the process for good
    bundle: str
    cgroup: str
    io: IO
    inodes: dict[str, int]  # of the pipes, by stream
    joined_pids: NotRequired[int]  # inode of the pid namespace that it shares with others
    witnessed: NotRequired[bool]  # its program runs once the stdio process knows of it


def key_of(message: Any) -> str:
    """Return the key of what *message* names; InvalidArgumentError for a name unsafe in a path."""
    names = [message["id"]]
    if message.get("exec_id"):
        names.append(message["exec_id"])
    for name in names:
        if not isinstance(name, str) or not _safe(name):
            raise InvalidArgumentError(f"invalid id {str(name)[:200]!r}")
    return "/".join(names)


def _safe(name: str) -> bool:
    return 0 < len(name) <= _MAX_NAME and name.replace("_", "a").replace("-", "a").isalnum()


class Records:
    """The two folders under *run*."""

    def __init__(self, run: str) -> None:
        self._running = os.path.join(run, "running")
        self._exits = os.path.join(run, "exits")
        for folder in (self._running, self._exits):
            os.makedirs(folder, mode=0o700, exist_ok=True)

    def begin(self, key: str, record: Record) -> None:
        """Say that a process is about to be made."""
        _write(_path(self._running, key), record)

    def update(self, key: str, record: Record) -> None:
        _replace(_path(self._running, key), record)

    def end(self, key: str) -> None:
        """Say that nothing is left of it; one already ended is no error."""
        _remove(_path(self._running, key))

    def running(self) -> dict[str, Record]:
        return cast("dict[str, Record]", _read_all(self._running))

    def write_exit(self, key: str, exit_: Exit) -> None:
        _replace(_path(self._exits, key), exit_)

    def remove_exit(self, key: str) -> None:
        _remove(_path(self._exits, key))

    def exits(self) -> dict[str, Exit]:
        return cast("dict[str, Exit]", _read_all(self._exits))


def start_ticks(pid: int) -> int:
    """Return when the process began, in clock ticks since boot; 0 if there is none. proc(5)."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def zombie_status(pid: int) -> int | None:
    """Return the wait status of a process that has ended and is not reaped. proc(5), exit_code."""
    fields = _stat(pid)
    return int(fields[49]) if fields and fields[0] == b"Z" else None


def _stat(pid: int) -> list[bytes]:
    try:
        return read_stat(pid)
    except OSError:
        return []


def _path(folder: str, key: str) -> str:
    return os.path.join(folder, key.replace("/", "."))


def _replace(path: str, value: Any) -> None:
    _write(path + _BESIDE, value)
    os.rename(path + _BESIDE, path)


def _finish_replacing(beside: str) -> None:
    """Do what a killed shim had only begun: what it wrote beside is whole, or was never said."""
    try:
        with open(beside, encoding="utf-8") as file:
            json.load(file)
    except ValueError:
        _remove(beside)
    else:
        os.rename(beside, beside.removesuffix(_BESIDE))


def _write(path: str, value: Any) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(value).encode())
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _read_all(folder: str) -> dict[str, Any]:
    """Return every record by key; one half-written by a killed shim is dropped."""
    records: dict[str, Any] = {}
    names = os.listdir(folder)
    for name in (name for name in names if name.endswith(_BESIDE)):
        _finish_replacing(os.path.join(folder, name))
    for name in (name.removesuffix(_BESIDE) for name in names):
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
            records[key_of(value)] = value
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, InvalidArgumentError):
            _remove(path)
    return records
