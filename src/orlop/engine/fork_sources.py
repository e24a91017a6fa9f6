"""Forks of sandboxes by recipes, whose files are in memory: so are the copies of them.

    ids = await sources.prepare(ref, count=2)       # held still while it is copied, once
    async with sources.taken(ids[0]) as fork:       # a copy of that, this fork's own
        …                                           # what was started has it then

A copy is a file system that is mounted nowhere, and ours alone: it is gone with the engine,
when its last fork is started or dropped, or after a while.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from orlop.engine.containers.kind import kind_of
from orlop.engine.containers.written import give_back, lent
from orlop.engine.context import Context
from orlop.engine.forks import Forks
from orlop.engine.threads import in_thread
from orlop.errors import ExhaustedError, NotFoundError, UnsupportedError
from orlop.kernel.meminfo import available_bytes
from orlop.layers.copy import copy_upper
from orlop.runtime.recipe.writable import Looks, Writable
from orlop.store.faults import explained

_INODE_BYTES = 1024  # about what a file takes beside its contents
_MOST_FILES = 1 << 18
_WITHIN_S = 60.0  # forks are started, or are none


class Fork(NamedTuple):
    """One that is to be started."""

    id: str
    image: str  # of the sandbox that it is a fork of
    files: int  # what it is to find written, as the shim lends it


class _Source:
    """The files of a sandbox, for those forks of it that wait for their start."""

    def __init__(self, image: str, writable: Writable, forks: Iterable[str]) -> None:
        self.image = image
        self.writable = writable
        self.waiting = set(forks)
        self.copying = 0

    @property
    def is_done(self) -> bool:
        return not self.waiting and not self.copying


class ForkSources:
    def __init__(self, context: Context, forks: Forks) -> None:
        self._context = context
        self._forks = forks
        self._sources: dict[str, _Source] = {}  # by fork

    async def prepare(self, ref: str, *, count: int, disk_bytes: int = 0) -> list[str]:
        """Copy what the sandbox *ref* has written; return what *count* forks are to be called.

        Raises:
            UnsupportedError: its files are on disk: Forks.fork() is to be used.
            ExhaustedError: *count* copies would take too much memory.
        """
        container = self._context.records.find(ref)
        if kind_of(container).has_snapshot:
            raise UnsupportedError(f"sandbox {container.name} was started in the usual way")
        async with self._forks.still(container):
            uppers = await lent(self._context, container.id)
            try:
                _check_room(uppers[0].fd, copies=count)
                writable = await _copy([upper.fd for upper in uppers], disk_bytes)
            finally:
                give_back(uppers)
        ids = [secrets.token_hex(32) for _ in range(count)]
        self._sources |= dict.fromkeys(ids, _Source(container.image, writable, ids))
        asyncio.get_running_loop().call_later(_WITHIN_S, self.drop, ids)
        return ids

    def waiting(self, forks: Iterable[str]) -> set[str]:
        """Return those of *forks* that wait for their start."""
        return {fork for fork in forks if fork in self._sources}

    @asynccontextmanager
    async def taken(self, fork: str, *, disk_bytes: int = 0) -> AsyncIterator[Fork]:
        """Give a fork with its files, which has to be started by the end; it waits no more."""
        source = self._sources.pop(fork, None)
        if source is None:
            raise NotFoundError("no such fork waits for its start", hint="fork again")
        source.waiting.discard(fork)
        writable = source.writable
        if not source.is_done:
            writable = await self._copy_of(source, disk_bytes)
        try:
            yield Fork(fork, source.image, writable.fd)
        finally:
            writable.close()

    async def _copy_of(self, source: _Source, disk_bytes: int) -> Writable:
        source.copying += 1
        try:
            _check_room(source.writable.fd, copies=1)
            return await _copy(source.writable.uppers, disk_bytes)
        finally:
            source.copying -= 1
            if source.is_done:
                source.writable.close()

    def drop(self, forks: Iterable[str]) -> None:
        """Have those of *forks* be none that wait for their start."""
        for fork in forks:
            source = self._sources.pop(fork, None)
            if source is not None:
                source.waiting.discard(fork)
                if source.is_done:
                    source.writable.close()


async def _copy(uppers: Sequence[int], disk_bytes: int) -> Writable:
    """Return a copy of upper folders, which nobody changes meanwhile."""
    made = Writable.make([Looks()] * len(uppers), size_bytes=disk_bytes)
    try:
        with explained("the copy of a sandbox's files"):
            await in_thread(_copy_all, uppers, made.uppers)
    except BaseException:
        made.close()
        raise
    return made


def _copy_all(sources: Sequence[int], targets: Sequence[int]) -> None:
    for source, target in zip(sources, targets, strict=True):
        copy_upper(source, target)


def _check_room(fd: int, *, copies: int) -> None:
    """Refuse copies of a file system in memory that would leave too little for all others."""
    status = os.fstatvfs(fd)
    files = (status.f_files - status.f_ffree) * copies
    size = (status.f_blocks - status.f_bfree) * status.f_frsize * copies + files * _INODE_BYTES
    most = available_bytes() // 2
    if size > most or files > _MOST_FILES:
        raise ExhaustedError(
            f"{copies} copies of a sandbox's files would be {size >> 20} MiB in {files} files,"
            f" more than {most >> 20} MiB in {_MOST_FILES} files",
            hint="snapshot() it, and start from the image",
        )
