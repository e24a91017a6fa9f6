"""The folders of cache mounts: they are shared by builds, and outlive them."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from orlop.build.mounts import RunMount
from orlop.engine.threads import in_thread


class Caches:
    """The folders of cache mounts, by id; they outlive builds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._users: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def used(self, mount: RunMount) -> AsyncIterator[Path]:
        """Use the folder of a cache mount, alone if it is not to be shared."""
        name = hashlib.sha256(mount.id.encode()).hexdigest()
        if mount.sharing == "private":
            name = next(n for n in _numbered(name) if not self._users.get(n))
        self._users[name] = self._users.get(name, 0) + 1
        try:
            if mount.sharing != "locked":
                yield await in_thread(self._made, name, mount)
                return
            async with self._locks.setdefault(name, asyncio.Lock()):
                yield await in_thread(self._made, name, mount)
        finally:
            self._users[name] -= 1

    def unused(self) -> Sequence[Path]:
        """Return the folders that no command uses now."""
        found = self._folder.iterdir() if self._folder.exists() else ()
        return [path for path in found if not self._users.get(path.name)]

    def _made(self, name: str, mount: RunMount) -> Path:
        path = self._folder / name
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            fresh = self._folder / f"{name}.{secrets.token_hex(4)}"
            fresh.mkdir(mode=0o700)
            os.chown(fresh, mount.uid, mount.gid)
            fresh.chmod(mount.mode)
            try:
                fresh.rename(path)
            except OSError:  # another step was quicker
                fresh.rmdir()
        os.utime(path)  # when it was last used, for prune
        return path


def _numbered(name: str) -> Sequence[str]:
    return [name, *(f"{name}-{number}" for number in range(1, 1000))]
