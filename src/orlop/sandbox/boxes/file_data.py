"""What files.write() takes: bytes, a file, or pieces of unknown length."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOBase
from typing import BinaryIO, NamedTuple, Protocol, cast

from orlop.errors import InvalidArgumentError

_READ_BYTES = 256 << 10
_SPOOL_BYTES = 4 << 20  # more is on disk until it is sent


class Readable(Protocol):
    """A binary file, or what is like one."""

    def read(self, size: int, /) -> bytes | None: ...


Data = bytes | bytearray | memoryview | Readable | Iterable[bytes]


class Sized(NamedTuple):
    """A file of known length, from where it stands; or bytes in memory."""

    size: int
    source: memoryview | BinaryIO


@contextmanager
def sized(data: Data) -> Iterator[Sized]:
    """Give *data* and its length; what does not know it is read to its end first.

    InvalidArgumentError for what is not bytes.
    """
    if isinstance(data, (str, TextIOBase)):
        raise InvalidArgumentError(
            "data is text, and files have bytes", hint="encode it, or open the file as binary"
        )
    try:
        view = memoryview(cast(bytes, data)).cast("B")
    except TypeError:
        pass
    else:
        yield Sized(view.nbytes, view)
        return
    if hasattr(data, "read") and (size := _left(data)):
        yield Sized(size, cast(BinaryIO, data))
        return
    from tempfile import SpooledTemporaryFile  # not for bytes

    with SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        for piece in _pieces(data):
            spool.write(piece)
        size = spool.tell()
        spool.seek(0)
        yield Sized(size, cast(BinaryIO, spool))


def _left(file: object) -> int:
    """Return how far *file*'s end is; 0 if it cannot say, as files of the kernel's cannot."""
    seekable = cast(BinaryIO, file)
    try:
        here = seekable.tell()
        end = seekable.seek(0, os.SEEK_END)
        seekable.seek(here)
    except (OSError, ValueError, AttributeError):
        return 0
    return max(0, end - here)


def _pieces(data: Data) -> Iterator[bytes]:
    if not isinstance(data, Iterable) and not hasattr(data, "read"):
        raise InvalidArgumentError(f"{data!r:.100} is neither bytes, nor a file, nor pieces")
    for piece in _read(cast(Readable, data)) if hasattr(data, "read") else data:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise InvalidArgumentError(f"a piece of data is not bytes: {piece!r:.100}")
        yield piece


def _read(file: Readable) -> Iterator[bytes | None]:
    while (piece := file.read(_READ_BYTES)) != b"":
        yield piece
