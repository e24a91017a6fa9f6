"""Archives from the engine to a file or an output, and from a file or an input to the engine."""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO


_READ_BYTES = 256 << 10


def write_archive(source: Callable[[], Iterable[bytes]], path: str, out: TextIO) -> None:
    """Write what *source* gives to *path*, or to *out* if it is ""; no half file stays behind.

    The engine is asked only when there is a place to write to.
    """
    from orlop.cli.pump import write

    if not path:
        if out.isatty():
            raise InvalidArgumentError("refusing to write an archive to a terminal", hint="use -o")
        for piece in source():
            write(out.fileno(), piece)
        return
    pieces = source()
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece)
        os.replace(temporary, path)
    except OSError as error:
        _unlink(temporary)
        reason = (error.strerror or str(error)).lower()
        raise InvalidArgumentError(f"cannot write {path}: {reason}") from None
    except BaseException:
        _unlink(temporary)
        raise


def _unlink(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def read_archive(path: str) -> Iterator[bytes]:
    """Yield the bytes of *path*, or of this process's input if it is "" or "-".

    Of a folder, such as an OCI layout, a tar is made.
    """
    if path in ("", "-"):
        if os.isatty(0):
            raise InvalidArgumentError("refusing to read an archive from a terminal", hint="use -i")
        yield from iter(lambda: os.read(0, _READ_BYTES), b"")
        return
    if os.path.isdir(path):
        from orlop.client.packing import pack

        yield from pack(path, name=".")
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below; only open() is to be translated)
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot read {path}: {(error.strerror or '').lower()}"
        ) from None
    with file:
        yield from iter(lambda: file.read(_READ_BYTES), b"")
