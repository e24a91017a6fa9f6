"""The named pipes that clients make for the streams of their processes."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from orlop.errors import InvalidArgumentError, UnsupportedError

_FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_PATH = 4096


@contextmanager
def opened(paths: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Open the named pipes in *paths* for as long as the context lasts, by stream.

    Output is opened for reading as well: it can be written when nobody else has it open. Blocking
    only as far as the file system is.

    Raises:
        InvalidArgumentError: a path is not that of a named pipe.
        UnsupportedError: it is a URI, for a program or a file.
    """
    with ExitStack() as undo:
        fds = {}
        for stream, path in paths.items():
            if not path or (stream == "stderr" and path == paths.get("stdout")):
                continue
            fds[stream] = _open(path, os.O_RDONLY if stream == "stdin" else os.O_RDWR)
            undo.callback(os.close, fds[stream])
        yield fds


def _open(path: str, flags: int) -> int:
    if "://" in path:
        raise UnsupportedError(f"streams go to named pipes only, and not to {path[:80]!r}")
    if not path.startswith("/") or "\0" in path or len(path) > _LONGEST_PATH:
        raise InvalidArgumentError(f"invalid path of a named pipe: {path[:80]!r}")
    try:
        found = os.open(path, _FIND)
        try:
            if not stat.S_ISFIFO(os.fstat(found).st_mode):
                raise InvalidArgumentError(f"{path[:200]} is not a named pipe")
            return os.open(f"/proc/self/fd/{found}", flags | _OPEN)
        finally:
            os.close(found)
    except OSError as error:
        raise InvalidArgumentError(f"{path[:200]}: {error.strerror}") from None
