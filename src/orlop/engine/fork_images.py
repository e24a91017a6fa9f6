"""Images of a sandbox's processes, from which its forks go on where it was."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from orlop.engine.context import Context
from orlop.errors import ExhaustedError, OrlopError, UnsupportedError
from orlop.kernel.meminfo import available_bytes
from orlop.kernel.mount import MountAttr
from orlop.model.container import Container
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options

_ATTRIBUTES = int(MountAttr.NODEV | MountAttr.NOSUID | MountAttr.NOEXEC)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def folder() -> Iterator[int]:
    """Give a folder in memory that is mounted nowhere: with its last descriptor it is gone."""
    size = ("size", str(available_bytes() // 2))
    mount = filesystem("tmpfs", "orlop", Options(_ATTRIBUTES, filesystem=(("mode", "700"), size)))
    try:
        opened = os.open(".", _FOLDER, dir_fd=mount)
    finally:
        os.close(mount)
    try:
        yield opened
    finally:
        os.close(opened)


@asynccontextmanager
async def dumped(
    context: Context, source: Container, images: int, *, copies: int
) -> AsyncIterator[None]:
    """Write images of the processes of *source* for so many *copies*; they stand still inside.

    Then they run on as they were, also where this raises.

    Raises:
        UnsupportedError: CRIU is not there, or cannot copy what they have.
        WrongStateError: commands run in it that are none of its first process.
        ExhaustedError: images and copies would take too much memory.
    """
    joined = ["network"] if source.options.networks else []
    try:
        await context.shim.request({"op": "dump", "id": source.id, "joined": joined}, [images])
        _check_room(source, images, copies)
        yield
    except BaseException as error:
        with suppress(OrlopError):  # it may be over
            await _end(context, source)
        if isinstance(error, UnsupportedError) and not os.fstatvfs(images).f_bfree:
            raise _too_large(source) from None
        raise
    await _end(context, source)


def _check_room(source: Container, images: int, copies: int) -> None:
    status = os.fstatvfs(images)
    size = (status.f_blocks - status.f_bfree) * status.f_frsize
    if size * copies > available_bytes() // 2:
        raise _too_large(source)


async def _end(context: Context, source: Container) -> None:
    await context.shim.request({"op": "dump_end", "id": source.id})


def _too_large(source: Container) -> ExhaustedError:
    return ExhaustedError(
        f"copies of the processes of sandbox {source.name} would take more than half"
        " of the memory that is free"
    )
